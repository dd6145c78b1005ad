//! `Own`: the hub's own certificate as agents are shown it.
//!
//! One that comes from the hub's intermediate is renewed by the running hub when a third of its life is
//! left, with a new key, and for no longer than the intermediate lives. It is kept in memory:
//! `certificate_file` stays what the hub begins with, and need not be writable. One that comes from
//! elsewhere is never touched; its coming end is said.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use phusa_protocol::digest::Digest;
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::time::Timestamp;
use rcgen::KeyPair;
use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::config::plan::Plan;
use crate::identity::facts::Facts;
use crate::identity::files::not_made;
use crate::identity::issue::Issuing;
use crate::views::metrics::Metrics;

/// How often it is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(3_600);

/// Less than this left of one that is not renewed here, and somebody must act.
const WARNED: Duration = Duration::from_secs(30 * 86_400);

/// The hub's own certificate, with its key.
#[derive(Debug)]
pub struct Own {
    shown: RwLock<Shown>,
    provider: Arc<CryptoProvider>,
    /// What it came from and is renewed by.
    issuing: Option<Arc<Issuing>>,
}

#[derive(Debug, Clone)]
struct Shown {
    key: Arc<CertifiedKey>,
    facts: Arc<Facts>,
}

impl Own {
    /// The certificate of the plan's files.
    ///
    /// # Errors
    /// `secret_unreadable` when the chain or the key is none, or they do not belong together.
    pub fn read(plan: &Plan) -> Result<Self, Fault> {
        Self::new((&plan.certificate_pem, &plan.key_pem.0), plan.issuing.as_ref())
    }

    fn new((chain, key): (&[u8], &[u8]), issuing: Option<&Arc<Issuing>>) -> Result<Self, Fault> {
        let wrong = |what: &str, error: Box<dyn std::error::Error + Send + Sync>| {
            Fault::because(Code::SecretUnreadable, format!("{what} is unusable"), error)
        };
        let chain: Vec<_> = CertificateDer::pem_slice_iter(chain)
            .collect::<Result<_, _>>()
            .map_err(|error| wrong("certificate_file", error.into()))?;
        let leaf = chain.first().ok_or_else(|| {
            Fault::new(Code::SecretUnreadable, "certificate_file holds no certificate")
        })?;
        let facts = Arc::new(Facts::read(leaf)?);
        let key =
            PrivateKeyDer::from_pem_slice(key).map_err(|error| wrong("key_file", error.into()))?;
        let comes_from = |issuing: &&Arc<Issuing>| {
            chain.iter().skip(1).any(|above| Digest::of(above) == issuing.fingerprint())
        };
        let issuing = issuing.filter(comes_from).cloned();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let key = CertifiedKey::from_der(chain, key, &provider)
            .map_err(|error| wrong("certificate_file with key_file", error.into()))?;
        let shown = RwLock::new(Shown { key: Arc::new(key), facts });
        Ok(Self { shown, provider, issuing })
    }

    /// Looks at it now and then every hour until `stop`.
    pub(crate) async fn keep(self: Arc<Self>, metrics: Metrics, stop: CancellationToken) {
        loop {
            self.look(&metrics, Timestamp::now());
            if stop.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await.is_none() {
                return;
            }
        }
    }

    fn look(&self, metrics: &Metrics, now: Timestamp) {
        match self.renew_if_due(now) {
            Ok(Some(ends)) => info!(%ends, "Renewed the hub's own certificate, until {ends}"),
            Ok(None) => {}
            Err(fault) => {
                warn!(code = %fault.code, "The hub's own certificate is not renewed: {}", fault.chain());
            }
        }
        let ends = self.now().facts.not_after;
        let authority = self.issuing.as_ref().map(|issuing| issuing.ends());
        metrics.observe_certificates(ends, authority);
        let last = authority.unwrap_or(ends);
        if last < now.after(WARNED) {
            let remedy =
                "make the next one with the root (`phusa-hub ca issue`) and restart the hub";
            warn!(ends = %last, "The hub's own certificate lives until {last} at most: {remedy}");
        }
    }

    /// Renews it when a third of its life is left; says until when the new one is valid.
    fn renew_if_due(&self, now: Timestamp) -> Result<Option<Timestamp>, Fault> {
        let Some(issuing) = &self.issuing else { return Ok(None) };
        let Shown { key: old, facts } = self.now();
        let life = facts.not_after.since(facts.not_before);
        if now.after(life / 3) < facts.not_after || issuing.ends() <= facts.not_after {
            return Ok(None);
        }
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(not_made)?;
        let (leaf, facts) = issuing.own(&facts.hosts, &key, (life, now))?;
        let chain = std::iter::once(leaf).chain(old.cert.iter().skip(1).cloned()).collect();
        let secret = PrivateKeyDer::try_from(key.serialize_der()).map_err(not_made)?;
        let key = CertifiedKey::from_der(chain, secret, &self.provider).map_err(not_made)?;
        let ends = facts.not_after;
        let new = Shown { key: Arc::new(key), facts: Arc::new(facts) };
        *self.shown.write().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(Some(ends))
    }

    fn now(&self) -> Shown {
        self.shown.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ResolvesServerCert for Own {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.now().key)
    }
}

/// Toward a broker the hub shows the same certificate.
impl ResolvesClientCert for Own {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.now().key)
    }

    fn has_certs(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::identity::ca::{self, HubWanted};

    #[test]
    fn one_of_the_hubs_own_is_renewed_in_its_last_third_and_never_beyond_what_signs_it() {
        let dir = tempfile::tempdir().unwrap();
        let (root, hub) = (dir.path().join("root"), dir.path().join("hub"));
        ca::init(&root, "Tỉnh", None).unwrap();
        let names = vec!["127.0.0.1".to_owned(), "hub.example".to_owned()];
        let wanted = HubWanted {
            root_dir: &root,
            dir: &hub,
            names: names.clone(),
            days: 30,
            passphrase: None,
        };
        ca::issue(&wanted).unwrap();
        let read = |name: &str| fs::read_to_string(hub.join(name)).unwrap();
        let (chain, key) = (read("hub.pem"), read("hub.key"));
        let both = (chain.as_bytes(), key.as_bytes());
        let week = Duration::from_secs(7 * 86_400);
        let issuing = Issuing::read(&read("issuing.pem"), &read("issuing.key"), week).unwrap();
        let (issuing, now) = (Arc::new(issuing), Timestamp::now());
        let day = |days: u64| now.after(Duration::from_secs(days * 86_400));

        let own = Own::new(both, Some(&issuing)).unwrap();
        let old = own.now();
        assert_eq!(own.renew_if_due(day(15)).unwrap(), None);
        let ends = own.renew_if_due(day(25)).unwrap().unwrap();
        let new = own.now();
        assert!(ends > day(50) && new.facts.not_after == ends && new.facts.hosts == names);
        assert_ne!(new.facts.fingerprint, old.facts.fingerprint);
        assert_eq!(new.key.cert.get(1..), old.key.cert.get(1..), "under the same intermediate");
        assert_eq!(own.renew_if_due(day(26)).unwrap(), None, "once is enough");
        assert!(own.renew_if_due(day(90)).unwrap().is_some(), "it may have ended meanwhile");
        let ends = own.renew_if_due(day(720)).unwrap().unwrap();
        assert_eq!(ends, issuing.ends());
        assert_eq!(own.renew_if_due(day(725)).unwrap(), None, "there is nothing more to be had");

        let elsewhere = Own::new(both, None).unwrap();
        assert_eq!(elsewhere.renew_if_due(day(900)).unwrap(), None);
        let other = KeyPair::generate().unwrap().serialize_pem();
        let refused = Own::new((chain.as_bytes(), other.as_bytes()), Some(&issuing)).unwrap_err();
        assert!(refused.what.starts_with("certificate_file with key_file"), "{}", refused.what);
    }
}
