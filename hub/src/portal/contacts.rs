//! Whom to call at each agency: seen, and changed by whoever may (CT-14, NA-10).

use std::collections::BTreeSet;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Redirect, Response};
use maud::{Markup, html};
use phusa_protocol::deed::Action;
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::ids::AgencyId;
use phusa_protocol::time::Timestamp;

use super::deciding::{check, decides, sees};
use super::fleet::whom;
use super::form::Fields;
use super::guard::{Sent, Visitor, failed};
use super::{Portal, frame};
use crate::accounts::right::Deciding;
use crate::fleet::contact::{self, Contact, Level};

/// `GET /contacts`.
pub(super) async fn list(State(portal): State<Portal>, visitor: Visitor) -> Response {
    let found = async {
        let all = contact::all(&portal.people.warehouse.client().await?).await?;
        let register = portal.register.borrow().clone();
        let known = register.keys().into_keys().map(|agent| agent.agency().to_string());
        let mut agencies: BTreeSet<String> = known.collect();
        agencies.extend(all.iter().map(|contact| contact.agency.clone()));
        agencies.retain(|agency| sees(&visitor, Some(agency)));
        Ok::<_, Fault>((agencies, all))
    };
    match found.await {
        Ok((agencies, all)) => listed(&visitor, &agencies, &all),
        Err(fault) => failed(visitor.lang, &fault),
    }
}

fn listed(visitor: &Visitor, agencies: &BTreeSet<String>, all: &[Contact]) -> Response {
    let lang = visitor.lang;
    let title = lang.say("Đầu mối", "Contacts");
    let missing =
        agencies.iter().filter(|agency| contact::of(all, agency, Level::Focal).is_none()).count();
    let content = html! {
        h1 { (title) }
        @if missing > 0 {
            p.notice { (missing) (lang.say(" cơ quan chưa có đầu mối (CT-14).",
                " agencies have no focal point (CT-14).")) }
        }
        div.scroll { table.stack.contacts {
            thead { tr {
                th scope="col" { (lang.say("Cơ quan", "Agency")) }
                @for level in Level::ALL { th scope="col" { (lang.of_pair(level.words())) } }
            } }
            tbody { @for agency in agencies { tr {
                td { a href={ "/contacts/" (agency) } { b { (agency) } } }
                @for level in Level::ALL {
                    td { (whom(lang, contact::of(all, agency, level), level == Level::Focal)) }
                }
            } } }
        } }
    };
    frame::page(visitor, title, &content)
}

/// `GET /contacts/{agency}`.
pub(super) async fn one(
    State(portal): State<Portal>,
    Path(agency): Path<String>,
    visitor: Visitor,
) -> Response {
    shown(&portal, &visitor, &agency, None).await
}

/// `POST /contacts/{agency}`.
pub(super) async fn set(
    State(portal): State<Portal>,
    Path(agency): Path<String>,
    Sent(visitor, fields): Sent,
) -> Response {
    let done = async {
        let agency = of(&visitor, &agency)?;
        check(&portal, &visitor, (Deciding::Call, Some(&agency)), Action::ContactSet).await?;
        let text = |name: &str| fields.get(name).trim().to_owned();
        let contact = Contact {
            agency: agency.to_string(),
            level: Level::named(fields.get("level")).unwrap_or(Level::Focal),
            name: text("name"),
            position: text("position"),
            duty: text("duty"),
            phone: text("phone"),
            email: text("email"),
            set_by: visitor.account.name.clone(),
            set_at: Timestamp::now(),
        };
        let mut client = portal.people.warehouse.client().await?;
        contact::set(&mut client, &portal.people.log, &contact, Some(&visitor.address)).await
    };
    match done.await {
        Ok(()) => Redirect::to(&format!("/contacts/{agency}")).into_response(),
        Err(fault) if fault.code == Code::ContactInvalid => {
            shown(&portal, &visitor, &agency, Some(&fields)).await
        }
        Err(fault) => failed(visitor.lang, &fault),
    }
}

/// An agency that this visitor may see; to others it is not there.
fn of(visitor: &Visitor, agency: &str) -> Result<AgencyId, Fault> {
    let unknown = || Fault::new(Code::AccountUnknown, "no such agency");
    let agency = AgencyId::new(agency).map_err(|_| unknown())?;
    sees(visitor, Some(agency.as_str())).then_some(agency).ok_or_else(unknown)
}

async fn shown(
    portal: &Portal,
    visitor: &Visitor,
    agency: &str,
    wrong: Option<&Fields>,
) -> Response {
    let found = async {
        let agency = of(visitor, agency)?;
        let client = portal.people.warehouse.client().await?;
        let history = contact::history(&client, &agency).await?;
        Ok::<_, Fault>((agency, history))
    };
    let (agency, history) = match found.await {
        Ok(found) => found,
        Err(fault) => return failed(visitor.lang, &fault),
    };
    let lang = visitor.lang;
    let may = decides(visitor, Deciding::Call, Some(&agency));
    let title = format!("{} {agency}", lang.say("Đầu mối", "Contacts of"));
    let content = html! {
        p { a href="/contacts" { "← " (lang.say("Đầu mối", "Contacts")) } }
        h1 { (title) }
        @if wrong.is_some() {
            p.notice role="alert" { (lang.say(
                "Phải ghi đủ năm mục, mỗi mục một dòng không quá 120 ký tự; điện thoại chỉ gồm chữ số và dấu + ( ) . -.",
                "All five items are needed, each one line of at most 120 characters; a telephone number has digits and + ( ) . - alone.",
            )) }
        }
        @for level in Level::ALL {
            @let current = history.iter().find(|contact| contact.level == level);
            @let typed = wrong.filter(|fields| Level::named(fields.get("level")) == Some(level));
            (card(visitor, &agency, (level, may), (current, typed)))
        }
        h2 { (lang.say("Đã bàn giao", "Handed over")) }
        (handovers(visitor, &history))
    };
    let mut answer = frame::page(visitor, &title, &content);
    if wrong.is_some() {
        *answer.status_mut() = StatusCode::UNPROCESSABLE_ENTITY;
    }
    answer
}

/// Field, words, the item of somebody who is there.
type Item = (&'static str, (&'static str, &'static str), fn(&Contact) -> &String);

/// The five items of NA-10.
const ITEMS: [Item; 5] = [
    ("name", ("Họ tên", "Name"), |contact| &contact.name),
    ("position", ("Chức vụ", "Position"), |contact| &contact.position),
    ("duty", ("Nhiệm vụ", "Duty"), |contact| &contact.duty),
    ("phone", ("Điện thoại", "Phone"), |contact| &contact.phone),
    ("email", ("Thư điện tử", "E-mail"), |contact| &contact.email),
];

fn card(
    visitor: &Visitor,
    agency: &AgencyId,
    (level, may): (Level, bool),
    (current, typed): (Option<&Contact>, Option<&Fields>),
) -> Markup {
    let lang = visitor.lang;
    let value = |name: &str, of: fn(&Contact) -> &String| match typed {
        Some(fields) => fields.get(name).to_owned(),
        None => current.map(|contact| of(contact).clone()).unwrap_or_default(),
    };
    html! {
        div.card {
            h2 { (lang.of_pair(level.words())) }
            @match current {
                Some(contact) => dl.items { @for (_, words, item) in ITEMS {
                    div { dt { (lang.of_pair(words)) } dd { (item(contact)) } }
                } },
                None => p.quiet { (lang.say("Chưa ghi.", "Not written down yet.")) },
            }
            @if may {
                details open[typed.is_some()] {
                    summary { (lang.say("Thay đổi", "Change")) }
                    form method="post" action={ "/contacts/" (agency) } {
                        (frame::form_token(visitor))
                        input type="hidden" name="level" value=(level.name());
                        @for (name, words, item) in ITEMS {
                            @let id = format!("{}-{name}", level.name());
                            label for=(id) { (lang.of_pair(words)) }
                            input id=(id) name=(name) value=(value(name, item)) maxlength="120"
                                autocomplete="off" required;
                        }
                        p.act { button { (lang.say("Ghi", "Write down")) } }
                    }
                }
            }
        }
    }
}

fn handovers(visitor: &Visitor, history: &[Contact]) -> Markup {
    let lang = visitor.lang;
    html! {
        @if history.is_empty() { p.quiet { (lang.say("Chưa có.", "None yet.")) } } @else {
            div.scroll { table.stack {
                thead { tr {
                    th scope="col" { (lang.say("Từ", "From")) }
                    th scope="col" { (lang.say("Vai trò", "Role")) }
                    th scope="col" { (lang.say("Họ tên", "Name")) }
                    th scope="col" { (lang.say("Điện thoại", "Phone")) }
                    th scope="col" { (lang.say("Người ghi", "Written by")) }
                } }
                tbody { @for contact in history { tr {
                    td.t { (contact.set_at.vietnamese()) }
                    td { (lang.of_pair(contact.level.words())) }
                    td { (contact.name) }
                    td.phone { (contact.phone) }
                    td { (contact.set_by) }
                } } }
            } }
        }
    }
}
