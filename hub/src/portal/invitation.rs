//! Taking an invitation: the second factor is shown, a password chosen, recovery codes handed out.

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use maud::{Markup, html};
use qrcodegen::{QrCode, QrCodeEcc};

use super::form::Fields;
use super::guard::{failed, nowhere};
use super::login::{wait, wrong};
use super::words::Lang;
use super::{From, Portal, frame};
use crate::accounts::login::{Chosen, Taken, Tried};
use crate::accounts::totp;

/// `GET /invitation`.
pub(super) async fn show(headers: HeaderMap) -> Response {
    first(Lang::of(&headers), StatusCode::OK, None)
}

/// `POST /invitation`: first name and code alone, then with what was chosen.
pub(super) async fn take(State(portal): State<Portal>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let lang = Lang::of(&parts.headers);
    let From(address) = parts.extensions.get::<From>().copied().unwrap_or(nowhere());
    let Some(fields) = Fields::of_body(body).await else {
        return first(lang, StatusCode::BAD_REQUEST, Some(&wrong(lang)));
    };
    let (address, name) = (address.to_string(), fields.get("name").trim().to_lowercase());
    let invitation = fields.get("invitation");
    let chosen = Chosen {
        name: &name,
        invitation,
        password: fields.get("password"),
        code: fields.get("code"),
        address: &address,
    };
    if fields.get("step") != "2" {
        return match portal.people.open_invitation(&name, invitation, &address).await {
            Ok(Tried::Right(secret)) => second(lang, (&name, invitation), &secret, None),
            other => not_right(lang, other),
        };
    }
    if chosen.password != fields.get("again") {
        // What is shown again must be what was shown before; the two are compared here alone.
        let said = ("Hai lần gõ mật khẩu không giống nhau.", "The two passwords are not the same.");
        let probe = Chosen { password: "", ..chosen };
        return match portal.people.take_invitation(probe).await {
            Ok(Tried::Right((secret, _))) => {
                second(lang, (&name, invitation), &secret, Some(lang.of_pair(said)))
            }
            other => not_right(lang, other),
        };
    }
    match portal.people.take_invitation(chosen).await {
        Ok(Tried::Right((_, Taken::Active(codes)))) => done(lang, &codes),
        Ok(Tried::Right((secret, Taken::Password(why)))) => {
            second(lang, (&name, invitation), &secret, Some(lang.of_pair(why)))
        }
        Ok(Tried::Right((secret, Taken::Code))) => {
            let said = lang.say(
                "Mã xác thực không đúng: hãy đợi mã kế tiếp, và xem giờ của điện thoại.",
                "The code is not right: wait for the next one, and look at your telephone's clock.",
            );
            second(lang, (&name, invitation), &secret, Some(said))
        }
        other => not_right(lang, other),
    }
}

fn not_right<T>(lang: Lang, tried: Result<Tried<T>, phusa_protocol::fault::Fault>) -> Response {
    match tried {
        Ok(Tried::Wait(pause)) => {
            first(lang, StatusCode::TOO_MANY_REQUESTS, Some(&wait(lang, pause)))
        }
        Ok(Tried::Wrong | Tried::Right(_)) => {
            let said = html! { p.notice role="alert" { (lang.say(
                "Tên hoặc mã mời không đúng, đã dùng rồi hoặc đã hết hạn.",
                "Name or invitation is not right, was used, or is out of date.",
            )) } };
            first(lang, StatusCode::FORBIDDEN, Some(&said))
        }
        Err(fault) => failed(lang, &fault),
    }
}

fn first(lang: Lang, status: StatusCode, said: Option<&Markup>) -> Response {
    let title = lang.say("Nhận tài khoản", "Take your account");
    let content = html! {
        div.card.narrow {
            h1 { (title) }
            @if let Some(said) = said { (said) }
            p { (lang.say(
                "Nhập tên và mã mời mà người cấp tài khoản đã giao cho bạn.",
                "Enter the name and the invitation you were handed.",
            )) }
            form method="post" action="/invitation" {
                label for="name" { (lang.say("Tên đăng nhập", "Account")) }
                input id="name" name="name" autocomplete="username" autocapitalize="none"
                    spellcheck="false" maxlength="64" required autofocus;
                label for="invitation" { (lang.say("Mã mời", "Invitation")) }
                input.code id="invitation" name="invitation" autocomplete="off" spellcheck="false"
                    maxlength="80" required;
                p.act { button { (lang.say("Tiếp tục", "Continue")) } }
            }
            p.quiet { a href="/login" { (lang.say("Về trang đăng nhập", "To the sign-in page")) } }
        }
    };
    (status, frame::open_page(lang, (title, "/invitation"), &content)).into_response()
}

fn second(
    lang: Lang,
    (name, invitation): (&str, &str),
    secret: &[u8],
    said: Option<&str>,
) -> Response {
    let title = lang.say("Nhận tài khoản", "Take your account");
    let content = html! {
        div.card.narrow {
            h1 { (title) }
            @if let Some(said) = said { p.notice role="alert" { (said) } }
            h2 { (lang.say("1. Ứng dụng xác thực", "1. Authenticator")) }
            p { (lang.say(
                "Quét hình này bằng ứng dụng xác thực trên điện thoại, hoặc gõ mã bên dưới vào ứng dụng.",
                "Scan this with an authenticator on your telephone, or type the key below into it.",
            )) }
            (square(&totp::uri(secret, name), lang))
            p.quiet { code { (totp::to_base32(secret)) } }
            h2 { (lang.say("2. Mật khẩu và mã", "2. Password and code")) }
            form method="post" action="/invitation" {
                input type="hidden" name="step" value="2";
                input type="hidden" name="name" value=(name) autocomplete="username";
                input type="hidden" name="invitation" value=(invitation);
                label for="password" {
                    (lang.say("Mật khẩu mới", "New password")) " "
                    span.quiet { (lang.say("(ít nhất 12 ký tự)", "(at least 12 characters)")) }
                }
                input id="password" name="password" type="password" autocomplete="new-password"
                    minlength="12" maxlength="128" required;
                label for="again" { (lang.say("Gõ lại mật khẩu", "The password again")) }
                input id="again" name="again" type="password" autocomplete="new-password"
                    maxlength="128" required;
                label for="code" { (lang.say("Mã đang hiện trên ứng dụng", "The code it shows now")) }
                input id="code" name="code" inputmode="numeric" autocomplete="one-time-code"
                    maxlength="7" required;
                p.act { button { (lang.say("Kích hoạt tài khoản", "Activate the account")) } }
            }
        }
    };
    frame::open_page(lang, (title, "/invitation"), &content).into_response()
}

fn done(lang: Lang, codes: &[String]) -> Response {
    let title = lang.say("Tài khoản đã sẵn sàng", "Your account is ready");
    let content = html! {
        div.card.narrow {
            h1 { (title) }
            p.notice.done role="status" { (lang.say(
                "Đây là các mã khôi phục, chỉ hiện một lần này.",
                "These are your recovery codes. They are shown this once.",
            )) }
            p { (lang.say(
                "Mỗi mã thay được mã xác thực một lần khi bạn mất điện thoại. In ra hoặc chép lại, cất nơi an toàn.",
                "Each stands in for the authenticator's code once when your telephone is gone. Print or copy them and keep them safe.",
            )) }
            ul.codes { @for code in codes { li { code { (code) } } } }
            p { a.button href="/login" { (lang.say("Đăng nhập", "Sign in")) } }
        }
    };
    frame::open_page(lang, (title, "/login"), &content).into_response()
}

/// A QR code as SVG, drawn here; nothing of it goes anywhere.
fn square(text: &str, lang: Lang) -> Markup {
    let Ok(code) = QrCode::encode_text(text, QrCodeEcc::Medium) else { return html! {} };
    let size = code.size();
    let dark = (0..size).flat_map(|y| (0..size).map(move |x| (x, y)));
    let dark = dark.filter(|(x, y)| code.get_module(*x, *y));
    let path: String = dark.map(|(x, y)| format!("M{} {}h1v1h-1z", x + 4, y + 4)).collect();
    let frame = format!("0 0 {0} {0}", size + 8);
    let title = lang.say("Hình để ứng dụng xác thực quét", "Square for the authenticator to scan");
    html! {
        svg.square viewBox=(frame) role="img" aria-label=(title) shape-rendering="crispEdges" {
            path d=(path) fill="#000" {}
        }
    }
}
