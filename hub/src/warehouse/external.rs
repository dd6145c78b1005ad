//! How an external server is reached: on this machine as it is, on another one by TLS alone, with
//! a certificate that is checked.

use std::net::IpAddr;
use std::str::FromStr as _;
use std::sync::Arc;

use deadpool_postgres::{Manager, ManagerConfig};
use phusa_protocol::fault::{Code, Fault};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::{Config, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::Password;

/// Where a server is and what its certificate must descend from; `None` speaks without TLS.
#[derive(Debug)]
pub(super) struct Reached {
    pub(super) config: Config,
    pub(super) tls: Option<ClientConfig>,
}

impl Reached {
    /// Reads `postgres://user@host:port/database`; `ca_pem` are certificates of authorities.
    pub(super) fn read(
        url: &str,
        password: Option<&Password>,
        ca_pem: Option<&[u8]>,
    ) -> Result<Self, Fault> {
        let what = "cannot use `warehouse.url`";
        // The driver knows no word for checking a certificate; ours is always checked.
        let known = ["verify-full", "verify-ca"].iter().fold(url.to_owned(), |url, word| {
            url.replace(&format!("sslmode={word}"), "sslmode=require")
        });
        let mut config = Config::from_str(&known)
            .map_err(|error| Fault::because(Code::ConfigInvalid, what, error))?;
        if let Some(Password(password)) = password {
            config.password(password);
        }
        let wants_tls = config.get_ssl_mode() == SslMode::Require;
        match ca_pem {
            Some(pem) => {
                config.ssl_mode(SslMode::Require);
                let tls = Some(tls_config(pem)?);
                Ok(Self { config, tls })
            }
            None if wants_tls || !config.get_hosts().iter().all(is_local) => {
                let why = "a server on another machine is reached by TLS: name the certificate of \
                           its authority in `tls_ca_file`";
                Err(Fault::because(Code::ConfigInvalid, what, why.to_owned()))
            }
            None => Ok(Self { config, tls: None }),
        }
    }

    /// What makes connections.
    pub(super) fn manager(self, settings: ManagerConfig) -> Manager {
        match self.tls {
            Some(tls) => Manager::from_config(self.config, MakeRustlsConnect::new(tls), settings),
            None => Manager::from_config(self.config, NoTls, settings),
        }
    }
}

fn is_local(host: &Host) -> bool {
    match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => {
            name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
        }
    }
}

fn tls_config(ca_pem: &[u8]) -> Result<ClientConfig, Fault> {
    let wrong = |error: Box<dyn std::error::Error + Send + Sync>| {
        Fault::because(Code::SecretUnreadable, "tls_ca_file of the warehouse is unusable", error)
    };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca_pem) {
        let certificate = certificate.map_err(|error| wrong(error.into()))?;
        roots.add(certificate).map_err(|error| wrong(error.into()))?;
    }
    if roots.is_empty() {
        return Err(wrong("it holds no certificate".into()));
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong(error.into()))?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_on_another_machine_is_reached_by_tls_alone() {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["ca".to_owned()]).unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        let check = |url: &str, pem: Option<&str>, expected: Option<SslMode>| {
            let read = Reached::read(url, None, pem.map(str::as_bytes));
            let mode = read.as_ref().ok().map(|reached| reached.config.get_ssl_mode());
            assert_eq!(mode, expected, "{url} {:?}", read.as_ref().err().map(Fault::chain));
            assert!(read.is_err() || read.unwrap().tls.is_some() == pem.is_some());
        };
        let (prefer, require) = (Some(SslMode::Prefer), Some(SslMode::Require));
        check("postgres://hub@127.0.0.1/kho", None, prefer);
        check("postgres://hub@kho.tinh/kho", None, None);
        check("postgres://hub@kho.tinh/kho?sslmode=disable", None, None);
        check("postgres://hub@kho.tinh/kho?sslmode=verify-full", None, None);
        check("postgres://hub@127.0.0.1/kho?sslmode=require", None, None);
        check("postgres://hub@kho.tinh/kho", Some(&pem), require);
        check("postgres://hub@kho.tinh/kho?sslmode=disable", Some(&pem), require);
        check("postgres://hub@127.0.0.1/kho?sslmode=verify-full", Some(&pem), require);
        check("postgres://hub@kho.tinh/kho", Some("no certificate"), None);
    }
}
