//! Accounts: seen, made, locked, killed and invited anew, each by right.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Redirect, Response};
use maud::{Markup, html};
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::ids::AgencyId;

use super::form::Fields;
use super::guard::{Sent, Visitor, failed};
use super::own::fact;
use super::words::Lang;
use super::{Portal, frame};
use crate::accounts::right::{Doing, Role, Target, may};
use crate::accounts::secret::Invitation;
use crate::accounts::{Account, Change, Wanted};

/// `GET /accounts`.
pub(super) async fn list(State(portal): State<Portal>, visitor: Visitor) -> Response {
    match portal.people.list(&visitor.actor).await {
        Ok(accounts) => listed(&visitor, &accounts),
        Err(fault) => failed(visitor.lang, &fault),
    }
}

/// Roles that somebody may give.
fn given(visitor: &Visitor) -> Vec<Role> {
    let own = visitor.account.agency.as_ref();
    let gives = |role: &Role| {
        let agency = if role.has_agency() { own } else { None };
        may(&visitor.actor, Doing::Issue, Target { role: *role, agency })
    };
    Role::ALL.into_iter().filter(gives).collect()
}

fn state(lang: Lang, account: &Account) -> Markup {
    let (class, vi, en) = match (account.locked_at, account.active, account.invited_until) {
        (Some(_), ..) => ("bad", "bị khóa", "locked"),
        (None, true, _) => ("good", "hoạt động", "active"),
        (None, false, Some(_)) => ("wait", "đã mời", "invited"),
        (None, false, None) => ("wait", "chưa mời", "not invited"),
    };
    html! { span class={ "tag " (class) } { (lang.say(vi, en)) } }
}

fn agency(account: &Account) -> &str {
    account.agency.as_ref().map_or("–", AgencyId::as_str)
}

fn listed(visitor: &Visitor, accounts: &[Account]) -> Response {
    let lang = visitor.lang;
    let title = lang.say("Tài khoản", "Accounts");
    let content = html! {
        div.head {
            h1 { (title) }
            @if !given(visitor).is_empty() {
                a.button href="/accounts/new" { (lang.say("Lập tài khoản", "New account")) }
            }
        }
        @if accounts.is_empty() {
            p { (lang.say("Chưa có tài khoản nào bạn được xem.", "There is no account you may see.")) }
        } @else {
            div.scroll { table.stack {
                thead { tr {
                    th scope="col" { (lang.say("Tên đăng nhập", "Account")) }
                    th scope="col" { (lang.say("Người giữ", "Holder")) }
                    th scope="col" { (lang.say("Vai trò", "Role")) }
                    th scope="col" { (lang.say("Đơn vị", "Unit")) }
                    th scope="col" { (lang.say("Trạng thái", "State")) }
                    th.n scope="col" { (lang.say("Phiên", "Sessions")) }
                } }
                tbody { @for account in accounts { tr {
                    td { a href={ "/accounts/" (account.name) } { (account.name) } }
                    td { (account.title) }
                    td { (lang.of_pair(account.role.words())) }
                    td { (agency(account)) }
                    td { (state(lang, account)) }
                    td.n { (account.sessions) }
                } } }
            } }
        }
    };
    frame::page(visitor, title, &content)
}

/// `GET /accounts/new`.
pub(super) async fn blank(visitor: Visitor) -> Response {
    form(&visitor, StatusCode::OK, (&Fields::default(), None))
}

/// `POST /accounts/new`.
pub(super) async fn create(State(portal): State<Portal>, Sent(visitor, fields): Sent) -> Response {
    let lang = visitor.lang;
    let invalid = StatusCode::UNPROCESSABLE_ENTITY;
    let Some(role) = Role::named(fields.get("role")) else {
        let said = lang.say("Hãy chọn một vai trò.", "Choose a role.");
        return form(&visitor, invalid, (&fields, Some(said)));
    };
    let typed = fields.given("agency").map(AgencyId::new).transpose();
    let Ok(typed) = typed else {
        let said =
            lang.say("Mã đơn vị không hợp lệ, ví dụ H57.12.", "The unit is none, such as H57.12.");
        return form(&visitor, invalid, (&fields, Some(said)));
    };
    // A unit's administrator need not type its own unit.
    let own = || visitor.account.agency.clone();
    let agency = if role.has_agency() { typed.or_else(own) } else { None };
    let wanted = Wanted {
        name: fields.get("name").trim().to_owned(),
        title: fields.get("title").trim().to_owned(),
        role,
        agency,
    };
    match portal.people.create(&visitor.actor, &wanted).await {
        Ok(invitation) => invited(&visitor, &wanted.name, &invitation),
        Err(fault) if fault.code == Code::AccountInvalid => {
            let said = lang.say(
                "Tên phải có 3 đến 32 ký tự a-z, 0-9, '.', '-', '_', bắt đầu bằng chữ, chưa ai dùng; phải ghi người giữ, và đơn vị nếu vai trò thuộc một đơn vị.",
                "A name has 3 to 32 of a-z, 0-9, '.', '-', '_', begins with a letter and is not taken; the holder is named, and the unit where the role has one.",
            );
            form(&visitor, invalid, (&fields, Some(said)))
        }
        Err(fault) => failed(lang, &fault),
    }
}

fn form(visitor: &Visitor, status: StatusCode, (typed, said): (&Fields, Option<&str>)) -> Response {
    let (lang, roles) = (visitor.lang, given(visitor));
    if roles.is_empty() {
        return failed(lang, &Fault::new(Code::RightMissing, visitor.account.name.clone()));
    }
    let title = lang.say("Lập tài khoản", "New account");
    let own = visitor.account.agency.as_ref().map_or("", AgencyId::as_str);
    let content = html! {
        div.card.narrow {
            h1 { (title) }
            @if let Some(said) = said { p.notice role="alert" { (said) } }
            form method="post" action="/accounts/new" {
                (frame::form_token(visitor))
                label for="name" { (lang.say("Tên đăng nhập", "Account")) }
                input id="name" name="name" value=(typed.get("name")) autocomplete="off"
                    autocapitalize="none" spellcheck="false" maxlength="32" required;
                label for="title" { (lang.say("Họ tên, chức vụ người giữ", "Holder's name and office")) }
                input id="title" name="title" value=(typed.get("title")) autocomplete="off"
                    maxlength="120" required;
                label for="role" { (lang.say("Vai trò", "Role")) }
                select id="role" name="role" required { @for role in &roles {
                    option value=(role.name()) selected[role.name() == typed.get("role")] {
                        (lang.of_pair(role.words()))
                    }
                } }
                @if own.is_empty() {
                    label for="agency" {
                        (lang.say("Mã đơn vị", "Unit")) " "
                        span.quiet { (lang.say("(quản trị đơn vị; thanh tra: để trống)",
                            "(for a unit administrator; leave empty for an inspector)")) }
                    }
                    input id="agency" name="agency" value=(typed.get("agency")) placeholder="H57.12"
                        autocomplete="off" maxlength="40";
                } @else {
                    p.quiet { (lang.say("Đơn vị", "Unit")) ": " b { (own) } }
                }
                p.act { button { (lang.say("Lập và mời", "Make and invite")) } }
            }
        }
    };
    let mut answer = frame::page(visitor, title, &content);
    *answer.status_mut() = status;
    answer
}

fn invited(visitor: &Visitor, name: &str, invitation: &Invitation) -> Response {
    let lang = visitor.lang;
    let title = lang.say("Mã mời", "Invitation");
    let content = html! {
        div.card.narrow {
            h1 { (title) }
            p { (lang.say("Tài khoản ", "Account ")) b { (name) } "." }
            p.notice { (lang.say(
                "Mã này chỉ hiện một lần, dùng được một lần trong 72 giờ. Giao tận tay người giữ, không gửi qua tin nhắn chung.",
                "It is shown this once and good once within 72 hours. Hand it to the holder in person.",
            )) }
            pre.code { (invitation.to_secret_text()) }
            p { (lang.say("Người giữ mở trang ", "The holder opens ")) code { "/invitation" }
                (lang.say(" của cổng này.", " of this portal.")) }
            p { a href={ "/accounts/" (name) } { (lang.say("Về tài khoản", "To the account")) } }
        }
    };
    frame::page(visitor, title, &content)
}

/// `GET /accounts/{name}`.
pub(super) async fn one(
    State(portal): State<Portal>,
    Path(name): Path<String>,
    visitor: Visitor,
) -> Response {
    match portal.people.show(&visitor.actor, &name).await {
        Ok(account) => shown(&visitor, &account),
        Err(fault) => failed(visitor.lang, &fault),
    }
}

/// `POST /accounts/{name}`: `do` says what.
pub(super) async fn change(
    State(portal): State<Portal>,
    Path(name): Path<String>,
    Sent(visitor, fields): Sent,
) -> Response {
    let people = &portal.people;
    let change = match fields.get("do") {
        "lock" => Change::Lock,
        "unlock" => Change::Unlock,
        "kill" => Change::Kill,
        "reset" => {
            return match people.reset(&visitor.actor, &name).await {
                Ok(invitation) => invited(&visitor, &name, &invitation),
                Err(fault) => failed(visitor.lang, &fault),
            };
        }
        _ => return Redirect::to("/accounts").into_response(),
    };
    match people.change(&visitor.actor, &name, change).await {
        Ok(_) => Redirect::to(&format!("/accounts/{name}")).into_response(),
        Err(fault) => failed(visitor.lang, &fault),
    }
}

fn shown(visitor: &Visitor, account: &Account) -> Response {
    let lang = visitor.lang;
    let stops = may(&visitor.actor, Doing::Stop, account.target());
    let issues = may(&visitor.actor, Doing::Issue, account.target());
    let content = html! {
        div.head { h1 { (account.name) } (state(lang, account)) }
        div.card { table.facts {
            (fact(lang.say("Người giữ", "Holder"), &account.title))
            (fact(lang.say("Vai trò", "Role"), lang.of_pair(account.role.words())))
            (fact(lang.say("Đơn vị", "Unit"), agency(account)))
            (fact(lang.say("Lập bởi", "Made by"), &account.made_by))
            (fact(lang.say("Lập lúc", "Made"), &account.made_at.vietnamese()))
            (fact(lang.say("Phiên đang mở", "Open sessions"), &account.sessions.to_string()))
            @if let (Some(at), Some(by)) = (account.locked_at, &account.locked_by) {
                (fact(lang.say("Khóa lúc", "Locked"), &at.vietnamese()))
                (fact(lang.say("Khóa bởi", "Locked by"), by))
            }
        } }
        @if stops || issues {
            h2 { (lang.say("Việc", "Actions")) }
            div.card {
                @if stops {
                    (act(visitor, account, "kill", lang.say("Chấm dứt mọi phiên", "End all sessions"),
                        lang.say("Người giữ phải đăng nhập lại.", "The holder must sign in again.")))
                }
                @if stops && account.locked_at.is_none() {
                    (act(visitor, account, "lock", lang.say("Khóa tài khoản", "Lock the account"),
                        lang.say("Mọi phiên chấm dứt ngay; không đăng nhập được nữa.",
                            "All sessions end at once; nobody can sign in.")))
                }
                @if issues && account.locked_at.is_some() {
                    (act(visitor, account, "unlock", lang.say("Mở khóa", "Unlock"),
                        lang.say("Mật khẩu và mã cũ dùng lại được.", "Password and codes are good again.")))
                }
                @if issues {
                    (act(visitor, account, "reset", lang.say("Mời lại", "Invite anew"),
                        lang.say("Xóa mật khẩu và mã xác thực, cấp mã mời mới.",
                            "Takes password and second factor away and gives a new invitation.")))
                }
            }
        }
        p { a href="/accounts" { (lang.say("Về danh sách", "To the list")) } }
    };
    frame::page(visitor, &account.name, &content)
}

fn act(visitor: &Visitor, account: &Account, what: &str, name: &str, means: &str) -> Markup {
    html! {
        form method="post" action={ "/accounts/" (account.name) } {
            (frame::form_token(visitor))
            input type="hidden" name="do" value=(what);
            p { button.plain { (name) } " " span.quiet { (means) } }
        }
    }
}
