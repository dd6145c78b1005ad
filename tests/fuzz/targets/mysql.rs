//! The log of MySQL and MariaDB: any events become changes of whole rows, or a fault.

#![cfg_attr(fuzzing, no_main)]

use phusa_agent::source::mysql::trial::{self, Logged};
use phusa_fuzz::{fuzz_target, parts};
use phusa_protocol::change::runs;

fuzz_target!(|data: &[u8]| {
    let Some((how, rest)) = data.split_first() else { return };
    if how & 2 != 0 {
        let mut out = Vec::new();
        let _ = trial::put_json(rest, &mut out);
        // A letter may become six, and each number of two bytes a handful of digits.
        assert!(out.len() <= 64 * (rest.len() + 1), "{} of {}", out.len(), rest.len());
        return;
    }
    let opening = trial::opening();
    let mut events: Vec<Logged<'_>> = Vec::new();
    if how & 1 == 0 {
        events.extend(opening.iter().map(|(code, body)| Logged { code: *code, flags: 0, body }));
    }
    for part in parts(rest) {
        let Some((&[code, flags], body)) = part.split_first_chunk::<2>() else { continue };
        events.push(Logged { code, flags: flags.into(), body });
    }
    let Ok(blocks) = trial::follow(&events, how & 4 != 0) else { return };
    for block in blocks {
        for run in runs(&block) {
            for change in run.expect("a whole body").changes() {
                change.expect("a whole row");
            }
        }
    }
});
