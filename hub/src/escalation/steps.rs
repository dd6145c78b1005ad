//! Whom to tell of which incident now: pure, from what is open, who was told, and who is to be called.

use std::collections::BTreeSet;
use std::time::Duration;

use phusa_protocol::time::Timestamp;

use crate::fleet::contact::{self, Contact, Level};

/// Who is told, one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// The agency's focal point.
    Focal,
    /// The head of the unit.
    Head,
    /// The province.
    Province,
}

impl Step {
    /// Every step in its order.
    pub const ALL: [Self; 3] = [Self::Focal, Self::Head, Self::Province];

    /// Its name in the database and in calls.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Focal => "focal",
            Self::Head => "head",
            Self::Province => "province",
        }
    }
}

/// How somebody is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// By mail.
    Mail,
    /// By a call of HTTP.
    Webhook,
}

impl Way {
    /// Its name in the database.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Mail => "mail",
            Self::Webhook => "webhook",
        }
    }
}

/// An incident that may have to be told of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Open {
    /// Its number.
    pub incident: i64,
    /// What it is about, by its name.
    pub kind: String,
    /// Whose doing it is.
    pub agent: Option<String>,
    /// Which dataset is concerned.
    pub dataset: Option<String>,
    /// What was seen first.
    pub cause: String,
    /// Since when it is to be told of.
    pub since: Timestamp,
    /// Steps and ways that were told, by their names.
    pub told: BTreeSet<(String, String)>,
}

impl Open {
    /// The agency whose agent it is about.
    #[must_use]
    pub fn agency(&self) -> Option<&str> {
        self.agent.as_deref().and_then(|agent| agent.split_once('/')).map(|(agency, _)| agency)
    }
}

/// Something to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due<'a> {
    /// Of what.
    pub open: &'a Open,
    /// To whom.
    pub step: Step,
    /// How.
    pub way: Way,
    /// Addresses; for a mail at least one.
    pub to: Vec<String>,
    /// Nobody is written down for this step at the agency, so that the province is told instead.
    pub is_missing: bool,
}

/// What is due. What is about no agency is told to the province alone, at the first step; where nobody is
/// written down at an agency, the province is told in that one's stead.
#[must_use]
pub fn due<'a>(
    open: &'a [Open],
    contacts: &[Contact],
    (after, province, ways): ([Duration; 3], &[String], &[Way]),
    now: Timestamp,
) -> Vec<Due<'a>> {
    let mut all = Vec::new();
    for one in open {
        for (step, after) in Step::ALL.into_iter().zip(after) {
            let is_hub = one.agency().is_none();
            if now.since(one.since) < after || (is_hub && step != Step::Focal) {
                continue;
            }
            let person = match step {
                Step::Focal => Some(Level::Focal),
                Step::Head => Some(Level::Head),
                Step::Province => None,
            };
            let named = person.zip(one.agency()).and_then(|(level, agency)| {
                contact::of(contacts, agency, level).map(|contact| contact.email.clone())
            });
            let is_missing = person.is_some() && !is_hub && named.is_none();
            let to = named.map_or_else(|| province.to_vec(), |email| vec![email]);
            for way in ways {
                let told = (step.name().to_owned(), way.name().to_owned());
                let reaches = *way == Way::Webhook || !to.is_empty();
                if reaches && !one.told.contains(&told) {
                    all.push(Due { open: one, step, way: *way, to: to.clone(), is_missing });
                }
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(hours: u64) -> Timestamp {
        Timestamp::UNIX_EPOCH.after(Duration::from_secs(hours * 3_600))
    }

    fn open(agent: Option<&str>, told: &[(&str, &str)]) -> Open {
        let told = told.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
        let agent = agent.map(ToOwned::to_owned);
        let (kind, cause) = ("heartbeat".to_owned(), "x".to_owned());
        Open { incident: 7, kind, agent, dataset: None, cause, since: at(0), told }
    }

    fn contact(level: Level, email: &str) -> Contact {
        let text = || "x".to_owned();
        Contact {
            agency: "H57.12".to_owned(),
            level,
            name: text(),
            position: text(),
            duty: text(),
            phone: text(),
            email: email.to_owned(),
            set_by: text(),
            set_at: at(0),
        }
    }

    #[test]
    fn people_are_told_one_after_the_other_once_each_and_the_province_where_nobody_is_named() {
        let after = [0, 4, 24].map(|hours| Duration::from_secs(hours * 3_600));
        let both = [contact(Level::Focal, "f@x"), contact(Level::Head, "h@x")];
        let province = ["p@x".to_owned()];
        let check = |one: Open,
                     contacts: &[Contact],
                     hours: u64,
                     expected: &[(Step, &str, bool)]| {
            let all = [one];
            let found = due(&all, contacts, (after, &province, &[Way::Mail]), at(hours));
            let found: Vec<_> =
                found.iter().map(|due| (due.step, due.to[0].as_str(), due.is_missing)).collect();
            assert_eq!(found, expected, "{hours}");
        };
        let own = Some("H57.12/may-1");
        check(open(own, &[]), &both, 0, &[(Step::Focal, "f@x", false)]);
        check(open(own, &[("focal", "mail")]), &both, 3, &[]);
        check(open(own, &[("focal", "mail")]), &both, 4, &[(Step::Head, "h@x", false)]);
        let told = [("focal", "mail"), ("head", "mail")];
        check(open(own, &told), &both, 24, &[(Step::Province, "p@x", false)]);
        check(open(own, &[]), &[], 0, &[(Step::Focal, "p@x", true)]);
        check(open(None, &[]), &both, 30, &[(Step::Focal, "p@x", false)]);
        // A hub that was away for long tells all that is due.
        let all = [
            (Step::Focal, "f@x", false),
            (Step::Head, "h@x", false),
            (Step::Province, "p@x", false),
        ];
        check(open(own, &[]), &both, 30, &all);
    }

    #[test]
    fn a_webhook_needs_no_address_and_is_told_beside_a_mail() {
        let all = [open(None, &[("focal", "mail")])];
        let ways = [Way::Mail, Way::Webhook];
        let found = due(&all, &[], ([Duration::ZERO; 3], &[], &ways), at(0));
        assert_eq!(found.iter().map(|due| due.way).collect::<Vec<_>>(), [Way::Webhook]);
    }
}
