//! `phusa-agent propose`: a first dataset file for a contract and a table, on standard output, each
//! line that a person must look at marked. Names and types are looked at, no row is read.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use phusa_protocol::contract::Contract;
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::value::Kind;

use super::say;
use crate::config::plan::Plan;
use crate::mapping::propose::{Bridge, Proposal, SURE, mask, propose as propose_fields};
use crate::pipeline::wiring;
use crate::source::{Capture, Column, Selection, Source as _};

/// Prints the file; `contract` is written into it as given.
pub(super) async fn propose(plan: &Plan, contract: &Path, table: &str) -> Result<ExitCode, Fault> {
    let agreed = read(contract)?;
    let columns = columns(plan, &agreed, table).await?;
    let absolute = std::path::absolute(contract).unwrap_or_else(|_| PathBuf::from(contract));
    say(file(&agreed, &absolute.display().to_string(), table, &columns).trim_end());
    Ok(ExitCode::SUCCESS)
}

fn read(path: &Path) -> Result<Contract, Fault> {
    let what = || format!("cannot use the contract {}", path.display());
    let text = std::fs::read_to_string(path)
        .map_err(|error| Fault::because(Code::ContractInvalid, what(), error))?;
    Contract::from_toml(&text).map_err(|error| Fault::because(Code::ContractInvalid, what(), error))
}

/// The table's columns with their types, by two looks at the catalogue: the first finds the names.
async fn columns(plan: &Plan, agreed: &Contract, table: &str) -> Result<Vec<Column>, Fault> {
    let missing = || Fault::new(Code::SourceTableMissing, format!("there is no table {table}"));
    let (schema, name) = table.split_once('.').ok_or_else(|| {
        Fault::new(Code::MappingInvalid, "a table is schema.table, such as public.citizens")
    })?;
    let mut selection = Selection {
        dataset: agreed.dataset.clone(),
        schema: schema.to_owned(),
        table: name.to_owned(),
        columns: Vec::new(),
        key: Vec::new(),
        filter: None,
        capture: Capture::Auto,
        watermark: None,
    };
    let source = wiring::source(plan)?;
    let names = source.probe(std::slice::from_ref(&selection)).await?;
    selection.columns = names.unread.into_iter().next().unwrap_or_default();
    let found = source.probe(&[selection]).await?.columns.into_iter().flatten().next();
    let found = found.filter(|columns| !columns.is_empty()).ok_or_else(missing)?;
    Ok(found.to_vec())
}

fn file(contract: &Contract, path: &str, table: &str, columns: &[Column]) -> String {
    let proposals = propose_fields(contract, columns);
    let mut lines = vec![
        "# Do `phusa-agent propose` lập từ tên cột và kiểu; chưa đọc bản ghi nào. Dòng có (?) cần người xem.".to_owned(),
        "# Made by `phusa-agent propose` of names and types; no row was read. Lines with (?) need a person.".to_owned(),
        String::new(),
        format!("dataset = {:?}", contract.dataset.to_string()),
        format!("contract = {path:?}"),
        format!("table = {table:?}"),
    ];
    for (index, field) in contract.fields.iter().enumerate() {
        let found = proposals.iter().find(|proposal| proposal.field == index);
        let column = found.and_then(|proposal| columns.get(proposal.column));
        lines.push(String::new());
        if let (Some(proposal), Some(column)) = (found, column) {
            let nullable = contract.is_nullable(index);
            lines.extend(field_lines((field, nullable), proposal, column));
        } else {
            let must = if contract.is_nullable(index) { "" } else { " (bắt buộc · required)" };
            lines.push(format!(
                "# (?) chưa thấy cột cho · no column found for: {}{must}",
                field.name
            ));
        }
    }
    let is_left = |(at, _): &(usize, &Column)| !proposals.iter().any(|p| p.column == *at);
    let left = columns.iter().enumerate().filter(is_left).map(|(_, column)| column.name.as_str());
    let left: Vec<&str> = left.collect();
    lines.push(String::new());
    lines.push(format!("# Ở lại đây · stay here: {}", left.join(", ")));
    lines.join("\n")
}

fn field_lines(
    (field, nullable): (&phusa_protocol::contract::ContractField, bool),
    proposal: &Proposal,
    column: &Column,
) -> Vec<String> {
    let sure =
        if proposal.sureness >= SURE { "" } else { "  # (?) đoán theo tên · a guess by name" };
    let mut lines = vec![
        "[[field]]".to_owned(),
        format!("from = {:?}{sure}", column.name),
        format!("to = {:?}", field.name),
        format!("class = \"{:?}\"", field.class),
    ];
    match proposal.conversion {
        Bridge::Exact => {}
        Bridge::Convert => {
            let format = if matches!(field.kind, Kind::Date | Kind::Timestamp) {
                "{ date = [\"dd/MM/yyyy\", \"yyyy-MM-dd\", \"yyyyMMdd\"] }"
            } else if field.kind == Kind::Bool {
                "{ bool = { yes = [\"1\"], no = [\"0\"] } }"
            } else {
                "{ number = \"comma\" }"
            };
            lines.push(format!(
                "convert = {format}  # (?) nguồn viết thế nào · how does the source write it"
            ));
        }
        Bridge::None => lines.push(format!(
            "# (?) {} không tự thành {} · does not become {} by itself",
            column.type_name, field.kind, field.kind
        )),
    }
    lines.extend(mask(field, nullable).map(|mask| format!("mask = {mask}")));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Native;

    #[test]
    fn the_file_marks_what_a_person_must_look_at() {
        let contract = include_str!("../../../configs/contracts/cong_dan.citizens.toml");
        let contract = Contract::from_toml(contract).unwrap();
        let column = |name: &str, native: Native| Column {
            name: name.to_owned(),
            type_name: format!("{native:?}").to_lowercase(),
            native,
            nullable: true,
        };
        let columns = [
            column("id", Native::Int8),
            column("SoCCCD", Native::Text),
            column("NgaySinh", Native::Text),
            column("ton_giao", Native::Text),
        ];
        let text = file(&contract, "/c.toml", "public.dan", &columns);
        for line in [
            "dataset = \"cong_dan.citizens\"",
            "from = \"SoCCCD\"\nto = \"so_dinh_danh\"\nclass = \"N\"\nmask = { hmac = \"hmac.key\" }",
            "convert = { date = [\"dd/MM/yyyy\", \"yyyy-MM-dd\", \"yyyyMMdd\"] }  # (?)",
            "# (?) chưa thấy cột cho · no column found for: ho_ten (bắt buộc · required)",
            "# Ở lại đây · stay here: ton_giao",
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }
        let parsed: crate::config::DatasetFile = toml::from_str(&text).unwrap();
        assert_eq!(parsed.fields.len(), 3);
    }
}
