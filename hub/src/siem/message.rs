//! One event as bytes: syslog of RFC 5424, or a line of JSON. Pure; bounded; never more than one line.

use std::borrow::Cow;
use std::fmt::Write as _;

use phusa_protocol::time::Timestamp;
use serde_json::{Map, Value, json};

/// Structured data of programs without a number of their own carries this one (RFC 5612).
const STRUCTURED: &str = "phusa@32473";

/// The program's name in each message.
const PROGRAM: &str = "phusa-hub";

/// Characters of one value; names and codes are shorter, causes and errors may not be.
const VALUE_CHARACTERS_MAX: usize = 256;

/// Values of one event; entries have fewer.
pub const FIELDS_MAX: usize = 24;

/// How a collector is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// RFC 5424, counted in octets on a stream (RFC 5425, RFC 6587), one a datagram (RFC 5426).
    Syslog,
    /// One JSON object a line.
    Json,
}

/// How bad it is, as syslog counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Someone must act.
    Error = 3,
    /// Unusual, held.
    Warning = 4,
    /// Worth a look.
    Notice = 5,
    /// The daily work.
    Informational = 6,
}

impl Severity {
    fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Notice => "notice",
            Self::Informational => "informational",
        }
    }
}

/// What an event tells of, as syslog's facilities divide the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum About {
    /// An event of security that is no entry: `authpriv`.
    Security = 10,
    /// An entry of the transfer log, or an incident: `log audit`.
    Audit = 13,
}

/// Something a collector is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// When it happened.
    pub at: Timestamp,
    /// What it tells of.
    pub about: About,
    /// How bad it is.
    pub severity: Severity,
    /// What kind it is, such as `entry.push`.
    pub id: String,
    /// Names and values; never of a row.
    pub fields: Vec<(&'static str, String)>,
    /// What happened, in a sentence.
    pub text: String,
}

impl Event {
    /// An event without values.
    #[must_use]
    pub fn new(
        at: Timestamp,
        (about, severity): (About, Severity),
        id: impl Into<String>,
        text: impl Into<String>,
    ) -> Self {
        Self { at, about, severity, id: id.into(), fields: Vec::new(), text: text.into() }
    }

    /// The same with one value more, where there is one and room for it.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: Option<impl Into<String>>) -> Self {
        if let Some(value) = value.filter(|_| self.fields.len() < FIELDS_MAX) {
            self.fields.push((name, value.into()));
        }
        self
    }

    /// The same with a count.
    #[must_use]
    pub fn count(self, name: &'static str, count: u64) -> Self {
        self.with(name, Some(count.to_string()))
    }

    /// As it goes over a stream or into a file, with what tells its end.
    #[must_use]
    pub fn framed(&self, form: Form, host: &str) -> Vec<u8> {
        match form {
            Form::Syslog => {
                let message = self.syslog(host);
                let mut framed = format!("{} ", message.len()).into_bytes();
                framed.extend(message);
                framed
            }
            Form::Json => [self.json(host).as_bytes(), b"\n"].concat(),
        }
    }

    /// RFC 5424: `<PRI>1 TIME HOST APP PROCID MSGID [DATA] TEXT`.
    #[must_use]
    pub fn syslog(&self, host: &str) -> Vec<u8> {
        let priority = self.about as u32 * 8 + self.severity as u32;
        let (host, id) = (visible(host, 255), visible(&self.id, 32));
        let process = std::process::id();
        let mut text = format!("<{priority}>1 {} {host} {PROGRAM} {process} {id} ", self.at);
        if self.fields.is_empty() {
            text.push('-');
        } else {
            let _ = write!(text, "[{STRUCTURED}");
            for (name, value) in &self.fields {
                let _ = write!(text, " {}=\"{}\"", visible(name, 32), escaped(&bounded(value)));
            }
            text.push(']');
        }
        text.push(' ');
        let said = bounded(&self.text);
        // Text that is more than ASCII says so by its first three bytes.
        if !said.is_ascii() {
            text.push('\u{feff}');
        }
        text.push_str(&said);
        text.into_bytes()
    }

    /// One object, without the end of the line.
    #[must_use]
    pub fn json(&self, host: &str) -> String {
        let fields: Map<String, Value> = self
            .fields
            .iter()
            .map(|(name, value)| ((*name).to_owned(), Value::from(&*bounded(value))))
            .collect();
        let about = match self.about {
            About::Security => "security",
            About::Audit => "audit",
        };
        json!({
            "v": 1,
            "at": self.at,
            "host": visible(host, 255),
            "app": PROGRAM,
            "about": about,
            "severity": self.severity.name(),
            "id": visible(&self.id, 32),
            "fields": fields,
            "text": bounded(&self.text),
        })
        .to_string()
    }
}

/// A name of syslog's head: visible ASCII, at least one character, at most so many.
fn visible(text: &str, most: usize) -> String {
    let seen = |c: char| if c.is_ascii_graphic() && !"=]\"".contains(c) { c } else { '_' };
    let name: String = text.chars().map(seen).take(most).collect();
    if name.is_empty() { "-".to_owned() } else { name }
}

/// On one line, and not longer than anything honest.
fn bounded(text: &str) -> Cow<'_, str> {
    let short = text.len() <= VALUE_CHARACTERS_MAX;
    if short && !text.contains(char::is_control) {
        return Cow::Borrowed(text);
    }
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    Cow::Owned(text.chars().take(VALUE_CHARACTERS_MAX).map(plain).collect())
}

/// Inside a quoted value three characters stand behind a stroke.
fn escaped(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for c in value.chars() {
        if "\"\\]".contains(c) {
            text.push('\\');
        }
        text.push(c);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at() -> Timestamp {
        Timestamp::try_from("2026-11-26T03:04:05.678901Z".to_owned()).unwrap()
    }

    #[test]
    fn an_event_is_written_as_rfc_5424_and_as_json_say() {
        let event =
            |severity, id: &str, text: &str| Event::new(at(), (About::Audit, severity), id, text);
        let process = std::process::id();
        let long = "ế".repeat(400);
        let cases = [
            (
                event(Severity::Informational, "entry.push", "Entry 7: push")
                    .count("number", 7)
                    .with("agent", Some("H57.12/may-1"))
                    .with("dataset", None::<String>),
                format!("<110>1 2026-11-26T03:04:05.678901Z hub.tinh phusa-hub {process} entry.push \
                         [phusa@32473 number=\"7\" agent=\"H57.12/may-1\"] Entry 7: push"),
                r#"{"about":"audit","app":"phusa-hub","at":"2026-11-26T03:04:05.678901Z","fields":{"agent":"H57.12/may-1","number":"7"},"host":"hub.tinh","id":"entry.push","severity":"informational","text":"Entry 7: push","v":1}"#.to_owned(),
            ),
            (
                event(Severity::Warning, "", "two\nlines\tand \u{1b}[31m"),
                format!("<108>1 2026-11-26T03:04:05.678901Z hub.tinh phusa-hub {process} - - two lines and  [31m"),
                r#"{"about":"audit","app":"phusa-hub","at":"2026-11-26T03:04:05.678901Z","fields":{},"host":"hub.tinh","id":"-","severity":"warning","text":"two lines and  [31m","v":1}"#.to_owned(),
            ),
            (
                event(Severity::Error, "incident.opened ]x", "vỡ").with("by", Some("a\"b\\c]d\r\nTrần")),
                format!("<107>1 2026-11-26T03:04:05.678901Z hub.tinh phusa-hub {process} incident.opened__x \
                         [phusa@32473 by=\"a\\\"b\\\\c\\]d  Trần\"] \u{feff}vỡ"),
                r#"{"about":"audit","app":"phusa-hub","at":"2026-11-26T03:04:05.678901Z","fields":{"by":"a\"b\\c]d  Trần"},"host":"hub.tinh","id":"incident.opened__x","severity":"error","text":"vỡ","v":1}"#.to_owned(),
            ),
            (
                event(Severity::Notice, "x", &long),
                format!("<109>1 2026-11-26T03:04:05.678901Z hub.tinh phusa-hub {process} x - \u{feff}{}", "ế".repeat(256)),
                format!(r#"{{"about":"audit","app":"phusa-hub","at":"2026-11-26T03:04:05.678901Z","fields":{{}},"host":"hub.tinh","id":"x","severity":"notice","text":"{}","v":1}}"#, "ế".repeat(256)),
            ),
        ];
        for (event, syslog, json) in cases {
            assert_eq!(String::from_utf8(event.syslog("hub.tinh")).unwrap(), syslog);
            assert_eq!(event.json("hub.tinh"), json);
            let framed = event.framed(Form::Syslog, "hub.tinh");
            assert_eq!(framed, format!("{} {syslog}", syslog.len()).as_bytes());
            assert_eq!(event.framed(Form::Json, "hub.tinh"), format!("{json}\n").as_bytes());
        }
    }

    #[test]
    fn no_event_is_longer_than_every_collector_takes() {
        let mut event = Event::new(
            at(),
            (About::Security, Severity::Error),
            "i".repeat(1_000),
            "t".repeat(100_000),
        );
        for _ in 0..100 {
            event = event.with("a_name_of_a_value", Some("]".repeat(10_000)));
        }
        assert_eq!(event.fields.len(), FIELDS_MAX);
        let syslog = event.syslog(&"h".repeat(1_000));
        assert!(syslog.len() < 16 << 10, "{}", syslog.len());
        assert!(!syslog.contains(&b'\n'));
    }
}
