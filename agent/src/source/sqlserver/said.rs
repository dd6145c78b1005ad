//! What a server or its connection said, as a fault: the one place where error numbers get a code.
//!
//! A server's message can quote row values, and so can the driver's. Words are kept only for
//! statements that touch no rows; of the others the number alone is kept.

use std::error::Error as StdError;
use std::fmt;

use phusa_protocol::fault::{Code, Fault};
use tiberius::error::{Error, IoErrorKind};

/// What was answered instead of doing it.
#[derive(Debug)]
enum Said {
    Server { number: u32, words: Option<String> },
    Driver(String),
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server { number, words: Some(words) } => {
                write!(f, "the server said {words} (error {number})")
            }
            Self::Server { number, words: None } => write!(f, "the server said error {number}"),
            Self::Driver(words) => f.write_str(words),
        }
    }
}

impl StdError for Said {}

/// A fault of a statement that touches no rows.
pub(super) fn plain(what: impl Into<String>, error: &Error) -> Fault {
    fault(what.into(), error, true)
}

/// A fault of a statement that reads rows: nobody's words are kept.
pub(super) fn of_rows(what: impl Into<String>, error: &Error) -> Fault {
    fault(what.into(), error, false)
}

fn fault(what: String, error: &Error, keep_words: bool) -> Fault {
    match error {
        Error::Server(said) => {
            let number = said.code();
            let words = keep_words.then(|| said.message().to_owned());
            Fault::because(of_number(number), what, Said::Server { number, words })
        }
        Error::Io { kind, message } => {
            let (code, hint) = of_transport(*kind, message);
            Fault::because(code, format!("{what}{hint}"), Said::Driver(message.clone()))
        }
        Error::Tls(message) => {
            let what = format!("{what}{}", tls_hint(message));
            Fault::because(Code::SourceTls, what, Said::Driver(first_sentence(message)))
        }
        Error::Protocol(message) => {
            let code = if message.contains("encryption level") {
                Code::SourceTls
            } else {
                Code::SourceUnreachable
            };
            let hint = if code == Code::SourceTls { NO_ENCRYPTION } else { "" };
            Fault::because(code, format!("{what}{hint}"), Said::Driver(message.to_string()))
        }
        // These can quote a value.
        _ => {
            let words = "the driver could not read what came".to_owned();
            Fault::because(Code::Bug, what, Said::Driver(words))
        }
    }
}

const NO_ENCRYPTION: &str = ": this server does not encrypt; let its administrator install a \
    certificate, or read it on its own host with `tls = \"off\"`";

const OLD_TLS: &str = ": the server speaks only TLS 1.0 or 1.1, which is not used any more; let its \
    administrator install the updates that bring TLS 1.2, or run the agent on the server's own host \
    with host = \"127.0.0.1\" and `tls = \"off\"`";

fn tls_hint(message: &str) -> &'static str {
    if speaks_of_old_tls(message) { OLD_TLS } else { "" }
}

fn speaks_of_old_tls(message: &str) -> bool {
    ["ProtocolVersion", "protocol version", "Tls12Or13", "incompatible"]
        .iter()
        .any(|sign| message.contains(sign))
}

/// The driver goes on with advice about itself.
fn first_sentence(message: &str) -> String {
    let end = message.find(". ").unwrap_or(message.len());
    message.get(..end).unwrap_or(message).to_owned()
}

fn of_transport(kind: IoErrorKind, message: &str) -> (Code, &'static str) {
    if speaks_of_old_tls(message) {
        return (Code::SourceTls, OLD_TLS);
    }
    let is_tls = ["certificate", "handshake", "tls", "TLS"].iter().any(|s| message.contains(s));
    match kind {
        IoErrorKind::InvalidData if is_tls => (Code::SourceTls, ""),
        _ => (Code::SourceUnreachable, ""),
    }
}

/// A connection that was not even begun.
pub(super) fn unreachable(what: String, error: std::io::Error) -> Fault {
    let hint = match error.kind() {
        IoErrorKind::ConnectionRefused => {
            ": nothing listens there; TCP/IP may be disabled for this instance (SQL Server \
             Configuration Manager, Protocols), or it listens on another port"
        }
        _ => "",
    };
    Fault::because(Code::SourceUnreachable, format!("{what}{hint}"), error)
}

/// The code of an error number.
fn of_number(number: u32) -> Code {
    match number {
        // Login failed, from an untrusted domain, disabled, locked, expired; no such database.
        18_456 | 18_452 | 18_470 | 18_486..=18_488 | 4_060 | 4_064 | 916 => Code::SourceLogin,
        229 | 230 | 262 | 297 | 300 | 371 | 15_247 | 22_950 | 22_981 => Code::SourceRights,
        208 => Code::SourceTableMissing,
        207 => Code::SourceColumnMissing,
        // Snapshot isolation or change tracking is not on; a secondary that cannot be read.
        3_952 | 22_105 | 976 | 978 | 979 => Code::SourceSetting,
        // A function of change data capture was asked for a range that it does not have.
        313 => Code::SourceGap,
        // Syntax and types: the server does not know what this version sends.
        102 | 156 | 195 | 243 | 319 => Code::SourceVersion,
        206 | 241 | 242 | 245 | 8_114 | 8_115 | 8_169 => Code::SourceTypeRefused,
        // Deadlocks, lock time-outs, conflicts, restarts, failovers: they pass.
        _ => Code::SourceUnreachable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_has_the_code_that_helps() {
        let check = |number: u32, code: Code| assert_eq!(of_number(number), code, "{number}");
        check(18_456, Code::SourceLogin);
        check(4_060, Code::SourceLogin);
        check(229, Code::SourceRights);
        check(230, Code::SourceRights);
        check(208, Code::SourceTableMissing);
        check(207, Code::SourceColumnMissing);
        check(3_952, Code::SourceSetting);
        check(313, Code::SourceGap);
        check(1_205, Code::SourceUnreachable);
        check(1_222, Code::SourceUnreachable);
        check(3_960, Code::SourceUnreachable);
        check(6_005, Code::SourceUnreachable);
    }

    #[test]
    fn what_the_driver_says_becomes_a_cure() {
        let check = |error: Error, code: Code, hint: &str| {
            let fault = plain("cannot connect", &error);
            assert_eq!(fault.code, code, "{}", fault.chain());
            assert!(fault.chain().contains(hint), "{}", fault.chain());
        };
        let old = "received fatal alert: ProtocolVersion".to_owned();
        check(
            Error::Io { kind: IoErrorKind::InvalidData, message: old },
            Code::SourceTls,
            "TLS 1.0",
        );
        check(
            Error::Protocol("Server does not allow the requested encryption level.".into()),
            Code::SourceTls,
            "does not encrypt",
        );
        let bad = "the server's certificate was rejected: UnknownIssuer. To connect anyway you can";
        check(Error::Tls(bad.to_owned()), Code::SourceTls, "UnknownIssuer");
        let refused = std::io::Error::from(IoErrorKind::ConnectionRefused);
        assert!(unreachable("cannot connect".to_owned(), refused).chain().contains("TCP/IP"));
    }

    #[test]
    fn a_value_in_the_drivers_words_is_not_repeated() {
        let error = Error::Conversion("cannot interpret I32(Some(7)) as text".into());
        assert!(!of_rows("cannot read dbo.t", &error).chain().contains('7'));
    }
}
