//! The two languages of the pages: Vietnamese, and English for whoever asks for it.

use axum::extract::{Path, RawQuery};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse as _, Redirect, Response};

use super::form;

/// The cookie that remembers the language; it says nothing of anybody.
const COOKIE: &str = "__Host-phusa-lang";

/// A language.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lang {
    /// Vietnamese.
    Vi,
    /// English.
    En,
}

impl Lang {
    /// The language a request asks for: its cookie's, otherwise Vietnamese.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        match form::cookie(headers, COOKIE) {
            Some("en") => Self::En,
            Some(_) | None => Self::Vi,
        }
    }

    /// The text in this language.
    #[must_use]
    pub fn say(self, vi: &'static str, en: &'static str) -> &'static str {
        match self {
            Self::Vi => vi,
            Self::En => en,
        }
    }

    /// One of a pair of texts, Vietnamese first.
    #[must_use]
    pub fn of_pair(self, pair: (&'static str, &'static str)) -> &'static str {
        self.say(pair.0, pair.1)
    }

    /// Its code in HTML.
    #[must_use]
    pub fn code(self) -> &'static str {
        self.say("vi", "en")
    }

    /// The other one.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Vi => Self::En,
            Self::En => Self::Vi,
        }
    }
}

/// `GET /language/en?back=/transfers`.
pub(super) async fn choose(Path(lang): Path<String>, RawQuery(query): RawQuery) -> Response {
    let lang = if lang == "en" { "en" } else { "vi" };
    let query = form::Fields::of_query(query.as_deref());
    let back = query.get("back");
    // Only a path of this portal: `//host` would lead elsewhere.
    let safe =
        back.starts_with('/') && !back.starts_with("//") && !back.contains(['\\', '\r', '\n']);
    let back = if safe { back } else { "/" };
    let cookie =
        format!("{COOKIE}={lang}; Path=/; Secure; HttpOnly; SameSite=Strict; Max-Age=31536000");
    ([(header::SET_COOKIE, cookie)], Redirect::to(back)).into_response()
}
