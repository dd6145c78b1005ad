//! Pure: the gate of the log. What is named here is understood or may be passed over; everything
//! else stops the stream, because an event that is skipped is a change that is lost.

use std::io::Read as _;

use flate2::read::ZlibDecoder;

use super::cell::{BadCell, Layout};

/// The head of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) code: u8,
    /// Seconds since 1970.
    pub(super) timestamp: u32,
    pub(super) server_id: u32,
    /// Bytes of the event, this head and its checksum included.
    pub(super) length: u32,
    /// Where the next event begins, modulo 2^32; 0 for events that stand in no file.
    pub(super) next: u32,
    pub(super) flags: u16,
}

/// Set in a head where a reader that does not know the event may pass it over.
const IGNORABLE: u16 = 0x80;
/// Set where the event was made for this connection and stands in no file.
const ARTIFICIAL: u16 = 0x20;

impl Head {
    /// Bytes of a head.
    pub(super) const BYTES: usize = 19;

    /// Takes a head off `bytes`.
    pub(super) fn take(bytes: &mut &[u8]) -> Option<Self> {
        let timestamp = number(bytes, 4)?;
        let code = number(bytes, 1)?;
        let server_id = number(bytes, 4)?;
        let length = number(bytes, 4)?;
        let next = number(bytes, 4)?;
        let flags = number(bytes, 2)?;
        Some(Self {
            code: u8::try_from(code).ok()?,
            timestamp: u32::try_from(timestamp).ok()?,
            server_id: u32::try_from(server_id).ok()?,
            length: u32::try_from(length).ok()?,
            next: u32::try_from(next).ok()?,
            flags: u16::try_from(flags).ok()?,
        })
    }

    /// Its bytes as they stand before an event.
    fn bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        let parts = [self.timestamp, u32::from(self.code), self.server_id, self.length, self.next];
        let mut at = 0;
        for (part, count) in parts.into_iter().zip([4, 1, 4, 4, 4]) {
            for byte in part.to_le_bytes().into_iter().take(count) {
                if let Some(slot) = bytes.get_mut(at) {
                    *slot = byte;
                }
                at += 1;
            }
        }
        if let Some(flags) = bytes.last_chunk_mut::<2>() {
            *flags = self.flags.to_le_bytes();
        }
        bytes
    }

    /// What an event says, without the checksum that may follow before the server told whether it
    /// uses them. The first event names a file, and what follows the name can look like a name.
    pub(super) fn without_checksum(self, body: &[u8]) -> &[u8] {
        let Some((content, written)) = body.split_last_chunk::<4>() else { return body };
        let mut sum = flate2::Crc::new();
        sum.update(&self.bytes());
        sum.update(content);
        if sum.sum() == u32::from_le_bytes(*written) { content } else { body }
    }

    /// The same head for an event that came inside another one.
    pub(super) fn inside(self) -> Self {
        Self { flags: self.flags | ARTIFICIAL, ..self }
    }

    /// Where the event after this one begins, when this one begins at `offset`. Heads count modulo
    /// 2^32; MariaDB leaves the number out where it wrote the event before it knew its place.
    pub(super) fn offset_after(self, offset: u64) -> u64 {
        /// Rotations, formats, heartbeats and lists of positions without a place in a file.
        const MADE_UP: [u8; 5] = [4, 15, 27, 41, 163];
        if self.flags & ARTIFICIAL != 0 || (self.next == 0 && MADE_UP.contains(&self.code)) {
            return offset;
        }
        if self.next == 0 {
            return offset.saturating_add(u64::from(self.length));
        }
        let next = (offset & !0xffff_ffff) | u64::from(self.next);
        if next < offset { next.saturating_add(1 << 32) } else { next }
    }
}

/// What an event says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Event<'a> {
    /// Nothing that concerns a table's rows.
    Nothing,
    /// The next event stands in this file at this offset.
    Rotate { file: &'a [u8], offset: u64 },
    /// A transaction of MySQL begins; which one is read by the caller.
    Gtid,
    /// A transaction of MariaDB begins; `alone` where one statement is all of it, `xa` where it
    /// will only be prepared.
    Domain { domain: u32, seq: u64, alone: bool, xa: bool },
    /// A statement as text.
    Query { schema: &'a [u8], text: Text<'a> },
    /// The transaction is committed.
    Commit,
    /// The transaction is prepared; `one_phase` where that commits it. Its name is two parts in
    /// hexadecimal digits.
    Prepare { one_phase: bool, name: String },
    /// Which table a number stands for.
    TableMap(TableMap<'a>),
    /// Changed rows.
    Rows(Rows<'a>),
    /// Changed rows of which a JSON value is given as its difference only.
    PartialRows { table: u64 },
    /// A transaction, packed.
    Payload(&'a [u8]),
    /// The server lost changes of its own log.
    Incident,
}

/// The text of a statement, packed or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Text<'a> {
    Plain(&'a [u8]),
    Unpacked(Vec<u8>),
}

impl Text<'_> {
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Plain(bytes) => bytes,
            Self::Unpacked(bytes) => bytes,
        }
    }
}

/// Which table a number stands for, and how its columns lie in the events that follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TableMap<'a> {
    pub(super) table: u64,
    pub(super) schema: &'a [u8],
    pub(super) name: &'a [u8],
    /// Types and metadata, not yet taken apart: most tables are not ours.
    codes: &'a [u8],
    metadata: &'a [u8],
    optional: &'a [u8],
}

/// A table map taken apart.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Columns {
    pub(super) layouts: Vec<Layout>,
    /// Their names, where the log has them (`binlog_row_metadata = FULL`).
    pub(super) names: Option<Vec<Vec<u8>>>,
    /// Labels of each ENUM and SET column, by column, where the log has them.
    pub(super) labels: Vec<(usize, Vec<Vec<u8>>)>,
}

/// What was done to rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    Insert,
    Update,
    Delete,
}

/// Changed rows of one table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rows<'a> {
    pub(super) table: u64,
    pub(super) change: Change,
    pub(super) column_count: usize,
    /// Which columns the images have: of an update those before, and then those after.
    pub(super) present: &'a [u8],
    pub(super) present_after: &'a [u8],
    pub(super) images: Text<'a>,
}

/// Why an event cannot be gone past.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadEvent {
    #[error("the log has an event of type {0}, which this version does not know")]
    Unknown(u8),
    #[error("an event of type {0} is damaged")]
    Damaged(u8),
    #[error(transparent)]
    Cell(#[from] BadCell),
}

/// The largest event that is unpacked; MariaDB packs no larger ones.
const UNPACKED_BYTES_MAX: u64 = 1 << 30;

/// Reads an event.
pub(super) fn read<'a>(head: Head, body: &'a [u8]) -> Result<Event<'a>, BadEvent> {
    let damaged = || BadEvent::Damaged(head.code);
    let rows = |change, extra, packed| rows(body, change, extra, packed).ok_or_else(damaged);
    Ok(match head.code {
        2 => query(body, false).ok_or_else(damaged)?,
        165 => query(body, true).ok_or_else(damaged)?,
        // LOAD DATA as a statement; the file it loads comes before it.
        18 => load_query(body).ok_or_else(damaged)?,
        4 => rotate(body).ok_or_else(damaged)?,
        16 => Event::Commit,
        19 => Event::TableMap(table_map(body).ok_or_else(damaged)?),
        23 => rows(Change::Insert, false, false)?,
        24 => rows(Change::Update, false, false)?,
        25 => rows(Change::Delete, false, false)?,
        30 => rows(Change::Insert, true, false)?,
        31 => rows(Change::Update, true, false)?,
        32 => rows(Change::Delete, true, false)?,
        166 => rows(Change::Insert, false, true)?,
        167 => rows(Change::Update, false, true)?,
        168 => rows(Change::Delete, false, true)?,
        169 => rows(Change::Insert, true, true)?,
        170 => rows(Change::Update, true, true)?,
        171 => rows(Change::Delete, true, true)?,
        26 => Event::Incident,
        33 | 34 | 42 => Event::Gtid,
        38 => prepare(body).ok_or_else(damaged)?,
        39 => Event::PartialRows { table: number(&mut { body }, 6).ok_or_else(damaged)? },
        40 => Event::Payload(body),
        162 => domain(body).ok_or_else(damaged)?,
        // Stop; variables, files and random numbers of a statement; format; heartbeats; the
        // statement of rows; earlier positions; group replication; MariaDB's statement of rows,
        // checkpoint, positions and encryption.
        3 | 5 | 9 | 11 | 13 | 14 | 15 | 17 | 27 | 28 | 29 | 35 | 36 | 37 | 41 | 160 | 161 | 163
        | 164 => Event::Nothing,
        _ if head.flags & IGNORABLE != 0 => Event::Nothing,
        other => return Err(BadEvent::Unknown(other)),
    })
}

/// Takes a little-endian number of so many bytes.
fn number(bytes: &mut &[u8], count: usize) -> Option<u64> {
    let head = take(bytes, count)?;
    Some(head.iter().rev().fold(0, |sum, &byte| sum << 8 | u64::from(byte)))
}

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (head, rest) = bytes.split_at_checked(count)?;
    *bytes = rest;
    Some(head)
}

/// Takes a number that says its own length.
fn packed_number(bytes: &mut &[u8]) -> Option<usize> {
    let number = match number(bytes, 1)? {
        small @ 0..=250 => small,
        252 => number(bytes, 2)?,
        253 => number(bytes, 3)?,
        254 => number(bytes, 8)?,
        _ => return None,
    };
    usize::try_from(number).ok()
}

fn short(bytes: &mut &[u8], count: usize) -> Option<usize> {
    number(bytes, count).and_then(|number| usize::try_from(number).ok())
}

fn rotate(mut body: &[u8]) -> Option<Event<'_>> {
    let offset = number(&mut body, 8)?;
    Some(Event::Rotate { file: body, offset })
}

fn query(mut body: &[u8], packed: bool) -> Option<Event<'_>> {
    take(&mut body, 8)?;
    let schema_length = short(&mut body, 1)?;
    take(&mut body, 2)?;
    let status_length = short(&mut body, 2)?;
    take(&mut body, status_length)?;
    let schema = take(&mut body, schema_length)?;
    take(&mut body, 1)?;
    let text = if packed { Text::Unpacked(unpack(body)?) } else { Text::Plain(body) };
    Some(Event::Query { schema, text })
}

fn load_query(mut body: &[u8]) -> Option<Event<'_>> {
    take(&mut body, 8)?;
    let schema_length = short(&mut body, 1)?;
    take(&mut body, 2)?;
    let status_length = short(&mut body, 2)?;
    take(&mut body, 13)?;
    take(&mut body, status_length)?;
    let schema = take(&mut body, schema_length)?;
    take(&mut body, 1)?;
    Some(Event::Query { schema, text: Text::Plain(body) })
}

/// MariaDB's packing: a byte with the algorithm and the length's length, the length, the content.
fn unpack(mut bytes: &[u8]) -> Option<Vec<u8>> {
    let head = number(&mut bytes, 1)?;
    if head & 0x80 == 0 || head >> 4 & 7 != 0 {
        return None;
    }
    let length = take(&mut bytes, usize::try_from(head & 7).ok()?)?;
    let length = length.iter().fold(0, |sum, &byte| sum << 8 | u64::from(byte));
    if length > UNPACKED_BYTES_MAX {
        return None;
    }
    // What it says of its length is believed as far as its content goes on.
    let room = usize::try_from(length).ok()?.min(bytes.len().saturating_mul(8));
    let mut content = Vec::with_capacity(room);
    ZlibDecoder::new(bytes).take(length + 1).read_to_end(&mut content).ok()?;
    (u64::try_from(content.len()).ok()? == length).then_some(content)
}

fn domain(mut body: &[u8]) -> Option<Event<'_>> {
    /// One statement is all of the transaction.
    const STANDALONE: u64 = 1;
    /// It ends with XA PREPARE.
    const PREPARED_XA: u64 = 64;
    let seq = number(&mut body, 8)?;
    let domain = u32::try_from(number(&mut body, 4)?).ok()?;
    let flags = number(&mut body, 1)?;
    let (alone, xa) = (flags & STANDALONE != 0, flags & PREPARED_XA != 0);
    Some(Event::Domain { domain, seq, alone, xa })
}

fn prepare(mut body: &[u8]) -> Option<Event<'_>> {
    let one_phase = number(&mut body, 1)? != 0;
    take(&mut body, 4)?;
    let (global, branch) = (short(&mut body, 4)?, short(&mut body, 4)?);
    let name = format!("{},{}", hex(take(&mut body, global)?), hex(take(&mut body, branch)?));
    Some(Event::Prepare { one_phase, name })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn table_map(mut body: &[u8]) -> Option<TableMap<'_>> {
    let table = number(&mut body, 6)?;
    take(&mut body, 2)?;
    let length = short(&mut body, 1)?;
    let schema = take(&mut body, length)?;
    take(&mut body, 1)?;
    let length = short(&mut body, 1)?;
    let name = take(&mut body, length)?;
    take(&mut body, 1)?;
    let count = packed_number(&mut body)?;
    let codes = take(&mut body, count)?;
    let length = packed_number(&mut body)?;
    let metadata = take(&mut body, length)?;
    take(&mut body, count.div_ceil(8))?;
    Some(TableMap { table, schema, name, codes, metadata, optional: body })
}

impl TableMap<'_> {
    /// Takes the columns apart.
    pub(super) fn columns(&self) -> Result<Columns, BadEvent> {
        let mut metadata = self.metadata;
        let mut columns = Columns::default();
        for &code in self.codes {
            let count = Layout::meta_bytes(code)?;
            let bytes = take(&mut metadata, count).ok_or(BadCell::Cut)?;
            let at = |index: usize| bytes.get(index).copied().unwrap_or(0);
            columns.layouts.push(Layout { code, meta: [at(0), at(1)] }.resolved());
        }
        self.optional_fields(&mut columns).ok_or(BadEvent::Damaged(19))?;
        Ok(columns)
    }

    fn optional_fields(&self, columns: &mut Columns) -> Option<()> {
        let mut rest = self.optional;
        while !rest.is_empty() {
            let field = number(&mut rest, 1)?;
            let length = packed_number(&mut rest)?;
            let mut content = take(&mut rest, length)?;
            match field {
                4 => {
                    let mut names = Vec::with_capacity(columns.layouts.len());
                    while !content.is_empty() {
                        names.push(string(&mut content)?);
                    }
                    columns.names = Some(names);
                }
                5 => labels(columns, super::cell::code::SET, content)?,
                6 => labels(columns, super::cell::code::ENUM, content)?,
                _ => {}
            }
        }
        Some(())
    }
}

fn string(content: &mut &[u8]) -> Option<Vec<u8>> {
    let length = packed_number(content)?;
    take(content, length).map(<[u8]>::to_vec)
}

/// Labels of all columns of one type, in the order of the columns.
fn labels(columns: &mut Columns, code: u8, mut content: &[u8]) -> Option<()> {
    let at = |(at, layout): (usize, &Layout)| (layout.code == code).then_some(at);
    let places: Vec<usize> = columns.layouts.iter().enumerate().filter_map(at).collect();
    for place in places {
        let count = packed_number(&mut content)?;
        let labels = (0..count).map(|_| string(&mut content)).collect::<Option<Vec<_>>>()?;
        columns.labels.push((place, labels));
    }
    Some(())
}

fn rows(mut body: &[u8], change: Change, extra: bool, packed: bool) -> Option<Event<'_>> {
    let table = number(&mut body, 6)?;
    take(&mut body, 2)?;
    if extra {
        let length = short(&mut body, 2)?.checked_sub(2)?;
        take(&mut body, length)?;
    }
    let column_count = packed_number(&mut body)?;
    let present = take(&mut body, column_count.div_ceil(8))?;
    let present_after = match change {
        Change::Update => take(&mut body, column_count.div_ceil(8))?,
        Change::Insert | Change::Delete => present,
    };
    let images = if packed { Text::Unpacked(unpack(body)?) } else { Text::Plain(body) };
    Some(Event::Rows(Rows { table, change, column_count, present, present_after, images }))
}

/// What a packed transaction of MySQL says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Payload<'a> {
    pub(super) packed: &'a [u8],
    pub(super) is_zstd: bool,
    pub(super) unpacked_bytes: u64,
}

/// Reads the head of a packed transaction: fields of number, length and content, ended by 0.
pub(super) fn payload(mut body: &[u8]) -> Result<Payload<'_>, BadEvent> {
    let damaged = BadEvent::Damaged(40);
    let (mut size, mut algorithm, mut unpacked_bytes) = (None, 255, 0);
    loop {
        match packed_number(&mut body).ok_or(damaged)? {
            0 => break,
            field => {
                let length = packed_number(&mut body).ok_or(damaged)?;
                let mut content = take(&mut body, length).ok_or(damaged)?;
                let value = packed_number(&mut content).ok_or(damaged)?;
                match field {
                    1 => size = Some(value),
                    2 => algorithm = value,
                    3 => unpacked_bytes = u64::try_from(value).map_err(|_| damaged)?,
                    _ => {}
                }
            }
        }
    }
    let packed = body.get(..size.ok_or(damaged)?).ok_or(damaged)?;
    if !matches!(algorithm, 0 | 255) {
        return Err(damaged);
    }
    Ok(Payload { packed, is_zstd: algorithm == 0, unpacked_bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(code: u8, flags: u16) -> Head {
        Head { code, timestamp: 0, server_id: 1, length: 19, next: 4, flags }
    }

    #[test]
    fn offsets_go_on_beyond_4_gib_and_where_the_head_does_not_tell_them() {
        let check = |code: u8, next: u32, flags: u16, offset: u64, expected: u64| {
            let head = Head { next, length: 30, ..head(code, flags) };
            assert_eq!(head.offset_after(offset), expected, "{code} {next} {offset}");
        };
        check(16, 150, 0, 120, 150);
        check(16, 0, 0, 120, 150);
        check(15, 0, 0, 120, 120);
        check(27, 0, 0, 120, 120);
        check(4, 0, ARTIFICIAL, 120, 120);
        check(16, 26, 0, 0xffff_fffc, 0x1_0000_001a);
        check(16, 56, 0, 0x1_0000_001a, 0x1_0000_0038);
    }

    #[test]
    fn an_event_that_is_not_known_stops_the_stream() {
        let check = |code: u8, flags: u16, expected: Result<Event<'static>, BadEvent>| {
            assert_eq!(read(head(code, flags), &[]), expected, "{code}");
        };
        check(3, 0, Ok(Event::Nothing));
        check(161, 0, Ok(Event::Nothing));
        check(26, 0, Ok(Event::Incident));
        check(99, 0, Err(BadEvent::Unknown(99)));
        check(172, 0, Err(BadEvent::Unknown(172)));
        check(99, IGNORABLE, Ok(Event::Nothing));
        check(20, 0, Err(BadEvent::Unknown(20)));
        check(31, 0, Err(BadEvent::Damaged(31)));
        check(165, 0, Err(BadEvent::Damaged(165)));
    }

    #[test]
    fn a_checksum_after_the_name_of_a_file_is_not_taken_for_a_part_of_it() {
        let said = [&4_u64.to_le_bytes()[..], b"bin.000001"].concat();
        let mut looks_like_a_name = 0;
        for timestamp in 0..2_000 {
            let head = Head { timestamp, ..head(4, ARTIFICIAL) };
            let mut sum = flate2::Crc::new();
            sum.update(&head.bytes());
            sum.update(&said);
            let checksum = sum.sum().to_le_bytes();
            looks_like_a_name += usize::from(checksum.iter().all(u8::is_ascii_graphic));
            let body = [&said[..], &checksum].concat();
            let expected = Event::Rotate { file: b"bin.000001", offset: 4 };
            assert_eq!(read(head, head.without_checksum(&body)), Ok(expected.clone()));
            assert_eq!(read(head, head.without_checksum(&said)), Ok(expected));
        }
        assert!(looks_like_a_name > 0);
    }

    #[test]
    fn a_table_map_names_columns_and_labels_where_the_log_has_them() {
        let mut body = vec![7, 0, 0, 0, 0, 0, 1, 0, 1, b'd', 0, 1, b't', 0, 3, 3, 254, 15];
        body.extend([4, 247, 1, 10, 0, 0b110]);
        let bare = body.clone();
        body.extend([4, 9, 2, b'i', b'd', 1, b'e', 3, b't', b'e', b'n']);
        body.extend([6, 5, 2, 1, b'x', 1, b'y']);
        let Ok(Event::TableMap(map)) = read(head(19, 0), &body) else { panic!() };
        assert_eq!((map.table, map.schema, map.name), (7, &b"d"[..], &b"t"[..]));
        let columns = map.columns().unwrap();
        let names: Vec<_> = columns.names.unwrap();
        assert_eq!(names, [b"id".to_vec(), b"e".to_vec(), b"ten".to_vec()]);
        assert_eq!(columns.labels, [(1, vec![b"x".to_vec(), b"y".to_vec()])]);
        assert_eq!(columns.layouts.get(1), Some(&Layout { code: 247, meta: [247, 1] }));
        let Ok(Event::TableMap(map)) = read(head(19, 0), &bare) else { panic!() };
        assert_eq!(map.columns().unwrap().names, None);
    }

    #[test]
    fn what_mariadb_packed_is_unpacked_or_refused() {
        use std::io::Write as _;
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(b"create table t (id int)").unwrap();
        let packed = encoder.finish().unwrap();
        let check = |head: &[u8], expected: Option<&[u8]>| {
            let bytes = [head, &packed].concat();
            assert_eq!(unpack(&bytes).as_deref(), expected);
        };
        check(&[0x81, 23], Some(b"create table t (id int)"));
        check(&[0x82, 0, 23], Some(b"create table t (id int)"));
        check(&[0x81, 22], None);
        check(&[0x81, 24], None);
        check(&[0x91, 23], None);
        check(&[0x01, 23], None);
    }
}
