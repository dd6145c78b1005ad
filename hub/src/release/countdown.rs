//! The end of signatures as a state of the fleet: 30, 14, 7 and 1 days before nothing can be published or
//! believed any more, people are told by an incident of its own, on the page and by `phusa-hub fleet`.

use phusa_protocol::time::Timestamp;

use super::online::End;
use crate::incidents::Kind;
use crate::incidents::lasting::Lasting;

/// The incident that a role's end is, where it is near. Each step is one of its own, so that whoever is told of
/// incidents is told of each; those before are over when the next begins, and all when people have signed anew.
#[must_use]
pub fn incident(end: &End, now: Timestamp) -> Option<Lasting> {
    let cause = cause(&end.role, end.step(now)?)?;
    let (vi, en) = words(end, now)?;
    let what = format!("{vi} · {en}");
    Some(Lasting { kind: Kind::Release, cause, agent: None, dataset: None, what })
}

/// What a person is told of a role that is near its end, Vietnamese and English; `None` where there is time.
#[must_use]
pub fn words(end: &End, now: Timestamp) -> Option<(String, String)> {
    let step = end.step(now)?;
    let (role, days) = (&end.role, end.days(now));
    if end.until <= now {
        let vi = format!(
            "Chữ ký {role} của các bản phát hành đã hết hạn: tác tử không nhận bản nào nữa"
        );
        let en = format!("The signatures of {role} have ended: agents take no release any more");
        return Some((vi, en));
    }
    let (who_vi, who_en) = if end.is_online {
        (
            "trung tâm lẽ ra đã tự ký lại, xem nhật ký",
            "the hub should have signed anew: see its log",
        )
    } else {
        ("người giữ khóa phải ký lại (UPGRADE)", "people must sign anew (UPGRADE)")
    };
    let vi = format!("Chữ ký {role} của các bản phát hành còn {days} ngày (mốc {step}): {who_vi}");
    let en = format!("The signatures of {role} end in {days} days (step {step}): {who_en}");
    Some((vi, en))
}

fn cause(role: &str, step: u64) -> Option<&'static str> {
    let found = match (role, step) {
        ("root", 30) => "root 30",
        ("root", 14) => "root 14",
        ("root", 7) => "root 7",
        ("root", 1) => "root 1",
        ("targets", 30) => "targets 30",
        ("targets", 14) => "targets 14",
        ("targets", 7) => "targets 7",
        ("targets", 1) => "targets 1",
        ("snapshot", 1) => "snapshot 1",
        ("timestamp", 1) => "timestamp 1",
        _ => return None,
    };
    Some(found)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::release::online::TOLD_DAYS;

    #[test]
    fn each_step_is_an_incident_and_there_is_none_before_the_first() {
        let now = Timestamp::UNIX_EPOCH.after(Duration::from_secs(1_000_000));
        let of = |role: &str, days: u64, is_online: bool| {
            let until = now.after(Duration::from_secs(days * 86_400 + 60));
            let end = End { role: role.to_owned(), version: 1, until, is_online };
            incident(&end, now).map(|found| found.cause)
        };
        let cases = [
            (of("targets", 40, false), None),
            (of("targets", 30, false), None),
            (of("targets", 29, false), Some("targets 30")),
            (of("targets", 13, false), Some("targets 14")),
            (of("root", 6, false), Some("root 7")),
            (of("root", 0, false), Some("root 1")),
            (of("snapshot", 3, true), None),
            (of("timestamp", 0, true), Some("timestamp 1")),
        ];
        for (number, (found, expected)) in cases.into_iter().enumerate() {
            assert_eq!(found, expected, "case {number}");
        }
        for role in ["root", "targets"] {
            assert!(TOLD_DAYS.iter().all(|step| cause(role, *step).is_some()), "{role}");
        }
        let ended = End { role: "root".to_owned(), version: 1, until: now, is_online: false };
        assert!(incident(&ended, now).unwrap().what.contains("have ended"));
    }
}
