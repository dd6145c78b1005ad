//! Values of SQL Server as its driver hands them on: carried exactly or refused, and a key is written
//! so that it means the value it was.

#![cfg_attr(fuzzing, no_main)]

use std::borrow::Cow;

use phusa_agent::source::Native;
use phusa_agent::source::postgres::text::{Form, to_binary};
use phusa_agent::source::sqlserver::trial;
use phusa_fuzz::fuzz_target;
use phusa_protocol::row::Tuple;
use phusa_protocol::value::Field;
use tiberius::ColumnData;
use tiberius::numeric::Numeric;
use tiberius::time::{Date, DateTime2, DateTimeOffset, Time};

const NATIVES: [Native; 12] = [
    Native::Bool,
    Native::Int2,
    Native::Int4,
    Native::Int8,
    Native::Float4,
    Native::Float8,
    Native::Numeric,
    Native::Bytea,
    Native::Text,
    Native::Date,
    Native::Timestamp,
    Native::OffsetTenths,
];

/// Any value that the driver can make of what a server sends.
fn value(which: u8, data: &[u8]) -> ColumnData<'_> {
    let byte = |at: usize| data.get(at).copied().unwrap_or(0);
    let number = |from: usize, count: usize| {
        (from..from + count).fold(0_u128, |sum, at| sum << 8 | u128::from(byte(at)))
    };
    let number64 = |from: usize, count: usize| u64::try_from(number(from, count)).unwrap_or(0);
    // Three bytes on the wire.
    let date = Date::new(u32::try_from(number(0, 3)).unwrap_or(0));
    let time = Time::new(number64(3, 5), byte(8) % 8);
    let moment = DateTime2::new(date, time);
    match which % 15 {
        0 => ColumnData::Bit(Some(byte(0) & 1 == 1)),
        1 => ColumnData::I16(Some(i16::from_be_bytes([byte(0), byte(1)]))),
        2 => ColumnData::I32(Some(u32::try_from(number(0, 4)).unwrap_or(0).cast_signed())),
        3 => ColumnData::I64(Some(number64(0, 8).cast_signed())),
        4 => ColumnData::F32(Some(f32::from_bits(u32::try_from(number(0, 4)).unwrap_or(0)))),
        5 => ColumnData::F64(Some(f64::from_bits(number64(0, 8)))),
        6 => ColumnData::Numeric(Some(Numeric::new_with_scale(
            number(1, 16).cast_signed(),
            byte(0) % 38,
        ))),
        7 => ColumnData::Binary(Some(Cow::Borrowed(data))),
        8 => ColumnData::Date(Some(date)),
        9 => ColumnData::Time(Some(time)),
        10 => ColumnData::DateTime2(Some(moment)),
        11 => ColumnData::DateTimeOffset(Some(DateTimeOffset::new(
            moment,
            i16::from_be_bytes([byte(9), byte(10)]),
        ))),
        12 => ColumnData::U8(Some(byte(0))),
        13 => ColumnData::String(Some(String::from_utf8_lossy(data))),
        _ => ColumnData::Numeric(None),
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((&[which, native], rest)) = data.split_first_chunk::<2>() else { return };
    let plain = NATIVES[usize::from(native & 0x3f) % NATIVES.len()].clone();
    let native = match native >> 6 {
        0 => Native::Tenths(Box::new(plain)),
        1 => Native::Time,
        _ => plain,
    };
    let value = value(which, rest);
    let mut tuple = vec![0, 1];
    let key = trial::key_text(&native, &value);
    if !trial::put(&native, &value, &mut tuple) {
        return;
    }
    let mut left = tuple.as_slice();
    let read = Tuple::take(&mut left).expect("a tuple of one field");
    assert!(left.is_empty());
    let Some(Field::Value(bytes)) = read.fields().next() else { return };
    // A key as text means the very bytes that travel.
    if let (Some(key), Native::Numeric | Native::Int4 | Native::Int8 | Native::Int2) =
        (key, &native)
    {
        let mut expected = Vec::new();
        let form = Form { native: &native, element_oid: 0 };
        assert!(to_binary(form, key.as_bytes(), &mut expected).is_ok(), "{key}");
        assert_eq!(bytes, expected, "{key}");
    }
});
