//! Incidents for people: the open ones first, filtered and paged; each with what happened when, whom to
//! call, and how it is closed.

mod one;

use axum::extract::{Path, RawQuery, State};
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use maud::{Markup, html};
use phusa_protocol::deed::{Action, Deed};
use phusa_protocol::fault::Fault;
use phusa_protocol::time::Timestamp;

pub(super) use self::one::{close, show};
use super::deciding::asked_agency;
use super::fleet::whom;
use super::form::{Fields, query};
use super::guard::{Visitor, failed};
use super::live::region;
use super::words::Lang;
use super::{Portal, frame};
use crate::accounts::right::{Readable, readable};
use crate::fleet::contact::{self, Contact, Level};
use crate::incidents::export::{Form, file};
use crate::incidents::{self, Asked, Incident, Kind};
use crate::transfers::deed::write_alone;
use crate::transfers::minutes::page::count;

/// Incidents on a page.
const LINES: i64 = 50;

/// What the filter says, by right; the open ones where it says nothing.
fn asked(visitor: &Visitor, fields: &Fields) -> Option<Asked> {
    let agency = asked_agency(visitor, fields)?;
    let open = match fields.get("state") {
        "closed" => Some(false),
        "all" => None,
        _ => Some(true),
    };
    let kind = fields.given("kind").and_then(Kind::named);
    Some(Asked { open, kind, agency, before: fields.get("before").parse().ok(), lines: LINES })
}

/// What is shown of the incidents that are asked for.
async fn found(portal: &Portal, asked: &Asked) -> Result<(Vec<Incident>, Vec<Contact>), Fault> {
    let client = portal.people.warehouse.client().await?;
    Ok((incidents::find(&**client, asked).await?, contact::all(&client).await?))
}

/// `GET /incidents`.
pub(super) async fn list(
    State(portal): State<Portal>,
    RawQuery(query): RawQuery,
    visitor: Visitor,
) -> Response {
    let (fields, lang) = (Fields::of_query(query.as_deref()), visitor.lang);
    let title = lang.say("Sự cố", "Incidents");
    let Some(asked) = asked(&visitor, &fields) else {
        let none =
            lang.say("Vai trò của bạn không xem sự cố.", "Your role does not see incidents.");
        return frame::page(&visitor, title, &html! { h1 { (title) } p { (none) } });
    };
    match found(&portal, &asked).await {
        Ok((lines, contacts)) => listed(&visitor, &fields, (&lines, &contacts)),
        Err(fault) => failed(lang, &fault),
    }
}

/// The words of a kind, also of one that a later version knows.
fn kind_of(lang: Lang, one: &Incident) -> String {
    let known = Kind::named(&one.kind).map(|kind| lang.of_pair(kind.words()).to_owned());
    known.unwrap_or_else(|| one.kind.clone())
}

/// Whether it is open, and whether it lasts.
fn tag(lang: Lang, one: &Incident) -> Markup {
    let (class, vi, en) = match (one.closed_at, one.holds) {
        (Some(_), _) => ("", "đã đóng", "closed"),
        (None, true) => ("bad", "đang kéo dài", "lasts"),
        (None, false) => ("wait", "đang mở", "open"),
    };
    html! { span class={ "tag " (class) } { (lang.say(vi, en)) } }
}

fn contact_of<'a>(one: &Incident, contacts: &'a [Contact]) -> Option<&'a Contact> {
    contact::of(contacts, one.agency()?, Level::Focal)
}

/// Each event in both languages holds them with a dot between; people see their own.
fn said(lang: Lang, text: &str) -> &str {
    match (text.split_once(" · "), lang) {
        (Some((vi, _)), Lang::Vi) => vi,
        (Some((_, en)), Lang::En) => en,
        (None, _) => text,
    }
}

fn listed(
    visitor: &Visitor,
    fields: &Fields,
    (lines, contacts): (&[Incident], &[Contact]),
) -> Response {
    let lang = visitor.lang;
    let older = lines.last().filter(|_| i64::try_from(lines.len()).is_ok_and(|n| n == LINES));
    let keep = |path: &str, before: &str| {
        let pairs = ["state", "kind", "agency"].map(|name| (name, fields.get(name)));
        format!("{path}?{}", query(&[pairs.as_slice(), &[("before", before)]].concat()))
    };
    let title = lang.say("Sự cố", "Incidents");
    let content = html! {
        div.head {
            h1 { (title) }
            p { a href=(keep("/incidents/file/csv", "")) { "CSV" } " · "
                a href=(keep("/incidents/file/docx", "")) { "Word" } }
        }
        (filter(visitor, fields))
        (region(&keep("/live/incidents", fields.get("before")), &table(lang, lines, contacts)))
        p.pages {
            @if fields.given("before").is_some() {
                a href=(keep("/incidents", "")) { (lang.say("← Mới nhất", "← Newest")) }
            } @else { span {} }
            @if let Some(line) = older {
                a href=(keep("/incidents", &line.incident.to_string())) {
                    (lang.say("Cũ hơn →", "Older →"))
                }
            }
        }
    };
    frame::page(visitor, title, &content)
}

/// The part of the list that changes.
pub(super) async fn changing(
    portal: &Portal,
    visitor: &Visitor,
    fields: &Fields,
) -> Result<Markup, Fault> {
    let Some(asked) = asked(visitor, fields) else { return Ok(html! {}) };
    let (lines, contacts) = found(portal, &asked).await?;
    Ok(table(visitor.lang, &lines, &contacts))
}

/// The incidents as a table; a sentence where there is none.
fn table(lang: Lang, lines: &[Incident], contacts: &[Contact]) -> Markup {
    html! {
        @if lines.is_empty() {
            p.notice.done { (lang.say("Không có sự cố nào.", "There is no incident.")) }
        } @else {
            div.scroll { table.stack.incidents {
                thead { tr {
                    th.n scope="col" { (lang.say("Số", "Number")) }
                    th scope="col" { (lang.say("Trạng thái", "State")) }
                    th scope="col" { (lang.say("Loại, ở đâu", "Kind, where")) }
                    th scope="col" { (lang.say("Thấy gì", "What was seen")) }
                    th scope="col" { (lang.say("Mở lúc", "Opened")) }
                    th scope="col" { (lang.say("Đầu mối", "Focal point")) }
                } }
                tbody { @for one in lines { (line(lang, one, contact_of(one, contacts))) } }
            } }
        }
    }
}

fn line(lang: Lang, one: &Incident, contact: Option<&Contact>) -> Markup {
    let opened = one.opened_at.vietnamese();
    html! { tr {
        td.n { a href={ "/incidents/" (one.incident) } { (one.incident) } }
        td { (tag(lang, one)) }
        td { (kind_of(lang, one)) (whereabouts(one)) }
        td { (said(lang, &one.cause))
            @if one.count > 1 { " " span.quiet { "(" (count(one.count.unsigned_abs())) (lang.say(" lần)", " times)")) } } }
        td.t { (opened) }
        td { (whom(lang, contact, one.agent.is_some() && one.closed_at.is_none())) }
    } }
}

/// Agent and dataset, each a way to its page.
fn whereabouts(one: &Incident) -> Markup {
    html! {
        @if let (Some(agent), Some(agency)) = (&one.agent, one.agency()) {
            br; a href={ "/fleet/" (agency) } { (agent) }
        }
        @if let Some(dataset) = &one.dataset { br; code { (dataset) } }
    }
}

fn filter(visitor: &Visitor, fields: &Fields) -> Markup {
    let lang = visitor.lang;
    let states = [
        ("", lang.say("đang mở", "open")),
        ("closed", lang.say("đã đóng", "closed")),
        ("all", lang.say("tất cả", "all")),
    ];
    html! {
        form.filter method="get" action="/incidents" {
            div {
                label for="state" { (lang.say("Trạng thái", "State")) }
                select id="state" name="state" { @for (name, words) in states {
                    option value=(name) selected[name == fields.get("state")] { (words) }
                } }
            }
            div {
                label for="kind" { (lang.say("Loại", "Kind")) }
                select id="kind" name="kind" {
                    option value="" { (lang.say("tất cả", "all")) }
                    @for kind in Kind::ALL {
                        option value=(kind.name()) selected[kind.name() == fields.get("kind")] {
                            (lang.of_pair(kind.words()))
                        }
                    }
                }
            }
            @if readable(&visitor.actor) == Readable::All {
                div {
                    label for="agency" { (lang.say("Cơ quan", "Agency")) }
                    input id="agency" name="agency" value=(fields.get("agency"))
                        placeholder="H57.12" maxlength="40";
                }
            }
            div { button { (lang.say("Lọc", "Filter")) } }
        }
    }
}

/// `GET /incidents/file/{form}`: what the filter shows, as a file; that is an entry of the log.
pub(super) async fn export(
    State(portal): State<Portal>,
    Path(form): Path<String>,
    RawQuery(query): RawQuery,
    visitor: Visitor,
) -> Response {
    let fields = Fields::of_query(query.as_deref());
    let form = if form == "docx" { Form::Docx } else { Form::Csv };
    let taken = async {
        let Some(asked) = asked(&visitor, &fields) else { return Ok(None) };
        let asked = Asked { before: None, lines: 0, ..asked };
        let told = Deed::new(&visitor.account.name, Action::IncidentExport).from(&visitor.address);
        write_alone(&portal.people.warehouse, &portal.people.log, told.on(form.name())).await?;
        let (lines, _) = found(&portal, &asked).await?;
        file(&lines, form, Timestamp::now()).map(Some)
    };
    match taken.await {
        Ok(Some(bytes)) => {
            let name = format!("attachment; filename=\"su-co.{}\"", form.name());
            let kind = form.media_type().to_owned();
            ([(header::CONTENT_TYPE, kind), (header::CONTENT_DISPOSITION, name)], bytes)
                .into_response()
        }
        Ok(None) => axum::response::Redirect::to("/incidents").into_response(),
        Err(fault) => failed(visitor.lang, &fault),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_in_both_languages_is_shown_in_the_readers() {
        assert_eq!(said(Lang::Vi, "đã qua · over"), "đã qua");
        assert_eq!(said(Lang::En, "đã qua · over"), "over");
        assert_eq!(said(Lang::En, "bytes"), "bytes");
    }
}
