//! Fuzzing in its short form, for everybody: every target on each input that the long form kept
//! (`corpus.tar.xz`), on its seeds, and on inputs made of them at random.
//!
//! `PHUSA_FUZZ_INPUTS=100000` makes more of those (1,000 by default), `PHUSA_FUZZ_SEED=7` others (1).
//! What a target fails of is left in `artifacts`. The long form is `tests/fuzz/run TARGET SECONDS`.

use std::collections::BTreeMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use phusa_tests::process::run;
use phusa_tests::random::Random;

// Targets know what they share, and how one is made, by the name of their own package.
extern crate self as phusa_fuzz;

#[path = "lib.rs"]
mod shared;

pub(crate) use shared::{agent, comes_back, key, parts};

mod targets {
    pub(crate) mod body;
    pub(crate) mod certificate;
    pub(crate) mod config;
    pub(crate) mod config_hub;
    pub(crate) mod contract;
    pub(crate) mod decode;
    pub(crate) mod entry;
    pub(crate) mod filter;
    pub(crate) mod frame;
    pub(crate) mod header;
    pub(crate) mod lists;
    pub(crate) mod mapping;
    pub(crate) mod messages;
    pub(crate) mod mqtt;
    pub(crate) mod mysql;
    pub(crate) mod note;
    pub(crate) mod postgres;
    pub(crate) mod release;
    pub(crate) mod report;
    pub(crate) mod sqlserver;
    pub(crate) mod tree;
}

// Below the targets, so that they take it from their package as in the long form.
macro_rules! fuzz_target {
    (|$data:ident: &[u8]| $body:block) => {
        pub(crate) fn input($data: &[u8]) {
            $body
        }
    };
}

pub(crate) use fuzz_target;

/// A test for each target, and their names.
macro_rules! hold {
    ($($target:ident)+) => {
        $(
            #[test]
            fn $target() {
                holds(stringify!($target), targets::$target::input);
            }
        )+

        const TARGETS: &[&str] = &[$(stringify!($target)),+];
    };
}

hold! {
    body certificate config config_hub contract decode entry filter frame header lists mapping messages
    mqtt mysql note postgres release report sqlserver tree
}

#[test]
fn every_target_has_its_short_form_and_inputs_that_were_kept() {
    let files = fs::read_dir(here().join("targets")).unwrap();
    let stem = |path: PathBuf| path.file_stem().unwrap().to_str().unwrap().to_owned();
    let mut names: Vec<String> = files.map(|file| stem(file.unwrap().path())).collect();
    names.sort();
    assert_eq!(names, TARGETS);
    for name in TARGETS {
        let kept = CORPUS[name].len();
        assert!(kept >= KEPT_MIN, "{name} has {kept} inputs; `tests/fuzz/run keep` renews them");
    }
}

/// Fewer inputs are no corpus.
const KEPT_MIN: usize = 100;

/// What no input is longer than, as in the long form.
const BYTES_MAX: usize = 4_096;

/// Changes that one input may meet.
const CHANGES_MAX: u64 = 5;

/// Numbers that decoders stumble over: ends of ranges, signs, and bytes that mean something in a text.
const BYTES: &[u8] =
    &[0, 1, 0x7F, 0x80, 0xFE, 0xFF, b'"', b'\\', b'\n', b'-', b'0', b'9', b'{', b'['];

/// The seeds and what the long form kept, of each target.
static CORPUS: LazyLock<BTreeMap<&str, Vec<Vec<u8>>>> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    run(Command::new("python3").arg(here().join("seeds.py")).arg(folder.path()));
    let inputs = |name: &&'static str| {
        let files = fs::read_dir(folder.path().join(name)).unwrap();
        let mut files: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
        // Each machine lists them as it likes; what is made of them is to be the same.
        files.sort();
        (*name, files.iter().map(|file| fs::read(file).unwrap()).collect())
    };
    TARGETS.iter().map(inputs).collect()
});

fn here() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Gives the target its corpus and what can be made of it.
fn holds(name: &str, target: fn(&[u8])) {
    let corpus = &CORPUS[name];
    corpus.iter().for_each(|input| give(name, target, input));
    let (inputs, seed) = (setting("PHUSA_FUZZ_INPUTS", 1_000), setting("PHUSA_FUZZ_SEED", 1));
    let mut random = Random::new(seed, 0);
    for _ in 0..inputs {
        give(name, target, &made_of(corpus, &mut random));
    }
    println!("{name}: {} inputs of the corpus and {inputs} made of them", corpus.len());
}

fn give(name: &str, target: fn(&[u8]), input: &[u8]) {
    if catch_unwind(AssertUnwindSafe(|| target(input))).is_ok() {
        return;
    }
    let file = here().join("artifacts").join(format!("{name}-short"));
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, input).unwrap();
    panic!("`tests/fuzz/run {name} artifacts/{name}-short` shows again what this input fails of");
}

/// An input of the corpus with a few changes, some of them taken from another.
fn made_of(corpus: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut input = any(corpus, random).clone();
    for _ in 0..random.between(1, CHANGES_MAX) {
        let at = place(&input, random);
        match random.below(7) {
            0 => input.truncate(at),
            1 => input.insert(at, byte(random)),
            2 if at < input.len() => drop(input.remove(at)),
            3 if at < input.len() => input[at] = byte(random),
            4 if at < input.len() => input[at] ^= 1 << random.below(8),
            5 => {
                // A piece of itself once more.
                let [from, to] = ends(&input, random);
                let piece = input[from..to].to_vec();
                input.splice(at..at, piece);
            }
            _ => {
                let other = any(corpus, random);
                let [from, to] = ends(other, random);
                let until = at.max(place(&input, random));
                input.splice(at..until, other[from..to].iter().copied());
            }
        }
    }
    input.truncate(BYTES_MAX);
    input
}

fn any<'a>(corpus: &'a [Vec<u8>], random: &mut Random) -> &'a Vec<u8> {
    &corpus[usize::try_from(random.below(corpus.len() as u64)).unwrap()]
}

/// A place in the input, its end included.
fn place(input: &[u8], random: &mut Random) -> usize {
    usize::try_from(random.between(0, input.len() as u64)).unwrap()
}

fn ends(input: &[u8], random: &mut Random) -> [usize; 2] {
    let mut ends = [place(input, random), place(input, random)];
    ends.sort_unstable();
    ends
}

/// Any byte, or one of those that mean something.
fn byte(random: &mut Random) -> u8 {
    let any = u8::try_from(random.below(256)).unwrap();
    let special = BYTES[usize::try_from(random.below(BYTES.len() as u64)).unwrap()];
    if random.chance(50) { special } else { any }
}
