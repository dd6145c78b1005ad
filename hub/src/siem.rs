//! What a collector of security events (SIEM) is told, as it happens (HU-31).
//!
//! Every entry of the transfer log by its number, every incident when it is opened, and the events of
//! security that become no entry. Entries and incidents go from a cursor in the database: a collector
//! that was away gets what it missed, in order, some of it twice, and never slows a delivery. Events that
//! are no entries wait in a bounded queue; what did not fit is counted and told. Neither rows nor keys.

pub mod message;
pub mod told;
pub mod tap;
pub mod way;
pub mod window;
pub mod cursor;
pub mod forward;

use std::time::Duration;

use message::Form;
use way::Way;

/// What `[siem]` says, checked.
#[derive(Debug, Clone)]
pub struct Terms {
    /// The collector as the file names it.
    pub to: String,
    /// How it is reached.
    pub way: Way,
    /// In which form it is told.
    pub form: Form,
    /// The name of this machine in each message.
    pub host: String,
    /// Entries before this number are not sent to a collector that is new.
    pub first_entry: u64,
    /// How long it may be out of reach before that is an incident.
    pub alarm_after: Duration,
}

impl Terms {
    /// Whether the collector can be reached just now, in words; a file is not made for that.
    pub async fn reached(&self) -> String {
        if let Way::File { path, .. } = &self.way {
            let folder = path.parent().is_some_and(std::path::Path::is_dir);
            let said = if folder {
                "có thư mục (its folder is there)"
            } else {
                "chưa có thư mục (its folder is not there)"
            };
            return format!("  {}: {said}", path.display());
        }
        match self.way.open().await {
            Ok(_) => format!("  {}: tới được (reached)", self.to),
            Err(error) => format!("  {}: chưa tới được (not reached): {error}", self.to),
        }
    }

    /// What this means, for whoever wrote it.
    #[must_use]
    pub fn explained(&self) -> String {
        let form = match self.form {
            Form::Syslog => "syslog RFC 5424",
            Form::Json => "JSON",
        };
        let limit = match self.way {
            Way::Udp { .. } => {
                "\n  UDP không báo nhận: gói mất trên đường sẽ không được gửi lại; nên dùng tls:// \
                 (UDP acknowledges nothing: what is lost on the way is not sent again; prefer tls://)"
            }
            Way::Tcp { .. } => {
                "\n  tcp:// không mã hóa: ai ở trên đường truyền đều đọc được (tcp:// is not encrypted: \
                 whoever sits on the line reads along)"
            }
            Way::Tls { .. } | Way::File { .. } => "",
        };
        format!(
            "SIEM: gửi mọi mục nhật ký từ số {first}, mọi sự cố và sự kiện an ninh tới {to} bằng {form}; không \
             tới được quá {alarm} phút thì mở sự cố (every entry from number {first}, every incident and event \
             of security is sent to {to} as {form}; out of reach for {alarm} minutes opens an incident){limit}",
            first = self.first_entry,
            to = self.to,
            alarm = self.alarm_after.as_secs() / 60,
        )
    }
}
