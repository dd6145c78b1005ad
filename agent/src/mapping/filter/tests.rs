//! Conditions are parsed or refused at their character, and judged as SQL judges them.

use proptest::prelude::*;

use super::*;

fn column(name: &str, type_name: &str, native: Native) -> Column {
    Column { name: name.to_owned(), type_name: type_name.to_owned(), native, nullable: true }
}

fn columns() -> Vec<Column> {
    vec![
        column("id", "integer", Native::Int4),
        column("ward", "text", Native::Text),
        column("code", "character(5)", Native::Text),
        column("born", "date", Native::Date),
        column("fee", "numeric", Native::Numeric),
        column("alive", "boolean", Native::Bool),
        column("seen", "timestamp with time zone", Native::Timestamptz),
        column("Tên", "citext", Native::Text),
        column("uid", "uuid", Native::Uuid),
        column("extra", "jsonb", Native::Jsonb),
    ]
}

/// id 7, ward '31000', code 'A    ', born 2000-01-11, fee 12.50, alive, seen 2000-01-01 UTC.
fn judge(text: &str) -> Result<Verdict, String> {
    let fee = number::from_literal("12.50").unwrap();
    let uid = [0x11; 16];
    let fields = [
        Field::Value(&[0, 0, 0, 7]),
        Field::Value(b"31000"),
        Field::Value(b"A    "),
        Field::Value(&[0, 0, 0, 10]),
        Field::Value(&fee),
        Field::Value(&[1]),
        Field::Value(&[0; 8]),
        Field::Null,
        Field::Value(&uid),
        Field::Unchanged,
    ];
    let filter = Filter::parse(text).map_err(|bad| bad.to_string())?;
    Ok(filter.bind(&columns())?.judge(&fields))
}

#[test]
fn only_what_is_true_is_shared() {
    let check = |text: &str, shared: bool| {
        let expected = if shared { Verdict::Shared } else { Verdict::NotShared };
        assert_eq!(judge(text), Ok(expected), "{text}");
    };
    check("id = 7", true);
    check("id <> 7", false);
    check("id != 8 and id <= 7 and id >= 7 and id < 8 and id > -1", true);
    check("id in (1, 7)", true);
    check("id not in (1, 7)", false);
    check("ward = '31000'", true);
    check("ward = '31000 '", false);
    check("code = 'A' and code = 'A  '", true);
    check("born > '2000-01-10' and born = '2000-01-11'", true);
    check("fee = 12.5 and fee > 12 and fee < 12.51 and fee <> -12.5", true);
    check("alive = true", true);
    check("alive = FALSE OR id = 7", true);
    check("seen = '2000-01-01 07:00:00+07' and seen < '2000-01-01T00:00:01Z'", true);
    check("uid = '11111111-1111-1111-1111-111111111111'", true);
    check("not id = 7 or not (ward = 'x')", true);
    check("id = 1 and id = 7 or id = 7", true);
    check("id = 1 and (id = 7 or id = 7)", false);
}

#[test]
fn null_is_unknown_and_unknown_is_not_shared() {
    let check = |text: &str, shared: bool| {
        let mut columns = columns();
        columns[7].type_name = "text".to_owned();
        let fields = [Field::Null; 10];
        let found = Filter::parse(text).unwrap().bind(&columns).unwrap().judge(&fields);
        assert_eq!(found == Verdict::Shared, shared, "{text}");
    };
    check("id = 7", false);
    check("not id = 7", false);
    check("id = 7 or id <> 7", false);
    check("id is null", true);
    check("id is not null", false);
    check("id = 7 or ward is null", true);
    check("id = 7 and ward is null", false);
    check("not (id = 7 and ward is not null)", true);
    check("id in (7)", false);
    check("\"Tên\" is null", true);
}

#[test]
fn an_unchanged_column_leaves_the_filter_without_an_answer() {
    assert_eq!(judge("extra is null"), Ok(Verdict::Unknown));
    assert_eq!(judge("id = 7 or extra is null"), Ok(Verdict::Unknown));
}

#[test]
fn what_is_no_condition_is_refused_at_its_character() {
    let check = |text: &str, expected: &str| {
        let found = judge(text).unwrap_err();
        assert!(found.starts_with(expected), "{text}: {found}");
    };
    check("", "character 1: expected the name of a column");
    check("id", "character 3: expected =");
    check("id =", "character 5: expected 'text'");
    check("id = 7 8", "character 8: expected `and`, `or` or the end");
    check("id = 'x", "character 6: the text that begins here lacks its closing '");
    check("(id = 7", "character 8: expected `)`");
    check("id in 7", "character 7: expected `(` after `in`");
    check("id in (7", "character 9: expected `,` or `)`");
    check("ward like '3%'", "character 6: expected =");
    check("tên = 7; drop", "character 8: `;` has no place");
    check(&"(".repeat(40), "character 33: more than 32");
    check(&"a".repeat(5_000), "character 4096: the condition is longer");
    check("nothing = 7", "`where` reads column `nothing`, which is not there");
    check("ward > '3'", "`where` asks for the order of column `ward` (text)");
    check("ward = 3", "`where` cannot compare column `ward` (text) with 3");
    check("id = 1.5", "`where` cannot compare column `id` (integer) with 1.5");
    check("born = '2026-02-30'", "`where` cannot compare column `born` (date)");
    check("seen = '2026-01-01 00:00:00'", "`where` cannot compare column `seen`");
    check("\"Tên\" = 'a'", "`where` cannot compare column `Tên` (citext)");
    check("extra = '{}'", "`where` cannot compare column `extra` (jsonb)");
}

#[test]
fn the_source_is_asked_the_same() {
    let check = |text: &str, expected: &str| {
        assert_eq!(Filter::parse(text).unwrap().to_sql(Dialect::PostgreSql), expected);
    };
    check("a = 1 and b in ('x', 'it''s')", "(\"a\" = 1 and \"b\" in ('x', 'it''s'))");
    check("not a is null or \"b\"\"c\" = 'd'", "((not \"a\" is null) or \"b\"\"c\" = 'd')");
    check("a = 'x\\y''z'", "\"a\" = E'x\\\\y''z'");
    check("a = 'x'' or true --'", "\"a\" = 'x'' or true --'");
    check("a not in (-1.50, true)", "(not \"a\" in (-1.50, true))");
}

proptest! {
    #[test]
    fn any_text_is_parsed_or_refused(text in "[a-c0-9 =<>!()',.\"-]{0,40}") {
        if let Ok(filter) = Filter::parse(&text) {
            let sql = |filter: &Filter| filter.to_sql(Dialect::PostgreSql);
            let again = Filter::parse(&sql(&filter));
            prop_assert_eq!(again.map(|filter| sql(&filter)), Ok(sql(&filter)));
        }
    }

    #[test]
    fn any_bytes_are_judged_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..20)) {
        let text = "id = 7 and ward = 'x' and code = 'y' and fee < 1.5 and alive = true";
        let bound = Filter::parse(text).unwrap().bind(&columns()).unwrap();
        let fields = [Field::Value(bytes.as_slice()); 10];
        prop_assert_ne!(bound.judge(&fields), Verdict::Unknown);
    }
}
