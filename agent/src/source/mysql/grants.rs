//! Pure: what a login may do, read from the grants that the server shows (CT-16a).
//!
//! A right that is not known to be harmless counts as one that can change data.

/// Rights that change nothing.
const HARMLESS: [&str; 13] = [
    "USAGE",
    "SELECT",
    "SHOW VIEW",
    "SHOW DATABASES",
    "PROCESS",
    "LOCK TABLES",
    "REPLICATION SLAVE",
    "REPLICATION CLIENT",
    "REPLICA MONITOR",
    "SLAVE MONITOR",
    "BINLOG MONITOR",
    "SHOW CREATE ROUTINE",
    "BACKUP_ADMIN",
];

/// One line of SHOW GRANTS.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Grant {
    /// Rights, without the columns they are limited to, and what they are on.
    Rights { rights: Vec<String>, on: String },
    /// A role that the login may take on.
    Role(String),
    /// What this program does not understand, or is dangerous as such.
    Other(String),
}

/// What a login may do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Rights {
    /// The ways in which it could change data, as text; empty is the proof.
    pub(super) can_write: Vec<String>,
    /// Roles whose grants have to be looked at as well.
    pub(super) roles: Vec<String>,
    /// Whether it may read the log of every database.
    pub(super) reads_log: bool,
    /// Whether it may ask where the log stands.
    pub(super) asks_position: bool,
    /// Whether it may see which transactions others have open.
    pub(super) sees_transactions: bool,
}

impl Rights {
    /// Adds the lines of SHOW GRANTS.
    pub(super) fn add<'a>(&mut self, lines: impl IntoIterator<Item = &'a str>) {
        for line in lines {
            match read(line) {
                Grant::Role(role) => self.roles.push(role),
                Grant::Other(what) => self.can_write.push(what),
                Grant::Rights { rights, on } => self.take(&rights, &on),
            }
        }
    }

    fn take(&mut self, rights: &[String], on: &str) {
        let has = |right: &str| rights.iter().any(|held| held == right);
        if on == "*.*" {
            let all = has("ALL PRIVILEGES");
            self.reads_log |= all || has("REPLICATION SLAVE");
            self.sees_transactions |= all || has("PROCESS");
            self.asks_position |= all || has("REPLICATION CLIENT") || has("BINLOG MONITOR");
        }
        let changing: Vec<&str> =
            rights.iter().map(String::as_str).filter(|right| !HARMLESS.contains(right)).collect();
        if !changing.is_empty() {
            self.can_write.push(format!("{} on {on}", changing.join(", ")));
        }
    }
}

/// Reads one line of SHOW GRANTS.
fn read(line: &str) -> Grant {
    let other =
        || Grant::Other(format!("a grant that is not understood: {}", without_secret(line)));
    let Some(rest) = line.trim().strip_prefix("GRANT ") else {
        // MariaDB names the default role in a line of its own; what MySQL takes back of a grant
        // makes nothing possible.
        let harmless = ["SET DEFAULT ROLE ", "REVOKE "];
        let nothing = Grant::Rights { rights: Vec::new(), on: String::new() };
        return if harmless.iter().any(|head| line.starts_with(head)) { nothing } else { other() };
    };
    let parts = split(rest);
    let at = |word: &str| parts.iter().position(|part| part.eq_ignore_ascii_case(word));
    let Some(to) = at("TO") else { return other() };
    let Some(on) = at("ON").filter(|on| *on < to) else {
        return Grant::Role(parts.get(..to).unwrap_or_default().join(" "));
    };
    let rights = parts.get(..on).unwrap_or_default().join(" ");
    let target = parts.get(on + 1..to).unwrap_or_default().join(" ");
    if rights.starts_with("PROXY") {
        return Grant::Other(format!("PROXY on {target}"));
    }
    let rights = outside_parentheses(&rights);
    let rights = rights.split(',').map(|right| right.trim().to_ascii_uppercase());
    Grant::Rights { rights: rights.filter(|right| !right.is_empty()).collect(), on: target }
}

/// What follows IDENTIFIED may be the digest of a password.
fn without_secret(line: &str) -> &str {
    line.split("IDENTIFIED").next().unwrap_or_default().trim()
}

/// Words between spaces that stand outside quotes and parentheses.
fn split(text: &str) -> Vec<String> {
    let (mut parts, mut part) = (Vec::new(), String::new());
    let (mut quote, mut depth) = (None, 0_usize);
    for letter in text.chars() {
        match (quote, letter) {
            (None, '`' | '\'' | '"') => quote = Some(letter),
            (Some(open), close) if open == close => quote = None,
            (None, '(') => depth += 1,
            (None, ')') => depth = depth.saturating_sub(1),
            _ => {}
        }
        if letter == ' ' && quote.is_none() && depth == 0 {
            parts.push(std::mem::take(&mut part));
        } else {
            part.push(letter);
        }
    }
    parts.push(part);
    parts
}

fn outside_parentheses(text: &str) -> String {
    let mut depth = 0_usize;
    let mut kept = String::new();
    for letter in text.chars() {
        match letter {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            letter if depth == 0 => kept.push(letter),
            _ => {}
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_rights_that_are_known_to_be_harmless_are_harmless() {
        let check = |line: &str, expected: &[&str]| {
            let mut rights = Rights::default();
            rights.add([line]);
            assert_eq!(rights.can_write, expected, "{line}");
        };
        check("GRANT USAGE ON *.* TO `phusa`@`%` IDENTIFIED BY PASSWORD '*AB'", &[]);
        check("GRANT SELECT, SHOW VIEW ON `ho tich`.* TO `phusa`@`%`", &[]);
        check(
            "GRANT SELECT (`id`, `insert`), UPDATE (`ten`) ON `d`.`t` TO `p`@`%`",
            &["UPDATE on `d`.`t`"],
        );
        check("GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO 'p'@'%'", &[]);
        check("GRANT INSERT, SELECT ON `d`.* TO `p`@`%`", &["INSERT on `d`.*"]);
        check(
            "GRANT ALL PRIVILEGES ON *.* TO `root`@`localhost` WITH GRANT OPTION",
            &["ALL PRIVILEGES on *.*"],
        );
        check(
            "GRANT BINLOG_ADMIN,CLONE_ADMIN ON *.* TO `p`@`%`",
            &["BINLOG_ADMIN, CLONE_ADMIN on *.*"],
        );
        check("GRANT PROXY ON ''@'%' TO 'root'@'localhost'", &["PROXY on ''@'%'"]);
        check("GRANT EXECUTE ON PROCEDURE `d`.`p` TO `p`@`%`", &["EXECUTE on PROCEDURE `d`.`p`"]);
        check("SET DEFAULT ROLE `r` FOR `p`@`%`", &[]);
        check("REVOKE INSERT ON `d`.* FROM `p`@`%`", &[]);
        check("ALLOW ALL", &["a grant that is not understood: ALLOW ALL"]);
    }

    #[test]
    fn roles_are_named_and_the_rights_for_the_log_seen() {
        let mut rights = Rights::default();
        rights.add([
            "GRANT `doc`@`%`,`xem`@`%` TO `p`@`%`",
            "GRANT REPLICATION SLAVE ON *.* TO `p`@`%`",
        ]);
        assert_eq!(rights.roles, ["`doc`@`%`,`xem`@`%`"]);
        assert!(rights.reads_log && !rights.asks_position);
        rights.add(["GRANT BINLOG MONITOR ON *.* TO `p`@`%`"]);
        assert!(rights.asks_position);
    }
}
