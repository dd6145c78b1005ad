//! Signing in and out.

use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Redirect, Response};
use maud::{Markup, html};

use super::form::Fields;
use super::guard::{COOKIE, Sent, failed, nowhere};
use super::words::Lang;
use super::{From, Portal, frame};
use crate::accounts::login::{Tried, Typed};

/// `GET /login`.
pub(super) async fn show(headers: HeaderMap) -> Response {
    let lang = Lang::of(&headers);
    page(lang, StatusCode::OK, None)
}

/// `POST /login`.
pub(super) async fn sign_in(State(portal): State<Portal>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let lang = Lang::of(&parts.headers);
    let From(address) = parts.extensions.get::<From>().copied().unwrap_or(nowhere());
    let Some(fields) = Fields::of_body(body).await else {
        return page(lang, StatusCode::BAD_REQUEST, Some(&wrong(lang)));
    };
    let address = address.to_string();
    let typed = Typed {
        name: fields.get("name"),
        password: fields.get("password"),
        code: fields.get("code"),
        address: &address,
    };
    match portal.people.login(typed).await {
        Ok(Tried::Right(token)) => {
            let cookie = format!(
                "{COOKIE}={}; Path=/; Secure; HttpOnly; SameSite=Strict",
                token.to_cookie()
            );
            ([(header::SET_COOKIE, cookie)], Redirect::to("/")).into_response()
        }
        Ok(Tried::Wrong) => page(lang, StatusCode::FORBIDDEN, Some(&wrong(lang))),
        Ok(Tried::Wait(pause)) => {
            let mut answer = page(lang, StatusCode::TOO_MANY_REQUESTS, Some(&wait(lang, pause)));
            answer.headers_mut().insert(header::RETRY_AFTER, seconds(pause).into());
            answer
        }
        Err(fault) => failed(lang, &fault),
    }
}

/// `POST /logout`.
pub(super) async fn sign_out(State(portal): State<Portal>, Sent(visitor, _): Sent) -> Response {
    let ended =
        portal.people.end(&visitor.account, visitor.session.session, &visitor.address).await;
    match ended {
        Ok(()) => signed_out(),
        Err(fault) => failed(visitor.lang, &fault),
    }
}

/// The way to the login page without a session's cookie.
pub(super) fn signed_out() -> Response {
    let cookie = format!("{COOKIE}=; Path=/; Secure; HttpOnly; SameSite=Strict; Max-Age=0");
    ([(header::SET_COOKIE, cookie)], Redirect::to("/login")).into_response()
}

fn seconds(pause: Duration) -> u64 {
    pause.as_secs() + u64::from(pause.subsec_nanos() > 0)
}

/// What whoever fails is told, whatever it was that failed.
pub(super) fn wrong(lang: Lang) -> Markup {
    html! { p.notice role="alert" { (lang.say(
        "Tên, mật khẩu hoặc mã không đúng, hoặc tài khoản đang bị khóa.",
        "Name, password or code is not right, or the account is locked.",
    )) } }
}

/// What whoever tries too often is told.
pub(super) fn wait(lang: Lang, pause: Duration) -> Markup {
    html! { p.notice role="alert" {
        (lang.say("Đã thử sai nhiều lần. Hãy đợi ", "Too many wrong tries. Wait "))
        b { (seconds(pause)) }
        (lang.say(" giây rồi thử lại.", " seconds, then try again."))
    } }
}

fn page(lang: Lang, status: StatusCode, said: Option<&Markup>) -> Response {
    let title = lang.say("Đăng nhập", "Sign in");
    let content = html! {
        div.card.narrow {
            h1 { (title) }
            @if let Some(said) = said { (said) }
            form method="post" action="/login" {
                label for="name" { (lang.say("Tên đăng nhập", "Account")) }
                input id="name" name="name" autocomplete="username" autocapitalize="none"
                    spellcheck="false" maxlength="64" required autofocus;
                label for="password" { (lang.say("Mật khẩu", "Password")) }
                input id="password" name="password" type="password"
                    autocomplete="current-password" maxlength="256" required;
                label for="code" {
                    (lang.say("Mã xác thực", "Authenticator code")) " "
                    span.quiet { (lang.say("(6 chữ số, hoặc một mã khôi phục)",
                        "(6 digits, or a recovery code)")) }
                }
                input.code id="code" name="code" autocomplete="one-time-code"
                    maxlength="64" required;
                p.act { button { (title) } }
            }
            p.quiet {
                (lang.say("Vừa được cấp tài khoản? ", "Were you given an account? "))
                a href="/invitation" { (lang.say("Nhập mã mời", "Enter the invitation")) }
                (lang.say(". Mất thiết bị hoặc mật khẩu: báo ngay cán bộ CNTT của đơn vị.",
                    ". Lost device or password: tell your unit's IT officer at once."))
            }
        }
    };
    (status, frame::open_page(lang, (title, "/login"), &content)).into_response()
}
