//! What PostgreSQL refused, as a fault that quotes no row.
//!
//! Messages and details of statements that carry data can quote values, so such faults keep the
//! SQLSTATE alone; the message is kept where a statement carries names only.

use phusa_protocol::fault::{Code, Fault};
use tokio_postgres::Error;
use tokio_postgres::error::SqlState;

/// All that may be told of a refused statement with data in it.
#[derive(Debug, thiserror::Error)]
#[error("SQLSTATE {0}")]
struct State(String);

/// The connection ended before the answer.
#[derive(Debug, thiserror::Error)]
#[error("the connection to the database was lost")]
struct Lost;

/// The fault of a statement that carries rows.
pub(super) fn of_data(what: impl Into<String>, error: &Error) -> Fault {
    let what = what.into();
    match error.code() {
        Some(state) => Fault::because(code_of(state), what, State(state.code().to_owned())),
        None if error.is_closed() => Fault::because(Code::WarehouseUnavailable, what, Lost),
        None => Fault::new(Code::WarehouseUnavailable, what),
    }
}

/// The fault of a statement that carries names only: its message is kept.
pub(super) fn of_names(what: impl Into<String>, error: Error) -> Fault {
    let code = error.code().map_or(Code::WarehouseUnavailable, code_of);
    Fault::because(code, what, error)
}

fn code_of(state: &SqlState) -> Code {
    match state.code() {
        // A row that a full read should not meet twice: reading again in a new epoch merges.
        "23505" => Code::BatchConflict,
        "53100" => Code::HubStorageFull,
        "40001" | "40P01" | "55P03" => Code::HubBusy,
        code => match code.get(..2) {
            Some("22" | "23") => Code::ContractViolation,
            Some("08" | "53" | "57" | "58" | "XX") => Code::WarehouseUnavailable,
            Some("28" | "3D") => Code::WarehouseUnavailable,
            _ => Code::Bug,
        },
    }
}
