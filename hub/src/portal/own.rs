//! The own account: who one is, which sessions are open, and "I lost my account" (CB-08).

use axum::extract::State;
use axum::response::{IntoResponse as _, Redirect, Response};
use maud::{Markup, html};
use phusa_protocol::ids::AgencyId;

use super::guard::{Sent, Visitor, failed};
use super::login::signed_out;
use super::{Portal, frame};
use crate::accounts::session::Session;

/// `GET /own`.
pub(super) async fn show(State(portal): State<Portal>, visitor: Visitor) -> Response {
    match portal.people.sessions(&visitor.account).await {
        Ok(sessions) => page(&visitor, &sessions),
        Err(fault) => failed(visitor.lang, &fault),
    }
}

/// `POST /own/end`: ends one session, maybe this one.
pub(super) async fn end(State(portal): State<Portal>, Sent(visitor, fields): Sent) -> Response {
    let session = fields.get("session").parse().unwrap_or(0);
    match portal.people.end(&visitor.account, session, &visitor.address).await {
        Ok(()) => Redirect::to("/own").into_response(),
        Err(fault) => failed(visitor.lang, &fault),
    }
}

/// `POST /own/lost`: locks the account and ends every session.
pub(super) async fn lost(State(portal): State<Portal>, Sent(visitor, _): Sent) -> Response {
    match portal.people.lost(&visitor.account, &visitor.address).await {
        Ok(_) => signed_out(),
        Err(fault) => failed(visitor.lang, &fault),
    }
}

fn page(visitor: &Visitor, sessions: &[Session]) -> Response {
    let (lang, account) = (visitor.lang, &visitor.account);
    let title = lang.say("Tài khoản của tôi", "My account");
    let content = html! {
        h1 { (title) }
        div.card {
            table.facts {
                (fact(lang.say("Tên đăng nhập", "Account"), &account.name))
                (fact(lang.say("Người giữ", "Holder"), &account.title))
                (fact(lang.say("Vai trò", "Role"), lang.of_pair(account.role.words())))
                (fact(lang.say("Đơn vị", "Unit"), account.agency.as_ref().map_or("–", AgencyId::as_str)))
            }
        }
        h2 { (lang.say("Phiên đang mở", "Open sessions")) }
        div.scroll { table {
            thead { tr {
                th scope="col" { (lang.say("Địa chỉ", "Address")) }
                th scope="col" { (lang.say("Bắt đầu", "Began")) }
                th scope="col" { (lang.say("Dùng lần cuối", "Last used")) }
                th scope="col" { span.quiet { (lang.say("Việc", "Action")) } }
            } }
            tbody { @for session in sessions { (row(visitor, session)) } }
        } }
        h2 { (lang.say("Mất tài khoản?", "Lost your account?")) }
        div.card {
            p { (lang.say(
                "Nếu mất điện thoại, lộ mật khẩu hoặc thấy phiên lạ: bấm nút này. Tài khoản bị khóa, mọi phiên chấm dứt ngay, kể cả phiên này; cán bộ CNTT của đơn vị sẽ cấp lại.",
                "If your telephone is gone, your password is known to others or you see a session that is not yours: press this. The account is locked and every session ends at once, this one too; your unit's IT officer gives you a new invitation.",
            )) }
            form method="post" action="/own/lost" {
                (frame::form_token(visitor))
                button.bad { (lang.say("Tôi mất tài khoản: khóa ngay", "I lost my account: lock it now")) }
            }
        }
    };
    frame::page(visitor, title, &content)
}

fn row(visitor: &Visitor, session: &Session) -> Markup {
    let lang = visitor.lang;
    let is_this = session.session == visitor.session.session;
    html! { tr {
        td { (session.address) " " @if is_this { span.tag.good { (lang.say("phiên này", "this one")) } } }
        td.t { (session.began_at.vietnamese()) }
        td.t { (session.seen_at.vietnamese()) }
        td {
            form.inline method="post" action="/own/end" {
                (frame::form_token(visitor))
                input type="hidden" name="session" value=(session.session);
                button.plain { (lang.say("Chấm dứt", "End it")) }
            }
        }
    } }
}

/// A fact of a table of facts.
pub(super) fn fact(name: &str, value: &str) -> Markup {
    html! { tr { th scope="row" { (name) } td { (value) } } }
}
