//! What the hub calls others with: by no proxy, following nobody elsewhere, and believing no certificates
//! but those that the file names.

use std::sync::Arc;
use std::time::Duration;

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

/// Certificates in PEM that a server may descend from; `None` when there is none in it.
pub(super) fn roots(pem: &[u8]) -> Option<RootCertStore> {
    let mut roots = RootCertStore::empty();
    let all = CertificateDer::pem_slice_iter(pem).flatten().collect::<Vec<_>>();
    let (added, _) = roots.add_parsable_certificates(all);
    (added > 0).then_some(roots)
}

/// A client that believes `roots` alone, and gives up after `within`; `None` when it cannot be made.
pub(super) fn client(roots: RootCertStore, within: Duration) -> Option<reqwest::Client> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .ok()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(within)
        .build()
        .ok()
}
