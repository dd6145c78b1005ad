//! How an agent's login comes to its rights: what `check` prints is run as the administrator of the
//! source would run it.

use std::path::Path;

use super::{Readable, Reader, agent_command};
use crate::process::output;

/// The section `source` of an agent's file, and what comes after.
#[must_use]
pub fn section(reader: Reader<'_>) -> String {
    let Reader { database, settings, .. } = reader;
    let (engine, port, name) = (database.engine(), database.port(), database.name());
    let user = login(database);
    format!(
        "engine = \"{engine}\"\nhost = \"127.0.0.1\"\nport = {port}\n\
         database = \"{name}\"\nuser = \"{user}\"\npassword_file = \"source.password\"\n\
         tls = \"off\"\n\n{settings}"
    )
}

/// Runs what `check` of an agent's file prints as the administrator of the source would, until
/// nothing is missing; returns what it said last.
///
/// # Errors
/// What `check` said last, where it is not satisfied.
pub fn admitted(config: &Path, database: &dyn Readable) -> Result<String, String> {
    let mut said = String::new();
    for _ in 0..4 {
        let checked = output(agent_command(config).args(["check", "--offline"]));
        let (out, err) = (&checked.stdout, &checked.stderr);
        said = format!("{}{}", String::from_utf8_lossy(out), String::from_utf8_lossy(err));
        if checked.status.success() {
            return Ok(said);
        }
        let wanted = statements(&said);
        if wanted.is_empty() {
            break;
        }
        for statement in wanted {
            database.administer(statement);
        }
    }
    Err(said)
}

/// The agent's login at the source; logins are shared by all databases of a server.
#[must_use]
pub fn login(database: &dyn Readable) -> String {
    format!("phusa_{}", database.name())
}

/// The SQL statements among the lines that `check` prints; some end with a remark.
#[must_use]
pub fn statements(said: &str) -> Vec<&str> {
    let is_statement = |line: &&str| {
        let first = line.split_whitespace().next().unwrap_or_default();
        let code = line.split(" -- ").next().unwrap_or_default().trim_end();
        ["create", "alter", "grant", "revoke"].contains(&first) && code.ends_with(';')
    };
    said.lines().map(str::trim).filter(is_statement).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_are_found_among_what_check_says() {
        let said =
            "missing:\n  create role a login; -- its own\n  grant select on t to a;\ncreate it\n";
        assert_eq!(
            statements(said),
            ["create role a login; -- its own", "grant select on t to a;"]
        );
    }
}
