//! `Trial`: events of a log held against what follows it, without a server, so that tests and
//! `tests/fuzz` can try what damage does. Nothing else uses it.

use std::collections::BTreeMap;
use std::sync::Arc;

use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::ids::DatasetId;

use super::assemble::{Asks, Assembler};
use super::event::{self, BadEvent, Event, Head};
use super::json;
use super::kind::{Charset, Kind};
use super::place::{Following, Position, Tracking};
use super::stream::Unpacked;
use super::target::Target;
use crate::source::settings::Limits;
use crate::source::{Capture, Selection};

/// One event as it stands in a log, without its checksum.
#[derive(Debug, Clone, Copy)]
pub struct Logged<'a> {
    /// Its type.
    pub code: u8,
    /// Its flags.
    pub flags: u16,
    /// What follows its head.
    pub body: &'a [u8],
}

/// A column: what it holds, its type in the log and the metadata of that.
type Laid = (Kind, u8, &'static [u8]);

fn numbers() -> Vec<Laid> {
    let int = |bytes, unsigned| Kind::Int { bytes, unsigned };
    vec![
        (int(4, false), 3, &[]),
        (int(1, false), 1, &[]),
        (int(1, true), 1, &[]),
        (int(2, true), 2, &[]),
        (int(3, false), 9, &[]),
        (int(8, false), 8, &[]),
        (int(8, true), 8, &[]),
        (Kind::Year, 13, &[]),
        (Kind::Float, 4, &[4]),
        (Kind::Double, 5, &[8]),
        (Kind::Decimal { precision: 14, scale: 4 }, 246, &[14, 4]),
        (Kind::Bit { bits: 10 }, 16, &[2, 1]),
    ]
}

fn texts() -> Vec<Laid> {
    let labels = || vec!["nam".to_owned(), "nữ".to_owned()];
    vec![
        (Kind::Text(Charset::Utf8), 15, &[80, 0]),
        (Kind::Text(Charset::Latin1), 252, &[2]),
        (Kind::Enum(Charset::Utf8, labels()), 254, &[247, 1]),
        (Kind::Set(Charset::Utf8, labels()), 254, &[248, 1]),
        (Kind::Binary { length: 4 }, 254, &[254, 4]),
        (Kind::Bytes, 252, &[1]),
        (Kind::Json, 245, &[4]),
    ]
}

fn times() -> Vec<Laid> {
    vec![
        (Kind::Date, 10, &[]),
        (Kind::Time, 11, &[]),
        (Kind::Time, 19, &[6]),
        (Kind::DateTime, 12, &[]),
        (Kind::DateTime, 18, &[6]),
        (Kind::Timestamp, 7, &[]),
        (Kind::Timestamp, 17, &[6]),
    ]
}

fn columns() -> Vec<Laid> {
    [numbers(), texts(), times()].concat()
}

/// The events with which a log of the table begins: a transaction and the table's shape.
#[must_use]
pub fn opening() -> [(u8, Vec<u8>); 2] {
    let begin = [&[0; 8][..], &[1, 0, 0, 0, 0], b"d\0BEGIN"].concat();
    let columns = columns();
    let mut map = vec![7, 0, 0, 0, 0, 0, 1, 0, 1, b'd', 0, 1, b't', 0];
    map.push(u8::try_from(columns.len()).unwrap_or(0));
    map.extend(columns.iter().map(|(_, code, _)| *code));
    let metadata: Vec<u8> = columns.iter().flat_map(|(_, _, meta)| meta.to_vec()).collect();
    map.push(u8::try_from(metadata.len()).unwrap_or(0));
    map.extend(metadata);
    map.extend(vec![0xff; columns.len().div_ceil(8)]);
    [(2, begin), (19, map)]
}

/// The bodies of the blocks that these events become; `settles` while a full read still settles.
///
/// # Errors
/// The fault that ends the stream.
pub fn follow(events: &[Logged<'_>], settles: bool) -> Result<Vec<Vec<u8>>, Fault> {
    let at = |offset| Position { file: "bin.000001".to_owned(), offset, ..Position::default() };
    let following = Following {
        at: at(100),
        open: None,
        settle_until: settles.then(|| at(u64::MAX)),
        told_live: false,
        prepared: BTreeMap::new(),
    };
    let target = Arc::new(target()?);
    let assembler = Assembler::new(target, Tracking::File, Limits::default(), following);
    let mut trial = Trial { assembler, blocks: Vec::new() };
    for logged in events {
        let length = u32::try_from(Head::BYTES + logged.body.len()).unwrap_or(u32::MAX);
        let (code, flags) = (logged.code, logged.flags);
        let head = Head { code, timestamp: 1_000, server_id: 1, length, next: 0, flags };
        trial.take(head, logged.body)?;
    }
    trial.blocks.push(trial.assembler.seal().body);
    Ok(trial.blocks)
}

struct Trial {
    assembler: Assembler,
    blocks: Vec<Vec<u8>>,
}

impl Trial {
    fn take(&mut self, head: Head, body: &[u8]) -> Result<(), Fault> {
        let event = event::read(head, head.without_checksum(body)).map_err(unreadable)?;
        if let Event::Payload(packed) = event {
            let payload = event::payload(packed).map_err(unreadable)?;
            let mut unpacked = Unpacked::new(payload).map_err(unreadable)?;
            while let Some((head, body)) = unpacked.next().map_err(unreadable)? {
                self.one(head, &event::read(head, &body).map_err(unreadable)?)?;
            }
        }
        self.one(head, &event)
    }

    fn one(&mut self, head: Head, event: &Event<'_>) -> Result<(), Fault> {
        if let Asks::Rows(mut cursor) = self.assembler.take(head, event)? {
            while let Some(incomplete) = self.assembler.advance(&mut cursor)? {
                self.assembler.complete(&incomplete, None);
            }
        }
        if self.assembler.is_full() {
            self.blocks.push(self.assembler.seal().body);
        }
        Ok(())
    }
}

fn unreadable(error: BadEvent) -> Fault {
    Fault::because(Code::SourceVersion, "cannot read an event of the log", error)
}

/// Appends the text of a document in MySQL's binary JSON; false when it is none.
pub fn put_json(document: &[u8], out: &mut Vec<u8>) -> bool {
    json::put(document, out).is_ok()
}

fn target() -> Result<Target, Fault> {
    let dataset = DatasetId::new("trial.rows")
        .map_err(|error| Fault::because(Code::Bug, "cannot name the dataset of a trial", error))?;
    let (kinds, codes): (Vec<Kind>, Vec<u8>) =
        columns().into_iter().map(|(kind, code, _)| (kind, code)).unzip();
    let names: Vec<String> =
        codes.iter().enumerate().map(|(at, code)| format!("c{at}_{code}")).collect();
    let selection = Selection {
        dataset,
        schema: "d".to_owned(),
        table: "t".to_owned(),
        columns: names,
        key: vec![0],
        filter: None,
        capture: Capture::Log,
        watermark: None,
    };
    Ok(Target::of_kinds(selection, kinds))
}

#[cfg(test)]
mod tests {
    use super::*;
    use phusa_protocol::change::runs;

    /// An event that inserts these images, of which `present` columns are there.
    fn insert(present: [u8; 4], images: &[u8]) -> Vec<u8> {
        [&[7, 0, 0, 0, 0, 0, 1, 0, 26][..], &present, images].concat()
    }

    fn followed(code: u8, body: &[u8]) -> Result<u32, Fault> {
        let opening = opening();
        let mut events: Vec<Logged<'_>> =
            opening.iter().map(|(code, body)| Logged { code: *code, flags: 0, body }).collect();
        events.push(Logged { code, flags: 0, body });
        let blocks = follow(&events, false)?;
        Ok(blocks.iter().flat_map(|body| runs(body)).map(|run| run.unwrap().row_count).sum())
    }

    #[test]
    fn the_opening_is_of_the_table_that_is_followed() {
        let nulls = [&[0xfe, 0xff, 0xff, 0x03][..], &[1, 0, 0, 0]].concat();
        assert_eq!(followed(23, &insert([0xff, 0xff, 0xff, 0x03], &nulls)).ok(), Some(1));
    }

    #[test]
    fn images_of_no_column_at_all_end_the_stream_instead_of_lasting_for_ever() {
        let update = [&[7, 0, 0, 0, 0, 0, 1, 0, 26][..], &[0; 8], &[1, 2, 3]].concat();
        assert_eq!(followed(24, &update).err().map(|f| f.code), Some(Code::SourceVersion));
    }

    #[test]
    fn a_file_that_goes_on_at_the_end_of_all_numbers_is_followed_without_a_panic() {
        let rotate = [&u64::MAX.to_le_bytes()[..], b"bin.000002"].concat();
        let begin = [&[0; 8][..], &[1, 0, 0, 0, 0], b"d\0BEGIN"].concat();
        let logged = |code, body| Logged { code, flags: 0, body };
        let events = [logged(4, &*rotate), logged(2, &begin), logged(16, &[0; 8])];
        assert!(follow(&events, false).is_ok());
    }
}
