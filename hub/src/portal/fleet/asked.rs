//! What is wanted of the agents of an agency and what became of it, with a way to take it back; and what
//! they said when they were asked what may be wrong with them.

use axum::extract::State;
use axum::response::{IntoResponse as _, Redirect, Response};
use maud::{Markup, html};
use phusa_protocol::deed::Action;
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::ids::AgencyId;

use super::bulk;
use crate::accounts::right::Deciding;
use crate::fleet::health::Health;
use crate::fleet::orders::{self, Diagnosed, Ending, Kind, Listed};
use crate::portal::deciding::check;
use crate::portal::guard::{Sent, Visitor, failed};
use crate::portal::words::Lang;
use crate::portal::{Portal, frame};
use crate::transfers::minutes::page::count;

/// What is known of one agent.
pub(super) struct Asked {
    agent: String,
    orders: Vec<Listed>,
    diagnosed: Option<Diagnosed>,
}

/// What was wanted of these agents, and what they said.
pub(super) async fn of(portal: &Portal, all: &[Health]) -> Result<Vec<Asked>, Fault> {
    let client = portal.people.warehouse.client().await?;
    let mut found = Vec::new();
    for one in all {
        let agent = one.row.agent.clone();
        let orders = orders::of_agent(&client, &agent).await?;
        let diagnosed = orders::diagnosed(&client, &agent).await?;
        found.push(Asked { agent, orders, diagnosed });
    }
    Ok(found)
}

/// Below the agents of an agency.
pub(super) fn section(visitor: &Visitor, agency: &AgencyId, all: &[Asked]) -> Markup {
    let (lang, steers) = (visitor.lang, bulk::steers(visitor, agency.as_str()));
    let orders = || all.iter().flat_map(|one| &one.orders);
    html! {
        h2 { (lang.say("Yêu cầu đối với tác tử", "What is wanted of the agents")) }
        @if steers {
            form method="post" action="/fleet/orders" {
                (frame::form_token(visitor))
                @for one in all {
                    label.choice { input type="checkbox" name="agent" value=(one.agent) checked;
                        " " (one.agent) }
                }
                (bulk::buttons(lang))
            }
        }
        @if orders().next().is_some() {
            div.scroll { table.stack {
                thead { tr {
                    th.n scope="col" { (lang.say("Số", "Number")) }
                    th scope="col" { (lang.say("Yêu cầu", "Order")) }
                    th scope="col" { (lang.say("Tác tử, bộ dữ liệu", "Agent, dataset")) }
                    th scope="col" { (lang.say("Tình trạng", "State")) }
                    th scope="col" { (lang.say("Hạn", "Until")) }
                    th scope="col" { (lang.say("Ai, vì sao", "Who, why")) }
                } }
                tbody { @for one in orders() { (line(visitor, one, steers)) } }
            } }
        } @else { p.quiet { (lang.say("Chưa có yêu cầu nào.", "Nothing was wanted yet.")) } }
        @for one in all {
            @if let Some(told) = &one.diagnosed { (diagnosis(lang, &one.agent, told)) }
        }
    }
}

fn line(visitor: &Visitor, one: &Listed, steers: bool) -> Markup {
    let lang = visitor.lang;
    let words = Kind::named(&one.kind).map_or(("?", "?"), Kind::words);
    let (class, state) = match one.state.as_str() {
        "open" => ("wait", ("Đang chờ", "Open")),
        "done" => ("good", ("Đã xong", "Done")),
        "refused" => ("bad", ("Tác tử không làm", "Refused by the agent")),
        "cancelled" => ("", ("Đã rút", "Taken back")),
        _ => ("", ("Hết hạn", "Over")),
    };
    html! {
        tr {
            td.n { (one.order) }
            td { (lang.of_pair(words)) }
            td { (one.agent) @if !one.dataset.is_empty() { " " code { (one.dataset) } } }
            td {
                span class={ "tag " (class) } { (lang.of_pair(state)) }
                @if let Some(hours) = &one.hours {
                    " " (lang.say("chờ giờ được phép ", "waits for the allowed hours ")) (hours)
                } @else if let Some(code) = &one.outcome { " " (fault(lang, code)) }
                @if steers && one.state == "open" {
                    form method="post" action="/fleet/orders/cancel" {
                        (frame::form_token(visitor))
                        input type="hidden" name="order" value=(one.order);
                        button.plain aria-label={ (lang.say("Rút yêu cầu ", "Take back order ")) (one.order) } {
                            (lang.say("Rút lại", "Take back")) }
                    }
                }
            }
            td.t { (one.until.vietnamese_minute()) }
            td { (one.by) ": " (one.because) }
        }
    }
}

/// A fault's name with what it means, where this program knows it.
fn fault(lang: Lang, code: &str) -> Markup {
    let words = Code::named(code).map(Code::words);
    html! {
        code { (code) }
        @if let Some(words) = words { " " (lang.say(words.meaning_vi, words.meaning_en)) }
    }
}

fn diagnosis(lang: Lang, agent: &str, told: &Diagnosed) -> Markup {
    let Some(found) = &told.report.diagnosis else { return html! {} };
    let memory = found.memory_kib.map(|kib| format!(", {} KiB", count(kib)));
    html! {
        details {
            summary { (lang.say("Chẩn đoán của ", "Diagnosis of ")) (agent) ", " (told.told_at.vietnamese()) }
            p { (found.platform) ", " (found.processors) " CPU" (memory.unwrap_or_default())
                ", " (lang.say("phiên bản ", "version ")) (told.report.version)
                ", " (lang.say("chạy từ ", "running since ")) (told.report.started_at.vietnamese()) }
            @if found.faults.is_empty() {
                p { (lang.say("Không có lỗi nào từ khi khởi động.", "No fault since it was started.")) }
            } @else {
                div.scroll { table.stack {
                    thead { tr {
                        th scope="col" { (lang.say("Lỗi", "Fault")) }
                        th.n scope="col" { (lang.say("Số lần", "Times")) }
                        th scope="col" { (lang.say("Lần cuối", "Last")) }
                    } }
                    tbody { @for one in &found.faults { tr {
                        td { (fault(lang, &one.code)) }
                        td.n { (count(one.count)) }
                        td.t { (one.last.vietnamese()) }
                    } } }
                } }
            }
            div.scroll { table.stack {
                thead { tr {
                    th scope="col" { (lang.say("Khóa cấu hình", "Setting")) }
                    th scope="col" { (lang.say("Giá trị", "Value")) }
                } }
                tbody { @for one in &found.settings { tr {
                    td { code { (one.key) } }
                    td { (one.value) }
                } } }
            } }
        }
    }
}

/// `POST /fleet/orders/cancel`: takes an open order back.
pub(in crate::portal) async fn cancel(
    State(portal): State<Portal>,
    Sent(visitor, fields): Sent,
) -> Response {
    let done = async {
        let unknown = || Fault::new(Code::OrderRefused, "there is no such order");
        let order: i64 = fields.get("order").parse().map_err(|_| unknown())?;
        let mut client = portal.people.warehouse.client().await?;
        let agent = orders::agent_of(&client, order).await?.ok_or_else(unknown)?;
        let seen = super::seen(&portal, &visitor).await?;
        let one = seen.iter().find(|one| one.row.agent == agent).ok_or_else(unknown)?;
        let agency = AgencyId::new(one.agency()).ok();
        check(&portal, &visitor, (Deciding::Steer, agency.as_ref()), Action::FleetResume).await?;
        let (by, from) = (&visitor.account.name, Some(visitor.address.as_str()));
        let ending = Ending { by, from, because: None };
        orders::cancel(&mut client, &portal.people.log, order, ending).await?;
        Ok::<_, Fault>(format!("/fleet/{}", one.agency()))
    };
    match done.await {
        Ok(back) => Redirect::to(&back).into_response(),
        Err(fault) => failed(visitor.lang, &fault),
    }
}
