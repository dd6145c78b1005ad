//! `Clerk`: changes an office's tables at random, the same for the same seed, whatever happens to
//! the server meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use phusa_tests::office::{Change, Followed, Office, Row, Way};
use phusa_tests::random::Random;

/// Keys lie below this, so that rows are met again and again.
pub(crate) const IDS: u64 = 1_500;

/// Changes of an ordinary transaction, and of a large one.
const CHANGES_MAX: u64 = 40;
const LARGE_CHANGES: u64 = 800;

/// The office's rate: a transaction and then as long a pause as this.
const PAUSE: Duration = Duration::from_millis(25);

/// The office's other work comes and goes for so long.
const BUSTLE: Duration = Duration::from_secs(25);

/// The way whose table is changed as a whole alone.
pub(crate) const BLOCK: Way = Way::Snapshot;

/// What a clerk did in a day.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Done {
    pub(crate) transactions: u64,
    pub(crate) changes: u64,
    /// Transactions of which the server did not say that they are committed.
    pub(crate) unconfirmed: u64,
}

/// Works on a thread of its own until told to stop.
#[derive(Debug)]
pub(crate) struct Clerk {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Done>,
    others: JoinHandle<()>,
}

impl Clerk {
    /// Begins to work on the tables of these ways.
    pub(crate) fn begins<O>(office: Arc<O>, ways: Vec<Followed>, seed: u64) -> Self
    where
        O: Office + Send + Sync + 'static,
    {
        let stop = Arc::new(AtomicBool::new(false));
        let others = {
            let (told, office) = (Arc::clone(&stop), Arc::clone(&office));
            thread::spawn(move || bustle(&*office, &told))
        };
        let told = Arc::clone(&stop);
        let work = move || {
            let (mut random, mut done) = (Random::new(seed, 77), Done::default());
            while !told.load(Ordering::Relaxed) {
                let at = random.below(ways.len() as u64);
                let followed = ways[usize::try_from(at).unwrap_or(0)];
                let changes = transaction(&mut random, followed);
                if office.commit(followed.way, &changes) {
                    done.transactions += 1;
                    done.changes += changes.len() as u64;
                } else {
                    done.unconfirmed += 1;
                }
                thread::sleep(PAUSE);
            }
            done
        };
        Self { stop, thread: thread::spawn(work), others }
    }

    /// Ends the day; what was done.
    pub(crate) fn ends(self) -> Done {
        self.stop.store(true, Ordering::Relaxed);
        self.others.join().expect("the others' work");
        self.thread.join().expect("a clerk's work")
    }
}

/// Others are busy for a while, and then for as long they are not.
fn bustle(office: &impl Office, told: &AtomicBool) {
    let began = Instant::now();
    while !told.load(Ordering::Relaxed) {
        if (began.elapsed().as_secs() / BUSTLE.as_secs()).is_multiple_of(2) {
            office.bustle();
        }
        thread::sleep(PAUSE);
    }
}

fn transaction(random: &mut Random, followed: Followed) -> Vec<Change> {
    if followed.way == BLOCK {
        return vec![Change::Bump];
    }
    let large = random.chance(2);
    let count = if large { LARGE_CHANGES } else { random.between(1, CHANGES_MAX) };
    (0..count).map(|_| change(random, followed.sees_deletes)).collect()
}

fn change(random: &mut Random, with_deletes: bool) -> Change {
    let id = key(random);
    let name = format!("Trần Văn {}", random.below(10_000));
    let number = i64::try_from(random.below(1 << 40)).unwrap_or(0);
    let put = |name| Change::Put(Row { id, part: id % 8, name, number });
    match random.below(100) {
        0..35 => put(name),
        35..70 => Change::Update(id, name, number),
        70..90 if with_deletes => Change::Delete(id),
        _ if with_deletes => Change::Rekey(id, -key(random)),
        _ => put(name),
    }
}

fn key(random: &mut Random) -> i64 {
    i64::try_from(random.between(1, IDS)).unwrap_or(1)
}
