//! Pure: what a body must be like to keep to its contract; the walk every batch takes.

use std::sync::Arc;

use phusa_protocol::batch::Phase;
use phusa_protocol::change::{BadBody, Change, Counts, Op, Run, TRUNCATES_MAX, runs};
use phusa_protocol::contract::{Contract, ContractField};
use phusa_protocol::fault::Code;
use phusa_protocol::row::Tuple;
use phusa_protocol::value::{Field, Kind};

use crate::category::{Codes, Lists};
use crate::error::Refused;

/// What a body must be like to keep to a contract; made once per contract.
#[derive(Debug, Clone)]
pub struct BodyRule {
    fields: Vec<FieldRule>,
    /// The rules of the key fields alone, in the contract's key order.
    key: Vec<FieldRule>,
}

#[derive(Debug, Clone)]
struct FieldRule {
    name: Box<str>,
    kind: Kind,
    /// Length of a fixed-length kind, so that the common case is one comparison.
    length: Option<usize>,
    nullable: bool,
    is_key: bool,
    /// Agreed terms beyond the type; `None` for most fields, so that they cost one comparison.
    terms: Option<Box<Terms>>,
}

/// How a field breaks its contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Breach {
    Null,
    LeftOut,
    Type,
    Longer,
    Code,
}

impl Breach {
    fn words(self) -> &'static str {
        match self {
            Self::Null => "is null",
            Self::LeftOut => "is left out",
            Self::Type => "has not the bytes of its type",
            Self::Longer => "is longer than agreed",
            Self::Code => "is no code of its list",
        }
    }

    /// The same each time: what an incident is known by.
    fn cause(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::LeftOut => "left_out",
            Self::Type => "type",
            Self::Longer => "longer",
            Self::Code => "code",
        }
    }
}

/// What is wrong with a body: where, in words, and the cause that does not change with the place.
#[derive(Debug)]
struct Wrong {
    what: String,
    cause: String,
}

impl Wrong {
    fn new(what: impl Into<String>, cause: &str) -> Self {
        Self { what: what.into(), cause: cause.to_owned() }
    }

    /// Bytes that are no body at all.
    fn damaged(error: &BadBody) -> Self {
        Self::new(error.to_string(), "body")
    }

    fn at(self, place: &str) -> Refused {
        Refused::breach(Code::ContractViolation, format!("{place}: {}", self.what), self.cause)
    }
}

/// What a contract asks of a text beyond being one.
#[derive(Debug, Clone)]
struct Terms {
    max_length: Option<usize>,
    codes: Option<Arc<Codes>>,
}

impl Terms {
    fn of(field: &ContractField, lists: &Lists) -> Option<Box<Self>> {
        let max_length = field.max_length.and_then(|length| usize::try_from(length).ok());
        let codes = field.code_list.as_ref().and_then(|list| lists.get(list)).map(Arc::clone);
        let has_any = max_length.is_some() || codes.is_some();
        has_any.then(|| Box::new(Self { max_length, codes }))
    }

    fn breach(&self, bytes: &[u8]) -> Option<Breach> {
        if self.max_length.is_some_and(|most| is_longer(bytes, most)) {
            return Some(Breach::Longer);
        }
        let is_known = self.codes.as_ref().is_none_or(|codes| codes.holds(bytes));
        if is_known { None } else { Some(Breach::Code) }
    }
}

/// Whether a text has more characters than `most`. Each begins with a byte that continues none; that
/// the bytes are UTF-8 at all is PostgreSQL's to judge.
fn is_longer(bytes: &[u8], most: usize) -> bool {
    bytes.len() > most && bytes.iter().filter(|byte| (*byte & 0xC0) != 0x80).count() > most
}

impl FieldRule {
    #[inline]
    fn breach(&self, field: Field<'_>, may_be_unchanged: bool) -> Option<Breach> {
        let fits = match (field, self.length) {
            (Field::Value(bytes), Some(length)) => bytes.len() == length,
            (Field::Value(bytes), None) => self.kind.fits(bytes),
            (Field::Null, _) if self.nullable => true,
            (Field::Null, _) => return Some(Breach::Null),
            (Field::Unchanged, _) if may_be_unchanged && !self.is_key => true,
            (Field::Unchanged, _) => return Some(Breach::LeftOut),
        };
        if !fits {
            return Some(Breach::Type);
        }
        let (Some(terms), Field::Value(bytes)) = (&self.terms, field) else { return None };
        terms.breach(bytes)
    }
}

impl BodyRule {
    /// The rule of a contract; its code lists are among `lists`.
    #[must_use]
    pub fn of(contract: &Contract, lists: &Lists) -> Self {
        let rule = |(index, field): (usize, &ContractField)| FieldRule {
            name: field.name.as_str().into(),
            kind: field.kind,
            length: field.kind.fixed_length(),
            nullable: contract.is_nullable(index),
            is_key: contract.key.contains(&field.name),
            terms: Terms::of(field, lists),
        };
        let fields: Vec<_> = contract.fields.iter().enumerate().map(rule).collect();
        let key = contract.key_indexes().iter().filter_map(|&i| fields.get(i).cloned()).collect();
        Self { fields, key }
    }

    /// Walks a body: every run is well formed, holds rows its phase allows, of agreed fields, as
    /// many as the header counts.
    ///
    /// # Errors
    /// [`Refused`] as a contract violation, naming run, row and field.
    pub fn walk(&self, body: &[u8], phase: Phase, counts: &Counts) -> Result<(), Refused> {
        let mut found = Counts::default();
        for (index, run) in runs(body).enumerate() {
            let place = || format!("run {index}");
            let run = run.map_err(|error| Wrong::damaged(&error).at(&place()))?;
            if !is_in_phase(run.op, phase) {
                let letter = char::from(run.op.letter());
                let what = format!("no {letter} in phase {phase:?}");
                return Err(Wrong::new(what, "phase").at(&place()));
            }
            self.walk_run(&run)
                .map_err(|(row, wrong)| wrong.at(&format!("run {index}, row {row}")))?;
            *count_of(&mut found, run.op) += u64::from(run.row_count);
        }
        if found != *counts {
            let what = "the header counts other rows than the body holds";
            return Err(Refused::breach(Code::ContractViolation, what, "counts"));
        }
        if found.truncate > u64::from(TRUNCATES_MAX) {
            let what = format!("more than {TRUNCATES_MAX} truncates");
            return Err(Refused::breach(Code::ContractViolation, what, "truncates"));
        }
        Ok(())
    }

    fn walk_run(&self, run: &Run<'_>) -> Result<(), (usize, Wrong)> {
        if run.op == Op::Truncate {
            // Its rows have no bytes, so walking them would cost what the sender likes.
            let empty = run.bytes.is_empty();
            return empty.then_some(()).ok_or((0, Wrong::damaged(&BadBody::RunLength)));
        }
        for (row, change) in run.changes().enumerate() {
            let change = change.map_err(|error| (row, Wrong::damaged(&error)))?;
            self.check_change(change).map_err(|wrong| (row, wrong))?;
        }
        Ok(())
    }

    #[inline]
    fn check_change(&self, change: Change<'_>) -> Result<(), Wrong> {
        match change {
            Change::Snapshot(row) | Change::Insert(row) => check_row(row, &self.fields, false),
            Change::Update(row) => check_row(row, &self.fields, true),
            Change::Delete(key) => check_row(key, &self.key, false),
            Change::Truncate => Ok(()),
            Change::Rekey { old, new } => {
                check_row(old, &self.key, false)?;
                check_row(new, &self.fields, true)
            }
        }
    }
}

/// One pass over a row. Key fields are never null and never left out.
#[inline]
fn check_row(row: Tuple<'_>, rules: &[FieldRule], may_be_unchanged: bool) -> Result<(), Wrong> {
    if row.field_count() != rules.len() {
        let (found, agreed) = (row.field_count(), rules.len());
        let what = format!("{found} fields where the contract has {agreed}");
        return Err(Wrong::new(what, "fields"));
    }
    for (index, (field, rule)) in row.fields().zip(rules).enumerate() {
        if let Some(breach) = rule.breach(field, may_be_unchanged) {
            let (name, words) = (&rule.name, breach.words());
            let what = format!("field {index} `{name}` {words}");
            return Err(Wrong { what, cause: format!("{name}/{}", breach.cause()) });
        }
    }
    Ok(())
}

/// Rows found by reading come in the phase of reading; nothing comes at its end; changes after it.
fn is_in_phase(op: Op, phase: Phase) -> bool {
    match phase {
        Phase::Read => op == Op::Snapshot,
        Phase::ReadEnd => false,
        Phase::Settle | Phase::Live => op != Op::Snapshot,
    }
}

fn count_of(counts: &mut Counts, op: Op) -> &mut u64 {
    match op {
        Op::Snapshot => &mut counts.snapshot,
        Op::Insert => &mut counts.insert,
        Op::Update => &mut counts.update,
        Op::Delete => &mut counts.delete,
        Op::Truncate => &mut counts.truncate,
        Op::Rekey => &mut counts.rekey,
    }
}

#[cfg(test)]
mod tests {
    use phusa_protocol::change::BodyWriter;
    use phusa_protocol::row::put_tuple;

    use super::*;

    const CONTRACT: &str = r#"
dataset = "cong_dan.citizens"
version = 1
title_vi = "Công dân"
owner = "H57.12"
legal_basis = "QĐ 1"
sharing = "default"
frequency = "15m"
retention = "3650d"
key = ["id"]
field = [
  { name = "id", type = "int8", class = "N", name_vi = "Mã" },
  { name = "ten", type = "text", class = "B", required = true, name_vi = "Tên" },
  { name = "ghi_chu", type = "jsonb", class = "I", name_vi = "Ghi chú" },
]
"#;

    const ID: Field<'_> = Field::Value(&[0, 0, 0, 0, 0, 0, 0, 7]);
    const NAME: Field<'_> = Field::Value("Nguyễn".as_bytes());
    const NOTE: Field<'_> = Field::Value(b"\x01{}");

    fn rule() -> BodyRule {
        BodyRule::of(&Contract::from_toml(CONTRACT).unwrap(), &Lists::new())
    }

    fn body(rows: &[(Op, &[&[Field<'_>]])]) -> (Vec<u8>, Counts) {
        let mut body = BodyWriter::default();
        for (op, tuples) in rows {
            let out = body.begin_row(*op);
            tuples.iter().for_each(|tuple| put_tuple(out, tuple));
        }
        body.finish()
    }

    #[test]
    fn a_body_keeps_to_its_contract_or_says_where_not() {
        let check = |phase, rows: &[(Op, &[&[Field<'_>]])], expected: Result<(), &str>| {
            let (bytes, counts) = body(rows);
            let found = rule().walk(&bytes, phase, &counts).map_err(|refused| refused.what);
            assert_eq!(found.as_ref().map(|&()| ()).map_err(String::as_str), expected);
        };
        use Field::{Null, Unchanged};
        use Op::{Delete, Insert, Rekey, Snapshot, Truncate, Update};
        let full: &[&[Field<'_>]] = &[&[ID, NAME, NOTE]];
        check(Phase::Read, &[(Snapshot, full)], Ok(()));
        check(Phase::Live, &[(Insert, &[&[ID, NAME, Null]])], Ok(()));
        check(Phase::Live, &[(Update, &[&[ID, Unchanged, Unchanged]])], Ok(()));
        check(Phase::Live, &[(Delete, &[&[ID]]), (Truncate, &[]), (Insert, full)], Ok(()));
        check(Phase::Live, &[(Rekey, &[&[ID], &[ID, NAME, Unchanged]])], Ok(()));
        check(Phase::ReadEnd, &[], Ok(()));
        let row = |rows: &[(Op, &[&[Field<'_>]])], what: &str| check(Phase::Live, rows, Err(what));
        row(&[(Insert, &[&[ID, NAME]])], "run 0, row 0: 2 fields where the contract has 3");
        let second = [(Insert, full), (Insert, &[&[ID, NAME, NOTE, NOTE] as &[_]] as &[_])];
        row(&second, "run 0, row 1: 4 fields where the contract has 3");
        row(&[(Insert, &[&[ID, Null, Null]])], "run 0, row 0: field 1 `ten` is null");
        row(&[(Insert, &[&[Null, NAME, Null]])], "run 0, row 0: field 0 `id` is null");
        row(&[(Insert, &[&[ID, NAME, Unchanged]])], "run 0, row 0: field 2 `ghi_chu` is left out");
        let wrong = "run 0, row 0: field 0 `id` has not the bytes of its type";
        row(&[(Insert, &[&[Field::Value(b"7"), NAME, Null]])], wrong);
        row(&[(Delete, full)], "run 0, row 0: 3 fields where the contract has 1");
        row(&[(Snapshot, full)], "run 0: no S in phase Live");
        check(Phase::Read, &[(Insert, full)], Err("run 0: no I in phase Read"));
        check(Phase::ReadEnd, &[(Snapshot, full)], Err("run 0: no S in phase ReadEnd"));
    }

    #[test]
    fn agreed_lengths_and_code_lists_are_kept_or_it_is_said_where_not() {
        let name = "name = \"ten\", type = \"text\"";
        let list = "list = \"ten\"\ntitle_vi = \"Tên\"\nsource = \"QĐ 1\"\n\
                    code = [{ code = \"Nguyễn\", name = \"x\" }, { code = \"An\", name = \"y\" }]";
        let list = crate::category::list::List::from_toml(list).unwrap();
        let lists = Lists::from([("ten".to_owned(), Arc::new(Codes::of(&list)))]);
        let check = |terms: &str, text: Field<'_>, expected: Result<(), &str>| {
            let contract = CONTRACT.replacen(name, &format!("{name}, {terms}"), 1);
            let rule = BodyRule::of(&Contract::from_toml(&contract).unwrap(), &lists);
            let (bytes, counts) = body(&[(Op::Update, &[&[ID, text, NOTE]])]);
            let found = rule.walk(&bytes, Phase::Live, &counts).map_err(|refused| refused.what);
            assert_eq!(found.as_ref().map(|&()| ()).map_err(String::as_str), expected);
        };
        let long = Err("run 0, row 0: field 1 `ten` is longer than agreed");
        let strange = Err("run 0, row 0: field 1 `ten` is no code of its list");
        check("max_length = 6", NAME, Ok(()));
        check("max_length = 5", NAME, long);
        check("max_length = 1", Field::Unchanged, Ok(()));
        check("code_list = \"ten\"", NAME, Ok(()));
        check("code_list = \"ten\"", Field::Value(b"Binh"), strange);
        check("code_list = \"ten\", max_length = 3", Field::Value(b"Binh"), long);
        check("code_list = \"ten\", max_length = 3", Field::Value(b"An"), Ok(()));
    }

    #[test]
    fn counts_and_lengths_that_lie_are_found() {
        let (bytes, mut counts) = body(&[(Op::Insert, &[&[ID, NAME, NOTE]])]);
        counts.insert = u64::MAX;
        counts.delete = u64::MAX;
        let refused = rule().walk(&bytes, Phase::Live, &counts).unwrap_err();
        assert_eq!(refused.what, "the header counts other rows than the body holds");
        let truncates = b"T\0\0\x03\xe8\0\0\0\0".repeat(2);
        let counts = Counts { truncate: 2_000, ..Counts::default() };
        let refused = rule().walk(&truncates, Phase::Live, &counts).unwrap_err();
        assert_eq!(refused.what, "more than 1000 truncates");
        let refused = rule().walk(b"T\0\0\0\x01\0\0\0\x01x", Phase::Live, &counts).unwrap_err();
        assert_eq!(refused.what, "run 0, row 0: a run's rows do not fill its bytes");
    }

    #[test]
    fn an_unchanged_key_is_not_accepted() {
        let (bytes, counts) = body(&[(Op::Update, &[&[Field::Unchanged, NAME, NOTE]])]);
        let refused = rule().walk(&bytes, Phase::Live, &counts).unwrap_err();
        assert_eq!(refused.what, "run 0, row 0: field 0 `id` is left out");
    }
}
