//! One incident: what happened when, whom to call, and closing it with a cause.

use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Redirect, Response};
use maud::{Markup, html};
use phusa_protocol::deed::Action;
use phusa_protocol::fault::{Code, Fault};

use super::{contact_of, kind_of, said, tag, whereabouts};
use crate::accounts::right::Deciding;
use crate::fleet::contact::{self, Contact};
use crate::incidents::closing::{self, Cause, Closing};
use crate::incidents::{self, Incident};
use crate::portal::deciding::{check, decides, sees};
use crate::portal::fleet::whom;
use crate::portal::guard::{Sent, Visitor, failed};
use crate::portal::{Portal, frame};

/// An incident that this visitor may see; to others it is not there.
async fn seen(portal: &Portal, visitor: &Visitor, number: i64) -> Result<Incident, Fault> {
    let client = portal.people.warehouse.client().await?;
    let found = incidents::show(&**client, number).await?;
    let missing = || Fault::new(Code::IncidentUnknown, format!("incident {number}"));
    sees(visitor, found.agency()).then_some(found).ok_or_else(missing)
}

/// `GET /incidents/{number}`.
pub(in crate::portal) async fn show(
    State(portal): State<Portal>,
    Path(number): Path<i64>,
    visitor: Visitor,
) -> Response {
    let found = async {
        let one = seen(&portal, &visitor, number).await?;
        let client = portal.people.warehouse.client().await?;
        Ok::<_, Fault>((one, contact::all(&client).await?))
    };
    match found.await {
        Ok((one, contacts)) => page(&visitor, &one, contact_of(&one, &contacts)),
        Err(fault) => failed(visitor.lang, &fault),
    }
}

/// `POST /incidents/{number}`: asks whether it is meant, and closes it when it is.
pub(in crate::portal) async fn close(
    State(portal): State<Portal>,
    Path(number): Path<i64>,
    Sent(visitor, fields): Sent,
) -> Response {
    let done = async {
        let one = seen(&portal, &visitor, number).await?;
        check(&portal, &visitor, (Deciding::Keep, None), Action::IncidentClose).await?;
        let note = closing::reason(fields.get("note"))?;
        let cause = Cause::named(fields.get("cause"));
        let missing = || Fault::new(Code::ReasonMissing, "no cause was chosen");
        let cause = cause.ok_or_else(missing)?;
        if fields.given("meant").is_none() {
            return Ok(Some(question(&visitor, &one, (cause, note))));
        }
        let mut client = portal.people.warehouse.client().await?;
        let (by, from) = (visitor.account.name.as_str(), Some(visitor.address.as_str()));
        let closing = Closing { by, from, cause, note };
        closing::close(&mut client, &portal.people.log, number, &closing).await?;
        Ok::<_, Fault>(None)
    };
    match done.await {
        Ok(Some(question)) => question,
        Ok(None) => Redirect::to(&format!("/incidents/{number}")).into_response(),
        Err(fault) => failed(visitor.lang, &fault),
    }
}

fn page(visitor: &Visitor, one: &Incident, contact: Option<&Contact>) -> Response {
    let lang = visitor.lang;
    let title = format!("{} {}", lang.say("Sự cố", "Incident"), one.incident);
    let may_close = one.closed_at.is_none() && decides(visitor, Deciding::Keep, None);
    let content = html! {
        p { a href="/incidents" { "← " (lang.say("Sự cố", "Incidents")) } }
        div.head { h1 { (title) } (tag(lang, one)) }
        div.card {
            table.facts {
                tr { th scope="row" { (lang.say("Loại, ở đâu", "Kind, where")) }
                    td { (kind_of(lang, one)) (whereabouts(one)) } }
                tr { th scope="row" { (lang.say("Thấy gì", "What was seen")) }
                    td { (said(lang, &one.cause)) } }
                tr { th scope="row" { (lang.say("Mở lúc", "Opened")) }
                    td { (one.opened_at.vietnamese()) } }
                tr { th scope="row" { (lang.say("Lần cuối", "Last")) }
                    td { (one.last_at.vietnamese()) " · " (one.count) (lang.say(" lần", " times")) } }
                @if one.agent.is_some() {
                    tr { th scope="row" { (lang.say("Đầu mối", "Focal point")) }
                        td { (whom(lang, contact, true)) } }
                }
                (closed(visitor, one))
            }
        }
        h2 { (lang.say("Diễn biến", "What happened when")) }
        ol.timeline { @for event in &one.timeline {
            li {
                time.t { (event.at.vietnamese()) } " " (said(lang, &event.what))
                @if let Some(transfer) = event.transfer {
                    " " span.quiet { (lang.say("nhật ký, lần truyền ", "log, transfer ")) (transfer) }
                }
            }
        } }
        @if may_close { (form(visitor, one)) }
    };
    frame::page(visitor, &title, &content)
}

fn closed(visitor: &Visitor, one: &Incident) -> Markup {
    let lang = visitor.lang;
    let cause = one.close_cause.as_deref().and_then(Cause::named);
    html! {
        @if let (Some(at), Some(by)) = (one.closed_at, &one.closed_by) {
            tr { th scope="row" { (lang.say("Đóng", "Closed")) } td { (at.vietnamese()) " · " (by) } }
            tr { th scope="row" { (lang.say("Nguyên nhân", "Cause")) } td {
                @if let Some(cause) = cause { (lang.of_pair(cause.words())) ": " }
                (one.close_note.as_deref().unwrap_or_default())
            } }
        }
    }
}

fn form(visitor: &Visitor, one: &Incident) -> Markup {
    let lang = visitor.lang;
    html! {
        h2 { (lang.say("Đóng sự cố", "Close the incident")) }
        form.card method="post" action={ "/incidents/" (one.incident) } {
            (frame::form_token(visitor))
            @if one.holds {
                p.notice { (lang.say(
                    "Sự cố đang kéo dài. Đóng bây giờ nghĩa là đã có người lo; khi nó qua rồi xảy ra lại, sự cố này mở lại.",
                    "It still lasts. To close it now says that somebody looks after it; when it is over and comes back, it is opened again.",
                )) }
            }
            label for="cause" { (lang.say("Nguyên nhân", "Cause")) }
            select id="cause" name="cause" required {
                option value="" { (lang.say("chọn", "choose")) }
                @for cause in Cause::ALL { option value=(cause.name()) { (lang.of_pair(cause.words())) } }
            }
            label for="note" { (lang.say("Đã tìm thấy và làm gì", "What was found and done")) }
            input id="note" name="note" minlength="3" maxlength="500"
                autocomplete="off" required;
            p.act { button { (lang.say("Tiếp tục", "Go on")) } }
        }
    }
}

fn question(visitor: &Visitor, one: &Incident, (cause, note): (Cause, &str)) -> Response {
    let lang = visitor.lang;
    let title = format!("{} {}?", lang.say("Đóng sự cố", "Close incident"), one.incident);
    let content = html! {
        div.card.narrow {
            h1 { (title) }
            p { (kind_of(lang, one)) (whereabouts(one)) }
            p { (lang.say("Nguyên nhân", "Cause")) ": " b { (lang.of_pair(cause.words())) } ". " (note) }
            p.quiet { (lang.say(
                "Việc đóng được ghi vào nhật ký truyền nhận bằng tên bạn và không xóa được.",
                "That it was closed stands in the transfer log under your name and cannot be removed.",
            )) }
            form method="post" action={ "/incidents/" (one.incident) } {
                (frame::form_token(visitor))
                input type="hidden" name="cause" value=(cause.name());
                input type="hidden" name="note" value=(note);
                input type="hidden" name="meant" value="1";
                p.act { button { (lang.say("Đóng sự cố", "Close the incident")) } }
            }
            p { a href={ "/incidents/" (one.incident) } { (lang.say("Thôi", "Do not")) } }
        }
    };
    frame::page(visitor, &title, &content)
}
