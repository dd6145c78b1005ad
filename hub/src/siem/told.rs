//! Entries and incidents as events: who, what, how many; never what people wrote as a reason.

use phusa_protocol::batch::Header;
use phusa_protocol::deed::{Deed, Denied};
use phusa_protocol::digest::Digest;
use phusa_protocol::entry::act::{Act, BackupAct, DestroyAct, ReadAct};
use phusa_protocol::entry::{ContractStep, Entry, IdentityAct, IdentityStep, Kind};
use phusa_protocol::fault::Code;
use phusa_protocol::time::Timestamp;
use serde::Serialize;

use super::message::{About, Event, Severity};
use crate::transfers::kind_name;

/// A numbered entry; one that this version cannot read is told by its number and digest.
#[must_use]
pub fn entry(number: u64, committed_at: Timestamp, text: &str) -> Event {
    let digest = Some(Digest::of(text.as_bytes()).to_string());
    let Ok(entry) = serde_json::from_str::<Entry>(text) else {
        let said = format!("Entry {number} is not of a form this version knows");
        let event =
            Event::new(committed_at, (About::Audit, Severity::Error), "entry.unreadable", said);
        return event.count("number", number).with("entry_sha256", digest);
    };
    let about = (About::Audit, severity(&entry));
    let event = Event::new(
        committed_at,
        about,
        format!("entry.{}", kind_name(entry.kind)),
        sentence(number, &entry),
    );
    let event = event
        .count("number", number)
        .count("transfer", entry.transfer)
        .with("entry_sha256", digest)
        .with("agent", entry.agent.as_ref().map(ToString::to_string))
        .with("dataset", entry.dataset.as_ref().map(ToString::to_string))
        .with("by", entry.by())
        .with("refused", entry.refused.map(Code::name))
        .with("bytes", (entry.bytes > 0).then(|| entry.bytes.to_string()));
    details(event, &entry)
}

/// An incident that was opened.
#[must_use]
pub fn incident(
    incident: i64,
    opened_at: Timestamp,
    kind: &str,
    (agent, dataset): (Option<&str>, Option<&str>),
    cause: &str,
) -> Event {
    let said = format!("Incident {incident} was opened: {cause}");
    Event::new(opened_at, (About::Audit, Severity::Error), "incident.opened", said)
        .with("incident", Some(incident.to_string()))
        .with("kind", Some(kind))
        .with("agent", agent)
        .with("dataset", dataset)
}

/// Events of security that did not fit.
#[must_use]
pub fn lost(count: u64, now: Timestamp) -> Event {
    let said = format!("{count} events of security did not fit and are only counted");
    let about = (About::Security, Severity::Warning);
    Event::new(now, about, "security.lost", said).count("lost", count)
}

fn severity(entry: &Entry) -> Severity {
    let denied = entry.deed.as_ref().is_some_and(|deed| deed.denied.is_some());
    if denied || entry.refused.is_some() {
        return Severity::Warning;
    }
    match entry.kind {
        Kind::Push | Kind::Proof | Kind::Category => Severity::Informational,
        Kind::Identity => match entry.identity.as_ref().map(|step| step.act) {
            Some(IdentityAct::Renewed) => Severity::Informational,
            Some(IdentityAct::Suspended | IdentityAct::Revoked | IdentityAct::Locked) => {
                Severity::Warning
            }
            _ => Severity::Notice,
        },
        Kind::Backup => match &entry.act {
            Some(Act::Backup(backup)) if backup.failed.is_some() => Severity::Error,
            _ => Severity::Informational,
        },
        Kind::Refuse | Kind::Restore => Severity::Warning,
        Kind::Contract
        | Kind::Read
        | Kind::Export
        | Kind::Destroy
        | Kind::Disclose
        | Kind::Operator => Severity::Notice,
    }
}

fn sentence(number: u64, entry: &Entry) -> String {
    let mut said = format!("Entry {number}: {}", kind_name(entry.kind));
    let parts = [
        ("of", entry.dataset.as_ref().map(ToString::to_string)),
        ("by", entry.agent.as_ref().map(ToString::to_string)),
        ("refused as", entry.refused.map(|code| code.name().to_owned())),
    ];
    for (word, part) in parts {
        if let Some(part) = part {
            said = format!("{said} {word} {part}");
        }
    }
    said
}

fn details(event: Event, entry: &Entry) -> Event {
    let header = entry.header.as_deref().and_then(|text| serde_json::from_str::<Header>(text).ok());
    let mut event = header.iter().fold(event, |event, header| {
        let counts = &header.counts;
        event
            .count("epoch", header.epoch.0)
            .count("seq", header.seq.0)
            .count("rows", counts.total())
            .with("deletes", (counts.delete > 0).then(|| counts.delete.to_string()))
    });
    if let Some(step) = &entry.identity {
        event = identity(event, step);
    }
    if let Some(found) = &entry.compared {
        event = event
            .count("source_rows", found.source_rows)
            .count("warehouse_rows", found.warehouse_rows)
            .count("differing", found.differing);
    }
    if let Some(restored) = &entry.restored {
        event = event.count("last", restored.last).count("entries", restored.entries);
    }
    if entry.kind == Kind::Contract {
        event = event.with("step", Some(contract_step(entry.step.as_ref())));
    }
    match &entry.act {
        Some(Act::Backup(backup)) => event = of_backup(event, backup),
        Some(Act::Read(read) | Act::Export(read)) => event = of_read(event, read),
        Some(Act::Destroy(destroyed)) => event = of_destruction(event, destroyed),
        None => {}
    }
    entry.deed.iter().fold(event, of_deed)
}

fn identity(event: Event, step: &IdentityStep) -> Event {
    event
        .with("act", word(&step.act))
        .with("generation", step.generation.map(|generation| generation.to_string()))
}

fn contract_step(step: Option<&ContractStep>) -> &'static str {
    match step {
        Some(ContractStep::Proposed) => "proposed",
        Some(ContractStep::Signed(_)) => "signed",
        Some(ContractStep::Withdrawn) => "withdrawn",
        None => "in_force",
    }
}

fn of_backup(event: Event, backup: &BackupAct) -> Event {
    event
        .with("act", word(&backup.step))
        .with("backup", Some(backup.name.as_str()))
        .with("failed", backup.failed.map(Code::name))
}

fn of_read(event: Event, read: &ReadAct) -> Event {
    event
        .with("purpose", Some(read.purpose.as_str()))
        .with("seen", word(&read.seen))
        .count("rows", read.rows)
}

fn of_destruction(event: Event, destroyed: &DestroyAct) -> Event {
    event
        .count("proposal", destroyed.proposal)
        .with("proposed_by", Some(destroyed.proposed_by.as_str()))
        .with("approved_by", Some(destroyed.approved_by.as_str()))
        .count("rows", destroyed.rows)
        .count("versions", destroyed.versions)
}

fn of_deed(event: Event, deed: &Deed) -> Event {
    event
        .with("act", Some(deed.action.name()))
        .with("on", deed.on.as_deref())
        .with("from", deed.from.as_deref())
        .with("denied", deed.denied.map(Denied::name))
        .with("taken_form", deed.taken.as_ref().map(|taken| taken.form.as_str()))
        .with("taken_entries", deed.taken.as_ref().map(|taken| taken.entries.to_string()))
}

/// A value's name as the entry writes it.
fn word(value: &impl Serialize) -> Option<String> {
    serde_json::to_value(value).ok()?.as_str().map(ToOwned::to_owned)
}

#[cfg(test)]
mod tests {
    use phusa_protocol::deed::Action;
    use phusa_protocol::entry::act::Seen;
    use phusa_protocol::ids::{AgentId, DatasetId};

    use super::*;

    fn written(entry: &Entry) -> String {
        serde_json::to_string(entry).unwrap()
    }

    fn base(kind: Kind) -> Entry {
        Entry::of_hub(kind, 41, Timestamp::UNIX_EPOCH, "1.2.3")
    }

    fn read() -> Entry {
        let read = ReadAct {
            by: "Lê Thanh Tra".to_owned(),
            purpose: "thanh_tra".to_owned(),
            seen: Seen::History,
            as_of: None,
            rows: 12,
            asked: Digest::ZERO,
            content: None,
        };
        Entry { act: Some(Act::Export(read)), ..base(Kind::Export) }
    }

    fn locked() -> Entry {
        let locked = IdentityStep {
            act: IdentityAct::Locked,
            by: None,
            because: Some("không được gửi đi".to_owned()),
            generation: Some(3),
            certificate: None,
            signing_key: None,
            row: None,
        };
        Entry { identity: Some(Box::new(locked)), ..base(Kind::Identity) }
    }

    #[test]
    fn each_entry_says_who_did_what_and_how_bad_that_is() {
        let agent = AgentId::try_from("H57.12/may-1".to_owned()).unwrap();
        let dataset = DatasetId::new("cong_dan.people").unwrap();
        let refused = Entry {
            agent: Some(agent),
            dataset: Some(dataset),
            refused: Some(Code::SignatureWrong),
            bytes: 9,
            ..base(Kind::Refuse)
        };
        let denied =
            Deed::new("an.nguyen", Action::Login).from("10.0.0.9").denied(Denied::Credentials);
        let login = Entry { deed: Some(denied), ..base(Kind::Operator) };
        let (read, locked) = (read(), locked());
        let cases: [(&Entry, Severity, &str, &[&str]); 4] = [
            (
                &refused,
                Severity::Warning,
                "Entry 7: refuse of cong_dan.people by H57.12/may-1 refused as signature_wrong",
                &[
                    "agent=H57.12/may-1",
                    "dataset=cong_dan.people",
                    "refused=signature_wrong",
                    "bytes=9",
                ],
            ),
            (
                &login,
                Severity::Warning,
                "Entry 7: operator",
                &["by=an.nguyen", "act=login", "from=10.0.0.9", "denied=credentials"],
            ),
            (
                &read,
                Severity::Notice,
                "Entry 7: export",
                &["by=Lê Thanh Tra", "purpose=thanh_tra", "seen=history", "rows=12"],
            ),
            (&locked, Severity::Warning, "Entry 7: identity", &["act=locked", "generation=3"]),
        ];
        for (entry_of, severity, text, fields) in cases {
            let event = entry(7, Timestamp::UNIX_EPOCH, &written(entry_of));
            assert_eq!((event.severity, event.text.as_str()), (severity, text));
            let said: Vec<String> =
                event.fields.iter().map(|(name, value)| format!("{name}={value}")).collect();
            assert!(
                said.starts_with(&["number=7".to_owned(), "transfer=41".to_owned()]),
                "{said:?}"
            );
            for field in fields {
                assert!(said.iter().any(|said| said == field), "{field} not in {said:?}");
            }
            assert!(!event.json("h").contains("không được gửi đi"));
        }
    }

    #[test]
    fn an_entry_of_a_later_version_is_told_all_the_same() {
        let event = entry(9, Timestamp::UNIX_EPOCH, "{\"v\":2}");
        assert_eq!(event.id, "entry.unreadable");
        assert_eq!(event.fields[0], ("number", "9".to_owned()));
    }
}
