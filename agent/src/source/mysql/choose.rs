//! Pure: which way of following a table is taken, and why, from what the server offers.

use phusa_protocol::fault::{Code, Fault};

use crate::source::Capture;

/// What server, login and table offer.
#[derive(Debug, Clone, Default)]
pub(super) struct Offer {
    /// What of the server keeps its log from being followed; empty when nothing does.
    pub(super) log_obstacles: Vec<String>,
    /// Rights to the log that the login lacks.
    pub(super) lacking: Vec<&'static str>,
    /// Whether it was given any of them.
    pub(super) log_meant: bool,
    /// Whether it may read the mapped columns.
    pub(super) columns: bool,
    /// Whether the dataset's file names a column that tells when a row was last written.
    pub(super) watermark: bool,
}

/// The way that is taken, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Choice {
    pub(super) capture: Capture,
    pub(super) why: String,
}

/// Takes what is asked for, or else the best that is offered.
///
/// A login that was given a right to the log is taken as the administrator's word for it: what then
/// lacks is a fault with its remedy, and not a reason to read less well for ever.
pub(super) fn choose(wanted: Capture, offer: &Offer) -> Choice {
    let choice = |capture: Capture, why: &str| Choice { capture, why: why.to_owned() };
    if wanted != Capture::Auto {
        return choice(wanted, "the dataset's file asks for it");
    }
    let reading = if offer.watermark { Capture::Watermark } else { Capture::Reconcile };
    if !offer.log_obstacles.is_empty() {
        return choice(reading, &offer.log_obstacles.join("; "));
    }
    if offer.lacking.is_empty() {
        return choice(Capture::Log, "the server keeps a row log, and the login can read it");
    }
    if offer.log_meant {
        return choice(Capture::Log, "the login was given rights to the log");
    }
    if !offer.columns {
        return choice(Capture::Log, "the login may not read the table, and the log is the best");
    }
    choice(reading, &format!("the login lacks {}", offer.lacking.join(", ")))
}

/// The fault of a way that no server of this kind offers, if this is one; `watermark` is whether a
/// column for it is named.
pub(super) fn impossible(capture: Capture, watermark: bool) -> Option<Fault> {
    let what = match capture {
        Capture::Auto | Capture::Log | Capture::Reconcile => return None,
        Capture::Watermark if watermark => return None,
        Capture::Watermark => "capture = \"watermark\" needs a watermark_column".to_owned(),
        Capture::Functions => "capture = \"functions\" is not possible with this engine".to_owned(),
    };
    Some(Fault::new(Code::SourceVersion, what))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_way_that_is_offered_is_taken() {
        let check = |offer: &Offer, expected: Capture, why: &str| {
            let choice = choose(Capture::Auto, offer);
            assert_eq!(choice.capture, expected, "{offer:?}");
            assert!(choice.why.contains(why), "{choice:?}");
        };
        let all = Offer { columns: true, log_meant: true, ..Offer::default() };
        check(&all, Capture::Log, "the login can read it");
        let some = Offer { lacking: vec!["REPLICATION SLAVE"], ..all.clone() };
        check(&some, Capture::Log, "was given rights");
        let lacking = vec!["REPLICATION SLAVE", "BINLOG MONITOR"];
        let none = Offer { lacking, log_meant: false, ..all.clone() };
        check(&none, Capture::Reconcile, "lacks REPLICATION SLAVE, BINLOG MONITOR");
        check(&Offer { columns: false, ..none.clone() }, Capture::Log, "may not read the table");
        let log_obstacles = vec!["log_bin is OFF".to_owned(), "so it is".to_owned()];
        let off = Offer { log_obstacles, ..all };
        check(&off, Capture::Reconcile, "log_bin is OFF; so it is");
        check(&Offer { watermark: true, ..off.clone() }, Capture::Watermark, "log_bin is OFF");
        check(&Offer { watermark: true, ..none.clone() }, Capture::Watermark, "BINLOG MONITOR");
        assert_eq!(choose(Capture::Log, &off).capture, Capture::Log);
        assert_eq!(choose(Capture::Reconcile, &none).capture, Capture::Reconcile);
    }

    #[test]
    fn ways_of_other_engines_are_refused() {
        assert!(impossible(Capture::Functions, true).is_some());
        assert!(impossible(Capture::Watermark, false).is_some());
        assert!(impossible(Capture::Watermark, true).is_none());
        assert!(impossible(Capture::Reconcile, false).is_none());
    }
}
