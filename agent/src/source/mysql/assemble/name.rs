//! `Name`: what a server calls a transaction.

/// A transaction's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::source::mysql) enum Name {
    /// MySQL's: source and number.
    Gtid(String, u64),
    /// MySQL without names.
    Anonymous,
    /// MariaDB's: domain, server and number.
    Domain(u32, u32, u64),
}

impl Name {
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Gtid(source, number) => format!("{source}:{number}"),
            Self::Anonymous => String::new(),
            Self::Domain(domain, server, number) => format!("{domain}-{server}-{number}"),
        }
    }
}
