//! The fleet for people: every agent, the worst first, with whom to call; one agency with its
//! datasets. The same verdicts as `phusa-hub fleet`.

mod agency;
mod asked;
mod bulk;
mod chart;

use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;
use maud::{Markup, html};
use phusa_protocol::fault::Fault;
use phusa_protocol::ids::AgencyId;
use phusa_protocol::time::Timestamp;
use phusa_protocol::verdict::{State as Condition, Verdict};

pub(super) use self::asked::cancel;
pub(super) use self::bulk::order;
use super::deciding::sees;
use super::form::{Fields, query};
use super::guard::{Visitor, failed};
use super::live::region;
use super::notices::banner;
use super::words::Lang;
use super::{Portal, frame, releases};
use crate::fleet::contact::Contact;
use crate::fleet::health::{self, Health};
use crate::fleet::reports::{self, Step};
use crate::notices;

/// Lines of the overview; a province has some five hundred agents. The worst come first, so that
/// what is cut off is well.
const LINES_MAX: usize = 1_000;

/// The agents this visitor may see, the worst first.
pub(super) async fn seen(portal: &Portal, visitor: &Visitor) -> Result<Vec<Health>, Fault> {
    let client = portal.people.warehouse.client().await?;
    let register = portal.register.borrow().clone();
    let contracts = portal.catalog.current();
    let mut all = health::all(&client, (&register, &contracts), Timestamp::now()).await?;
    all.retain(|one| sees(visitor, Some(one.agency())));
    Ok(all)
}

/// `GET /fleet`.
pub(super) async fn list(
    State(portal): State<Portal>,
    RawQuery(query): RawQuery,
    visitor: Visitor,
) -> Response {
    let fields = Fields::of_query(query.as_deref());
    let found = async {
        let all = seen(&portal, &visitor).await?;
        let client = portal.people.warehouse.client().await?;
        Ok::<_, Fault>((all, notices::list(&**client, false, Timestamp::now()).await?))
    };
    match found.await {
        Ok((all, notices)) => {
            let ends = releases::countdown(&portal, visitor.lang).await;
            let above = html! { (ends) (banner(&visitor, &notices, None)) };
            overview(&visitor, &fields, (&all, &above))
        }
        Err(fault) => failed(visitor.lang, &fault),
    }
}

/// `GET /fleet/{agency}`.
pub(super) async fn one(
    State(portal): State<Portal>,
    Path(agency): Path<String>,
    visitor: Visitor,
) -> Response {
    let found = async {
        let mut all = seen(&portal, &visitor).await?;
        all.retain(|one| one.agency() == agency);
        let asked = asked::of(&portal, &all).await?;
        let agents = with_days(&portal, all).await?;
        let client = portal.people.warehouse.client().await?;
        Ok::<_, Fault>((agents, asked, notices::list(&**client, false, Timestamp::now()).await?))
    };
    match (AgencyId::new(agency.clone()), found.await) {
        (_, Err(fault)) => failed(visitor.lang, &fault),
        (Ok(agency), Ok((agents, asked, notices))) if !agents.is_empty() => {
            let wanted = asked::section(&visitor, &agency, &asked);
            agency::page(&visitor, &agency, (&agents, &notices, &wanted))
        }
        (Ok(_) | Err(_), Ok(_)) => {
            let text = visitor.lang.say("Không có cơ quan này.", "There is no such agency.");
            frame::message(visitor.lang, StatusCode::NOT_FOUND, text)
        }
    }
}

async fn with_days(portal: &Portal, all: Vec<Health>) -> Result<Vec<Day>, Fault> {
    let client = portal.people.warehouse.client().await?;
    let mut agents = Vec::new();
    for one in all {
        let day = reports::history(&client, &one.row.agent).await?;
        agents.push((one, day));
    }
    Ok(agents)
}

/// An agent with its last day.
type Day = (Health, Vec<Step>);

fn overview(visitor: &Visitor, fields: &Fields, (all, above): (&[Health], &Markup)) -> Response {
    let lang = visitor.lang;
    let title = lang.say("Tổng quan", "Overview");
    let now = Timestamp::now();
    let kept = query(&[("state", fields.get("state")), ("agency", fields.get("agency"))]);
    let content = html! {
        div.head {
            h1 { (lang.say("Tác tử tại các cơ quan", "Agents at the agencies")) }
            p.quiet { (lang.say("Lúc ", "As of ")) (now.vietnamese()) " · "
                a href=(visitor.path) { (lang.say("Tải lại", "Reload")) } }
        }
        (above)
        (search(lang, fields))
        (region(&format!("/live/fleet?{kept}"), &changing(visitor, fields, all)))
    };
    frame::page(visitor, title, &content)
}

/// The part of the overview that changes: how many are in each state, and who is how.
pub(super) fn changing(visitor: &Visitor, fields: &Fields, all: &[Health]) -> Markup {
    let (lang, now) = (visitor.lang, Timestamp::now());
    let all: Vec<&Health> = all.iter().filter(|one| sees(visitor, Some(one.agency()))).collect();
    let wanted = fields.given("state");
    let named = fields.given("agency").map(str::to_lowercase);
    let chosen: Vec<_> = all
        .iter()
        .copied()
        .filter(|one| wanted.is_none_or(|state| one.verdict.state.name() == state))
        .filter(|one| named.as_ref().is_none_or(|name| one.row.agent.to_lowercase().contains(name)))
        .collect();
    html! {
        (counts(lang, wanted, &all))
        @if chosen.is_empty() {
            p.notice { (lang.say("Không có tác tử nào khớp.", "No agent matches.")) }
        } @else {
            (form(visitor, &table(visitor, &chosen, now), &chosen))
        }
        @if chosen.len() > LINES_MAX {
            p.quiet { (chosen.len() - LINES_MAX) (lang.say(" tác tử nữa.", " more agents.")) }
        }
    }
}

/// The part of an agency's page that changes.
pub(super) async fn changing_agency(
    portal: &Portal,
    visitor: &Visitor,
    agency: &AgencyId,
) -> Result<Markup, Fault> {
    let mut all = seen(portal, visitor).await?;
    all.retain(|one| one.agency() == agency.as_str());
    Ok(agency::agents(visitor.lang, &with_days(portal, all).await?))
}

/// The table in a form, where there is an agent that this visitor may steer.
fn form(visitor: &Visitor, table: &Markup, chosen: &[&Health]) -> Markup {
    html! {
        @if chosen.iter().any(|one| bulk::steers(visitor, one.agency())) {
            form method="post" action="/fleet/orders" {
                (frame::form_token(visitor))
                (table)
                (bulk::buttons(visitor.lang))
            }
        } @else { (table) }
    }
}

fn table(visitor: &Visitor, chosen: &[&Health], now: Timestamp) -> Markup {
    let lang = visitor.lang;
    html! {
            div.scroll { table.stack.fleet {
                thead { tr {
                    th scope="col" { (lang.say("Trạng thái", "State")) }
                    th scope="col" { (lang.say("Tác tử", "Agent")) }
                    th scope="col" { (lang.say("Từ", "Since")) }
                    th scope="col" { (lang.say("Vì sao, làm gì", "Why, what to do")) }
                    th scope="col" { (lang.say("Đầu mối", "Focal point")) }
                } }
                tbody { @for one in chosen.iter().take(LINES_MAX) { (line(visitor, one, now)) } }
            } }
    }
}

/// How many are in each state; each leads to them.
fn counts(lang: Lang, wanted: Option<&str>, all: &[&Health]) -> Markup {
    let of = |state| all.iter().filter(|one| one.verdict.state == state).count();
    let every = if wanted.is_none() { Some("true") } else { None };
    html! {
        ul.counts aria-label=(lang.say("Số tác tử theo trạng thái", "Agents by state")) {
            li { a href="/fleet" aria-current=[every] {
                b { (all.len()) } span { (lang.say("Tất cả", "All")) }
            } }
            @for state in Condition::ALL.into_iter().rev() {
                @let count = of(state);
                @if count > 0 {
                    @let current = (wanted == Some(state.name())).then_some("true");
                    li class=(class(state)) {
                        a href={ "/fleet?" (query(&[("state", state.name())])) } aria-current=[current] {
                            b { (count) } span { (lang.of_pair(state.words())) }
                        }
                    }
                }
            }
        }
    }
}

fn search(lang: Lang, fields: &Fields) -> Markup {
    html! {
        form.filter.short method="get" action="/fleet" role="search" {
            @if let Some(state) = fields.given("state") { input type="hidden" name="state" value=(state); }
            div {
                label for="agency" { (lang.say("Tìm cơ quan", "Find an agency")) }
                input id="agency" name="agency" value=(fields.get("agency")) placeholder="H57.12" maxlength="80";
            }
            div { button { (lang.say("Tìm", "Find")) } }
        }
    }
}

fn line(visitor: &Visitor, one: &Health, now: Timestamp) -> Markup {
    let lang = visitor.lang;
    let verdict = &one.verdict;
    let is_well = verdict.state < Condition::Attention;
    html! {
        tr {
            td { label.choice { (bulk::choice(visitor, one)) " " (tag(lang, verdict.state)) } }
            td { a href={ "/fleet/" (one.agency()) } { b { (one.row.agent) } } }
            td.t title=(verdict.since.vietnamese()) {
                (span_of(lang, now, verdict.since))
                @if let Some(deadline) = verdict.deadline {
                    br; span.quiet { (lang.say("hạn ", "due ")) (deadline.vietnamese_minute()) }
                }
            }
            td { (why(lang, verdict, !is_well)) }
            td { (whom(lang, one.contact.as_ref(), !is_well)) }
        }
    }
}

/// Reason and, where something is to be done, the remedy.
pub(super) fn why(lang: Lang, verdict: &Verdict, with_remedy: bool) -> Markup {
    let words = verdict.words();
    html! {
        @if let Some(dataset) = &verdict.dataset { code { (dataset) } " " }
        (lang.say(words.reason_vi, words.reason_en))
        @if let Some(fault) = &verdict.fault { " " code.quiet { (fault) } }
        @if with_remedy { p.remedy { "→ " (lang.say(words.remedy_vi, words.remedy_en)) } }
    }
}

/// Name and telephone of whom to call; that there is nobody is said where somebody is `is_missed`.
pub(super) fn whom(lang: Lang, contact: Option<&Contact>, is_missed: bool) -> Markup {
    html! {
        @match contact {
            Some(contact) => {
                (contact.name) br;
                a.phone href={ "tel:" (dialled(&contact.phone)) } { (contact.phone) }
            }
            None if is_missed => {
                span.quiet { (lang.say("Chưa ghi đầu mối", "No focal point")) }
            }
            None => { span.quiet { "–" } }
        }
    }
}

fn dialled(phone: &str) -> String {
    phone.chars().filter(|c| c.is_ascii_digit() || *c == '+').collect()
}

/// The colour of a state; its words stand beside, so that nobody needs to see it.
fn class(state: Condition) -> &'static str {
    match state {
        Condition::Healthy => "good",
        Condition::Working => "",
        Condition::Unreported | Condition::Maintenance | Condition::Attention | Condition::Late => {
            "wait"
        }
        Condition::Faulted | Condition::Suspended | Condition::Offline => "bad",
    }
}

pub(super) fn tag(lang: Lang, state: Condition) -> Markup {
    html! { span class={ "tag " (class(state)) } { (lang.of_pair(state.words())) } }
}

/// How long ago, in one unit.
pub(super) fn span_of(lang: Lang, now: Timestamp, then: Timestamp) -> String {
    let seconds = now.since(then).as_secs();
    let (number, vi, en) = match seconds {
        0..60 => (seconds, "giây", "s"),
        60..3_600 => (seconds / 60, "phút", "min"),
        3_600..86_400 => (seconds / 3_600, "giờ", "h"),
        _ => (seconds / 86_400, "ngày", "d"),
    };
    format!("{number} {}", lang.say(vi, en))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_span_is_told_in_one_unit_of_the_reader() {
        let then = Timestamp::UNIX_EPOCH;
        for (seconds, vi, en) in [
            (59, "59 giây", "59 s"),
            (60, "1 phút", "1 min"),
            (7_300, "2 giờ", "2 h"),
            (200_000, "2 ngày", "2 d"),
        ] {
            let now = then.after(Duration::from_secs(seconds));
            assert_eq!([span_of(Lang::Vi, now, then), span_of(Lang::En, now, then)], [vi, en]);
        }
    }

    #[test]
    fn a_number_is_dialled_without_what_people_write_between() {
        assert_eq!(dialled("+84 (234) 382-1234"), "+842343821234");
    }
}
