//! Every page in a real browser, in both languages, on a desk and on a telephone, with five hundred agents in
//! mixed states: nothing runs over the edge, every text can be read, every control has a name; and the
//! overview changes by itself.

use std::time::Duration;

use phusa_tests::releases::{Releases, facts};
use serde_json::Value;

use crate::chromium::{Chromium, Key};
use crate::five_hundred::populate;
use crate::hall::{DATASET, Hall};
use crate::person::signs_in;

const SIZES: [(u32, u32); 2] = [(1366, 768), (390, 844)];

/// Name and path of each page.
const PAGES: [(&str, &str); 20] = [
    ("fleet", "/fleet"),
    ("agency", "/fleet/H57.007"),
    ("datasets", "/datasets"),
    ("dataset", "/datasets/mo_phong.bang_0001"),
    ("record", "/datasets/mo_phong.bang_0001/record"),
    ("incidents", "/incidents"),
    ("incident", "/incidents/4"),
    ("incident-closed", "/incidents/3"),
    ("transfers", "/transfers"),
    ("entry", "/transfers/1"),
    ("releases", "/releases"),
    ("notices", "/notices"),
    ("contacts", "/contacts"),
    ("contact", "/contacts/H57.012"),
    ("accounts", "/accounts"),
    ("account", "/accounts/an.nguyen"),
    ("account-new", "/accounts/new"),
    ("own", "/own"),
    ("login", "/login"),
    ("invitation", "/invitation"),
];

/// Looks at the page as somebody would who cannot see it well: what is wrong with it, in words.
const LOOK: &str = r"(() => {
  const wrong = [];
  document.querySelectorAll('details').forEach((e) => { e.open = true; });
  const root = document.documentElement;
  if (root.scrollWidth > window.innerWidth) {
    const wide = [...document.querySelectorAll('body *')].filter((e) => {
      const scrolls = e.closest('.scroll');
      return e.getBoundingClientRect().right > window.innerWidth + 1 && (!scrolls || scrolls === e);
    });
    wrong.push('over the edge: ' + wide.slice(0, 3).map((e) => e.tagName + '.' + e.className).join(', '));
  }
  if (document.querySelectorAll('h1').length !== 1) wrong.push('not one h1');
  if (!root.lang || !document.title) wrong.push('no language or title');
  for (const e of document.querySelectorAll('a[href], button, input:not([type=hidden]), select, textarea, summary')) {
    const labels = e.labels ? [...e.labels].map((l) => l.textContent).join('') : '';
    const name = e.getAttribute('aria-label') || labels || e.textContent || e.title || '';
    if (!name.trim()) wrong.push('no name: ' + e.outerHTML.slice(0, 80));
    if (e.tabIndex !== 0 && !e.disabled) wrong.push('out of the order of the page: ' + e.outerHTML.slice(0, 80));
  }
  const parts = (text) => text.match(/[\d.]+/g).map(Number);
  const light = ([r, g, b]) => {
    const f = (c) => { c /= 255; return c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4; };
    return 0.2126 * f(r) + 0.7152 * f(g) + 0.0722 * f(b);
  };
  const ground = (e) => {
    for (let at = e; at; at = at.parentElement) {
      const c = parts(getComputedStyle(at).backgroundColor);
      if (c.length < 4 || c[3] > 0) return c;
    }
    return [255, 255, 255];
  };
  const seen = new Set();
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const e = walk.currentNode.parentElement;
    if (!walk.currentNode.data.trim() || !e.getClientRects().length || e.closest('.skip')) continue;
    const style = getComputedStyle(e);
    const ink = e instanceof SVGElement ? style.fill : style.color;
    const [a, b] = [light(parts(ink)), light(ground(e))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    const size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    const key = style.color + e.tagName + e.className;
    if (ratio < (large ? 3 : 4.5) && !seen.has(key)) {
      seen.add(key);
      wrong.push('contrast ' + ratio.toFixed(2) + ': ' + e.tagName + '.' + e.className);
    }
  }
  return wrong;
})()";

/// As a person does it: the key in the form, and the button.
fn a_record_is_asked_for(chromium: &mut Chromium, base: &str, size: (u32, u32)) {
    chromium.visit(&format!("{base}/datasets/{DATASET}/record"), size);
    chromium.evaluate("(() => { const key = document.querySelector('#key0'); key.value = '12'; key.form.requestSubmit(); })()");
    // As it was read first, and as it was changed after that.
    let shown = "document.readyState === 'complete' && ['12 lần 0', '2 lần 2'].every((part) => \
                 document.body.innerText.includes('Dòng mô phỏng ' + part))";
    chromium.wait(shown, Duration::from_secs(20));
}

/// How often Tab is pressed on a page.
const TABS_MAX: u64 = 40;

/// Numbers what can be reached by the keyboard, in the page's order, and stands at the page's top; how much
/// that is. Nothing of the page changes by itself from now on, as where it is hidden.
const CONTROLS: &str = r"(() => {
  Object.defineProperty(document, 'hidden', { value: true });
  document.dispatchEvent(new Event('visibilitychange'));
  const all = [...document.querySelectorAll('a[href], button, input:not([type=hidden]), select, textarea, summary')];
  const there = all.filter((e) => !e.disabled && e.getClientRects().length && e.checkVisibility());
  there.forEach((e, turn) => { e.turn = turn; });
  const top = document.createElement('span');
  top.tabIndex = -1;
  document.body.prepend(top);
  top.focus();
  return there.length;
})()";

/// Which of them has the focus, and whether that is seen.
const FOCUSED: &str = r"(() => {
  const e = document.activeElement;
  const style = getComputedStyle(e);
  const seen = style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) > 0;
  return { turn: e.turn, seen, what: e.outerHTML.slice(0, 90) };
})()";

/// Incidents, announcements and orders, so that no page is empty.
async fn furnish(hall: &Hall) {
    let sql = "
      insert into phusa.incidents (kind, cause_key, agent, dataset, cause, opened_at, last_at, count, timeline, holds)
      select (array['heartbeat', 'lateness', 'stopped', 'disk'])[1 + n % 4], 'k' || n,
             'H57.' || lpad((n * 7)::text, 3, '0') || '/may-1',
             case when n % 4 in (1, 2) then 'mo_phong.bang_0001' end,
             (array['Không nghe được gì từ tác tử. · Nothing is heard of the agent.',
                    'Thay đổi chờ lâu hơn tần suất đã thỏa thuận trong hợp đồng. · Changes wait longer than the frequency agreed in the contract.',
                    'Cột đã ánh xạ bị xóa, đổi tên hoặc đổi kiểu ở nguồn (HU-07). · A mapped column was dropped, renamed or retyped at the source (HU-07). [source_schema]',
                    'Đĩa của máy chạy tác tử sắp đầy. · The disk of the agent''s machine is nearly full.'])[1 + n % 4],
             now() - n * interval '37 min', now(), n,
             jsonb_build_array(
               jsonb_build_object('at', '2026-11-26T08:00:00Z', 'what', 'Không nghe được gì từ tác tử. · Nothing is heard of the agent.'),
               jsonb_build_object('at', '2026-11-26T08:20:00Z', 'what', 'đã qua · over'),
               jsonb_build_object('at', '2026-11-26T09:00:00Z', 'what', 'lại xảy ra: Không nghe được gì từ tác tử. · again: Nothing is heard of the agent.')),
             n % 3 > 0 from generate_series(1, 24) n;
      update phusa.incidents set closed_at = now(), closed_by = 'an.nguyen', close_cause = 'line',
             close_note = 'Cáp quang bị đứt ở Phú Vang, đã nối lại', holds = false where incident % 3 = 0;
      insert into phusa.notices (title, agencies, from_at, until_at, made_by, made_at)
      values ('Nâng cấp máy chủ cơ sở dữ liệu', '{H57.012,H57.013}', now() - interval '1 h', now() + interval '2 h', 'an.nguyen', now() - interval '2 d'),
             ('Thay thiết bị mạng trung tâm', '{}', now() + interval '2 d', now() + interval '50 h', 'an.nguyen', now());
      insert into phusa.fleet_orders (agent, dataset, kind, epoch, wanted_by, because, issued_at, until, changed_at, state, outcome)
      select 'H57.007/may-1', case when kind = 'compare' then 'mo_phong.bang_0001' else '' end, kind, 1, 'an.nguyen',
             'kiểm tra sau khi đổi máy chủ', now(), now() + interval '4 h', now(), state, outcome
      from (values ('compare', 'open', 'outside_hours 22:00–05:00'), ('rotate', 'done', null), ('diagnose', 'done', null),
                   ('check_update', 'refused', null)) of (kind, state, outcome);
      insert into phusa.fleet_diagnoses (agent, fleet_order, told_at, report)
      select agent, 3, now(), jsonb_set(report::jsonb, '{diagnosis}', jsonb_build_object('order', 3, 'platform', 'linux x86_64 6.12.9',
             'memory_kib', 20480, 'processors', 4, 'settings', (select jsonb_agg(jsonb_build_object('key', 'guard.snapshot_workers_' || n,
             'value', '…')) from generate_series(1, 20) n), 'faults', jsonb_build_array(jsonb_build_object('code', 'source_unreachable',
             'count', 1234, 'last', '2026-11-26T08:00:00Z'))))::text from phusa.fleet_agents where agent = 'H57.007/may-1';
      insert into phusa.transfers (transfer, kind, agent, dataset, epoch, seq, entry, hub_signature, committed_at, number)
      select -n, 'push', 'H57.007/may-1', 'mo_phong.bang_0001', 1, n, json_build_object('header', json_build_object(
             'source_time', at - (n * 7919 % 97) * interval '60 ms', 'counts', json_build_object('updated', n * 31 % 410))::text)::text, '', at, -n
      from (select n, now() - n * interval '11 min' as at from generate_series(1, 125) n) of;
      update phusa.fleet_agents set reported_at = now() - interval '400 s' where agent = 'H57.012/may-1';
      update phusa.streams set last_committed_at = now() - interval '400 s' where agent = 'H57.012/may-1';";
    hall.database().await.batch_execute(sql).await.unwrap();
}

/// Three programs, and a rollout of one with an agent that took it back and one that cannot verify it.
async fn release(hall: &Hall) {
    let releases = Releases::begin(&hall.state());
    for version in ["0.1.0", "0.2.0", "0.3.0"] {
        releases.release(version.as_bytes(), &facts(version, "0.1.0"));
    }
    let head = ["rollout", "start", "0.2.0", "--previous", "0.1.0", "--share", "30,100"];
    let canaries = ["--canary", "MP.0001/may-1", "--canary", "MP.0002/may-1"];
    hall.run(&[&head[..], &canaries[..], &["--by", "an"]].concat());
    let agents = "
      insert into phusa.release_assignments (agent, version, rollout, stage, why, changed_at)
      select 'H57.012/may-1', version, rollout, 'rolled_back', 'memory', now() from phusa.rollouts
      union all select 'H57.013/may-1', version, rollout, 'offered', null, now() from phusa.rollouts;
      update phusa.fleet_agents set report = '{\"update\":{\"obstacle\":\"release_expired\"}}'
      where agent = 'H57.013/may-1'";
    hall.database().await.batch_execute(agents).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_page_can_be_read_and_used_in_both_languages_on_a_desk_and_on_a_telephone() {
    let hall = Hall::open().await;
    populate(&hall.database().await, DATASET).await;
    furnish(&hall).await;
    release(&hall).await;
    let base = hall.portal();
    let made = hall.run(&["account", "create", "--first", "an.nguyen", "--title", "Nguyễn Văn An"]);
    let mut chromium = Chromium::start();
    signs_in(&mut chromium, &base, "an.nguyen", &made);
    let mut wrong = Vec::new();
    for lang in ["vi", "en"] {
        chromium.cookie(&base, &format!("__Host-phusa-lang={lang}"));
        for size in SIZES {
            // Those that are well stay so, however long this takes.
            let well = "update phusa.fleet_agents set reported_at = now() - interval '5 s' \
                        where reported_at > now() - interval '300 s' and agent like 'H57.%'";
            hall.database().await.batch_execute(well).await.unwrap();
            for (name, path) in PAGES {
                chromium.visit(&format!("{base}{path}"), size);
                wrong.extend(looked(&mut chromium, &format!("{path} {lang} {}", size.0)));
                keep(&mut chromium, &format!("{name}.{lang}.{}", size.0));
                // The order is of the page, whatever its language.
                if size == SIZES[0] && lang == "vi" {
                    wrong.extend(goes_by_tab(&mut chromium, &format!("{path} {lang}")));
                }
            }
            an_order_says_what_it_waits_for(&mut chromium, &base, lang);
            a_record_is_asked_for(&mut chromium, &base, size);
            wrong.extend(looked(&mut chromium, &format!("history {lang} {}", size.0)));
            keep(&mut chromium, &format!("history.{lang}.{}", size.0));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    a_dataset_of_hundreds_is_shown_in_parts(&mut chromium, &base);
    a_change_comes_by_itself(&hall, &mut chromium, &base).await;
    hall.close();
}

/// What is wrong with the page that is open.
fn looked(chromium: &mut Chromium, place: &str) -> Vec<String> {
    let found = chromium.evaluate(LOOK);
    let told = found.as_array().into_iter().flatten().filter_map(Value::as_str);
    told.map(|told| format!("{place}: {told}")).collect()
}

/// Presses Tab from the top of the page: each control of it has its turn in the page's order, none is left
/// out, and whoever looks sees where they are.
fn goes_by_tab(chromium: &mut Chromium, place: &str) -> Vec<String> {
    let all = chromium.evaluate(CONTROLS).as_u64().unwrap();
    let mut wrong = Vec::new();
    for turn in 0..all.min(TABS_MAX) {
        // What scrolls has a turn of its own where it holds no control, and each part of a moment too.
        let goes_on = format!("![undefined, {turn} - 1].includes(document.activeElement.turn)");
        for _ in 0..8 {
            chromium.press(Key::Tab);
            if chromium.evaluate(&goes_on) == true {
                break;
            }
        }
        let at = chromium.evaluate(FOCUSED);
        if at["turn"] != turn || at["seen"] != true {
            wrong.push(format!("{place}: Tab {turn} leads to {at}"));
            break;
        }
    }
    wrong
}

/// Whoever ordered a comparison sees on the agency's page why nothing happens yet.
fn an_order_says_what_it_waits_for(chromium: &mut Chromium, base: &str, lang: &str) {
    chromium.visit(&format!("{base}/fleet/H57.007"), SIZES[0]);
    let words =
        if lang == "vi" { "chờ giờ được phép" } else { "waits for the allowed hours" };
    let says = format!("document.body.textContent.includes('{words} 22:00–05:00')");
    assert_eq!(chromium.evaluate(&says), true, "{words}");
}

/// The worst first, ten at once, each with its charts; the others on the pages after it.
fn a_dataset_of_hundreds_is_shown_in_parts(chromium: &mut Chromium, base: &str) {
    let shown = "[...document.querySelectorAll('h2.agent a')].map((e) => e.textContent)";
    let mut seen = Vec::new();
    for path in ["", "?from=10", "?from=500", "?from=18446744073709551615"] {
        chromium.visit(&format!("{base}/datasets/{DATASET}{path}"), SIZES[0]);
        let found = chromium.evaluate(shown);
        let found = found.as_array().unwrap().iter().filter_map(Value::as_str);
        seen.push(found.map(ToOwned::to_owned).collect::<Vec<_>>());
    }
    assert_eq!(seen.iter().map(Vec::len).collect::<Vec<_>>(), [10, 10, 1, 0]);
    assert!(seen[0].contains(&"H57.007/may-1".to_owned()), "{:?}", seen[0]);
    assert!(seen[0].iter().all(|agent| !seen[1].contains(agent)));
}

/// Nobody touches the page, and it says what has become of an agent.
async fn a_change_comes_by_itself(hall: &Hall, chromium: &mut Chromium, base: &str) {
    let database = hall.database().await;
    let of = "where agent = 'H57.100/may-1'";
    database
        .batch_execute(&format!("update phusa.fleet_agents set reported_at = now() {of}"))
        .await
        .unwrap();
    chromium.visit(&format!("{base}/fleet?agency=H57.100"), SIZES[0]);
    let shown =
        |word: &str| format!("document.querySelector('#live tbody').innerText.includes('{word}')");
    chromium.wait(&shown("Healthy"), Duration::from_secs(10));
    let leaves = "ended = 'leaving', ended_at = now() + interval '1 s'";
    database.batch_execute(&format!("update phusa.fleet_agents set {leaves} {of}")).await.unwrap();
    let took = chromium.wait(&shown("Offline"), Duration::from_secs(2));
    println!("the browser showed the change after {took:?}");
    // A box that was checked is not taken away under somebody's hands; what waits comes after that.
    let (press, stands) =
        ("document.querySelector('#live input[type=checkbox]').click()", shown("Offline"));
    chromium.evaluate(press);
    database
        .batch_execute(&format!("update phusa.fleet_agents set ended = null {of}"))
        .await
        .unwrap();
    assert_eq!(chromium.evaluate(&stands), true);
    chromium.evaluate(press);
    chromium.wait(&shown("Healthy"), Duration::from_secs(3));
}

/// Where `KEEP` names a folder, what is seen and how it is printed, to be looked at.
fn keep(chromium: &mut Chromium, name: &str) {
    if let Some(folder) = std::env::var_os("KEEP").map(std::path::PathBuf::from) {
        std::fs::write(folder.join(format!("{name}.png")), chromium.picture()).unwrap();
        if name.ends_with("1366") {
            std::fs::write(folder.join(format!("{name}.pdf")), chromium.print()).unwrap();
        }
    }
}
