//! Thousands of seeded histories of the pure delivery machine: real `Sender`s and `Receiver`, an
//! idealised spool and warehouse, and a network, disks and backups that do their worst. And fewer of a
//! whole `province`, in which mapping, spool, checks, receipts and transfer log are the real ones too.
//!
//! 300 histories of the one and 40 of the other by default; `PHUSA_SIMULATION=10000` and
//! `PHUSA_PROVINCES=1000` play more, `SEED=n` one. A failure prints its
//! seed and the last lines of its history. What was found lives on in `reproduction`.

mod random;
mod hub;
mod agent;
mod world;
mod reproduction;
mod province;

/// Histories played when nothing else is asked for: under two seconds.
const HISTORIES: u64 = 300;

/// Provinces played when nothing else is asked for: some seconds.
const PROVINCES: u64 = 40;

fn number_from(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

#[test]
fn every_history_ends_with_everything_delivered_once_and_in_order() {
    let seeds = match number_from("SEED") {
        Some(seed) => seed..seed + 1,
        None => 1..1 + number_from("PHUSA_SIMULATION").unwrap_or(HISTORIES),
    };
    let mut total = world::Tally::default();
    for seed in seeds.clone() {
        let tally = world::play(seed).unwrap_or_else(|what| panic!("{what}"));
        total.commits += tally.commits;
        total.losses += tally.losses;
        total.epochs += tally.epochs;
    }
    println!("{} histories from seed {}: {total:?}", seeds.end - seeds.start, seeds.start);
    if seeds.end - seeds.start >= HISTORIES {
        assert!(total.commits > 1000 && total.losses > 100 && total.epochs > 50, "{total:?}");
    }
}

#[test]
fn every_province_ends_with_the_warehouse_equal_and_its_log_whole() {
    let seeds = match number_from("SEED") {
        Some(seed) => seed..seed + 1,
        None => 1..1 + number_from("PHUSA_PROVINCES").unwrap_or(PROVINCES),
    };
    let mut tally = province::Tally::default();
    for seed in seeds.clone() {
        province::play(seed, &mut tally).unwrap_or_else(|what| panic!("{what}"));
    }
    println!("{} provinces from seed {}: {tally:?}", seeds.end - seeds.start, seeds.start);
    if seeds.end - seeds.start >= PROVINCES {
        assert!(tally.commits > 500 && tally.epochs > 50 && tally.checkpoints > 100, "{tally:?}");
        assert_eq!(tally.troubles.len(), 23, "every trouble was tried: {tally:?}");
    }
}

#[test]
fn a_seed_gives_the_same_history_every_time() {
    let tallies = [world::play(7), world::play(7)].map(|tally| format!("{tally:?}"));
    assert_eq!(tallies[0], tallies[1]);
}
