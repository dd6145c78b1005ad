//! What others have the server do, as far as a login without special rights is shown it.

use mysql_async::Row;
use phusa_protocol::fault::Fault;

use super::session::{Session, get};
use crate::source::sharing::Work;
use crate::source::throttle::Answers;

const DOING: &str = "cannot ask what the server does";

/// What any login is shown of all sessions together.
const FIGURES_SQL: &str = "show global status where variable_name in ('Threads_running', \
                           'Threads_connected', 'Questions', 'Slaves_connected', 'Slaves_running')";

/// This login's own sessions: all, those at work, and how many of these are sent the log.
const OWN_SQL: &str = "select cast(count(*) as unsigned), \
                       cast(coalesce(sum(command <> 'Sleep'), 0) as unsigned), \
                       cast(coalesce(sum(command like 'Binlog Dump%'), 0) as unsigned) \
                       from information_schema.processlist \
                       where user = substring_index(user(), '@', 1)";

/// Sessions that a MariaDB server has with itself and counts as running though they wait.
const OF_ITSELF_SQL: &str =
    "select cast(@@global.event_scheduler = 'ON' as unsigned), @@global.slave_parallel_threads";

/// A server's figures of all its sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Figures {
    running: u64,
    /// Without those that the server has with itself.
    connected: u64,
    done: Option<u64>,
    /// Senders of the log, which run all the time.
    senders: Option<u64>,
    /// How many servers this one follows; `None` at MySQL, which does not count its own sessions.
    follows: Option<u64>,
}

impl Figures {
    fn of(rows: &[Row]) -> Option<Self> {
        let figure = |name: &str| {
            let named = |row: &&Row| {
                get::<String>(row, 0).is_ok_and(|found| found.eq_ignore_ascii_case(name))
            };
            let text = get::<String>(rows.iter().find(named)?, 1).ok()?;
            text.parse::<u64>().ok()
        };
        Some(Self {
            running: figure("Threads_running")?,
            connected: figure("Threads_connected")?,
            done: figure("Questions"),
            senders: figure("Slaves_connected"),
            follows: figure("Slaves_running"),
        })
    }
}

/// Sessions under the agent's own login.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Own {
    all: u64,
    running: u64,
    senders: u64,
}

/// How many sessions of others are at work; `of_itself` are the server's own.
fn others(figures: Figures, own: Own, of_itself: u64) -> u32 {
    let senders = figures.senders.unwrap_or(0).saturating_sub(own.senders);
    let apart = own.running.saturating_add(senders).saturating_add(of_itself);
    let running = figures.running.saturating_sub(apart);
    let connected = figures.connected.saturating_sub(own.all).saturating_sub(senders);
    u32::try_from(running.min(connected)).unwrap_or(u32::MAX)
}

/// The sessions that a server has with itself: a receiver and an applier for each server it follows,
/// the appliers' helpers, and the scheduler of events.
fn of_itself(follows: u64, scheduler: u64, helpers: u64) -> u64 {
    let helpers = if follows > 0 { helpers } else { 0 };
    follows.saturating_mul(2).saturating_add(helpers).saturating_add(scheduler)
}

impl Session {
    async fn own(&mut self) -> Result<Option<Own>, Fault> {
        let Some(rows) = self.rows_if_allowed(DOING, OWN_SQL).await? else { return Ok(None) };
        let number = |at| rows.first().and_then(|row| get::<u64>(row, at).ok()).unwrap_or(0);
        Ok(Some(Own { all: number(0), running: number(1), senders: number(2) }))
    }

    async fn senders(&mut self) -> Result<u64, Fault> {
        let rows = self.rows_if_allowed(DOING, "show replicas").await?;
        Ok(rows.map_or(0, |rows| rows.len() as u64))
    }

    async fn of_itself(&mut self, follows: u64) -> Result<u64, Fault> {
        let rows = self.rows_if_allowed(DOING, OF_ITSELF_SQL).await?.unwrap_or_default();
        let number = |at| rows.first().and_then(|row| get::<u64>(row, at).ok()).unwrap_or(0);
        Ok(of_itself(follows, number(0), number(1)))
    }
}

impl Answers for Session {
    async fn answer(&mut self) -> Result<(), Fault> {
        self.run("cannot ask how fast the server is", "do 0").await
    }

    async fn work(&mut self) -> Result<Option<Work>, Fault> {
        let Some(before) = self.own().await? else { return Ok(None) };
        let Some(rows) = self.rows_if_allowed(DOING, FIGURES_SQL).await? else { return Ok(None) };
        let Some(mut figures) = Figures::of(&rows) else { return Ok(None) };
        let quiet = Work { busy: 0, done: figures.done };
        if others(figures, before, 0) == 0 {
            return Ok(Some(quiet));
        }
        // A session of its own may have begun or ended between the two statements.
        let Some(after) = self.own().await? else { return Ok(None) };
        let own = Own {
            all: before.all.max(after.all),
            running: before.running.max(after.running),
            senders: before.senders.max(after.senders),
        };
        if figures.senders.is_none() {
            figures.senders = Some(self.senders().await?);
        }
        let of_itself = match figures.follows {
            Some(follows) => self.of_itself(follows).await?,
            None => 0,
        };
        Ok(Some(Work { busy: others(figures, own, of_itself), ..quiet }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: Own = Own { all: 3, running: 2, senders: 1 };

    fn figures(running: u64, connected: u64, senders: u64) -> Figures {
        Figures { running, connected, senders: Some(senders), ..Figures::default() }
    }

    #[test]
    fn neither_the_agent_nor_the_server_itself_nor_its_replicas_are_others_at_work() {
        for (what, figures, of_itself, busy) in [
            ("the agent alone", figures(2, 3, 1), 0, 0),
            ("idle sessions beside it", figures(2, 40, 1), 0, 0),
            ("four at work", figures(6, 40, 1), 0, 4),
            ("two replicas", figures(4, 40, 3), 0, 0),
            ("a quiet replica with a scheduler", figures(5, 40, 1), 3, 0),
            ("a replica with two at work", figures(7, 40, 1), 3, 2),
            ("more at work than are connected", figures(9, 3, 1), 0, 0),
            ("figures of another moment", figures(1, 1, 0), 9, 0),
        ] {
            assert_eq!(others(figures, OWN, of_itself), busy, "{what}");
        }
    }

    #[test]
    fn a_server_that_follows_none_has_no_helpers() {
        assert_eq!(of_itself(0, 1, 8), 1);
        assert_eq!(of_itself(1, 1, 0), 3);
        assert_eq!(of_itself(2, 0, 8), 12);
    }
}
