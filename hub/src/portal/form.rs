//! What browsers send: forms, queries, cookies; bounded, and nothing of it is ever logged.

use std::collections::BTreeMap;

use axum::body::Body;
use axum::http::{HeaderMap, header};
use http_body_util::{BodyExt as _, Limited};

/// Bytes of a form at most: five hundred agents' names and a reason.
const FORM_BYTES_MAX: usize = 64 << 10;

/// Fields of a form or query at most.
const FIELDS_MAX: usize = 600;

/// Named fields; one that is not there is empty.
#[derive(Default)]
pub struct Fields(BTreeMap<String, Vec<String>>);

impl std::fmt::Debug for Fields {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Fields(…)")
    }
}

impl Fields {
    /// Of a query; where one text is asked for, the first of a name counts.
    #[must_use]
    pub fn of_query(query: Option<&str>) -> Self {
        Self::parse(query.unwrap_or_default().as_bytes())
    }

    /// Of a request's body; `None` when it is too long or broken off.
    pub async fn of_body(body: Body) -> Option<Self> {
        let body = Limited::new(body, FORM_BYTES_MAX).collect().await.ok()?;
        Some(Self::parse(&body.to_bytes()))
    }

    fn parse(bytes: &[u8]) -> Self {
        let mut fields = BTreeMap::new();
        for (name, value) in form_urlencoded::parse(bytes).take(FIELDS_MAX) {
            // PostgreSQL knows no text with a NUL in it.
            let value = value.replace('\0', "");
            let of: &mut Vec<String> = fields.entry(name.into_owned()).or_default();
            of.push(value);
        }
        Self(fields)
    }

    /// A field's text; empty when it is not there.
    #[must_use]
    pub fn get(&self, name: &str) -> &str {
        self.all(name).next().unwrap_or_default()
    }

    /// Every text of a name, as boxes that were checked are sent.
    pub fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.get(name).into_iter().flatten().map(String::as_str)
    }

    /// A field's text without white space around it; `None` when nothing is left.
    #[must_use]
    pub fn given(&self, name: &str) -> Option<&str> {
        Some(self.get(name).trim()).filter(|text| !text.is_empty())
    }
}

/// A cookie's value.
#[must_use]
pub fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let cookies = headers.get_all(header::COOKIE).iter();
    cookies.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(';')).find_map(
        |pair| pair.trim().split_once('=').filter(|(key, _)| *key == name).map(|(_, value)| value),
    )
}

/// Names and values as the query of a link.
#[must_use]
pub fn query(pairs: &[(&str, &str)]) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    for (name, value) in pairs.iter().filter(|(_, value)| !value.is_empty()) {
        query.append_pair(name, value);
    }
    query.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_a_name_counts_and_what_is_missing_is_empty() {
        let fields = Fields::of_query(Some("a=1&a=2&b=x+y%C3%A1&c"));
        assert_eq!((fields.get("a"), fields.get("b"), fields.get("d")), ("1", "x yá", ""));
        assert_eq!(fields.given("c"), None);
        assert_eq!(fields.all("a").collect::<Vec<_>>(), ["1", "2"]);
    }

    #[test]
    fn a_cookie_is_found_among_others_by_its_whole_name() {
        let mut headers = HeaderMap::new();
        headers.append(header::COOKIE, "xa=1; a=2".parse().unwrap());
        headers.append(header::COOKIE, "b=3=4".parse().unwrap());
        let check = |name, value| assert_eq!(cookie(&headers, name), value);
        check("a", Some("2"));
        check("b", Some("3=4"));
        check("c", None);
    }
}
