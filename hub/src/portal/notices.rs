//! Maintenance that is announced: seen by everybody, announced and taken back by whoever may (CB-16).

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Redirect, Response};
use maud::{Markup, html};
use phusa_protocol::deed::Action;
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::ids::AgencyId;
use phusa_protocol::time::Timestamp;

use super::deciding::{check, decides};
use super::form::Fields;
use super::guard::{Sent, Visitor, failed};
use super::words::Lang;
use super::{Portal, frame};
use crate::accounts::right::{Deciding, Readable, readable};
use crate::notices::{self, Notice, Wanted, moment};

/// Whether this visitor sees an announcement: those of their own unit, and those of everybody.
fn concerns(visitor: &Visitor, notice: &Notice) -> bool {
    match readable(&visitor.actor) {
        Readable::All => true,
        Readable::Of(agency) => notice.concerns(agency.as_str()),
        Readable::None => notice.agencies.is_empty(),
    }
}

/// What is announced, above a page that it concerns; nothing where there is nothing.
pub(super) fn banner(visitor: &Visitor, all: &[Notice], agency: Option<&str>) -> Markup {
    let (lang, now) = (visitor.lang, Timestamp::now());
    let shown = all.iter().filter(|one| concerns(visitor, one));
    let shown = shown.filter(|one| agency.is_none_or(|agency| one.concerns(agency)));
    html! {
        @for one in shown {
            p.notice role="status" {
                b { @if one.is_open(now) { (lang.say("Đang bảo trì", "Maintenance under way")) }
                    @else { (lang.say("Sắp bảo trì", "Maintenance to come")) } }
                ": " (one.title) ". " (window(lang, one)) " " (whom(lang, one))
            }
        }
    }
}

fn window(lang: Lang, one: &Notice) -> Markup {
    html! {
        (lang.say("Từ ", "From ")) (one.from.vietnamese_minute())
        (lang.say(" đến ", " to ")) (one.until.vietnamese_minute()) "."
    }
}

fn whom(lang: Lang, one: &Notice) -> Markup {
    html! {
        @if one.agencies.is_empty() { (lang.say("Mọi cơ quan.", "Every agency.")) }
        @else { (one.agencies.join(", ")) "." }
    }
}

/// `GET /notices`.
pub(super) async fn list(State(portal): State<Portal>, visitor: Visitor) -> Response {
    page(&portal, &visitor, None).await
}

/// `POST /notices`.
pub(super) async fn create(State(portal): State<Portal>, Sent(visitor, fields): Sent) -> Response {
    let done = async {
        check(&portal, &visitor, (Deciding::Announce, None), Action::NoticeCreate).await?;
        let wanted = wanted(&visitor, &fields)?;
        let mut client = portal.people.warehouse.client().await?;
        notices::create(&mut client, &portal.people.log, &wanted).await
    };
    match done.await {
        Ok(_) => Redirect::to("/notices").into_response(),
        Err(fault) if matches!(fault.code, Code::NoticeRefused | Code::ReasonMissing) => {
            page(&portal, &visitor, Some((&fields, &fault))).await
        }
        Err(fault) => failed(visitor.lang, &fault),
    }
}

fn wanted(visitor: &Visitor, fields: &Fields) -> Result<Wanted, Fault> {
    let agencies = fields.get("agencies").split([',', ' ', ';']).filter(|text| !text.is_empty());
    let agencies = agencies.map(AgencyId::new).collect::<Result<Vec<_>, _>>();
    let wrong = |_| Fault::new(Code::NoticeRefused, "an agency is named such as H57.12");
    let urgent = fields.given("urgent").is_some();
    Ok(Wanted {
        title: fields.get("title").trim().to_owned(),
        agencies: agencies.map_err(wrong)?,
        from: moment(fields.get("from"))?,
        until: moment(fields.get("until"))?,
        emergency: urgent.then(|| fields.get("because").trim().to_owned()),
        by: visitor.account.name.clone(),
        address: Some(visitor.address.clone()),
    })
}

/// `POST /notices/{number}`: takes it back.
pub(super) async fn withdraw(
    State(portal): State<Portal>,
    Path(number): Path<i64>,
    Sent(visitor, _): Sent,
) -> Response {
    let done = async {
        check(&portal, &visitor, (Deciding::Announce, None), Action::NoticeWithdraw).await?;
        let mut client = portal.people.warehouse.client().await?;
        let by = (visitor.account.name.as_str(), Some(visitor.address.as_str()));
        notices::withdraw(&mut client, &portal.people.log, number, by).await
    };
    match done.await {
        Ok(()) => Redirect::to("/notices").into_response(),
        Err(fault) => failed(visitor.lang, &fault),
    }
}

async fn page(portal: &Portal, visitor: &Visitor, wrong: Option<(&Fields, &Fault)>) -> Response {
    let found = async {
        let client = portal.people.warehouse.client().await?;
        notices::list(&**client, true, Timestamp::now()).await
    };
    let mut all = match found.await {
        Ok(all) => all,
        Err(fault) => return failed(visitor.lang, &fault),
    };
    all.retain(|one| concerns(visitor, one));
    let (lang, may) = (visitor.lang, decides(visitor, Deciding::Announce, None));
    let title = lang.say("Bảo trì", "Maintenance");
    let content = html! {
        h1 { (title) }
        @if all.is_empty() {
            p { (lang.say("Chưa có thông báo nào.", "Nothing was announced yet.")) }
        } @else { (table(visitor, &all, may)) }
        @if may {
            h2 { (lang.say("Báo bảo trì", "Announce maintenance")) }
            @if let Some((_, fault)) = wrong {
                p.notice role="alert" { (lang.say(fault.code.words().meaning_vi, fault.code.words().meaning_en)) }
            }
            (form(visitor, wrong.map_or(&Fields::default(), |(fields, _)| fields)))
        }
    };
    let mut answer = frame::page(visitor, title, &content);
    if wrong.is_some() {
        *answer.status_mut() = StatusCode::UNPROCESSABLE_ENTITY;
    }
    answer
}

fn table(visitor: &Visitor, all: &[Notice], may: bool) -> Markup {
    let (lang, now) = (visitor.lang, Timestamp::now());
    html! {
        div.scroll { table.stack {
            thead { tr {
                th scope="col" { (lang.say("Trạng thái", "State")) }
                th scope="col" { (lang.say("Từ – đến", "From – to")) }
                th scope="col" { (lang.say("Việc", "What")) }
                th scope="col" { (lang.say("Cơ quan", "Agencies")) }
                th scope="col" { (lang.say("Người báo", "By")) }
                @if may { th scope="col" { span.quiet { (lang.say("Thao tác", "Action")) } } }
            } }
            tbody { @for one in all { tr {
                td { (state(lang, one, now)) }
                td.t { (one.from.vietnamese()) br; (one.until.vietnamese()) }
                td { (one.title)
                    @if let Some(why) = &one.emergency { br;
                        span.quiet { (lang.say("khẩn cấp: ", "emergency: ")) (why) } } }
                td { (whom(lang, one)) }
                td { (one.made_by) }
                @if may { td { @if one.withdrawn_at.is_none() && one.until > now {
                    form.inline method="post" action={ "/notices/" (one.notice) } {
                        (frame::form_token(visitor))
                        button.plain aria-label={ (lang.say("Rút thông báo ", "Withdraw announcement ")) (one.notice) } {
                            (lang.say("Rút", "Withdraw")) }
                    }
                } } }
            } } }
        } }
    }
}

fn state(lang: Lang, one: &Notice, now: Timestamp) -> Markup {
    let (class, vi, en) = match one.withdrawn_at {
        Some(_) => ("", "đã rút", "withdrawn"),
        None if one.is_open(now) => ("wait", "đang bảo trì", "under way"),
        None if one.until <= now => ("", "đã xong", "over"),
        None => ("good", "sắp tới", "to come"),
    };
    html! { span class={ "tag " (class) } { (lang.say(vi, en)) } }
}

fn form(visitor: &Visitor, typed: &Fields) -> Markup {
    let lang = visitor.lang;
    html! {
        form.card method="post" action="/notices" {
            (frame::form_token(visitor))
            p.quiet { (lang.say(
                "Báo trước ít nhất 24 giờ (CB-16), trừ khi khẩn cấp. Trong thời gian này tác tử của các cơ quan nêu tên được hiện là đang bảo trì, không phải là lỗi.",
                "At least 24 hours ahead (CB-16) unless it is an emergency. While it lasts, agents of the agencies named are shown as under maintenance rather than as failing.",
            )) }
            label for="title" { (lang.say("Làm gì", "What is done")) }
            input id="title" name="title" value=(typed.get("title")) minlength="3" maxlength="200" autocomplete="off" required;
            label for="from" { (lang.say("Từ (giờ Việt Nam)", "From (Vietnamese time)")) }
            input id="from" name="from" type="datetime-local" value=(typed.get("from")) required;
            label for="until" { (lang.say("Đến", "Until")) }
            input id="until" name="until" type="datetime-local" value=(typed.get("until")) required;
            label for="agencies" { (lang.say("Cơ quan, cách nhau bằng dấu phẩy", "Agencies, with commas between")) " "
                span.quiet { (lang.say("(để trống: mọi cơ quan)", "(none: every agency)")) } }
            input id="agencies" name="agencies" value=(typed.get("agencies")) placeholder="H57.12, H57.13" autocomplete="off";
            label.choice for="urgent" {
                input id="urgent" name="urgent" type="checkbox" value="1" checked[typed.given("urgent").is_some()];
                (lang.say("Khẩn cấp, không đợi 24 giờ được", "An emergency that cannot wait 24 hours"))
            }
            label for="because" { (lang.say("Vì sao khẩn cấp", "Why it cannot wait")) }
            input id="because" name="because" value=(typed.get("because")) maxlength="500" autocomplete="off";
            p.act { button { (lang.say("Báo", "Announce")) } }
        }
    }
}
