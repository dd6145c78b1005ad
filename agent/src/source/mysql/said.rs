//! What a server or its connection said, as a fault: the one place where error numbers get a code.
//!
//! A server's message can quote row values. It is kept only for statements that touch no rows; of
//! the others the number alone is kept. The driver's errors may hold whole values, so of them the
//! kind alone is kept.

use std::error::Error as _;
use std::fmt;

use mysql_async::{DriverError, Error, IoError};
use phusa_protocol::fault::{Code, Fault};

/// What a server answered instead of doing it.
#[derive(Debug)]
struct Said {
    number: u16,
    message: Option<String>,
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.message {
            Some(message) => write!(f, "the server said {message} (error {})", self.number),
            None => write!(f, "the server said error {}", self.number),
        }
    }
}

impl std::error::Error for Said {}

/// A fault of a statement that touches no rows.
pub(super) fn plain(what: impl Into<String>, error: Error) -> Fault {
    fault(what.into(), error, true)
}

/// A fault of a statement that reads rows: the server's words are not kept.
pub(super) fn of_rows(what: impl Into<String>, error: Error) -> Fault {
    fault(what.into(), error, false)
}

/// A fault of the log's connection. Its messages name files, positions and servers only.
pub(super) fn of_log(what: impl Into<String>, error: Error) -> Fault {
    const FATAL: u16 = 1236;
    if let Error::Server(said) = &error
        && said.code == FATAL
    {
        let (number, message) = (said.code, Some(said.message.clone()));
        return Fault::because(of_fatal(&said.message), what, Said { number, message });
    }
    fault(what.into(), error, true)
}

/// Whether a file of the log ends inside an event: the server was ended while it wrote it, and does
/// not mend its log when it comes back. `MariaDB` does not.
pub(super) fn is_torn(error: &Error) -> bool {
    const FATAL: u16 = 1236;
    let words = "truncated in the middle of event";
    matches!(error, Error::Server(said) if said.code == FATAL && said.message.contains(words))
}

/// One number stands for everything that ends a log connection.
fn of_fatal(message: &str) -> Code {
    let says = |words: &str| message.contains(words);
    if says("same server_uuid/server_id") || says("same server_id") {
        Code::SourceSlotBusy
    } else if says("max_allowed_packet") {
        Code::SourceSetting
    } else {
        Code::SourceGap
    }
}

fn fault(what: String, error: Error, words: bool) -> Fault {
    match error {
        Error::Server(said) => {
            let message = words.then_some(said.message);
            Fault::because(of_number(said.code), what, Said { number: said.code, message })
        }
        Error::Io(IoError::Tls(error)) => Fault::because(Code::SourceTls, what, error.to_string()),
        Error::Io(IoError::Io(error)) if speaks_of_tls(&error) => {
            Fault::because(Code::SourceTls, what, error)
        }
        Error::Io(IoError::Io(error)) => Fault::because(Code::SourceUnreachable, what, error),
        Error::Driver(DriverError::NoClientSslFlagFromServer) => {
            Fault::because(Code::SourceTls, what, "the server offers no TLS")
        }
        Error::Driver(DriverError::UnknownAuthPlugin { .. }) => {
            Fault::because(Code::SourceLogin, what, "the server asks for a login of another kind")
        }
        Error::Driver(DriverError::CleartextPluginDisabled) => {
            Fault::because(Code::SourceLogin, what, "the server asks for the password in the clear")
        }
        Error::Driver(DriverError::ConnectionClosed) => {
            Fault::because(Code::SourceUnreachable, what, "the server closed the connection")
        }
        Error::Driver(_) | Error::Other(_) | Error::Url(_) => {
            Fault::because(Code::SourceUnreachable, what, "the connection failed")
        }
    }
}

fn speaks_of_tls(error: &std::io::Error) -> bool {
    let mut below = error.get_ref().map(|inner| inner as &(dyn std::error::Error + 'static));
    while let Some(error) = below {
        if error.downcast_ref::<rustls::Error>().is_some() {
            return true;
        }
        below = error.source();
    }
    error.source().is_some_and(|inner| inner.downcast_ref::<rustls::Error>().is_some())
}

fn of_number(number: u16) -> Code {
    match number {
        // Access denied; password expired; host not allowed or blocked; plugin; locked account.
        1045 | 1049 | 1820 | 1862 | 1130 | 1129 | 1251 | 1524 | 3118 | 4151 => Code::SourceLogin,
        1044 | 1142 | 1143 | 1227 | 1370 => Code::SourceRights,
        1146 => Code::SourceTableMissing,
        1054 => Code::SourceColumnMissing,
        1381 => Code::SourceSetting,
        3159 | 1835 => Code::SourceTls,
        // Collations, numbers, dates that the row filter of the mapping brought in.
        1064 | 1267 | 1271 | 1292 | 1366 | 1525 | 3854 => Code::MappingInvalid,
        1193 | 1235 => Code::SourceVersion,
        // Connections, limits, time-outs, shutdown: they pass.
        _ => Code::SourceUnreachable,
    }
}

#[cfg(test)]
mod tests {
    use mysql_async::ServerError;

    use super::*;

    fn said(code: u16, message: &str) -> Error {
        let (message, state) = (message.to_owned(), "HY000".to_owned());
        Error::Server(ServerError { code, message, state })
    }

    #[test]
    fn each_number_has_the_code_that_helps() {
        let check = |number: u16, code: Code| assert_eq!(of_number(number), code, "{number}");
        check(1045, Code::SourceLogin);
        check(1142, Code::SourceRights);
        check(1146, Code::SourceTableMissing);
        check(1205, Code::SourceUnreachable);
        check(1969, Code::SourceUnreachable);
        check(3024, Code::SourceUnreachable);
    }

    #[test]
    fn the_words_of_a_server_are_kept_only_where_no_rows_are() {
        let fault = of_rows("cannot read t", said(1292, "Truncated value: 'secret'"));
        assert_eq!(fault.chain(), "cannot read t: the server said error 1292");
        let fault = plain("cannot connect", said(1045, "Access denied"));
        assert_eq!(fault.chain(), "cannot connect: the server said Access denied (error 1045)");
    }

    #[test]
    fn an_ended_log_says_why() {
        let check = |message: &str, code: Code| {
            assert_eq!(of_log("log", said(1236, message)).code, code, "{message}");
        };
        check("Could not find first log file name in binary log index file", Code::SourceGap);
        check(
            "A slave with the same server_uuid/server_id as this slave has connected",
            Code::SourceSlotBusy,
        );
        check("log event entry exceeded max_allowed_packet", Code::SourceSetting);
    }
}
