//! The agency's table: transactions over a few citizens, every state there ever was, and the blocks
//! an agent reads of it. Some rows are not to be shared, every phone is masked, one column is secret.

use std::collections::BTreeMap;
use std::sync::Arc;

use phusa_agent::mapping::field::{FieldRule, Mask, Recipe, Rules};
use phusa_agent::mapping::filter::Filter;
use phusa_agent::mapping::terms::Terms;
use phusa_agent::source::{Block, Column, Native, Resume};
use phusa_protocol::batch::Phase;
use phusa_protocol::change::{BodyWriter, Op};
use phusa_protocol::contract::Contract;
use phusa_protocol::digest::Digest;
use phusa_protocol::ids::DatasetId;
use phusa_protocol::row::put_tuple;
use phusa_protocol::time::Timestamp;
use phusa_protocol::value::{Field, Kind};

use crate::random::Random;

/// What no byte that leaves the agency may hold: what masks hide, and the column nobody mapped.
pub const FORBIDDEN: [&[u8]; 2] = [b"0905555", b"BI-MAT"];

/// What every clock shows until it is set otherwise: 15 January 2027.
pub const CLOCK_MICROS: i64 = 1_800_000_000_000_000;

/// A phone that ends so belongs to a row that is filtered out.
pub const UNSHARED_END: &str = "99";

const CITIZENS: u64 = 24;

/// How many characters of a phone each version of the contract shows.
const SHOWN: [usize; 2] = [3, 2];

/// A row as the agency has it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Row {
    mark: u64,
    phone: String,
    shared: bool,
}

#[derive(Debug, Clone)]
enum Step {
    Put(i64, Row, Op),
    Remove(i64),
}

/// What the warehouse should hold: number to mark and masked phone.
pub type State = BTreeMap<i64, (u64, String)>;

/// How far an agent has read: within the rows of a full read, or within the transactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Whether the full read is over.
    pub live: bool,
    /// Transactions that are whole before this place.
    pub whole: usize,
    /// Rows of the read, or changes of the transaction after those.
    pub within: usize,
}

impl Place {
    pub fn to_text(self) -> String {
        format!("{}/{}/{}", u8::from(self.live), self.whole, self.within)
    }

    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('/').map(str::parse::<usize>);
        let mut next = || parts.next()?.ok();
        Some(Self { live: next()? == 1, whole: next()?, within: next()? })
    }
}

#[derive(Debug)]
pub struct Registry {
    transactions: Vec<Vec<Step>>,
    /// After so many transactions.
    states: Vec<BTreeMap<i64, Row>>,
}

impl Registry {
    pub fn new() -> Self {
        Self { transactions: Vec::new(), states: vec![BTreeMap::new()] }
    }

    /// How many transactions there were.
    pub fn end(&self) -> usize {
        self.transactions.len()
    }

    /// One transaction: mostly small, now and then larger than a batch.
    pub fn commit(&mut self, random: &mut Random) {
        let mark = self.transactions.len() as u64 + 1;
        let mut state = self.states[self.states.len() - 1].clone();
        let count = if random.happens(20) { 5 + random.below(15) } else { 1 + random.below(3) };
        let steps = (0..count).map(|_| {
            let id = i64::try_from(random.below(CITIZENS)).unwrap_or(0);
            if state.contains_key(&id) && random.happens(25) {
                state.remove(&id);
                return Step::Remove(id);
            }
            let shared = random.happens(75);
            let end = if shared { random.below(99) } else { 99 };
            let phone = format!("0905555{}{end:02}", random.below(10));
            let row = Row { mark, phone, shared };
            let op = if state.contains_key(&id) { Op::Update } else { Op::Insert };
            state.insert(id, row.clone());
            Step::Put(id, row, op)
        });
        let steps = steps.collect();
        self.transactions.push(steps);
        self.states.push(state);
    }

    /// What the warehouse should show after so many transactions, under this version.
    pub fn shared(&self, whole: usize, version: usize) -> State {
        let shown = SHOWN[version];
        let masked = |phone: &str| "*".repeat(phone.len() - shown) + &phone[phone.len() - shown..];
        let rows = self.states[whole].iter().filter(|(_, row)| row.shared);
        rows.map(|(id, row)| (*id, (row.mark, masked(&row.phone)))).collect()
    }

    /// The next block after `place` of about `most` changes, and the place behind it; `None` when
    /// everything was read.
    pub fn block(
        &self,
        place: Place,
        most: usize,
        (number, clock): (u64, Timestamp),
    ) -> Option<(Block, Place)> {
        let mut body = BodyWriter::default();
        let (phase, next) = if place.live {
            if place.whole == self.end() {
                return None;
            }
            (Phase::Live, self.changes(place, most, &mut body))
        } else {
            self.rows(place, most, &mut body)
        };
        let text = next.to_text();
        let block = Block {
            number,
            columns: columns(),
            body: body.finish().0,
            phase,
            tx_open: next.live && next.within > 0,
            position: text.clone(),
            resume: Resume(text.into_bytes()),
            read_at: clock,
            source_time: clock,
        };
        Some((block, next))
    }

    fn rows(&self, place: Place, most: usize, body: &mut BodyWriter) -> (Phase, Place) {
        let rows = &self.states[place.whole];
        if place.within >= rows.len() {
            return (Phase::ReadEnd, Place { live: true, whole: place.whole, within: 0 });
        }
        for (id, row) in rows.iter().skip(place.within).take(most) {
            put(body, Op::Snapshot, *id, row);
        }
        (Phase::Read, Place { within: place.within + most, ..place })
    }

    fn changes(&self, mut place: Place, most: usize, body: &mut BodyWriter) -> Place {
        for _ in 0..most {
            let Some(steps) = self.transactions.get(place.whole) else { break };
            match &steps[place.within] {
                Step::Put(id, row, op) => put(body, *op, *id, row),
                Step::Remove(id) => {
                    put_tuple(body.begin_row(Op::Delete), &[Field::Value(&id.to_be_bytes())]);
                }
            }
            place.within += 1;
            if place.within == steps.len() {
                place = Place { whole: place.whole + 1, within: 0, ..place };
            }
        }
        place
    }
}

fn put(body: &mut BodyWriter, op: Op, id: i64, row: &Row) {
    let secret = format!("BI-MAT-{}", row.mark);
    let fields = [
        Field::Value(&id.to_be_bytes()),
        Field::Value(&row.mark.to_be_bytes()),
        Field::Value(row.phone.as_bytes()),
        Field::Value(if row.shared { &[0, 1] } else { &[0, 0] }),
        Field::Value(secret.as_bytes()),
    ];
    put_tuple(body.begin_row(op), &fields);
}

fn columns() -> Arc<[Column]> {
    let natives = [
        ("id", Native::Int8),
        ("mark", Native::Int8),
        ("phone", Native::Text),
        ("shared", Native::Int2),
        ("secret", Native::Text),
    ];
    let column = |(name, native): (&str, Native)| Column {
        name: name.to_owned(),
        type_name: name.to_owned(),
        native,
        nullable: false,
    };
    natives.into_iter().map(column).collect()
}

/// The columns every block has.
pub fn read_columns() -> Arc<[Column]> {
    columns()
}

pub fn dataset() -> DatasetId {
    DatasetId::new("cong_dan.citizens").expect("a valid name")
}

/// The contract of this version; the second shows less.
pub fn contract(version: usize) -> Contract {
    let field = |name: &str, kind: &str| {
        let most = if kind == "text" { ", max_length = 20" } else { "" };
        format!("{{ name = \"{name}\", type = \"{kind}\", class = \"B\", name_vi = \"F\"{most} }},")
    };
    let fields = [field("id", "int8"), field("mark", "int8"), field("phone", "text")].concat();
    let text = format!(
        "dataset = \"{}\"\nversion = {}\ntitle_vi = \"A\"\nowner = \"H57\"\nlegal_basis = \"A\"\n\
         sharing = \"default\"\nfrequency = \"15m\"\nretention = \"1d\"\nkey = [\"id\"]\n\
         field = [{fields}]\n",
        dataset(),
        version + 1
    );
    Contract::from_toml(&text).expect("a sound contract")
}

/// The agency's mapping under this version, and its fingerprint.
pub fn rules(version: usize) -> (Rules, Digest) {
    let field = |name: &str, kind: Kind, mask: Mask| FieldRule {
        name: name.to_owned(),
        kind,
        nullable: false,
        from: Some(name.to_owned()),
        recipe: Recipe::default(),
        mask,
        terms: Terms::default(),
    };
    let fields = vec![
        field("id", Kind::Int8, Mask::Keep),
        field("mark", Kind::Int8, Mask::Keep),
        field("phone", Kind::Text, Mask::KeepLast(SHOWN[version])),
    ];
    let filter = Some(Filter::parse("shared = 1").expect("a condition"));
    let rules = Rules { fields, key: vec![0], filter, row_bytes_max: 1 << 20 };
    (rules, Digest::of(&[u8::try_from(version).unwrap_or(0)]))
}
