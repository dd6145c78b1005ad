//! `[portal]`, checked.

use std::net::SocketAddr;
use std::time::Duration;

use phusa_protocol::network::Network;
use phusa_protocol::units::Span;
use toml::Spanned;

use super::super::{HubFile, PortalFile};
use super::{Check, SecretPem};
use crate::accounts::session::Ends;

/// Where people's browsers connect, and how long they stay signed in.
#[derive(Debug)]
pub struct PortalPlan {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Where people may come from.
    pub allowed_networks: Vec<Network>,
    /// The certificate chain browsers see, PEM.
    pub certificate_pem: Vec<u8>,
    /// Its private key, PEM.
    pub key_pem: SecretPem,
    /// When sessions end.
    pub ends: Ends,
}

const MINUTE: u64 = 60;
const HOUR: u64 = 3_600;

impl Check<'_> {
    /// The part; when something is missing from it, at least one fault was collected.
    pub(super) fn portal(&mut self, part: &PortalFile, file: &HubFile) -> Option<PortalPlan> {
        let listen = self.address("listen", &part.listen);
        let networks = part.allowed_networks.as_ref().unwrap_or(&file.allowed_networks);
        let allowed_networks = self.networks(networks);
        if part.certificate_file.is_some() != part.key_file.is_some() {
            let at = part.listen.span().start;
            self.wrong(at, "`certificate_file` and `key_file` belong together: name both or none");
        }
        let certificate = part.certificate_file.as_ref().unwrap_or(&file.certificate_file);
        let key = part.key_file.as_ref().unwrap_or(&file.key_file);
        let certificate_pem = self.secret("certificate_file", certificate);
        let key_pem = self.private("key_file", key);
        let idle = self.span("session_idle", &part.session_idle, MINUTE..=12 * HOUR);
        let whole = self.span("session_max", &part.session_max, 5 * MINUTE..=24 * HOUR);
        Some(PortalPlan {
            listen: listen?,
            allowed_networks,
            certificate_pem: certificate_pem?,
            key_pem: SecretPem(key_pem?),
            ends: Ends { idle: idle?, whole: whole? },
        })
    }

    fn span(
        &mut self,
        key: &str,
        written: &Spanned<Span>,
        seconds: std::ops::RangeInclusive<u64>,
    ) -> Option<Duration> {
        let span = written.get_ref().0;
        if seconds.contains(&span.as_secs()) {
            return Some(span);
        }
        let (least, most) = (seconds.start() / MINUTE, seconds.end() / MINUTE);
        self.wrong(written.span().start, &format!("`{key}` must be {least}m to {most}m"));
        None
    }
}
