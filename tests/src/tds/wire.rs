//! TDS 7.4 as it lies on the wire: messages of packets, requests, and the tokens of answers.

use std::io::{Read, Write};

use super::value::{Type, Value};

/// The server's collation: Vietnamese, case-insensitive, code page 1258.
const COLLATION: [u8; 5] = [0x2a, 0x04, 0xd0, 0x00, 0x00];
/// Packets are cut here, as long as nothing else was agreed on.
const PACKET_BYTES_MAX: usize = 4_096;
const HEADER_BYTES: usize = 8;

/// Kinds of messages.
pub(super) const BATCH: u8 = 0x01;
pub(super) const RPC: u8 = 0x03;
pub(super) const ANSWER: u8 = 0x04;
pub(super) const ATTENTION: u8 = 0x06;
pub(super) const LOGIN: u8 = 0x10;
pub(super) const PRELOGIN: u8 = 0x12;

/// A whole message: its kind and what its packets carry; `None` when the other side is gone.
pub(super) fn receive(stream: &mut impl Read) -> Option<(u8, Vec<u8>)> {
    let mut body = Vec::new();
    loop {
        let mut head = [0; HEADER_BYTES];
        stream.read_exact(&mut head).ok()?;
        let length = usize::from(u16::from_be_bytes([head[2], head[3]]));
        let start = body.len();
        body.resize(start + length.checked_sub(HEADER_BYTES)?, 0);
        stream.read_exact(&mut body[start..]).ok()?;
        if head[1] & 1 == 1 {
            return Some((head[0], body));
        }
    }
}

/// Sends a message in packets; false when the other side is gone.
pub(super) fn send(stream: &mut impl Write, kind: u8, body: &[u8]) -> bool {
    let mut chunks = body.chunks(PACKET_BYTES_MAX - HEADER_BYTES).peekable();
    let mut out = Vec::with_capacity(body.len() + 64);
    let mut number = 1_u8;
    while let Some(chunk) = chunks.next() {
        let length = u16::try_from(chunk.len() + HEADER_BYTES).expect("a packet").to_be_bytes();
        let last = u8::from(chunks.peek().is_none());
        out.extend([kind, last, length[0], length[1], 0, 0, number, 0]);
        out.extend_from_slice(chunk);
        number = number.wrapping_add(1);
    }
    stream.write_all(&out).and_then(|()| stream.flush()).is_ok()
}

/// What stands in a message, read from its start.
pub(super) struct Cursor<'a>(pub(super) &'a [u8]);

impl<'a> Cursor<'a> {
    pub(super) fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count);
        self.0 = rest;
        taken
    }

    pub(super) fn u8(&mut self) -> u8 {
        self.take(1)[0]
    }

    pub(super) fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.take(2).try_into().expect("two bytes"))
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take(4).try_into().expect("four bytes"))
    }

    fn utf16(&mut self, units: usize) -> String {
        utf16(self.take(2 * units))
    }

    /// Passes over the headers of a request; the transaction is in them.
    pub(super) fn skip_headers(&mut self) {
        let length = usize::try_from(u32::from_le_bytes(self.0[..4].try_into().expect("four")));
        self.take(length.expect("a short header"));
    }

    /// A parameter of a request with its name.
    pub(super) fn parameter(&mut self) -> (String, Value) {
        let units = usize::from(self.u8());
        let name = self.utf16(units);
        self.u8();
        let value = match self.u8() {
            0x26 => self.integer(),
            0xe7 => {
                let bytes = self.text_or_bytes(5);
                bytes.map_or(Value::Null, |bytes| Value::Text(units_of(&bytes)))
            }
            0xa5 => self.text_or_bytes(0).map_or(Value::Null, Value::Bytes),
            kind => panic!("a parameter of the type {kind:#x} is not expected"),
        };
        (name, value)
    }

    fn integer(&mut self) -> Value {
        self.u8();
        let length = usize::from(self.u8());
        let bytes = self.take(length);
        let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
        let mut wide = [if negative { 0xff } else { 0 }; 8];
        wide[..length].copy_from_slice(bytes);
        if length == 0 { Value::Null } else { Value::Int(i64::from_le_bytes(wide)) }
    }

    fn text_or_bytes(&mut self, collation_bytes: usize) -> Option<Vec<u8>> {
        let length_max = self.u16();
        self.take(collation_bytes);
        if length_max != 0xffff {
            let length = self.u16();
            return (length != 0xffff).then(|| self.take(usize::from(length)).to_vec());
        }
        let total = u64::from_le_bytes(self.take(8).try_into().expect("eight bytes"));
        if total == u64::MAX {
            return None;
        }
        let mut out = Vec::new();
        loop {
            let length = usize::try_from(self.u32()).expect("a chunk");
            if length == 0 {
                break;
            }
            out.extend_from_slice(self.take(length));
        }
        Some(out)
    }
}

/// The text of UTF-16 bytes.
pub(super) fn utf16(bytes: &[u8]) -> String {
    String::from_utf16_lossy(&units_of(bytes))
}

fn units_of(bytes: &[u8]) -> Vec<u16> {
    bytes.as_chunks::<2>().0.iter().map(|unit| u16::from_le_bytes(*unit)).collect()
}

/// Tokens of an answer.
#[derive(Default)]
pub(super) struct Tokens(pub(super) Vec<u8>);

impl Tokens {
    fn b_varchar(&mut self, text: &str) {
        let units: Vec<u16> = text.encode_utf16().collect();
        self.0.push(u8::try_from(units.len()).expect("a short name"));
        self.0.extend(units.iter().flat_map(|unit| unit.to_le_bytes()));
    }

    fn token(&mut self, kind: u8, build: impl FnOnce(&mut Self)) {
        let mut inner = Self::default();
        build(&mut inner);
        self.0.push(kind);
        let length = u16::try_from(inner.0.len()).expect("a short token");
        self.0.extend(length.to_le_bytes());
        self.0.extend(inner.0);
    }

    /// The login was accepted, in this database.
    pub(super) fn login_ack(&mut self, database: &str) {
        self.token(0xe3, |token| {
            token.0.push(1);
            token.b_varchar(database);
            token.b_varchar("master");
        });
        self.token(0xad, |token| {
            token.0.push(1);
            token.0.extend(0x7400_0004_u32.to_be_bytes());
            token.b_varchar("Microsoft SQL Server");
            token.0.extend([11, 0, 0x1b, 0x5c]);
        });
    }

    /// A transaction began (`Some`) or ended.
    pub(super) fn transaction(&mut self, begun: Option<u64>) {
        self.token(0xe3, |token| match begun {
            Some(number) => {
                token.0.extend([8, 8]);
                token.0.extend(number.to_le_bytes());
                token.0.push(0);
            }
            None => token.0.extend([9, 0, 8, 0, 0, 0, 0, 0, 0, 0, 1]),
        });
    }

    /// Go to another server.
    pub(super) fn route(&mut self, host: &str, port: u16) {
        self.token(0xe3, |token| {
            let units: Vec<u16> = host.encode_utf16().collect();
            let length = u16::try_from(units.len()).expect("a short name");
            token.0.push(20);
            token.0.extend((5 + 2 * length).to_le_bytes());
            token.0.push(0);
            token.0.extend(port.to_le_bytes());
            token.0.extend(length.to_le_bytes());
            token.0.extend(units.iter().flat_map(|unit| unit.to_le_bytes()));
            token.0.extend([0, 0]);
        });
    }

    /// An error in the server's words.
    pub(super) fn error(&mut self, number: u32, message: &str) {
        self.token(0xaa, |token| {
            token.0.extend(number.to_le_bytes());
            token.0.extend([1, 14]);
            let units: Vec<u16> = message.encode_utf16().collect();
            token.0.extend(u16::try_from(units.len()).expect("a short message").to_le_bytes());
            token.0.extend(units.iter().flat_map(|unit| unit.to_le_bytes()));
            token.b_varchar("RESPONDER");
            token.b_varchar("");
            token.0.extend(1_u32.to_le_bytes());
        });
    }

    /// The columns of the rows that follow.
    pub(super) fn columns(&mut self, columns: &[(String, Type)]) {
        self.0.push(0x81);
        self.0.extend(u16::try_from(columns.len()).expect("columns").to_le_bytes());
        for (name, kind) in columns {
            // A user type of 0, and the flag of a column that may be null.
            self.0.extend([0, 0, 0, 0, 1, 0]);
            self.0.extend(kind.info(COLLATION));
            self.b_varchar(name);
        }
    }

    /// A row; with nulls in the form that has a bitmap of them.
    pub(super) fn row(&mut self, columns: &[(String, Type)], row: &[Value]) {
        let with_nulls = row.contains(&Value::Null);
        if with_nulls {
            self.0.push(0xd2);
            let mut bitmap = vec![0_u8; row.len().div_ceil(8)];
            for (at, _) in row.iter().enumerate().filter(|(_, value)| **value == Value::Null) {
                bitmap[at / 8] |= 1 << (at % 8);
            }
            self.0.extend(bitmap);
        } else {
            self.0.push(0xd1);
        }
        for (value, (_, kind)) in row.iter().zip(columns) {
            if *value != Value::Null {
                self.0.extend(kind.encode(value));
            }
        }
    }

    /// The end of an answer: to a batch, to a remote call, or to an attention.
    pub(super) fn done(&mut self, kind: u8, failed: bool) {
        let status: u16 = u16::from(failed) << 1;
        match kind {
            RPC => {
                self.0.extend([0x79, 0, 0, 0, 0, 0xfe]);
                self.0.extend(status.to_le_bytes());
            }
            ATTENTION => self.0.extend([0xfd, 0x20, 0]),
            _ => {
                self.0.push(0xfd);
                self.0.extend(status.to_le_bytes());
            }
        }
        self.0.extend([0; 10]);
    }
}
