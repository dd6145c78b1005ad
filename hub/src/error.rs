//! Errors of the hub's steps as faults, and faults as answers to agents.

use phusa_protocol::fault::{Code, Fault};
use tokio_postgres::error::SqlState;

/// Why a delivery is refused; holds no row value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The code the agent is told.
    pub code: Code,
    /// What was found, by names and numbers only.
    pub what: String,
    /// For a breach of what was agreed: its cause in a few words that are the same each time, such
    /// as `ten/longer`. It opens an incident.
    pub cause: Option<String>,
}

impl Refused {
    /// A refusal with its reason.
    #[must_use]
    pub fn new(code: Code, what: impl Into<String>) -> Self {
        Self { code, what: what.into(), cause: None }
    }

    /// A refusal of what breaks an agreement; `cause` names the breach, the same each time.
    #[must_use]
    pub fn breach(code: Code, what: impl Into<String>, cause: impl Into<String>) -> Self {
        Self { code, what: what.into(), cause: Some(cause.into()) }
    }
}

/// A database error as a fault: its SQLSTATE, never its message, which may quote row values.
#[must_use]
pub fn database_fault(what: impl Into<String>, error: &tokio_postgres::Error) -> Fault {
    match error.code() {
        Some(state) => Fault::because(code_of(state), what, format!("SQLSTATE {}", state.code())),
        None => {
            // No SQLSTATE: the connection itself failed, and its message holds no data.
            let cause = std::error::Error::source(error).map(ToString::to_string);
            let cause = cause.unwrap_or_else(|| error.to_string());
            Fault::because(Code::WarehouseUnavailable, what, cause)
        }
    }
}

/// A database error of a statement that carries no row values, with the server's own message.
#[must_use]
pub fn statement_fault(what: impl Into<String>, error: &tokio_postgres::Error) -> Fault {
    match error.as_db_error() {
        Some(db) => Fault::because(code_of(db.code()), what, db.message().to_owned()),
        None => database_fault(what, error),
    }
}

fn code_of(state: &SqlState) -> Code {
    let code = state.code();
    match code {
        "53100" => Code::HubStorageFull,
        // A row that a full read should not meet twice: reading again in a new epoch merges it.
        "23505" => Code::BatchConflict,
        // Lock not to be had in time, deadlock, serialisation, cancelled by a timeout.
        "55P03" | "40P01" | "40001" | "57014" => Code::HubBusy,
        // Too many connections, or out of memory for now.
        _ if code.starts_with("53") => Code::HubBusy,
        // Shut down, crashed, connection lost, read-only, login refused, input/output, corruption.
        _ if ["57", "08", "25", "28", "58", "XX"].iter().any(|class| code.starts_with(class)) => {
            Code::WarehouseUnavailable
        }
        _ if code.starts_with("22") || code.starts_with("23") => Code::ContractViolation,
        "42P01" | "3F000" | "42703" => Code::WarehouseSchema,
        _ => Code::Bug,
    }
}

/// The HTTP status of an answer that carries this code.
#[must_use]
pub fn http_status(code: Code) -> u16 {
    #[expect(clippy::wildcard_enum_match_arm, reason = "codes an agent alone uses are bugs here")]
    match code {
        Code::FrameDamaged | Code::ProtocolVersion => 400,
        Code::AgentUnknown
        | Code::AgentSuspended
        | Code::AgentRevoked
        | Code::IdentityCloned
        | Code::CertificateVoid
        | Code::EnrolRefused
        | Code::EnrolReplayed
        | Code::RecoveryRefused
        | Code::SecondPerson
        | Code::NetworkNotAllowed
        | Code::OwnCertificate
        | Code::SignatureWrong
        | Code::NotOwner => 403,
        Code::DatasetUnknown | Code::ListInvalid => 404,
        Code::BatchOutOfTurn
        | Code::BatchConflict
        | Code::ContractMismatch
        | Code::ContractUnsigned
        | Code::ContractInvalid
        | Code::MappingMismatch => 409,
        Code::BatchTooLarge => 413,
        Code::ContractViolation => 422,
        Code::EnrolPending | Code::HubBusy | Code::HubStorageFull | Code::WarehouseUnavailable => {
            503
        }
        _ => 500,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sqlstate_class_has_its_fault() {
        let check = |state: &str, code: Code| {
            assert_eq!(code_of(&SqlState::from_code(state)), code, "{state}");
        };
        check("53100", Code::HubStorageFull);
        check("53300", Code::HubBusy);
        check("40P01", Code::HubBusy);
        check("57P01", Code::WarehouseUnavailable);
        check("08006", Code::WarehouseUnavailable);
        check("25006", Code::WarehouseUnavailable);
        check("22021", Code::ContractViolation);
        check("23505", Code::BatchConflict);
        check("23502", Code::ContractViolation);
        check("42P01", Code::WarehouseSchema);
        check("42601", Code::Bug);
    }
}
