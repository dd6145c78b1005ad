//! Updates for people: what is published and who signed it, when signatures end, the rollout ring after ring
//! with what became of each agent, and what somebody may do to it, asked twice (the same as
//! `phusa-hub release` and `rollout`).

mod table;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Redirect, Response};
use maud::{Markup, html};
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::time::Timestamp;

use super::deciding::{check, decides, sees};
use super::guard::{Sent, Visitor, failed};
use super::words::Lang;
use super::{Portal, frame};
use crate::accounts::right::Deciding;
use crate::release::countdown;
use crate::release::online::{self, End};
use crate::release::published::{self, Published};
use crate::release::rings::Ring;
use crate::release::rollout::{self, Rollout, Turn};
use crate::transfers::publish::blocking;

/// What the page shows.
struct Seen {
    published: Option<Published>,
    ends: Vec<End>,
    rollout: Option<Rollout>,
}

async fn seen(portal: &Portal, visitor: &Visitor) -> Result<Seen, Fault> {
    let store = portal.releases.clone();
    let read = move || Ok((published::look(&store)?, online::ends(&store)?.unwrap_or_default()));
    let (published, ends) = blocking(read).await?;
    let mut client = portal.people.warehouse.client().await?;
    let mut rollout = rollout::status(&mut client).await?;
    if let Some(one) = &mut rollout {
        one.agents.retain(|agent| sees(visitor, agent.agent.split('/').next()));
    }
    Ok(Seen { published, ends, rollout })
}

/// Signatures that are near their end, above the pages of those who see the whole.
pub(super) async fn countdown(portal: &Portal, lang: Lang) -> Markup {
    let (store, now) = (portal.releases.clone(), Timestamp::now());
    let ends = blocking(move || Ok(online::ends(&store)?.unwrap_or_default())).await;
    let ends = ends.unwrap_or_default();
    let told = ends.iter().filter_map(|end| countdown::words(end, now));
    html! { @for (vi, en) in told {
        p.notice role="status" {
            a href="/releases" { @if lang == Lang::Vi { (vi) } @else { (en) } } "."
        }
    } }
}

/// `GET /releases`.
pub(super) async fn show(State(portal): State<Portal>, visitor: Visitor) -> Response {
    match seen(&portal, &visitor).await {
        Ok(seen) => page(&visitor, &seen),
        Err(fault) => failed(visitor.lang, &fault),
    }
}

/// `POST /releases/{turn}`: asks whether it is meant, and does it when it is.
pub(super) async fn turn(
    State(portal): State<Portal>,
    Path(turn): Path<String>,
    Sent(visitor, fields): Sent,
) -> Response {
    let Some(turn) = Turn::named(&turn) else {
        let text = visitor.lang.say("Không có việc này.", "There is no such thing to do.");
        return frame::message(visitor.lang, StatusCode::NOT_FOUND, text);
    };
    let done = async {
        check(&portal, &visitor, (Deciding::Update, None), turn.action()).await?;
        let missing = || Fault::new(Code::ReasonMissing, "no reason was given");
        let because = fields.given("because").ok_or_else(missing)?;
        let mut client = portal.people.warehouse.client().await?;
        if fields.given("meant").is_none() {
            let open = rollout::status(&mut client).await?;
            return Ok(open.map(|open| question(&visitor, &open, (turn, because))));
        }
        let by = (visitor.account.name.as_str(), Some(visitor.address.as_str()), because);
        rollout::turn(&mut client, &portal.people.log, turn, by).await?;
        Ok::<_, Fault>(None)
    };
    match done.await {
        Ok(Some(question)) => question,
        Ok(None) => Redirect::to("/releases").into_response(),
        Err(fault) => failed(visitor.lang, &fault),
    }
}

fn page(visitor: &Visitor, seen: &Seen) -> Response {
    let lang = visitor.lang;
    let (title, now) = (lang.say("Cập nhật", "Updates"), Timestamp::now());
    let content = html! {
        div.head { h1 { (lang.say("Cập nhật tác tử", "Updates of agents")) }
            @if let Some(rollout) = &seen.rollout { (state(lang, rollout)) } }
        @match &seen.rollout {
            None => p { (lang.say("Chưa có đợt cập nhật nào.", "There was no rollout yet.")) },
            Some(rollout) => (of_rollout(visitor, rollout)),
        }
        @match &seen.published {
            None => {
                h2 { (lang.say("Bản phát hành", "Releases")) }
                p { (lang.say("Chưa phát hành bản nào: xem UPGRADE.", "Nothing was published yet: see UPGRADE.")) }
            },
            Some(published) => {
                h2 { (lang.say("Bản phát hành", "Releases")) }
                (table::programs(lang, published))
                h2 { (lang.say("Ai đã ký", "Who signed")) }
                (table::signers(lang, published))
                h2 { (lang.say("Hạn của chữ ký", "When signatures end")) }
                (table::ends(lang, &seen.ends, now))
            },
        }
    };
    frame::page(visitor, title, &content)
}

fn state(lang: Lang, rollout: &Rollout) -> Markup {
    let class = match rollout.state.as_str() {
        "running" => "wait",
        "done" => "good",
        "halted" => "bad",
        _ => "",
    };
    html! { span class={ "tag " (class) } { (lang.of_pair(rollout.words())) } }
}

fn of_rollout(visitor: &Visitor, rollout: &Rollout) -> Markup {
    let lang = visitor.lang;
    let may = decides(visitor, Deciding::Update, None);
    html! {
        div.card { table.facts {
            tr { th scope="row" { (lang.say("Bản", "Version")) } td { b { (rollout.version) }
                @if let Some(previous) = &rollout.previous {
                    " · " (lang.say("lùi về ", "back to ")) (previous)
                } } }
            tr { th scope="row" { (lang.say("Bắt đầu", "Begun")) }
                td { (rollout.started_at.vietnamese()) " · " (rollout.started_by) } }
            @if let Some(because) = &rollout.because {
                tr { th scope="row" { (lang.say("Vì", "Because")) } td { (because) } }
            }
            tr { th scope="row" { (lang.say("Các vòng", "Rings")) } td { ol.rings {
                @for ring in 0..rollout.rings.count() {
                    li aria-current=[(ring == rollout.ring).then_some("step")] {
                        (rollout.rings.get(ring).map(Ring::words).unwrap_or_default())
                        @if ring == rollout.ring { " ← " b { (lang.say("đang ở đây", "here")) } }
                    }
                }
            } } }
            @if let Some(waiting) = rollout.waiting {
                tr { th scope="row" { (lang.say("Chưa chốt", "Not committed")) }
                    td { (waiting) " " (lang.say("tác tử của các vòng đến nay", "agents of the rings so far")) } }
            }
        } }
        @if may { (forms(visitor, rollout)) }
        h2 { (lang.say("Từng tác tử", "Each agent")) }
        @if rollout.agents.is_empty() {
            p { (lang.say(
                "Chưa giao cho ai: tác tử chỉ được giao trong cửa sổ bảo trì đã báo (CB-16).",
                "Nobody is assigned yet: agents are assigned in announced windows alone (CB-16).",
            )) }
        } @else { (table::agents(lang, rollout)) }
    }
}

fn forms(visitor: &Visitor, rollout: &Rollout) -> Markup {
    let lang = visitor.lang;
    let turns: Vec<Turn> = Turn::ALL.into_iter().filter(|turn| rollout.can(*turn)).collect();
    html! { @for turn in turns {
        form.card method="post" action={ "/releases/" (turn.name()) } {
            (frame::form_token(visitor))
            p.quiet { (lang.of_pair(turn.meaning())) }
            label for={ "because-" (turn.name()) } { (lang.say("Vì sao", "Why")) }
            input id={ "because-" (turn.name()) } name="because" minlength="3" maxlength="500"
                autocomplete="off" required;
            p.act { button { (lang.of_pair(turn.words())) } }
        }
    } }
}

fn question(visitor: &Visitor, rollout: &Rollout, (turn, because): (Turn, &str)) -> Response {
    let lang = visitor.lang;
    let title = format!("{}: {}?", lang.of_pair(turn.words()), rollout.version);
    let content = html! {
        div.card.narrow {
            h1 { (title) }
            p { (lang.of_pair(turn.meaning())) }
            p { (lang.say("Vì", "Because")) ": " (because) }
            p.quiet { (lang.say(
                "Việc này được ghi vào nhật ký truyền nhận bằng tên bạn và không xóa được.",
                "This stands in the transfer log under your name and cannot be removed.",
            )) }
            form method="post" action={ "/releases/" (turn.name()) } {
                (frame::form_token(visitor))
                input type="hidden" name="because" value=(because);
                input type="hidden" name="meant" value="1";
                p.act { button { (lang.of_pair(turn.words())) } }
            }
            p { a href="/releases" { (lang.say("Thôi", "Do not")) } }
        }
    };
    frame::page(visitor, &title, &content)
}
