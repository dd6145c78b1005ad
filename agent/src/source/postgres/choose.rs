//! Pure: which way of following a table is taken, and why, from what the server offers.

use phusa_protocol::fault::{Code, Fault};

use crate::source::Capture;

/// What server, login and table offer.
#[derive(Debug, Clone, Default)]
pub(super) struct Offer {
    /// Why the server cannot decode its log, if it cannot.
    pub(super) undecodable: Option<String>,
    pub(super) rights: Rights,
    /// Whether a publication for this dataset is there.
    pub(super) published: bool,
    /// Whether the functions for this dataset are there.
    pub(super) functions: bool,
}

/// What the login may do.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Rights {
    /// Use replication slots.
    pub(super) replication: bool,
    /// Read the mapped columns.
    pub(super) columns: bool,
    /// Read which transaction wrote a row: a right on named columns does not hold that.
    pub(super) xmin: bool,
}

/// The way that is taken, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Choice {
    pub(super) capture: Capture,
    pub(super) why: String,
}

/// Takes what is asked for, or else the best that is offered.
///
/// A login that was given REPLICATION, or a publication of the agent's name, is taken as the
/// administrator's word for the log: what then lacks is a fault with its remedy, and not a reason
/// to read less well for ever.
pub(super) fn choose(wanted: Capture, offer: &Offer) -> Choice {
    let choice = |capture: Capture, why: &str| Choice { capture, why: why.to_owned() };
    if wanted != Capture::Auto {
        return choice(wanted, "the dataset's file asks for it");
    }
    if offer.functions && offer.undecodable.is_none() {
        return choice(Capture::Functions, "the functions for it are there");
    }
    let log_meant = offer.rights.replication || (offer.published && !offer.functions);
    match &offer.undecodable {
        None if log_meant => {
            return choice(Capture::Log, "the server and the login can read its log");
        }
        None if !offer.rights.columns => {
            return choice(
                Capture::Log,
                "the login may not read the table, and the log is the best",
            );
        }
        None | Some(_) => {}
    }
    let because = match &offer.undecodable {
        Some(reason) => reason.clone(),
        None => "the login lacks REPLICATION, and there is no publication".to_owned(),
    };
    let capture = if offer.rights.xmin { Capture::Watermark } else { Capture::Reconcile };
    Choice { capture, why: because }
}

/// The fault of a way that the server cannot go.
pub(super) fn impossible(capture: Capture, why: &str) -> Fault {
    let what = format!("capture = \"{}\" is not possible here: {why}", capture.name());
    Fault::new(Code::SourceVersion, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_way_that_is_offered_is_taken() {
        let rights = Rights { replication: true, columns: true, xmin: true };
        let all = Offer { undecodable: None, rights, published: true, functions: false };
        let reader = Rights { replication: false, ..rights };
        let old_standby = Some("a standby before 16".to_owned());
        let check = |offer: Offer, expected: Capture| {
            assert_eq!(choose(Capture::Auto, &offer).capture, expected, "{offer:?}");
        };
        check(all.clone(), Capture::Log);
        check(Offer { published: false, ..all.clone() }, Capture::Log);
        check(Offer { rights: reader, ..all.clone() }, Capture::Log);
        check(Offer { functions: true, ..all.clone() }, Capture::Functions);
        check(Offer { rights: reader, functions: true, ..all.clone() }, Capture::Functions);
        let select_only = Offer { rights: reader, published: false, ..all.clone() };
        check(select_only.clone(), Capture::Watermark);
        let no_xmin = Rights { xmin: false, ..reader };
        check(Offer { rights: no_xmin, ..select_only.clone() }, Capture::Reconcile);
        let nothing = Rights::default();
        check(Offer { rights: nothing, ..select_only }, Capture::Log);
        check(Offer { undecodable: old_standby.clone(), ..all.clone() }, Capture::Watermark);
        let wanted = choose(Capture::Log, &Offer { undecodable: old_standby, ..all });
        assert_eq!(wanted.capture, Capture::Log);
    }
}
