//! `phusa-agent propose`: a first dataset file for a contract and a table, on standard output, each
//! line that a person must look at marked. Names and types are looked at, no row is read.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use phusa_protocol::contract::Contract;
use phusa_protocol::fault::{Code, Fault};

use super::columns::columns;
use super::draft::{self, Draft};
use super::say;
use crate::config::plan::Plan;
use crate::mapping::propose::{Proposal, propose as propose_fields};
use crate::pipeline::wiring;
use crate::source::Column;

/// Prints the file; `contract` is written into it as given.
pub(super) async fn propose(plan: &Plan, contract: &Path, table: &str) -> Result<ExitCode, Fault> {
    let agreed = read(contract)?;
    let columns = columns(&wiring::source(plan)?, &agreed.dataset, table).await?;
    let absolute = std::path::absolute(contract).unwrap_or_else(|_| PathBuf::from(contract));
    say(&file(&agreed, &absolute.display().to_string(), table, &columns));
    Ok(ExitCode::SUCCESS)
}

/// A contract from its file.
pub(super) fn read(path: &Path) -> Result<Contract, Fault> {
    let what = || format!("cannot use the contract {}", path.display());
    let text = std::fs::read_to_string(path)
        .map_err(|error| Fault::because(Code::ContractInvalid, what(), error))?;
    Contract::from_toml(&text).map_err(|error| Fault::because(Code::ContractInvalid, what(), error))
}

fn file(contract: &Contract, path: &str, table: &str, columns: &[Column]) -> String {
    let proposals = propose_fields(contract, columns, &[]);
    let draft = |proposal: &Proposal| {
        let column = columns.get(proposal.column)?;
        Draft::new(contract, proposal, column, None)
    };
    let drafts: Vec<Draft> = proposals.iter().filter_map(draft).collect();
    let head = [
        "# Do `phusa-agent propose` lập từ tên cột và kiểu; chưa đọc bản ghi nào. Dòng có (?) cần người xem.",
        "# Made by `phusa-agent propose` of names and types; no row was read. Lines with (?) need a person.",
    ];
    draft::file(&head, (contract, path), (table, columns), &drafts)
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
