//! Reports of agents: whatever figures one gives, what is said of it is said without a panic, and each
//! limit holds.

#![cfg_attr(fuzzing, no_main)]

use std::time::Duration;

use phusa_fuzz::{agent, comes_back, fuzz_target};
use phusa_protocol::report::{Alive, Report, plain};
use phusa_protocol::time::Timestamp;
use phusa_protocol::verdict::{Arrived, Ended, Heard, Seen, judge, judge_datasets, judge_machine};

fuzz_target!(|data: &[u8]| {
    let Some((head, rest)) = data.split_first_chunk::<16>() else { return };
    if let Ok(text) = std::str::from_utf8(rest) {
        assert!(plain(text).chars().count() <= 120);
    }
    let Some(report) = comes_back::<Report>(rest) else { return };
    let _ = Report::read(rest, &agent());
    let number = |from: usize| i64::from_be_bytes(head[from..from + 8].try_into().expect("eight"));
    let (now, at) = (Timestamp::from_micros(number(0)), Timestamp::from_micros(number(8)));
    let arrived: Vec<_> = report
        .datasets
        .iter()
        .map(|one| Arrived {
            dataset: one.dataset.clone(),
            epoch: one.epoch,
            seq: one.released_seq ^ u64::from(head[0] & 1),
            frequency: (head[1] & 1 == 0).then(|| Duration::from_secs(u64::from(head[2]))),
        })
        .collect();
    let state = [Alive::Born, Alive::Lost, Alive::Leaving][usize::from(head[3]) % 3];
    let mut seen = Seen {
        now,
        heard: Some(Heard { report: &report, at }),
        ended: (head[4] & 1 == 0).then_some(Ended { state, at }),
        delivered_at: None,
        barred: None,
        maintenance: (head[5] & 7 == 0).then_some(now),
        arrived: &arrived,
        before: None,
    };
    let first = judge(&seen);
    let _ = (judge_machine(&seen), judge_datasets(&seen));
    seen.before = Some(&first);
    let again = judge(&seen);
    assert!(again.since <= now && first.since <= now);
    if again.state == first.state {
        assert_eq!(again.since, first.since, "a state that lasts has begun once");
    }
});
