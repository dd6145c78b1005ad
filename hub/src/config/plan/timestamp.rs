//! `[timestamp]`, checked.

use std::time::Duration;

use rustls::RootCertStore;

use super::super::TimestampFile;
use super::{Check, outward};
use crate::stamping::Terms;
use crate::stamping::token::Trust;

/// How long an authority may take to answer.
const ANSWERS_WITHIN: Duration = Duration::from_secs(30);

impl Check<'_> {
    /// The part; when something is missing from it, at least one fault was collected.
    pub(super) fn timestamp(&mut self, part: &TimestampFile) -> Option<Terms> {
        let (url, at) = (part.url.get_ref(), part.url.span().start);
        let every = part.every.get_ref().0;
        if !(Duration::from_secs(1)..=Duration::from_secs(31 * 86_400)).contains(&every) {
            self.wrong(part.every.span().start, "`every` must be 1s to 31d");
        }
        let secure = url.starts_with("https://");
        if !secure && !url.starts_with("http://") {
            self.wrong(at, "`url` is neither http:// nor https://");
        }
        if secure != part.tls_ca_file.is_some() {
            self.wrong(at, "`tls_ca_file` belongs to a `url` of https://, and to no other");
        }
        let pem = self.secret("ca_file", &part.ca_file)?;
        let Some(trust) = Trust::from_pem(&String::from_utf8_lossy(&pem)) else {
            self.wrong(at, "`ca_file` of [timestamp] holds no certificates in PEM");
            return None;
        };
        let mut roots = RootCertStore::empty();
        if let Some(file) = &part.tls_ca_file {
            match outward::roots(&self.secret("tls_ca_file", file)?) {
                Some(named) => roots = named,
                None => self.wrong(at, "`tls_ca_file` of [timestamp] holds no certificates in PEM"),
            }
        }
        let Some(client) = outward::client(roots, ANSWERS_WITHIN) else {
            self.wrong(at, "`url` cannot be used");
            return None;
        };
        Some(Terms { url: url.clone(), trust, client, every })
    }
}
