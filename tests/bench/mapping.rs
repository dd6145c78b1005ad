//! How fast rows pass through a mapping: 1,000,000 rows of 20 columns of Vietnamese civil-registry
//! data, for each of the ways a row can go, in CPU time of one thread, so that a busy machine does
//! not matter. The full rule set has rules on eight of the twenty fields.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use phusa_agent::config::secret::SecretFile;
use phusa_agent::mapping::check::{AsOf, Check, Test};
use phusa_agent::mapping::codes::{self, CodeList, Period};
use phusa_agent::mapping::field::{Crosswalk, FieldRule, Mask, Recipe, Rules};
use phusa_agent::mapping::filter::Filter;
use phusa_agent::mapping::normalise::Normal;
use phusa_agent::mapping::terms::Terms;
use phusa_agent::mapping::{Mapping, OnBad};
use phusa_agent::source::{Block, Column, Native, Resume};
use phusa_protocol::batch::Phase;
use phusa_protocol::change::{BodyWriter, Op};
use phusa_protocol::row::put_tuple;
use phusa_protocol::time::Timestamp;
use phusa_protocol::value::{Field, Kind};
use phusa_tests::folder::Folder;

use crate::report::{Figure, Report};

const ROWS: u32 = 1_000_000;
const ROWS_PER_BLOCK: u32 = 10_000;

/// Measures and prints every way a row can go; what a regulation of speed asks goes into the report.
pub(crate) fn take(rounds: usize, report: &mut Report) {
    let measure = |name: &str, rules: &Rules| measure(name, rules, rounds);
    let plain = rules(None);
    measure("every field passes", &plain);
    measure("and a filter is evaluated", &rules(Some("f1 <> 'x' and f0 > 0")));
    let mut wider = plain.clone();
    if let Some(field) = wider.fields.first_mut() {
        field.kind = Kind::Int8;
    }
    measure("one field is widened", &wider);
    let mut masked = plain;
    for field in masked.fields.iter_mut().skip(2).take(2) {
        field.mask = Mask::KeepLast(4);
    }
    measure("two fields are masked", &masked);
    let folder = Folder::new();
    let all = full(&folder.path().join("hmac.key"));
    let passing = measure("every field passes (again)", &rules(None));
    let full = measure("the full rule set", &all);
    for (index, field) in all.fields.iter().enumerate() {
        let mut alone = rules(None);
        if let Some(slot) = alone.fields.get_mut(index)
            && (!field.recipe.is_empty() || field.mask != Mask::Keep)
        {
            *slot = field.clone();
            measure(&format!("  of it, field {index} alone"), &alone);
        }
    }
    println!(
        "the full rule set costs {:.2} µs a row above passing ({:.2} of passing)",
        full - passing,
        full / passing
    );
    report.add(Figure::plain("mapping", "full rules", 1e6 / full, "rows/s per core"));
    report.add(Figure::plain("mapping", "passing", 1e6 / passing, "rows/s per core"));
    report.add(Figure::plain("mapping", "above passing", full - passing, "µs a row"));
    report.add(Figure::plain("mapping", "full / passing", full / passing, "times"));
}

/// What an agency would ask of a table of citizens: eight of the twenty fields have rules.
fn full(key: &Path) -> Rules {
    std::fs::write(key, "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=").expect("a key file");
    let closed = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(key, closed).expect("a closed key file");
    let today = AsOf::Day(codes::day("2026-01-01").expect("a date"));
    let check = |test: Test| vec![Check { test, on_bad: OnBad::RejectRow }];
    let mut gender = CodeList::new(Period::ALWAYS);
    let mut communes = CodeList::new(Period::ALWAYS);
    for code in 1..=3 {
        gender.add(code.to_string(), Period::ALWAYS);
    }
    for (from, to) in [("0", "2"), ("1", "1"), ("2", "3")] {
        let added = gender.add_becomes(from.to_owned(), to.to_owned(), Period::ALWAYS);
        added.expect("one code each");
    }
    for code in 0..3_321 {
        communes.add(format!("{:05}", code * 9 + 3), Period::ALWAYS);
    }
    communes.add("31000".to_owned(), Period::ALWAYS);
    let mut rules = rules(None);
    let mut set = |index: usize, recipe: Recipe, mask: Mask, kind: Kind| {
        let field = rules.fields.get_mut(index).expect("twenty fields");
        (field.recipe, field.mask, field.kind) = (recipe, mask, kind);
    };
    let normalise = vec![Normal::DStroke, Normal::Trim, Normal::InnerSpaces];
    let named = Recipe { normalise: normalise.clone(), ..Recipe::default() };
    set(1, named, Mask::Keep, Kind::Text);
    let id = Test::CitizenId { sex: None, birth: None };
    let id = Recipe { checks: check(id), ..Recipe::default() };
    set(2, id, Mask::Hmac(SecretFile::File(key.to_owned())), Kind::Text);
    let phone = Recipe { checks: check(Test::Phone), ..Recipe::default() };
    set(3, phone, Mask::KeepLast(3), Kind::Text);
    set(5, Recipe::default(), Mask::Commune, Kind::Text);
    set(8, Recipe { normalise, ..Recipe::default() }, Mask::Initials, Kind::Text);
    set(10, Recipe::default(), Mask::Year, Kind::Int2);
    let list = Arc::new(gender);
    let crosswalk = Some(Crosswalk { list, as_of: today, on_bad: OnBad::RejectRow });
    set(13, Recipe { crosswalk, ..Recipe::default() }, Mask::Keep, Kind::Int2);
    let in_list = Test::InList { list: Arc::new(communes), as_of: today };
    set(19, Recipe { checks: check(in_list), ..Recipe::default() }, Mask::Keep, Kind::Text);
    rules
}

/// Prints how fast the rules are; returns microseconds a row.
fn measure(name: &str, rules: &Rules, rounds: usize) -> f64 {
    let block = block();
    let mapping = Mapping::new(rules).expect("rules without keys");
    let bound = mapping.bind(&block.columns).expect("columns that fit");
    let mut best = Duration::MAX;
    for _ in 0..rounds {
        let mut spent = Duration::ZERO;
        for _ in 0..ROWS / ROWS_PER_BLOCK {
            let block = copy(&block);
            let start = cpu_time();
            let mapped = bound.apply(block).expect("a sound block");
            spent += cpu_time() - start;
            assert_eq!(mapped.shareable.counts().snapshot, u64::from(ROWS_PER_BLOCK));
        }
        best = best.min(spent);
    }
    let seconds = best.as_secs_f64();
    let rows_per_cpu_second = f64::from(ROWS) / seconds;
    println!(
        "{name:<30} {seconds:.3} CPU s per million rows, {rows_per_cpu_second:>12.0} rows per CPU s"
    );
    seconds * 1e6 / f64::from(ROWS)
}

/// What this one thread has computed so far.
fn cpu_time() -> Duration {
    let text = std::fs::read_to_string("/proc/self/schedstat").expect("Linux with schedstat");
    let nanoseconds = text.split(' ').next().and_then(|count| count.parse().ok());
    Duration::from_nanos(nanoseconds.expect("nanoseconds on the processor"))
}

fn copy(block: &Block) -> Block {
    Block {
        columns: Arc::clone(&block.columns),
        body: block.body.clone(),
        position: block.position.clone(),
        resume: block.resume.clone(),
        ..*block
    }
}

/// Types of the 20 columns, at the source and in the contract.
const TYPES: [(Native, Kind); 20] = [
    (Native::Int4, Kind::Int4),
    TEXT,
    TEXT,
    TEXT,
    TEXT,
    TEXT,
    TEXT,
    TEXT,
    TEXT,
    TEXT,
    (Native::Date, Kind::Date),
    (Native::Timestamptz, Kind::Timestamptz),
    (Native::Bool, Kind::Bool),
    (Native::Int2, Kind::Int2),
    (Native::Numeric, Kind::Numeric),
    (Native::Uuid, Kind::Uuid),
    (Native::Int8, Kind::Int8),
    (Native::Jsonb, Kind::Jsonb),
    TEXT,
    TEXT,
];
const TEXT: (Native, Kind) = (Native::Text, Kind::Text);

fn columns() -> Vec<Column> {
    let column = |(index, (native, kind)): (usize, (Native, Kind))| Column {
        name: format!("f{index}"),
        type_name: kind.to_string(),
        native,
        nullable: true,
    };
    TYPES.into_iter().enumerate().map(column).collect()
}

fn rules(filter: Option<&str>) -> Rules {
    let field = |(index, (_, kind)): (usize, (Native, Kind))| FieldRule {
        name: format!("f{index}"),
        kind,
        nullable: index > 0,
        from: Some(format!("f{index}")),
        recipe: Recipe::default(),
        mask: Mask::Keep,
        terms: Terms::default(),
    };
    Rules {
        fields: TYPES.into_iter().enumerate().map(field).collect(),
        key: vec![0],
        filter: filter.map(|text| Filter::parse(text).expect("a sound condition")),
        row_bytes_max: 1 << 20,
    }
}

fn block() -> Block {
    let mut body = BodyWriter::default();
    for row in 1..=ROWS_PER_BLOCK {
        let id = row.to_be_bytes();
        let national_id = format!("0460{:08}", row % 99_999_999);
        let fields = [
            Field::Value(&id),
            Field::Value("Nguyễn Thị Thanh Hường".as_bytes()),
            Field::Value(national_id.as_bytes()),
            Field::Value(b"0905123456"),
            Field::Value("Tổ 7, phường Thuận Hòa, thành phố Huế".as_bytes()),
            Field::Value("Xã Quảng Điền, huyện Quảng Điền, tỉnh Thừa Thiên Huế".as_bytes()),
            Field::Value("Kinh".as_bytes()),
            Field::Value("Không".as_bytes()),
            Field::Value("Trần Văn Đức".as_bytes()),
            Field::Null,
            Field::Value(&[0, 0, 0x20, 0]),
            Field::Value(&[0, 2, 0x80, 0x11, 0x22, 0x33, 0x44, 0x55]),
            Field::Value(&[1]),
            Field::Value(&[0, 2]),
            Field::Value(&[0, 2, 0, 0, 0, 0, 0, 2, 0x04, 0xd2, 0x13, 0x88]),
            Field::Value(&[0x55; 16]),
            Field::Value(&[0, 0, 0, 1, 2, 3, 4, 5]),
            Field::Value(b"\x01{\"nguon\": \"ho tich\", \"trang_thai\": 1}"),
            Field::Value("Hồ sơ đã đối chiếu với sổ gốc năm 1998".as_bytes()),
            Field::Value(b"31000"),
        ];
        put_tuple(body.begin_row(Op::Snapshot), &fields);
    }
    Block {
        number: 1,
        columns: Arc::from(columns()),
        body: body.finish().0,
        phase: Phase::Read,
        tx_open: false,
        position: "0/0".to_owned(),
        resume: Resume(Vec::new()),
        read_at: Timestamp::UNIX_EPOCH,
        source_time: Timestamp::UNIX_EPOCH,
    }
}
