//! `Event`: what happens at an agency, and the changes that come with it.

use phusa_tests::office::{Change, Row};

/// What happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    Insert,
    Update,
    Delete,
    KeyChange,
    /// One transaction of many batches.
    Large,
    /// `kill -9` of the agent while changes are on their way.
    AgentCrash,
    /// The same of the hub.
    HubCrash,
    /// The server that is read is stopped and started.
    Restart,
}

/// Ids of rows that are there from the start are multiples of this.
const STEP: i64 = 10;

/// Rows that the large transaction brings.
const LARGE_ROWS: i64 = 700;

impl Event {
    pub(crate) const ALL: [Self; 8] = [
        Self::Insert,
        Self::Update,
        Self::Delete,
        Self::KeyChange,
        Self::Large,
        Self::AgentCrash,
        Self::HubCrash,
        Self::Restart,
    ];

    /// Its name for people.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Insert => "insert",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::KeyChange => "key change",
            Self::Large => "large transaction",
            Self::AgentCrash => "kill -9 agent",
            Self::HubCrash => "kill -9 hub",
            Self::Restart => "server restart",
        }
    }

    /// The part of a table's rows that belongs to it; no other event touches them.
    pub(crate) fn part(self) -> i64 {
        Self::ALL.iter().zip(0..).find(|(event, _)| **event == self).map_or(0, |(_, at)| at)
    }

    /// Whether it is nothing without deletes.
    pub(crate) fn is_deletion(self) -> bool {
        matches!(self, Self::Delete | Self::KeyChange)
    }

    /// Changes in a table of so many rows: one transaction, and one more after what breaks off.
    pub(crate) fn changes(self, rows: i64, with_deletes: bool) -> [Vec<Change>; 2] {
        let part = self.part();
        let own = || (1..=rows).filter(move |n| n % 8 == part).map(|n| n * STEP);
        let insert =
            |id: i64| Change::Insert(Row { id, part, name: format!("Mới {id}"), number: 1 });
        let update = |id: i64| Change::Update(id, format!("Đổi {id}"), 2);
        match self {
            Self::Insert => [own().map(|id| insert(id + 1)).collect(), vec![]],
            Self::Update => [own().map(update).collect(), vec![]],
            Self::Delete => [own().step_by(2).map(Change::Delete).collect(), vec![]],
            Self::KeyChange => {
                // Near by, far ahead, and far behind.
                let to = |(at, id): (i64, i64)| {
                    let far = rows * STEP * 2;
                    Change::Rekey(
                        id,
                        [id + 5, id + far, id - far][usize::try_from(at % 3).unwrap_or(0)],
                    )
                };
                [(0..).zip(own().step_by(2)).map(to).collect(), vec![]]
            }
            Self::Large => {
                let apart = (rows / LARGE_ROWS).max(1) * STEP;
                let inserts = (0..LARGE_ROWS).map(|n| insert(n * apart + 3));
                let updates = own().step_by(2).map(update);
                let deletes = own().skip(1).step_by(4).take(if with_deletes { 99 } else { 0 });
                [inserts.chain(updates).chain(deletes.map(Change::Delete)).collect(), vec![]]
            }
            Self::AgentCrash | Self::HubCrash | Self::Restart => {
                let before = own().map(|id| insert(id + 1)).chain(own().map(update));
                let gone = own().step_by(3).take(if with_deletes { usize::MAX } else { 0 });
                let after = own().map(|id| insert(id + 2)).chain(gone.map(Change::Delete));
                [before.collect(), after.collect()]
            }
        }
    }

    /// The rows that a table has from the start.
    pub(crate) fn rows(count: i64) -> Vec<Row> {
        let row = |n: i64| Row {
            id: n * STEP,
            part: n % 8,
            name: format!("Nguyễn Thị Ánh {n}"),
            number: 0,
        };
        (1..=count).map(row).collect()
    }
}
