//! `[siem]`, checked.

use std::sync::Arc;
use std::time::Duration;

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};

use super::super::{SiemFile, SiemForm};
use super::Check;
use crate::siem::Terms;
use crate::siem::message::Form;
use crate::siem::way::Way;

impl Check<'_> {
    /// The part; when something is missing from it, at least one fault was collected.
    pub(super) fn siem(&mut self, part: &SiemFile) -> Option<Terms> {
        let (to, at) = (part.to.get_ref(), part.to.span().start);
        let form = match part.form {
            SiemForm::Syslog => Form::Syslog,
            SiemForm::Json => Form::Json,
        };
        let alarm_after = part.alarm_after.get_ref().0;
        if !(Duration::from_secs(1)..=Duration::from_secs(7 * 86_400)).contains(&alarm_after) {
            self.wrong(part.alarm_after.span().start, "`alarm_after` must be 1s to 7d");
        }
        let has_tls = [&part.ca_file, &part.certificate_file, &part.key_file];
        if !to.starts_with("tls://") && has_tls.iter().any(|file| file.is_some()) {
            self.wrong(at, "`ca_file`, `certificate_file` and `key_file` are for `tls://` alone");
        }
        let way = if let Some(path) = to.strip_prefix("file:") {
            if form != Form::Json {
                self.wrong(at, "a file holds lines of JSON: set `form = \"json\"`");
            }
            let path = self.base.join(path.strip_prefix("//").unwrap_or(path));
            Some(Way::File { path, bytes_max: part.file_bytes_max.0 })
        } else {
            self.network_way(part, form)
        };
        let host = match &part.host {
            Some(host) => host.clone(),
            None => rustix::system::uname().nodename().to_string_lossy().into_owned(),
        };
        let first_entry = part.first_entry;
        Some(Terms { to: to.clone(), way: way?, form, host, first_entry, alarm_after })
    }

    fn network_way(&mut self, part: &SiemFile, form: Form) -> Option<Way> {
        let (text, at) = (part.to.get_ref(), part.to.span().start);
        let address = text.split_once("://").and_then(|(scheme, rest)| {
            let (host, port) = rest.rsplit_once(':')?;
            let host = host.trim_start_matches('[').trim_end_matches(']');
            let port = port.parse::<u16>().ok().filter(|port| *port > 0)?;
            (!host.is_empty()).then(|| (scheme, (host.to_owned(), port)))
        });
        match address {
            Some(("tcp", to)) => Some(Way::Tcp { to }),
            Some(("udp", to)) if form == Form::Syslog => Some(Way::Udp { to }),
            Some(("udp", _)) => {
                self.wrong(at, "`udp://` carries syslog alone");
                None
            }
            Some(("tls", to)) => {
                let Ok(name) = ServerName::try_from(to.0.clone()) else {
                    self.wrong(at, "`to` names no host");
                    return None;
                };
                Some(Way::Tls { to, name, config: Arc::new(self.collector_tls(part, at)?) })
            }
            Some(_) | None => {
                let why = "`to` is none of \"tls://host:port\", \"tcp://host:port\", \
                           \"udp://host:port\", \"file:path\"";
                self.wrong(at, why);
                None
            }
        }
    }

    /// Whom to believe, and with which certificate the hub shows itself, where it must.
    fn collector_tls(&mut self, part: &SiemFile, at: usize) -> Option<ClientConfig> {
        let Some(ca_file) = &part.ca_file else {
            self.wrong(
                at,
                "`tls://` needs `ca_file`: the certificates the collector's descends from",
            );
            return None;
        };
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&self.secret("ca_file", ca_file)?) {
            let added = certificate.ok().and_then(|certificate| roots.add(certificate).ok());
            if added.is_none() {
                self.wrong(at, "`ca_file` of [siem] holds no certificates in PEM");
                return None;
            }
        }
        if roots.is_empty() {
            self.wrong(at, "`ca_file` of [siem] holds no certificates in PEM");
            return None;
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .ok()?
            .with_root_certificates(roots);
        let (certificate, key) = match (&part.certificate_file, &part.key_file) {
            (Some(certificate), Some(key)) => (certificate, key),
            (None, None) => return Some(builder.with_no_client_auth()),
            _ => {
                self.wrong(
                    at,
                    "`certificate_file` and `key_file` belong together: name both or none",
                );
                return None;
            }
        };
        let chain = self.secret("certificate_file", certificate)?;
        let chain = CertificateDer::pem_slice_iter(&chain).collect::<Result<Vec<_>, _>>().ok();
        let key = self.private("key_file", key)?;
        let key = PrivateKeyDer::from_pem_slice(&key).ok();
        let config =
            chain.zip(key).and_then(|(chain, key)| builder.with_client_auth_cert(chain, key).ok());
        if config.is_none() {
            self.wrong(
                at,
                "`certificate_file` and `key_file` of [siem] are not a certificate and its key",
            );
        }
        config
    }
}
