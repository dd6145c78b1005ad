//! The first certificate, from a one-time code: the hub is known by the CA's fingerprint in the
//! code, before anything is sent to it.

use std::sync::Arc;
use std::time::Duration;

use phusa_protocol::digest::Digest;
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::identity::{Enrol, Issued, OneTimeCode};
use phusa_protocol::network::Network;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, RootCertStore, SignatureScheme};

use super::https::{Hub, Settings};
use super::identity::{tls13, unresumed};

/// Between two questions whether a second person has approved.
const PENDING_PAUSE: Duration = Duration::from_secs(2);

/// How long one request may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Asks the hub at `url` with a code; waits for a second person as long as the code is good.
/// `told` hears once that it waits.
///
/// # Errors
/// `hub_certificate` when the hub is not under the CA of the code, or the fault the hub named.
pub async fn enrol(
    url: reqwest::Url,
    allowed_networks: Vec<Network>,
    code: &OneTimeCode,
    enrol: &Enrol,
    told: impl Fn(&Fault),
) -> Result<Issued, Fault> {
    let tls = known_by(code.ca)?;
    // Receipts are not read here; the true key comes with the answer.
    let hub_key = enrol.asked.signing_key;
    let request_timeout = REQUEST_TIMEOUT;
    let hub = Hub::new(Settings { url, allowed_networks, tls, hub_key, request_timeout })?;
    let mut waits = false;
    loop {
        match hub.certificate("/v1/enrol", enrol, None).await {
            Err(fault) if fault.code == Code::EnrolPending => {
                if !waits {
                    told(&fault);
                }
                waits = true;
                tokio::time::sleep(PENDING_PAUSE).await;
            }
            Err(fault) if waits && fault.code == Code::HubUnreachable => {
                tokio::time::sleep(PENDING_PAUSE).await;
            }
            ended => return ended,
        }
    }
}

/// Talks only to a hub whose certificate leads to the root with this fingerprint.
fn known_by(ca: Digest) -> Result<rustls::ClientConfig, Fault> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = Arc::new(Pinned { ca, provider });
    let config = tls13()?.dangerous().with_custom_certificate_verifier(verifier);
    Ok(unresumed(config.with_no_client_auth()))
}

/// Takes as the only root the certificate with this fingerprint, which the hub must show.
#[derive(Debug)]
struct Pinned {
    ca: Digest,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let root = between.iter().find(|shown| Digest::of(shown) == self.ca);
        let root =
            root.ok_or(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer))?;
        let mut roots = RootCertStore::empty();
        roots.add(root.clone().into_owned())?;
        let provider = Arc::clone(&self.provider);
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider);
        let verifier =
            verifier.build().map_err(|error| rustls::Error::General(error.to_string()))?;
        verifier.verify_server_cert(leaf, between, name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        // TLS 1.3 alone is spoken.
        Err(rustls::Error::General("TLS 1.2 is not spoken".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
