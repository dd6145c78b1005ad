//! Every mistake found in the delivery machine, each as the smallest history that shows it.

use std::time::Duration;

use phusa_protocol::delivery::{
    Action, Answer, BACKOFF_FIRST, BACKOFF_MAX, EpochReason, GREET_AGAIN, Input, Judgement, Moment,
    Receiver, Sender, WAIT_MAX,
};
use phusa_protocol::digest::Digest;
use phusa_protocol::fault::Code;
use phusa_protocol::hello::{Committed, Terms};
use phusa_protocol::ids::{DatasetId, Epoch, Seq};

use Action::{Greet, OpenEpoch, Release, Send};

fn header(seq: u64) -> Digest {
    if seq == 0 { Digest::ZERO } else { Digest::of(&seq.to_be_bytes()) }
}

fn at(seconds: u64) -> Moment {
    Moment { elapsed: Duration::from_secs(seconds), entropy: 0 }
}

fn greeted(committed: u64) -> Input {
    let dataset = DatasetId::new("cong_dan.citizens").unwrap();
    let held = Committed { epoch: Epoch(1), seq: Seq(committed), header: header(committed) };
    let committed = (committed > 0).then_some(held);
    Input::Greeted(Terms {
        dataset,
        refused: None,
        committed,
        agreement: None,
        lists: std::collections::BTreeMap::new(),
    })
}

fn answered(seq: u64, answer: Answer) -> Input {
    Input::Answered(Seq(seq), answer)
}

/// A sender of epoch 1 that has been greeted at second 0 by a hub that holds `committed`.
fn sender(released: u64, spool: &[u64], committed: u64) -> (Sender, Vec<Action>) {
    let mut sender = Sender::new(Epoch(1), Seq(released), header(released));
    for seq in spool {
        sender.step(Input::Spooled(Seq(*seq), header(*seq)), at(0));
    }
    sender.step(Input::Tick, at(0));
    let actions = sender.step(greeted(committed), at(0));
    (sender, actions)
}

#[test]
fn an_answer_overtaken_by_receipts_opens_no_epoch() {
    let (mut sender, _) = sender(0, &[1, 2, 3], 0);
    // The hub answers 3 while it still waits for 1; then 1 and 2 are committed and answered first.
    sender.step(answered(1, Answer::Receipt), at(1));
    sender.step(answered(2, Answer::Receipt), at(1));
    assert_eq!(sender.step(answered(3, Answer::OutOfTurn), at(1)), []);
    assert_eq!(sender.step(Input::Tick, at(2)), [Greet]);
    assert_eq!(sender.step(greeted(2), at(2)), [Send(Seq(3))]);
}

#[test]
fn a_receipt_that_comes_early_survives_a_crash() {
    let (mut first_life, _) = sender(0, &[1, 2], 0);
    assert_eq!(first_life.step(answered(2, Answer::Receipt), at(1)), [], "2 stays in the spool");
    // The crash comes before the receipt of 1: nothing is recorded, both files are there.
    let (mut second_life, actions) = sender(0, &[1, 2], 2);
    assert_eq!(actions, [Send(Seq(1)), Send(Seq(2))], "repeated, to fetch the receipts");
    second_life.step(answered(2, Answer::Receipt), at(1));
    let releases = second_life.step(answered(1, Answer::Receipt), at(1));
    assert_eq!(releases, [Release(Seq(1)), Release(Seq(2))]);
}

#[test]
fn a_sender_that_fell_back_sleeps_until_the_last_answer() {
    let (mut sender, _) = sender(0, &[1, 2], 0);
    sender.step(answered(1, Answer::Unreachable), at(1));
    sender.step(Input::Tick, at(50));
    assert_eq!(sender.wake_at(), None, "batch 2 is still on its way; a past time would spin");
    assert_eq!(sender.step(answered(2, Answer::Unreachable), at(60)), [Greet]);
}

#[test]
fn one_lost_batch_does_not_hold_up_a_batch_that_was_asked_to_wait() {
    let (mut sender, _) = sender(0, &[1, 2], 0);
    sender.step(answered(2, Answer::Wait(Duration::from_secs(1))), at(1));
    assert_eq!(sender.wake_at(), Some(Duration::from_secs(2)), "while batch 1 is on its way");
    assert_eq!(sender.step(Input::Tick, at(2)), [Send(Seq(2))]);
}

#[test]
fn an_idle_sender_notices_a_hub_restored_from_a_backup() {
    let (mut sender, _) = sender(5, &[], 5);
    assert_eq!(sender.wake_at(), Some(GREET_AGAIN));
    let later = Moment { elapsed: GREET_AGAIN, entropy: 0 };
    assert_eq!(sender.step(Input::Tick, later), [Greet]);
    let actions = sender.step(greeted(3), later);
    assert_eq!(actions, [OpenEpoch(EpochReason::HubBehind, Epoch(2))]);
}

#[test]
fn a_hole_in_the_spool_opens_an_epoch_instead_of_asking_for_ever() {
    let hole = [OpenEpoch(EpochReason::SpoolDamaged, Epoch(2))];
    assert_eq!(sender(2, &[4, 5], 2).1, hole);
    assert_eq!(sender(2, &[3, 5], 2).1, hole);
    let (mut found_late, actions) = sender(2, &[3], 2);
    assert_eq!(actions, [Send(Seq(3))]);
    assert_eq!(found_late.step(Input::Damaged(Seq(3)), at(0)), hole);
}

#[test]
fn two_chains_of_the_same_length_are_told_apart() {
    let mut sender = Sender::new(Epoch(1), Seq(3), Digest::of(b"another batch 3"));
    sender.step(Input::Tick, at(0));
    let actions = sender.step(greeted(3), at(0));
    assert_eq!(actions, [OpenEpoch(EpochReason::Conflict, Epoch(2))]);
}

#[test]
fn greetings_that_succeed_do_not_hide_batches_that_fail() {
    let (mut sender, _) = sender(0, &[1], 0);
    let mut now = at(0);
    let mut waits = Vec::new();
    for _ in 0..9 {
        sender.step(answered(1, Answer::Refused(Code::HubStorageFull)), now);
        let wake_at = sender.wake_at().unwrap();
        waits.push(wake_at - now.elapsed);
        now.elapsed = wake_at;
        sender.step(Input::Tick, now);
        assert_eq!(sender.step(greeted(0), now), [Send(Seq(1))]);
    }
    assert_eq!((waits[0], waits[1], waits[8]), (BACKOFF_FIRST, 2 * BACKOFF_FIRST, BACKOFF_MAX));
}

#[test]
fn a_wait_is_kept_when_another_batch_of_the_window_fails() {
    let wait = answered(1, Answer::Wait(Duration::from_secs(30)));
    let lost = answered(2, Answer::Unreachable);
    for inputs in [[wait.clone(), lost.clone()], [lost, wait]] {
        let (mut sender, _) = sender(0, &[1, 2], 0);
        for input in inputs {
            sender.step(input, at(1));
        }
        assert_eq!(sender.wake_at(), Some(Duration::from_secs(31)));
    }
}

#[test]
fn no_wait_is_endless_and_none_is_nothing() {
    for (asked, kept) in [(Duration::MAX, WAIT_MAX), (Duration::ZERO, BACKOFF_FIRST)] {
        let (mut sender, _) = sender(0, &[1], 0);
        let full = Moment { elapsed: Duration::ZERO, entropy: 1023 };
        sender.step(answered(1, Answer::Wait(asked)), full);
        let wake_at = sender.wake_at().unwrap();
        assert!(wake_at >= kept && wake_at < kept + kept / 4, "{wake_at:?}");
    }
}

#[test]
fn a_hub_says_what_it_expects_of_a_batch_that_came_too_early_in_a_new_epoch() {
    let held = Committed { epoch: Epoch(1), seq: Seq(7), header: header(7) };
    let receiver = Receiver(Some(held));
    assert_eq!(receiver.judge(Epoch(2), Seq(3), header(2)), Judgement::Early);
    assert_eq!(receiver.expected(Epoch(2)), (Epoch(2), Seq(1)));
    assert_eq!(receiver.expected(Epoch(1)), (Epoch(1), Seq(8)));
}
