//! A first dataset file as text: what is proposed for each field of a contract, each line that a
//! person must look at marked.

use phusa_protocol::contract::{Contract, ContractField};
use phusa_protocol::value::Kind;

use crate::mapping::evidence::Evidence;
use crate::mapping::propose::{Bridge, Proposal, SURE, mask};
use crate::source::Column;

/// One field as it will stand in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Draft {
    /// Where the field stands in the contract.
    pub(super) field: usize,
    /// Where the column stands in the table.
    pub(super) column: usize,
    /// What stands after `encoding =`.
    pub(super) encoding: Option<String>,
    /// What stands after `convert =`.
    pub(super) convert: Option<String>,
    /// What stands after `mask =`.
    pub(super) mask: Option<String>,
    /// What a person should look at behind the column.
    pub(super) doubt: Option<&'static str>,
    /// The same behind the conversion.
    pub(super) convert_doubt: Option<&'static str>,
    /// The type that does not become the field's.
    pub(super) misfit: Option<String>,
}

impl Draft {
    /// What a proposal amounts to, as far as names, types and values tell.
    pub(super) fn new(
        contract: &Contract,
        proposal: &Proposal,
        column: &Column,
        evidence: Option<&Evidence>,
    ) -> Option<Self> {
        let agreed = contract.fields.get(proposal.field)?;
        let mask = mask(agreed, contract.is_nullable(proposal.field)).map(str::to_owned);
        let mut draft = Self {
            field: proposal.field,
            column: proposal.column,
            encoding: None,
            convert: None,
            mask,
            doubt: (proposal.sureness < SURE).then_some("đoán theo tên · a guess by name"),
            convert_doubt: None,
            misfit: None,
        };
        match proposal.conversion {
            Bridge::Exact => {}
            Bridge::Convert => {
                let told = evidence.and_then(|evidence| convert(agreed.kind, evidence));
                draft.convert_doubt =
                    told.is_none().then_some("nguồn viết thế nào · how does the source write it");
                draft.convert = Some(told.unwrap_or_else(|| usual(agreed).to_owned()));
            }
            Bridge::None => draft.misfit = Some(column.type_name.clone()),
        }
        Some(draft)
    }
}

/// How a sample says that the source writes it.
pub(super) fn convert(kind: Kind, evidence: &Evidence) -> Option<String> {
    if matches!(kind, Kind::Date | Kind::Timestamp) {
        let formats = evidence.dates(kind)?;
        let names: Vec<String> =
            formats.iter().map(|format| format!("{:?}", format.name())).collect();
        Some(format!("{{ date = [{}] }}", names.join(", ")))
    } else if kind == Kind::Bool {
        let (yes, no) = evidence.yes_and_no()?;
        Some(format!("{{ bool = {{ yes = [{yes:?}], no = [{no:?}] }} }}"))
    } else {
        Some(format!("{{ number = {:?} }}", evidence.number()?.name()))
    }
}

/// What a file begins with where no sample tells.
fn usual(field: &ContractField) -> &'static str {
    if matches!(field.kind, Kind::Date | Kind::Timestamp) {
        "{ date = [\"dd/MM/yyyy\", \"yyyy-MM-dd\", \"yyyyMMdd\"] }"
    } else if field.kind == Kind::Bool {
        "{ bool = { yes = [\"1\"], no = [\"0\"] } }"
    } else {
        "{ number = \"comma\" }"
    }
}

/// The file. `head` are its first lines; `path` is the contract's as the file will name it.
pub(super) fn file(
    head: &[&str],
    (contract, path): (&Contract, &str),
    (table, columns): (&str, &[Column]),
    drafts: &[Draft],
) -> String {
    let mut lines: Vec<String> = head.iter().map(|line| (*line).to_owned()).collect();
    lines.extend([
        String::new(),
        format!("dataset = {:?}", contract.dataset.to_string()),
        format!("contract = {path:?}"),
        format!("table = {table:?}"),
    ]);
    for (index, field) in contract.fields.iter().enumerate() {
        lines.push(String::new());
        let draft = drafts.iter().find(|draft| draft.field == index);
        let column = draft.and_then(|draft| columns.get(draft.column));
        if let (Some(draft), Some(column)) = (draft, column) {
            lines.push(format!("# {}", names(field)));
            lines.extend(field_lines(field, draft, column));
        } else {
            let must = if contract.is_nullable(index) { "" } else { " (bắt buộc · required)" };
            lines.push(format!(
                "# (?) chưa thấy cột cho · no column found for: {}{must}",
                field.name
            ));
        }
    }
    let is_left = |(at, _): &(usize, &Column)| !drafts.iter().any(|draft| draft.column == *at);
    let left = columns.iter().enumerate().filter(is_left).map(|(_, column)| column.name.as_str());
    let left: Vec<&str> = left.collect();
    lines.push(String::new());
    lines.push(format!("# Ở lại đây · stay here: {}", left.join(", ")));
    lines.join("\n")
}

/// A field's names for people.
fn names(field: &ContractField) -> String {
    if field.name_en.is_empty() {
        field.name_vi.clone()
    } else {
        format!("{} · {}", field.name_vi, field.name_en)
    }
}

fn field_lines(field: &ContractField, draft: &Draft, column: &Column) -> Vec<String> {
    let marked = |doubt: Option<&str>| doubt.map(|doubt| format!("  # (?) {doubt}"));
    let mut lines = vec![
        "[[field]]".to_owned(),
        format!("from = {:?}{}", column.name, marked(draft.doubt).unwrap_or_default()),
        format!("to = {:?}", field.name),
        format!("class = \"{:?}\"", field.class),
    ];
    lines.extend(draft.encoding.iter().map(|encoding| format!("encoding = {encoding:?}")));
    if let Some(convert) = &draft.convert {
        let doubt = marked(draft.convert_doubt).unwrap_or_default();
        lines.push(format!("convert = {convert}{doubt}"));
    }
    if let Some(type_name) = &draft.misfit {
        lines.push(format!(
            "# (?) {type_name} không tự thành {} · does not become {} by itself",
            field.kind, field.kind
        ));
    }
    lines.extend(draft.mask.iter().map(|mask| format!("mask = {mask}")));
    lines
}
