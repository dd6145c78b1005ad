//! `Trial`: messages of a log held against what follows it, without a server, so that tests and
//! `tests/fuzz` can try what damage does. Nothing else uses it.

use std::sync::Arc;

use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::ids::DatasetId;

use super::assemble::Assembler;
use super::catalogue::TypeNumbers;
use super::decode;
use super::place::{Following, Lsn};
use super::target::Target;
use crate::source::settings::Limits;
use crate::source::{Capture, Column, Native, Selection};

/// The number of the table that is followed.
const TABLE: u32 = 0x4001;

/// Every type that is carried, with its number; the first is the key.
const TYPES: [(u32, Native); 21] = [
    (23, Native::Int4),
    (16, Native::Bool),
    (21, Native::Int2),
    (20, Native::Int8),
    (1700, Native::Numeric),
    (700, Native::Float4),
    (701, Native::Float8),
    (25, Native::Text),
    (17, Native::Bytea),
    (1082, Native::Date),
    (1083, Native::Time),
    (1266, Native::Timetz),
    (1114, Native::Timestamp),
    (1184, Native::Timestamptz),
    (1186, Native::Interval),
    (2950, Native::Uuid),
    (114, Native::Json),
    (3802, Native::Jsonb),
    (869, Native::Inet),
    (650, Native::Cidr),
    (829, Native::Macaddr),
];

fn types() -> Vec<(u32, Native)> {
    let of = |native| Box::new(native);
    let nested = [
        (3904, Native::Range(of(Native::Int4))),
        (1007, Native::Array(of(Native::Int4))),
        (1009, Native::Array(of(Native::Text))),
    ];
    TYPES.into_iter().chain(nested).collect()
}

/// The types of the columns of the table that [`follow`] follows, in their order.
#[must_use]
pub fn natives() -> Vec<Native> {
    types().into_iter().map(|(_, native)| native).collect()
}

fn target() -> Result<Target, Fault> {
    let dataset = DatasetId::new("trial.rows")
        .map_err(|error| Fault::because(Code::Bug, "cannot name the dataset of a trial", error))?;
    let names: Vec<String> = (0..types().len()).map(|at| format!("c{at}")).collect();
    let column = |(name, (_, native)): (&String, (u32, Native))| Column {
        name: name.clone(),
        type_name: "trial".to_owned(),
        native,
        nullable: true,
    };
    let numbers = |(type_oid, native): (u32, Native)| {
        let element_oid = if matches!(native, Native::Array(_)) { 23 } else { 0 };
        TypeNumbers { type_oid, element_oid, modifier: -1 }
    };
    let columns: Vec<Column> = names.iter().zip(types()).map(column).collect();
    Ok(Target {
        selection: Selection {
            dataset,
            schema: "public".to_owned(),
            table: "t".to_owned(),
            columns: names,
            key: vec![0],
            filter: None,
            capture: Capture::Log,
            watermark: None,
        },
        oid: TABLE,
        rows_estimated: 0,
        columns: columns.into(),
        types: types().into_iter().map(numbers).collect(),
        walk: vec![0],
        through: None,
    })
}

/// The messages with which a log of that table begins: its shape and a transaction.
#[must_use]
pub fn opening() -> [Vec<u8>; 2] {
    let types = types();
    let mut relation = vec![b'R'];
    relation.extend(TABLE.to_be_bytes());
    relation.extend_from_slice(b"public\0t\0d");
    relation.extend(u16::try_from(types.len()).unwrap_or(0).to_be_bytes());
    for (at, (type_oid, _)) in types.iter().enumerate() {
        relation.push(u8::from(at == 0));
        relation.extend(format!("c{at}\0").into_bytes());
        relation.extend(type_oid.to_be_bytes());
        relation.extend((-1_i32).to_be_bytes());
    }
    let begin = [&b"B"[..], &200_u64.to_be_bytes(), &[0; 12]].concat();
    [relation, begin]
}

/// The bodies of the blocks that these messages become.
///
/// # Errors
/// The fault that ends the stream.
pub fn follow(messages: &[&[u8]]) -> Result<Vec<Vec<u8>>, Fault> {
    let following = Following { at: Lsn(100), open: None, settle_until: None, told_live: false };
    let mut assembler = Assembler::new(Arc::new(target()?), Limits::default(), following);
    let mut blocks = Vec::new();
    for message in messages {
        let message = decode::read(message).map_err(|error| {
            Fault::because(Code::SourceVersion, "cannot read a message of the log", error)
        })?;
        if let Some(incomplete) = assembler.take(message)? {
            assembler.complete(&incomplete, None);
        }
        if assembler.is_full() {
            blocks.push(assembler.seal().body);
        }
    }
    blocks.push(assembler.seal().body);
    Ok(blocks)
}

#[cfg(test)]
mod tests {
    use super::*;
    use phusa_protocol::change::runs;

    #[test]
    fn the_opening_is_of_the_table_that_is_followed() {
        let insert =
            [&b"I"[..], &TABLE.to_be_bytes(), b"N\0\x18t\0\0\0\x011", &[b'n'; 23]].concat();
        let [relation, begin] = opening();
        let blocks = follow(&[&relation, &begin, &insert]).unwrap();
        let rows = blocks.iter().flat_map(|body| runs(body)).map(|run| run.unwrap().row_count);
        assert_eq!(rows.sum::<u32>(), 1);
        assert_eq!(natives().len(), 24);
    }
}
