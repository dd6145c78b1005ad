//! What a server or its connection said, as a fault: the one place where SQLSTATEs get a code.
//!
//! A server's message can quote row values. It is kept only for statements that touch no rows;
//! of the others the SQLSTATE alone is kept.

use std::error::Error;
use std::fmt;

use pgwire_replication::PgWireError;
use phusa_protocol::fault::{Code, Fault};

/// What a server answered instead of doing it.
#[derive(Debug)]
struct Said {
    state: String,
    message: Option<String>,
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.message {
            Some(message) => write!(f, "the server said {message} (SQLSTATE {})", self.state),
            None => write!(f, "the server said SQLSTATE {}", self.state),
        }
    }
}

impl Error for Said {}

/// A fault of a statement that touches no rows.
pub(super) fn plain(what: impl Into<String>, error: tokio_postgres::Error) -> Fault {
    fault(what.into(), error, true)
}

/// A fault of a statement that reads rows: the server's words are not kept.
pub(super) fn of_rows(what: impl Into<String>, error: tokio_postgres::Error) -> Fault {
    fault(what.into(), error, false)
}

fn fault(what: String, error: tokio_postgres::Error, words: bool) -> Fault {
    if let Some(said) = error.as_db_error() {
        let message = words.then(|| said.message().to_owned());
        let state = said.code().code().to_owned();
        return Fault::because(of_state(&state, words), what, Said { state, message });
    }
    // The driver keeps the kind of its errors to itself, but for their text.
    let shown = error.to_string();
    let below = error.source().map(ToString::to_string).unwrap_or_default();
    let code = if shown.contains("TLS") || speaks_of_tls(&error) {
        Code::SourceTls
    } else if shown.contains("authentication") || below.contains("password") {
        Code::SourceLogin
    } else {
        Code::SourceUnreachable
    };
    Fault::because(code, what, error)
}

fn speaks_of_tls(error: &(dyn Error + 'static)) -> bool {
    let mut below = Some(error);
    while let Some(error) = below {
        let inner = error.downcast_ref::<std::io::Error>().and_then(|error| error.get_ref());
        if inner.and_then(|inner| inner.downcast_ref::<rustls::Error>()).is_some() {
            return true;
        }
        below = error.source();
    }
    false
}

/// A fault of the replication connection; `words` when the command touches no rows.
pub(super) fn of_replication(what: impl Into<String>, error: PgWireError, words: bool) -> Fault {
    if let PgWireError::Server(text) = &error {
        let (message, state) = text.rsplit_once(" (SQLSTATE ").unwrap_or((text, "unknown)"));
        let state = state.trim_end_matches(')').to_owned();
        let message = words.then(|| message.to_owned());
        return Fault::because(of_state(&state, words), what, Said { state, message });
    }
    let code = if error.is_tls() {
        Code::SourceTls
    } else if error.is_auth() {
        Code::SourceLogin
    } else {
        Code::SourceUnreachable
    };
    Fault::because(code, what, error)
}

/// The code of a SQLSTATE: by itself where it says enough, otherwise by its class.
fn of_state(state: &str, words: bool) -> Code {
    match state {
        // While the log is read, "not in the state for this" is a slot that lost its log.
        "55000" if !words => Code::SourceGap,
        "42501" => Code::SourceRights,
        "42P01" | "3F000" => Code::SourceTableMissing,
        "42703" => Code::SourceColumnMissing,
        "55006" => Code::SourceSlotBusy,
        "58P01" => Code::SourceGap,
        "3D000" => Code::SourceLogin,
        "42704" | "53400" | "55000" => Code::SourceSetting,
        _ => match state.get(..2) {
            Some("28") => Code::SourceLogin,
            // A value or a name that the row filter of the mapping brought in.
            Some("22" | "42") => Code::MappingInvalid,
            Some("0A") => Code::SourceVersion,
            // Connection, limits, time-outs, shutdown, recovery conflicts: they pass.
            _ => Code::SourceUnreachable,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_state_has_the_code_that_helps() {
        let check = |state: &str, code: Code| assert_eq!(of_state(state, true), code, "{state}");
        check("28P01", Code::SourceLogin);
        check("28000", Code::SourceLogin);
        check("42501", Code::SourceRights);
        check("55006", Code::SourceSlotBusy);
        check("57P01", Code::SourceUnreachable);
        check("57014", Code::SourceUnreachable);
        check("08006", Code::SourceUnreachable);
        check("53300", Code::SourceUnreachable);
        check("40001", Code::SourceUnreachable);
        check("42601", Code::MappingInvalid);
        check("58P01", Code::SourceGap);
    }

    #[test]
    fn the_words_of_a_server_are_kept_only_where_no_rows_are() {
        let error = || PgWireError::Server("no such slot \"x\" (SQLSTATE 42704)".to_owned());
        let fault = of_replication("cannot start", error(), true);
        assert_eq!(
            fault.chain(),
            "cannot start: the server said no such slot \"x\" (SQLSTATE 42704)"
        );
        let fault = of_replication("cannot start", error(), false);
        assert_eq!(fault.chain(), "cannot start: the server said SQLSTATE 42704");
    }
}
