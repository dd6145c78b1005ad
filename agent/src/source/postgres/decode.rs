//! Pure: messages of pgoutput, protocol version 1, as they lie in the buffer.
//!
//! Nothing is copied and nothing is believed: a length that does not fit is an error. What the
//! messages mean for a table is decided in `assemble`.

/// A message that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadMessage {
    /// The bytes ended inside the message.
    #[error("a log message ends early")]
    Cut,
    /// A letter that means nothing at this place.
    #[error("a log message has {0:#04x} where a letter is expected")]
    Letter(u8),
    /// A name that is not UTF-8.
    #[error("a log message holds a name that is not UTF-8")]
    Name,
}

/// One message of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message<'a> {
    /// A transaction begins.
    Begin {
        /// Where its commit record begins: what tells transactions apart.
        final_lsn: u64,
        /// Microseconds since 2000-01-01 UTC.
        commit_micros: i64,
    },
    /// A transaction ends.
    Commit {
        /// Where its commit record ends: what is confirmed to the server.
        end_lsn: u64,
    },
    /// The shape of a table, before its first change and after each change of shape.
    Relation(Relation<'a>),
    /// A row came into being.
    Insert {
        /// The table.
        relation: u32,
        /// The row.
        new: Cells<'a>,
    },
    /// A row changed.
    Update {
        /// The table.
        relation: u32,
        /// What it was, if the server says.
        old: Option<Old<'a>>,
        /// What it is.
        new: Cells<'a>,
    },
    /// A row went away.
    Delete {
        /// The table.
        relation: u32,
        /// What it was.
        old: Old<'a>,
    },
    /// Tables were emptied.
    Truncate {
        /// The tables' numbers, four bytes each, big-endian.
        relations: &'a [u8],
    },
    /// Something that carries no rows: origins, type names, logical messages.
    Other,
}

/// The old form of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Old<'a> {
    /// Only the columns of its replica identity; the others stand as null.
    Key(Cells<'a>),
    /// All of it (REPLICA IDENTITY FULL).
    Full(Cells<'a>),
}

/// The shape of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Relation<'a> {
    /// The table's number.
    pub oid: u32,
    /// Its schema; empty for `pg_catalog`.
    pub schema: &'a str,
    /// Its name.
    pub name: &'a str,
    column_count: u16,
    columns: &'a [u8],
}

/// One column of a [`Relation`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RelationColumn<'a> {
    /// Whether it belongs to the replica identity.
    pub identity: bool,
    /// Its name.
    pub name: &'a str,
    /// Its type's number.
    pub type_oid: u32,
    /// The width, precision or scale its type was given; -1 is none.
    pub modifier: i32,
}

/// The cells of a row, undecoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cells<'a> {
    count: u16,
    bytes: &'a [u8],
}

/// One cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cell<'a> {
    /// SQL null.
    Null,
    /// A value stored apart that the change did not touch; the log does not hold it.
    Unchanged,
    /// The type's text output.
    Text(&'a [u8]),
    /// The type's binary output.
    Binary(&'a [u8]),
}

/// Reads one message.
///
/// # Errors
/// [`BadMessage`].
pub fn read(message: &[u8]) -> Result<Message<'_>, BadMessage> {
    let mut rest = Rest(message);
    Ok(match rest.u8()? {
        b'B' => Message::Begin { final_lsn: rest.u64()?, commit_micros: rest.i64()? },
        b'C' => {
            rest.skip(1 + 8)?;
            Message::Commit { end_lsn: rest.u64()? }
        }
        b'R' => Message::Relation(relation(&mut rest)?),
        b'I' => {
            let relation = rest.u32()?;
            rest.letter(b'N')?;
            Message::Insert { relation, new: rest.cells()? }
        }
        b'U' => update(&mut rest)?,
        b'D' => {
            let relation = rest.u32()?;
            let letter = rest.u8()?;
            let old = rest.old(letter)?.ok_or(BadMessage::Letter(letter))?;
            Message::Delete { relation, old }
        }
        b'T' => {
            let count = usize::try_from(rest.u32()?).map_err(|_| BadMessage::Cut)?;
            rest.skip(1)?;
            Message::Truncate { relations: rest.take(count.saturating_mul(4))? }
        }
        b'O' | b'Y' | b'M' => Message::Other,
        letter => return Err(BadMessage::Letter(letter)),
    })
}

fn update<'a>(rest: &mut Rest<'a>) -> Result<Message<'a>, BadMessage> {
    let relation = rest.u32()?;
    let letter = rest.u8()?;
    let old = rest.old(letter)?;
    match (&old, letter) {
        (Some(_), _) => rest.letter(b'N')?,
        (None, b'N') => {}
        (None, letter) => return Err(BadMessage::Letter(letter)),
    }
    Ok(Message::Update { relation, old, new: rest.cells()? })
}

fn relation<'a>(rest: &mut Rest<'a>) -> Result<Relation<'a>, BadMessage> {
    let oid = rest.u32()?;
    let (schema, name) = (rest.name()?, rest.name()?);
    rest.skip(1)?;
    let column_count = rest.u16()?;
    let columns = rest.0;
    for _ in 0..column_count {
        relation_column(rest)?;
    }
    Ok(Relation { oid, schema, name, column_count, columns })
}

fn relation_column<'a>(rest: &mut Rest<'a>) -> Result<RelationColumn<'a>, BadMessage> {
    let identity = rest.u8()? & 1 == 1;
    let (name, type_oid) = (rest.name()?, rest.u32()?);
    let modifier = rest.u32()?.cast_signed();
    Ok(RelationColumn { identity, name, type_oid, modifier })
}

impl<'a> Relation<'a> {
    /// Its columns in order; they were checked when the message was read.
    pub fn columns(&self) -> impl Iterator<Item = RelationColumn<'a>> + use<'a> {
        let mut rest = Rest(self.columns);
        (0..self.column_count).map_while(move |_| relation_column(&mut rest).ok())
    }
}

impl<'a> Cells<'a> {
    /// Its cells in order; they were checked when the message was read.
    pub fn iter(&self) -> impl Iterator<Item = Cell<'a>> + use<'a> {
        let mut rest = Rest(self.bytes);
        (0..self.count).map_while(move |_| rest.cell().ok())
    }
}

/// The part of a message that is still to be read.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], BadMessage> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(BadMessage::Cut)?;
        self.0 = rest;
        Ok(taken)
    }

    fn skip(&mut self, count: usize) -> Result<(), BadMessage> {
        self.take(count).map(drop)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], BadMessage> {
        let (&taken, rest) = self.0.split_first_chunk::<N>().ok_or(BadMessage::Cut)?;
        self.0 = rest;
        Ok(taken)
    }

    fn u8(&mut self) -> Result<u8, BadMessage> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn u16(&mut self) -> Result<u16, BadMessage> {
        self.array().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Result<u32, BadMessage> {
        self.array().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Result<u64, BadMessage> {
        self.array().map(u64::from_be_bytes)
    }

    fn i64(&mut self) -> Result<i64, BadMessage> {
        self.array().map(i64::from_be_bytes)
    }

    fn letter(&mut self, expected: u8) -> Result<(), BadMessage> {
        match self.u8()? {
            letter if letter == expected => Ok(()),
            letter => Err(BadMessage::Letter(letter)),
        }
    }

    fn name(&mut self) -> Result<&'a str, BadMessage> {
        let end = self.0.iter().position(|&byte| byte == 0).ok_or(BadMessage::Cut)?;
        let name = self.take(end)?;
        self.skip(1)?;
        std::str::from_utf8(name).map_err(|_| BadMessage::Name)
    }

    fn old(&mut self, letter: u8) -> Result<Option<Old<'a>>, BadMessage> {
        Ok(match letter {
            b'K' => Some(Old::Key(self.cells()?)),
            b'O' => Some(Old::Full(self.cells()?)),
            _ => None,
        })
    }

    fn cells(&mut self) -> Result<Cells<'a>, BadMessage> {
        let count = self.u16()?;
        let all = self.0;
        for _ in 0..count {
            self.cell()?;
        }
        let (bytes, _) = all.split_at(all.len() - self.0.len());
        Ok(Cells { count, bytes })
    }

    #[inline]
    fn cell(&mut self) -> Result<Cell<'a>, BadMessage> {
        match self.u8()? {
            b'n' => Ok(Cell::Null),
            b'u' => Ok(Cell::Unchanged),
            b't' => self.value().map(Cell::Text),
            b'b' => self.value().map(Cell::Binary),
            letter => Err(BadMessage::Letter(letter)),
        }
    }

    #[inline]
    fn value(&mut self) -> Result<&'a [u8], BadMessage> {
        let length = usize::try_from(self.u32()?).map_err(|_| BadMessage::Cut)?;
        self.take(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(parts: &[&[u8]]) -> Vec<u8> {
        parts.concat()
    }

    const REL: [u8; 4] = [0, 0, 0x40, 1];

    #[test]
    fn transactions_have_a_beginning_and_an_end() {
        let begin = bytes(&[b"B", &7u64.to_be_bytes(), &9i64.to_be_bytes(), &[0, 0, 0, 5]]);
        assert_eq!(read(&begin), Ok(Message::Begin { final_lsn: 7, commit_micros: 9 }));
        let commit = bytes(&[b"C\0", &7u64.to_be_bytes(), &8u64.to_be_bytes(), &[0; 8]]);
        assert_eq!(read(&commit), Ok(Message::Commit { end_lsn: 8 }));
    }

    #[test]
    fn a_relation_names_its_columns_and_its_identity() {
        let message = bytes(&[
            b"R",
            &REL,
            b"public\0citizens\0d\0\x02",
            b"\x01id\0\0\0\0\x17\xff\xff\xff\xff",
            b"\x00name\0\0\0\0\x19\xff\xff\xff\xff",
        ]);
        let Ok(Message::Relation(relation)) = read(&message) else { panic!("no relation") };
        assert_eq!((relation.oid, relation.schema, relation.name), (0x4001, "public", "citizens"));
        let columns: Vec<_> = relation.columns().collect();
        assert_eq!(
            columns,
            [
                RelationColumn { identity: true, name: "id", type_oid: 23, modifier: -1 },
                RelationColumn { identity: false, name: "name", type_oid: 25, modifier: -1 },
            ]
        );
    }

    #[test]
    fn rows_come_back_cell_by_cell() {
        let new = b"\0\x04t\0\0\0\x011nub\0\0\0\x02\x00\x05";
        let expected =
            [Cell::Text(b"1"), Cell::Null, Cell::Unchanged, Cell::Binary(&[0, 5])].to_vec();
        let check = |message: Vec<u8>, old_cells: Option<Vec<Cell<'_>>>| {
            let (old, new) = match read(&message) {
                Ok(Message::Insert { relation: 0x4001, new }) => (None, Some(new)),
                Ok(Message::Update { relation: 0x4001, old, new }) => (old, Some(new)),
                Ok(Message::Delete { relation: 0x4001, old }) => (Some(old), None),
                _ => panic!("{message:?} is no change"),
            };
            let old = old.map(|(Old::Key(cells) | Old::Full(cells))| cells.iter().collect());
            assert_eq!(old, old_cells);
            if let Some(new) = new {
                assert_eq!(new.iter().collect::<Vec<_>>(), expected);
            }
        };
        let key = b"\0\x01t\0\0\0\x011";
        let old = Some(vec![Cell::Text(b"1")]);
        check(bytes(&[b"I", &REL, b"N", new]), None);
        check(bytes(&[b"U", &REL, b"N", new]), None);
        check(bytes(&[b"U", &REL, b"K", key, b"N", new]), old.clone());
        check(bytes(&[b"U", &REL, b"O", key, b"N", new]), old.clone());
        check(bytes(&[b"D", &REL, b"K", key]), old);
    }

    #[test]
    fn a_truncate_names_its_tables_and_the_rest_is_passed_over() {
        let message = bytes(&[b"T", &[0, 0, 0, 1], &[0], &REL]);
        assert_eq!(read(&message), Ok(Message::Truncate { relations: &REL }));
        assert_eq!(read(b"Y...."), Ok(Message::Other));
    }

    #[test]
    fn damaged_messages_are_named() {
        let check = |message: &[u8], expected: BadMessage| {
            assert_eq!(read(message), Err(expected), "{message:?}");
        };
        check(b"", BadMessage::Cut);
        check(b"B\0", BadMessage::Cut);
        check(b"?", BadMessage::Letter(b'?'));
        check(&bytes(&[b"I", &REL, b"X"]), BadMessage::Letter(b'X'));
        check(&bytes(&[b"I", &REL, b"N\0\x01t\0\0\0\x09x"]), BadMessage::Cut);
        check(&bytes(&[b"I", &REL, b"N\0\x01z"]), BadMessage::Letter(b'z'));
        check(&bytes(&[b"T", &[0xff; 4], &[0]]), BadMessage::Cut);
        check(&bytes(&[b"R", &REL, b"\xff\0"]), BadMessage::Name);
    }
}
