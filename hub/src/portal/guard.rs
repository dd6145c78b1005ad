//! Who asks, and what other sites cannot make somebody's browser do.
//!
//! Every answer carries the headers of [`keep`]; every `POST` must come from a page of this portal
//! (`Origin`) and, once somebody is signed in, carry the token of their session's forms.

use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Redirect, Response};
use phusa_protocol::fault::{Class, Code, Fault};
use phusa_protocol::time::Timestamp;
use tracing::{error, warn};

use super::form::{Fields, cookie};
use super::words::Lang;
use super::{From, Portal, frame};
use crate::accounts::Account;
use crate::accounts::right::{Actor, Standing};
use crate::accounts::secret::Token;
use crate::accounts::session::Session;

/// The session's cookie; the prefix makes browsers refuse it from anywhere else.
pub const COOKIE: &str = "__Host-phusa";

/// Nothing runs but our one file, nothing is loaded from elsewhere, no form goes elsewhere, nobody
/// frames it.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; \
                      img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

const HEADERS: [(header::HeaderName, &str); 7] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::STRICT_TRANSPORT_SECURITY, "max-age=31536000"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "same-origin"),
    (
        header::HeaderName::from_static("permissions-policy"),
        "camera=(), geolocation=(), microphone=(), payment=()",
    ),
    (header::HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
];

/// Somebody who is signed in.
#[derive(Debug)]
pub struct Visitor {
    /// Their account.
    pub account: Account,
    /// Their session.
    pub session: Session,
    /// What forms of this session carry.
    pub form_token: String,
    /// Their language.
    pub lang: Lang,
    /// Themselves, to the rules.
    pub actor: Actor,
    /// From where.
    pub address: String,
    /// Which page they look at, to come back to.
    pub path: String,
}

/// Refuses what comes from other sites, and puts the headers on every answer.
pub(super) async fn keep(request: Request, next: Next) -> Response {
    let lang = Lang::of(request.headers());
    let mut answer = if is_from_here(request.method(), request.headers()) {
        next.run(request).await
    } else {
        let text = lang.say(
            "Biểu mẫu không đến từ trang này, nên không được nhận.",
            "The form did not come from this portal, so it was not taken.",
        );
        frame::message(lang, StatusCode::FORBIDDEN, text)
    };
    let headers = answer.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    let kept = headers.contains_key(header::CACHE_CONTROL);
    if !kept {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    answer
}

/// A browser names the origin of each `POST`; whoever names none is no browser of a page of ours.
fn is_from_here(method: &Method, headers: &HeaderMap) -> bool {
    if matches!(*method, Method::GET | Method::HEAD) {
        return true;
    }
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let (Some(origin), Some(host)) = (text(header::ORIGIN), text(header::HOST)) else {
        return false;
    };
    let site = headers.get("sec-fetch-site").is_none_or(|site| site == "same-origin");
    *method == Method::POST && site && origin.strip_prefix("https://") == Some(host)
}

/// Who asks for a page, as its handler takes them; whoever is not signed in is sent to sign in.
impl FromRequestParts<Portal> for Visitor {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, portal: &Portal) -> Result<Self, Response> {
        let from = parts.extensions.get::<From>().copied().unwrap_or(nowhere());
        let (headers, lang) = (&parts.headers, Lang::of(&parts.headers));
        let token = cookie(headers, COOKIE).and_then(Token::from_cookie);
        let found = match &token {
            // What a page asks by itself is no use of a session: it ends when its holder is away.
            Some(token) => {
                let is_use = !parts.uri.path().starts_with("/live/");
                portal.people.session(token, (portal.ends, is_use), Timestamp::now()).await
            }
            None => Ok(None),
        };
        match (found, token) {
            (Ok(Some((account, session))), Some(token)) => {
                let standing =
                    Standing::Person { role: account.role, agency: account.agency.clone() };
                let address = from.0.to_string();
                let actor =
                    Actor { name: account.name.clone(), standing, address: Some(address.clone()) };
                let form_token = token.form_token();
                let path = parts.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
                Ok(Self { account, session, form_token, lang, actor, address, path })
            }
            (Ok(_), _) => Err(Redirect::to("/login").into_response()),
            (Err(fault), _) => Err(failed(lang, &fault)),
        }
    }
}

/// Who sends a form, and what is in it, as its handler takes them; a form of another session or page
/// is refused.
#[derive(Debug)]
pub struct Sent(pub Visitor, pub Fields);

impl FromRequest<Portal> for Sent {
    type Rejection = Response;

    async fn from_request(request: Request, portal: &Portal) -> Result<Self, Response> {
        let (mut parts, body) = request.into_parts();
        let visitor = Visitor::from_request_parts(&mut parts, portal).await?;
        match Fields::of_body(body).await {
            Some(fields) if fields.get("form") == visitor.form_token => Ok(Self(visitor, fields)),
            Some(_) | None => {
                let text = visitor.lang.say(
                    "Biểu mẫu đã cũ: hãy mở lại trang và thử lại.",
                    "The form is out of date: open the page again and try once more.",
                );
                Err(frame::message(visitor.lang, StatusCode::FORBIDDEN, text))
            }
        }
    }
}

/// For a request without an address, which the door never hands on.
pub(super) fn nowhere() -> From {
    From(std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED))
}

/// A fault as a page; logged here, where it is handled.
#[must_use]
pub fn failed(lang: Lang, fault: &Fault) -> Response {
    #[expect(clippy::wildcard_enum_match_arm, reason = "what no page can meet is a bug here")]
    let status = match fault.code {
        Code::AccountUnknown
        | Code::LogEntryMissing
        | Code::IncidentUnknown
        | Code::NoticeUnknown => StatusCode::NOT_FOUND,
        Code::RightMissing => StatusCode::FORBIDDEN,
        Code::AccountInvalid
        | Code::ContactInvalid
        | Code::ReasonMissing
        | Code::NoticeRefused
        | Code::KeyUnfit
        | Code::PurposeNotAgreed
        | Code::OrderRefused => StatusCode::UNPROCESSABLE_ENTITY,
        code if code.class() == Class::Retry => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    if status == StatusCode::INTERNAL_SERVER_ERROR {
        error!(code = %fault.code, "A page could not be shown: {}", fault.chain());
    } else {
        warn!(code = %fault.code, "A page was refused: {}", fault.chain());
    }
    frame::fault(lang, status, fault)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_taken_from_this_portal_alone() {
        let check = |method: Method, pairs: &[(&str, &str)], expected: bool| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                let name: header::HeaderName = name.parse().unwrap();
                headers.insert(name, value.parse().unwrap());
            }
            assert_eq!(is_from_here(&method, &headers), expected, "{method} {pairs:?}");
        };
        let host = ("host", "hub:7444");
        check(Method::GET, &[], true);
        check(Method::POST, &[host, ("origin", "https://hub:7444")], true);
        check(Method::POST, &[host], false);
        check(Method::POST, &[host, ("origin", "null")], false);
        check(Method::POST, &[host, ("origin", "https://evil.example")], false);
        check(Method::POST, &[host, ("origin", "http://hub:7444")], false);
        let cross = ("sec-fetch-site", "cross-site");
        check(Method::POST, &[host, ("origin", "https://hub:7444"), cross], false);
        check(Method::PUT, &[host, ("origin", "https://hub:7444")], false);
    }
}
