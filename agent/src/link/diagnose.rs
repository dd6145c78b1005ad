//! What this agent says when it is asked what may be wrong with it: no row, no name, no text of its files.

use std::path::Path;

use phusa_protocol::diagnosis::{Diagnosis, Setting};
use phusa_protocol::units::{ByteSize, Span};
use toml::Value;

use crate::disk::{Disk, RealDisk};
use crate::trouble::lately::lately;
use crate::update::worker::rss_kib;

/// What is read of the agent's file, in bytes; one that is larger says nothing.
const FILE_BYTES_MAX: u64 = 256 * 1024;

/// Keys whose text is one of a few words that the program knows.
const WORDS: [&str; 2] = ["source.engine", "update.mode"];

/// What stands for a text.
const TEXT: &str = "…";

/// The answer to an order, as things are now.
pub(super) fn diagnosis(order: u64, file: &Path) -> Diagnosis {
    let text = RealDisk.read_tail(file, FILE_BYTES_MAX).unwrap_or_default();
    let kernel = RealDisk.read_tail(Path::new("/proc/sys/kernel/osrelease"), 120);
    let kernel = String::from_utf8(kernel.unwrap_or_default()).unwrap_or_default();
    let processors = std::thread::available_parallelism().map_or(0, usize::from);
    Diagnosis {
        order,
        platform: format!("{} {} {}", std::env::consts::OS, std::env::consts::ARCH, kernel.trim()),
        memory_kib: rss_kib(),
        processors: u64::try_from(processors).unwrap_or(u64::MAX),
        settings: settings(&String::from_utf8(text).unwrap_or_default()),
        faults: lately(),
    }
    .bounded()
}

/// The keys of the file; of what they say, numbers, switches, spans, sizes and hours.
fn settings(text: &str) -> Vec<Setting> {
    let mut found = Vec::new();
    let table: toml::Table = text.parse().unwrap_or_default();
    walk("", &table, &mut found);
    found
}

fn walk(section: &str, table: &toml::Table, found: &mut Vec<Setting>) {
    for (name, value) in table {
        let key = if section.is_empty() { name.clone() } else { format!("{section}.{name}") };
        let value = match value {
            Value::Table(table) => {
                walk(&key, table, found);
                continue;
            }
            Value::Integer(number) => number.to_string(),
            Value::Float(number) => number.to_string(),
            Value::Boolean(switch) => switch.to_string(),
            Value::String(text) if may_be_said(&key, text) => text.clone(),
            Value::Array(all) if key.ends_with("allowed_hours") => {
                let hours = all.iter().filter_map(Value::as_str).filter(|one| is_hours(one));
                hours.collect::<Vec<_>>().join(", ")
            }
            Value::Array(all) => format!("{TEXT} ({})", all.len()),
            Value::String(_) | Value::Datetime(_) => TEXT.to_owned(),
        };
        found.push(Setting { key, value });
    }
}

fn may_be_said(key: &str, text: &str) -> bool {
    let is_measure =
        Span::try_from(text.to_owned()).is_ok() || ByteSize::try_from(text.to_owned()).is_ok();
    // A password of digits alone would be a size in bytes.
    let has_unit = text.chars().any(char::is_alphabetic);
    (is_measure && has_unit) || WORDS.contains(&key)
}

fn is_hours(text: &str) -> bool {
    text.chars().all(|c| c.is_ascii_digit() || matches!(c, ':' | '-' | ' '))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_the_agents_file_no_text_is_said_but_what_the_program_knows() {
        let text = r#"
            agency = "H57.12"
            allowed_networks = ["10.0.0.0/8"]
            [hub]
            url = "https://10.1.2.3:7443"
            key_file = "agent.key"
            compression_level = 3
            request_timeout = "60s"
            [source]
            engine = "postgresql"
            user = "doc_gia"
            password_file = "mat-khau"
            password = "123456"
            [spool]
            spool_bytes_max = "2GiB"
            [guard]
            allowed_hours = ["22:00-05:00", "một lời"]
        "#;
        let found = settings(text);
        let of = |key: &str| {
            let one = found.iter().find(|one| one.key == key);
            one.map(|one| one.value.as_str()).unwrap_or_default()
        };
        for (key, value) in [
            ("agency", "…"),
            ("allowed_networks", "… (1)"),
            ("hub.url", "…"),
            ("hub.key_file", "…"),
            ("hub.compression_level", "3"),
            ("hub.request_timeout", "60s"),
            ("source.engine", "postgresql"),
            ("source.user", "…"),
            ("source.password_file", "…"),
            ("source.password", "…"),
            ("spool.spool_bytes_max", "2GiB"),
            ("guard.allowed_hours", "22:00-05:00"),
        ] {
            assert_eq!(of(key), value, "{key}");
        }
    }

    #[test]
    fn a_diagnosis_names_the_system_and_keeps_to_its_bounds() {
        let told = diagnosis(7, Path::new("/nonexistent/agent.toml"));
        assert!(told.is_bounded() && told.platform.starts_with("linux "), "{told:?}");
        assert!(told.settings.is_empty() && told.processors > 0 && told.order == 7);
    }
}
