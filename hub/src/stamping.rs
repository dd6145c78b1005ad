//! Timestamps of RFC 3161 over the log's daily checkpoint: a third party says when it was there.
//!
//! [`token`] asks and checks, [`shelf`] keeps what came back beside the log's files, [`schedule`] does it
//! by itself. Without `[timestamp]` there is none of it; the log does not depend on it.

pub mod token;
pub mod shelf;
pub mod schedule;

use std::time::Duration;

use token::Trust;

/// What `[timestamp]` says, checked.
#[derive(Debug, Clone)]
pub struct Terms {
    /// Where the authority answers.
    pub url: String,
    /// Whom to believe.
    pub trust: Trust,
    /// How the authority is reached.
    pub client: reqwest::Client,
    /// How often.
    pub every: Duration,
}

impl Terms {
    /// What this means, for whoever wrote it.
    #[must_use]
    pub fn explained(&self) -> String {
        format!(
            "Dấu thời gian (timestamps, RFC 3161): {url} đóng dấu điểm kiểm của nhật ký mỗi {hours} giờ; chỉ gửi mã \
             băm (stamps the log's checkpoint every {hours} hours; nothing but a digest is sent)",
            url = self.url,
            hours = self.every.as_secs() / 3_600,
        )
    }
}
