//! A contract in words, Vietnamese with English beside it: what an official reads before signing.
//! Agency and hub print the same lines.

use super::change::Change;
use super::{Class, Contract, ContractField, Sharing};

/// The contract, line by line.
#[must_use]
pub fn lines(contract: &Contract) -> Vec<String> {
    let host = contract.host.as_ref().unwrap_or(&contract.owner);
    let or_dash = |text: String| if text.is_empty() { "–".to_owned() } else { text };
    let mut lines = vec![
        format!("{} · phiên bản · version {}", contract.dataset, contract.number()),
        format!("  {} · {}", contract.title_vi, or_dash(contract.title_en.clone())),
        format!("  chủ quản · owner: {}; nơi đặt · host: {host}", contract.owner),
        format!("  căn cứ · legal basis: {}", contract.legal_basis),
        format!("  chia sẻ · sharing: {}", sharing(contract.sharing)),
        format!("  mục đích · purposes: {}", or_dash(contract.purposes.join(", "))),
        format!(
            "  cập nhật · frequency: {}; lưu giữ · retention: {}",
            contract.frequency, contract.retention
        ),
        format!("  khóa · key: {}", contract.key.join(", ")),
        format!("  {} trường · fields:", contract.fields.len()),
    ];
    lines.extend(contract.fields.iter().map(|field| line(contract, field)));
    lines.push(format!("  dấu vân tay · fingerprint: {}", contract.fingerprint()));
    lines
}

/// What changes, one line each; `!` marks what breaks consumers.
#[must_use]
pub fn change_lines(changes: &[Change]) -> Vec<String> {
    let line = |change: &Change| {
        let mark = if change.breaks { "!" } else { " " };
        format!("  {mark} {} · {}", change.vi, change.en)
    };
    changes.iter().map(line).collect()
}

fn line(contract: &Contract, field: &ContractField) -> String {
    let mut terms = Vec::new();
    if contract.key.contains(&field.name) {
        terms.push("khóa · key".to_owned());
    } else if field.required {
        terms.push("bắt buộc · required".to_owned());
    }
    terms.extend(field.max_length.map(|most| format!("≤ {most} ký tự · characters")));
    terms.extend(field.code_list.as_ref().map(|list| format!("danh mục · list {list}")));
    if !field.legal_basis.is_empty() {
        terms.push(format!("căn cứ · legal basis: {}", field.legal_basis));
    }
    let terms = if terms.is_empty() { String::new() } else { format!(" ({})", terms.join("; ")) };
    let class = class(field.class);
    format!("    {} {} [{class}] {}{terms}", field.name, field.kind, field.name_vi)
}

fn class(class: Class) -> &'static str {
    match class {
        Class::P => "P công khai · public",
        Class::I => "I nội bộ · internal",
        Class::B => "B cá nhân cơ bản · basic personal",
        Class::X => "X cá nhân nhạy cảm · sensitive personal",
        Class::N => "N định danh · identifier",
        Class::StateSecret => "bí mật nhà nước · state secret",
    }
}

fn sharing(sharing: Sharing) -> &'static str {
    match sharing {
        Sharing::Open => "mở · open",
        Sharing::Default => "mặc định · default",
        Sharing::Special => "theo yêu cầu đặc thù · on special request",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::change::changes;
    use crate::contract::tests::SAMPLE;

    #[test]
    fn a_contract_and_its_changes_are_told_in_both_languages() {
        let contract = Contract::from_toml(SAMPLE).unwrap();
        let text = lines(&contract).join("\n");
        for part in [
            "cong_dan.citizens · phiên bản · version 1.0",
            "chủ quản · owner: H57.12",
            "id int8 [N định danh · identifier] Mã (khóa · key)",
            "[X cá nhân nhạy cảm · sensitive personal] Tôn giáo (căn cứ · legal basis: Nghị định",
            &contract.fingerprint().to_string(),
        ] {
            assert!(text.contains(part), "{part} not in\n{text}");
        }
        let narrow = Contract::from_toml(&SAMPLE.replace("int8", "int4")).unwrap();
        let changes = change_lines(&changes(&contract, &narrow));
        assert_eq!(changes, ["  ! id: kiểu int8 → int4 · id changes from int8 to int4"]);
    }
}
