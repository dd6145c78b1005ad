//! `[timestamp]`, checked.

use std::sync::Arc;
use std::time::Duration;

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use super::super::TimestampFile;
use super::Check;
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
            let pem = self.secret("tls_ca_file", file)?;
            let all = CertificateDer::pem_slice_iter(&pem).flatten().collect::<Vec<_>>();
            let (added, _) = roots.add_parsable_certificates(all);
            if added == 0 {
                self.wrong(at, "`tls_ca_file` of [timestamp] holds no certificates in PEM");
            }
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .ok()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(ANSWERS_WITHIN)
            .build();
        let Ok(client) = client else {
            self.wrong(at, "`url` cannot be used");
            return None;
        };
        Some(Terms { url: url.clone(), trust, client, every })
    }
}
