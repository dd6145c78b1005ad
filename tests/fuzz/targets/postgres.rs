//! The log of PostgreSQL: any messages become changes of whole rows, or a fault.

#![cfg_attr(fuzzing, no_main)]

use phusa_agent::source::Native;
use phusa_agent::source::postgres::text::{Form, to_binary};
use phusa_agent::source::postgres::{decode, trial};
use phusa_fuzz::{fuzz_target, parts};
use phusa_protocol::change::runs;

fn read(message: &[u8]) {
    let Ok(message) = decode::read(message) else { return };
    let cells = |cells: &decode::Cells<'_>| cells.iter().count();
    match &message {
        decode::Message::Relation(relation) => drop(relation.columns().count()),
        decode::Message::Insert { new, .. } => drop(cells(new)),
        decode::Message::Update { old, new, .. } => {
            let old = old.map(|(decode::Old::Key(old) | decode::Old::Full(old))| cells(&old));
            let _ = (old, cells(new));
        }
        decode::Message::Delete { old: decode::Old::Key(old) | decode::Old::Full(old), .. } => {
            let _ = cells(old);
        }
        decode::Message::Begin { .. }
        | decode::Message::Commit { .. }
        | decode::Message::Truncate { .. }
        | decode::Message::Other => {}
    }
}

fuzz_target!(|data: &[u8]| {
    read(data);
    let Some((how, rest)) = data.split_first() else { return };
    let natives: Vec<Native> = trial::natives();
    let native = &natives[usize::from(*how) % natives.len()];
    let mut out = Vec::new();
    if to_binary(Form { native, element_oid: 23 }, rest, &mut out).is_ok() {
        assert!(out.len() <= 64 + 8 * rest.len(), "{native:?}: {} of {}", out.len(), rest.len());
    }
    let opening = trial::opening();
    let mut messages: Vec<&[u8]> = parts(rest);
    if how & 1 == 0 {
        messages.splice(0..0, opening.iter().map(Vec::as_slice));
    }
    let Ok(blocks) = trial::follow(&messages) else { return };
    for block in blocks {
        for run in runs(&block) {
            for change in run.expect("a whole body").changes() {
                change.expect("a whole row");
            }
        }
    }
});
