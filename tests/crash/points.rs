//! Kills at every named point between durable steps, and at random moments.

use std::collections::BTreeSet;

use phusa_agent::failpoint::Failpoint;
use phusa_hub::failpoint::Point;
use phusa_tests::random::Random;
use phusa_tests::registry::Table;

use crate::scene::{Scene, Victim};

/// Rows of each large table.
const ROWS: u64 = 3_000;

/// Every point of a process, with the passing at which it dies; the first ones are passed once only.
fn points(victim: Victim) -> Vec<(&'static str, u64)> {
    match victim {
        Victim::Agent => Failpoint::ALL
            .iter()
            .map(|point| match point {
                Failpoint::AfterEpochOpened | Failpoint::AfterSlotCreated => (point.name(), 1),
                Failpoint::AfterSourceReleased => (point.name(), 1),
                _ => (point.name(), 3),
            })
            .collect(),
        Victim::Hub => Point::ALL.iter().map(|point| (point.name(), 2)).collect(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_or_doubled_or_half_seen_wherever_a_process_dies() {
    let mut scene = Scene::new(ROWS).await;
    die_in_the_full_read(&mut scene).await;
    scene.wait_until_live().await;
    scene.watch();
    die_in_the_log(&mut scene).await;
    let wanted: u64 =
        std::env::var("PHUSA_CRASH").ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    let seed: u64 =
        std::env::var("PHUSA_CRASH_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(7);
    println!("PHUSA_CRASH_SEED={seed}");
    let mut random = Random::new(seed, 0);
    let short = 5;
    let until = wanted.max(scene.kills + short);
    while scene.kills < until {
        die_somewhere(&mut scene, &mut random).await;
    }
    let all: BTreeSet<&str> = [Victim::Agent, Victim::Hub]
        .into_iter()
        .flat_map(|victim| points(victim).into_iter().map(|(name, _)| name))
        .collect();
    assert_eq!(scene.hit, all, "every point was died at");
    scene.conclude().await;
}

/// Agent and hub die at each point they pass while the tables are read for the first time.
async fn die_in_the_full_read(scene: &mut Scene) {
    let later = Failpoint::AfterSourceReleased.name();
    for (point, nth) in points(Victim::Agent).into_iter().filter(|(name, _)| *name != later) {
        scene.die_at(Victim::Agent, point, nth).await;
    }
    scene.revive(Victim::Agent);
    scene.kill(Victim::Hub);
    for (point, nth) in points(Victim::Hub) {
        scene.die_at(Victim::Hub, point, nth).await;
    }
    scene.revive(Victim::Hub);
    scene.kill_source();
    scene.kill(Victim::Agent);
    scene.hurry();
    scene.revive(Victim::Agent);
}

/// Both die in the middle of one transaction of many batches, and between following and releasing.
async fn die_in_the_log(scene: &mut Scene) {
    scene.kill(Victim::Agent);
    scene.die_at(Victim::Agent, Failpoint::AfterSourceReleased.name(), 1).await;
    let large = "begin; update citizens set household_no = 'L' || id;
                 delete from dossiers where id % 3 = 0; commit";
    scene.database.connect().await.batch_execute(large).await.unwrap();
    scene.die_at(Victim::Agent, Failpoint::AfterSpoolDurable.name(), 30).await;
    scene.revive(Victim::Agent);
    scene.kill(Victim::Hub);
    scene.die_at(Victim::Hub, Point::AfterCommit.name(), 30).await;
    scene.die_at(Victim::Hub, Point::BeforeCommit.name(), 20).await;
    scene.revive(Victim::Hub);
}

/// One more death of someone: at a point, in a new full read, or at any moment.
async fn die_somewhere(scene: &mut Scene, random: &mut Random) {
    match random.below(7) {
        0 | 1 => {
            scene.wait_for_batches(random.below(40)).await;
            scene.kill(Victim::Agent);
            scene.revive(Victim::Agent);
        }
        2 => {
            scene.wait_for_batches(random.below(40)).await;
            scene.kill(Victim::Hub);
            scene.revive(Victim::Hub);
        }
        3 => {
            scene.stir().await;
            scene.wait_for_batches(random.below(12)).await;
            scene.kill_source();
        }
        4 => {
            let points = points(Victim::Hub);
            let (point, _) = points[pick(random, points.len())];
            scene.kill(Victim::Hub);
            scene.die_at(Victim::Hub, point, random.between(1, 12)).await;
            scene.revive(Victim::Hub);
        }
        5 => {
            let mut points = points(Victim::Agent);
            points.retain(|(name, _)| !is_once(name));
            let (point, _) = points[pick(random, points.len())];
            scene.kill(Victim::Agent);
            scene.die_at(Victim::Agent, point, random.between(1, 12)).await;
            scene.revive(Victim::Agent);
        }
        _ => {
            let datasets = [Table::Citizens.dataset(), Table::Dossiers.dataset()];
            scene.kill(Victim::Agent);
            scene.drop_slot(random.pick(&datasets)).await;
            let points = points(Victim::Agent);
            let (point, _) = points[pick(random, points.len())];
            let nth = if is_once(point) { 1 } else { random.between(1, 30) };
            scene.die_at(Victim::Agent, point, nth).await;
            scene.revive(Victim::Agent);
        }
    }
}

/// Whether a dataset passes this point only once in an epoch.
fn is_once(point: &str) -> bool {
    [Failpoint::AfterEpochOpened.name(), Failpoint::AfterSlotCreated.name()].contains(&point)
}

fn pick(random: &mut Random, count: usize) -> usize {
    usize::try_from(random.below(count as u64)).unwrap_or(0)
}
