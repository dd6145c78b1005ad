//! Telling people of an incident that nobody closes: the agency's focal point, the head of the unit, the
//! province, each after a time, by mail and by webhook (HU-10).
//!
//! Who was told stands in the database after it was taken there: a crash in between tells once more, with
//! the same identifier, and a server that is away is asked again. Nothing of a row is in it.

pub mod digest;
pub mod send;
pub mod steps;
pub mod teller;

use std::time::Duration;

use phusa_protocol::fault::Fault;

use send::{Mailer, Webhook};

/// What `[escalation]` says, checked.
#[derive(Debug, Clone)]
pub struct Terms {
    /// How mails go, where they do.
    pub mail: Option<Mailer>,
    /// Who is called, where somebody is.
    pub webhook: Option<Webhook>,
    /// Who is told at the province.
    pub province: Vec<String>,
    /// How long an incident is open before each step tells of it: focal point, head, province.
    pub after: [Duration; 3],
    /// Where people find the portal; empty where the file does not say.
    pub portal: String,
}

impl Terms {
    /// What this means, for whoever wrote it.
    #[must_use]
    pub fn explained(&self) -> String {
        let minutes = self.after.map(|after| after.as_secs() / 60);
        let [focal, head, province] = minutes;
        let mail = self.mail.as_ref().map_or("–", |mail| mail.to.as_str());
        let webhook = self.webhook.as_ref().map_or("–", |webhook| webhook.url.as_str());
        format!(
            "Báo sự cố (escalation): đầu mối sau {focal} phút, thủ trưởng sau {head} phút, tỉnh sau {province} \
             phút (focal point, head, province after so many minutes); thư qua (mail by) {mail}, webhook {webhook}"
        )
    }
}

/// Why something was not taken, as a fault with its cause.
pub(crate) fn unreachable(
    what: String,
    cause: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> Fault {
    Fault::because(phusa_protocol::fault::Code::EscalationUnreachable, what, cause)
}
