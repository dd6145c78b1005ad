//! What every page looks like: head, way through the portal, language, foot.

use axum::http::StatusCode;
use axum::response::{Html, IntoResponse as _, Response};
use maud::{DOCTYPE, Markup, html};
use phusa_protocol::fault::Fault;

use super::form::query;
use super::guard::Visitor;
use super::words::Lang;
use crate::accounts::right::{Readable, Role, readable};

/// A page of somebody who is signed in.
#[must_use]
pub fn page(visitor: &Visitor, title: &str, content: &Markup) -> Response {
    let way = way(visitor);
    whole(visitor.lang, (title, &visitor.path), (&way, content)).into_response()
}

/// A page of somebody who is not.
pub fn open_page(lang: Lang, (title, path): (&str, &str), content: &Markup) -> Html<String> {
    whole(lang, (title, path), (&html! {}, content))
}

/// A page that says one thing.
#[must_use]
pub fn message(lang: Lang, status: StatusCode, text: &str) -> Response {
    let content = html! {
        h1 { (lang.say("Thông báo", "Notice")) }
        p.notice role="alert" { (text) }
        p { a href="/" { (lang.say("Về trang đầu", "To the first page")) } }
    };
    let title = lang.say("Thông báo", "Notice");
    (status, whole(lang, (title, "/"), (&html! {}, &content))).into_response()
}

/// A page that says what went wrong, what it means and what to do.
#[must_use]
pub fn fault(lang: Lang, status: StatusCode, fault: &Fault) -> Response {
    let words = fault.code.words();
    let content = html! {
        h1 { (lang.say("Không làm được", "This was not done")) }
        p.notice role="alert" { (lang.say(words.meaning_vi, words.meaning_en)) }
        p { (lang.say(words.remedy_vi, words.remedy_en)) }
        p.quiet { (lang.say("Mã lỗi", "Fault")) " " code { (words.name) } }
        p { a href="/" { (lang.say("Về trang đầu", "To the first page")) } }
    };
    let title = lang.say("Không làm được", "This was not done");
    (status, whole(lang, (title, "/"), (&html! {}, &content))).into_response()
}

/// The hidden field that every form of a session carries.
#[must_use]
pub fn form_token(visitor: &Visitor) -> Markup {
    html! { input type="hidden" name="form" value=(visitor.form_token); }
}

fn whole(
    lang: Lang,
    (title, path): (&str, &str),
    (way, content): (&Markup, &Markup),
) -> Html<String> {
    let other = lang.other();
    let switch = format!("/language/{}?{}", other.code(), query(&[("back", path)]));
    let page = html! {
        (DOCTYPE)
        html lang=(lang.code()) {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) " · Phù Sa" }
                link rel="stylesheet" href="/style.css";
            }
            body {
                a.skip href="#content" { (lang.say("Đến nội dung", "To the content")) }
                header.top {
                    div.inner {
                        a.name href="/" {
                            b { "Phù Sa" }
                            span { (lang.say("Kho dữ liệu dùng chung", "Shared data warehouse")) }
                        }
                        (way)
                        a.language href=(switch) lang=(other.code()) hreflang=(other.code()) {
                            (lang.say("English", "Tiếng Việt"))
                        }
                    }
                }
                main id="content" tabindex="-1" { (content) }
                footer {
                    "Phù Sa " (crate::VERSION) " · "
                    (lang.say("Giờ Việt Nam (+07:00)", "Vietnamese time (+07:00)"))
                }
            }
        }
    };
    Html(page.into_string())
}

fn way(visitor: &Visitor) -> Markup {
    let lang = visitor.lang;
    let here = |path: &str| visitor.path.starts_with(path).then_some("page");
    let role = visitor.account.role;
    let reads = readable(&visitor.actor) != Readable::None;
    let sees = matches!(role, Role::GeneralAdmin | Role::UnitAdmin | Role::Inspector);
    html! {
        nav aria-label=(lang.say("Các trang", "Pages")) {
            @if reads {
                a href="/fleet" aria-current=[here("/fleet")] { (lang.say("Tổng quan", "Overview")) }
                a href="/datasets" aria-current=[here("/datasets")] { (lang.say("Bộ dữ liệu", "Datasets")) }
                a href="/incidents" aria-current=[here("/incidents")] { (lang.say("Sự cố", "Incidents")) }
                a href="/transfers" aria-current=[here("/transfers")] { (lang.say("Nhật ký", "Transfers")) }
            }
            @if reads {
                a href="/releases" aria-current=[here("/releases")] { (lang.say("Cập nhật", "Updates")) }
            }
            a href="/notices" aria-current=[here("/notices")] { (lang.say("Bảo trì", "Maintenance")) }
            @if reads {
                a href="/contacts" aria-current=[here("/contacts")] { (lang.say("Đầu mối", "Contacts")) }
            }
            @if sees {
                a href="/accounts" aria-current=[here("/accounts")] { (lang.say("Tài khoản", "Accounts")) }
            }
            a href="/own" aria-current=[here("/own")] { (visitor.account.name) }
        }
        form.out method="post" action="/logout" {
            (form_token(visitor))
            button.plain { (lang.say("Đăng xuất", "Sign out")) }
        }
    }
}
