//! Values larger than a row may be: cut just above the limit where they are met, so that mapping
//! sees a row that is too large, and the agent never holds all of it.
//!
//! Text, JSON and bytes are cut, which is what grows large; other types are carried whole.

use phusa_protocol::fault::Fault;

use super::catalogue::ident;
use super::decode::Cell;
use super::session::{Session, get};
use crate::source::{Column, Native};

/// How much shorter than itself a value may be stored: more than any compression of the server
/// reaches.
const STORED_RATIO_MAX: u64 = 256;

/// Whether the table may hold a value of more than `bytes_max`: such a value is stored apart, in
/// a file whose size costs nothing to ask, while asking each value costs the server time.
pub(super) async fn may_stand_in(
    session: &Session,
    table: u32,
    bytes_max: u64,
) -> Result<bool, Fault> {
    let sql = "with recursive tree (oid) as ( \
                 select $1::oid union all \
                 select i.inhrelid from pg_inherits i join tree t on i.inhparent = t.oid) \
               select coalesce(sum(pg_relation_size(c.reltoastrelid)), 0)::int8 \
               from tree t join pg_class c on c.oid = t.oid where c.reltoastrelid <> 0";
    let row = session.row("cannot look up how much is stored apart", sql, &[&table]).await?;
    let stored: i64 = get(&row, 0)?;
    Ok(stored.unsigned_abs() > bytes_max / STORED_RATIO_MAX)
}

/// A column in a `select`, its value cut above `bytes_max`.
pub(super) fn cut_sql(column: &Column, bytes_max: u64) -> String {
    let name = ident(&column.name);
    // What has a width, or a domain's rule, is not written as one of these types.
    let (length, cut) = match column.type_name.as_str() {
        "text" | "character varying" | "bytea" => {
            (format!("octet_length({name})"), format!("substr({name}, 1, {bytes_max} + 1)"))
        }
        "json" => {
            let text = format!("octet_length({name}::text)");
            (text, format!("to_json(repeat('x', {bytes_max} + 1))"))
        }
        _ => return name,
    };
    format!("case when {length} > {bytes_max} then {cut} else {name} end")
}

/// A cell as it came, or its first bytes.
pub(super) fn cut<'a>(cell: Cell<'a>, native: &Native, bytes_max: usize) -> Cell<'a> {
    // Bytes in text form are two digits each, after the mark `\x`.
    let (bytes, kept) = match (cell, native) {
        (Cell::Binary(bytes), Native::Text | Native::Json | Native::Bytea)
        | (Cell::Text(bytes), Native::Text | Native::Json) => (bytes, bytes_max + 1),
        (Cell::Text(bytes), Native::Bytea) => (bytes, 2 * (bytes_max + 2)),
        _ => return cell,
    };
    match (bytes.get(..kept), cell) {
        (Some(cut), Cell::Binary(_)) => Cell::Binary(cut),
        (Some(cut), Cell::Text(_)) => Cell::Text(cut),
        _ => cell,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_too_large_is_cut_and_stays_too_large() {
        let check = |cell: Cell<'_>, native: Native, expected: Cell<'_>| {
            assert_eq!(cut(cell, &native, 3), expected, "{cell:?} {native:?}");
        };
        check(Cell::Binary(b"123"), Native::Text, Cell::Binary(b"123"));
        check(Cell::Binary(b"123456"), Native::Text, Cell::Binary(b"1234"));
        check(Cell::Text(b"123456"), Native::Json, Cell::Text(b"1234"));
        check(Cell::Text(b"\\x010203"), Native::Bytea, Cell::Text(b"\\x010203"));
        check(Cell::Text(b"\\x0102030405"), Native::Bytea, Cell::Text(b"\\x01020304"));
        check(Cell::Binary(b"123456"), Native::Jsonb, Cell::Binary(b"123456"));
        check(Cell::Unchanged, Native::Text, Cell::Unchanged);
    }

    #[test]
    fn a_column_without_bound_is_cut_by_the_server() {
        let column = |type_name: &str| Column {
            name: "x".to_owned(),
            type_name: type_name.to_owned(),
            native: Native::Text,
            nullable: true,
        };
        let check = |type_name: &str, expected: &str| {
            assert_eq!(cut_sql(&column(type_name), 9), expected);
        };
        let text = "case when octet_length(\"x\") > 9 then substr(\"x\", 1, 9 + 1) else \"x\" end";
        check("text", text);
        check("character varying(20)", "\"x\"");
        check("ma_xa", "\"x\"");
    }
}
