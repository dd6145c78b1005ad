//! A day on which nobody is killed: what agent and hub hold in memory and open files does not grow with
//! the hours.
//!
//! `PHUSA_SOAK_MINUTES=60` makes it, beside the days at the end of bad lines; `PHUSA_CRASH_SEED` repeats
//! its work.

use super::*;

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// What memory may vary by between two quarters of the day: a few buffers of batches, and what the
/// allocator keeps.
const MIB_APART_MAX: u64 = 12;

/// The same of open files: connections that are in use just then.
const FILES_APART_MAX: u64 = 12;

#[test]
fn a_long_day_without_a_kill_keeps_memory_and_open_files_flat() {
    let Some(minutes) = minutes() else {
        println!("the long form needs PHUSA_SOAK_MINUTES");
        return;
    };
    let server = Arc::new(Server::start(Version::V15.or_given(), ""));
    alone(async {
        Day::begins("postgres, calm", server.database()).await.stays_flat(minutes).await;
    });
}

impl<O: Office + Send + Sync + 'static> Day<O> {
    /// Looks at agent and hub until the day is over.
    async fn stays_flat(mut self, minutes: u64) {
        let clerk = Clerk::begins(Arc::clone(&self.office), self.followed.clone(), self.seed);
        let mut looks = Vec::new();
        while !self.is_over(Until::Minutes(minutes)) {
            tokio::time::sleep(LOOK_EVERY).await;
            let ids = [self.province.agent_process(AGENCY).id(), self.province.hub_process().id()];
            looks.push(ids.map(Held::by));
        }
        let done = clerk.ends();
        let same = self.wait_until_same().await;
        self.province.verify_log();
        self.tell(done, &same, 0);
        for (at, who) in ["agent", "hub"].into_iter().enumerate() {
            let quarters = [0, 1, 2, 3].map(|quarter| {
                let at_quarter = |quarter| looks.len() * quarter / 4;
                let part = looks.get(at_quarter(quarter)..at_quarter(quarter + 1));
                let of = |held: fn(&Held) -> u64| {
                    let part = part.into_iter().flatten().filter_map(|look| look.get(at));
                    median(part.map(held).collect())
                };
                [of(|held| held.mib), of(|held| held.files)]
            });
            println!(
                "{}: {who}: MiB and open files, quarter by quarter: {quarters:?}",
                self.engine
            );
            // In the first quarter pools and caches fill.
            let [_, [mib, files], _, [mib_last, files_last]] = quarters;
            assert!(mib_last <= mib + MIB_APART_MAX, "{who} grows: {mib} to {mib_last} MiB");
            assert!(files_last <= files + FILES_APART_MAX, "{who}: {files} to {files_last} files");
        }
        assert!(self.province.agent_process(AGENCY).stop().success());
        assert!(self.province.hub_process().stop().success());
    }
}

fn median(mut of: Vec<u64>) -> u64 {
    of.sort_unstable();
    of.get(of.len() / 2).copied().unwrap_or(0)
}
