//! `phusa-agent describe`: the technical document of a dataset as one HTML page (CT-13): what is
//! agreed, where it comes from, which rules it passes. Names and types, never a value.

use std::fmt::Write as _;
use std::process::ExitCode;

use phusa_protocol::contract::{Class, Contract, ContractField, Sharing};
use phusa_protocol::fault::Fault;
use phusa_protocol::time::Timestamp;

use super::look::chosen;
use super::{meaning, say};
use crate::config::plan::{DatasetPlan, Plan};
use crate::mapping::field::{FieldRule, Mask};
use crate::pipeline::wiring;
use crate::source::{Column, Source as _};

/// Prints the page; the source is asked for the types of its columns unless `offline`.
pub(super) async fn describe(plan: &Plan, wanted: &str, offline: bool) -> Result<ExitCode, Fault> {
    for dataset in chosen(plan, Some(wanted))? {
        let mut columns = Vec::new();
        if !offline {
            let selection = std::slice::from_ref(&dataset.selection);
            let found = wiring::source(plan)?.probe(selection).await?;
            columns.extend(found.columns.into_iter().flatten().flat_map(|all| all.to_vec()));
        }
        say(page(dataset, &columns, Timestamp::now()).trim_end());
    }
    Ok(ExitCode::SUCCESS)
}

fn page(dataset: &DatasetPlan, columns: &[Column], at: Timestamp) -> String {
    let (contract, selection) = (&dataset.contract, &dataset.selection);
    let title = escaped(&contract.title_vi);
    let mut html = format!(
        "<!doctype html>\n<html lang=\"vi\">\n<meta charset=\"utf-8\">\n<title>{title}</title>\n\
         <style>body{{font-family:sans-serif;margin:2em}}table{{border-collapse:collapse}}\
         td,th{{border:1px solid #999;padding:.3em .6em;text-align:left;vertical-align:top}}\
         </style>\n<h1>{title}</h1>\n<p>{}</p>\n<table>\n",
        escaped(&contract.title_en)
    );
    let table = format!("{}.{}", selection.schema, selection.table);
    let rows = [
        ("Bộ dữ liệu · dataset", contract.dataset.to_string()),
        ("Phiên bản hợp đồng · contract version", contract.version.to_string()),
        ("Dấu vân tay hợp đồng · contract fingerprint", contract.fingerprint().to_string()),
        ("Dấu vân tay ánh xạ · mapping fingerprint", dataset.mapping.to_string()),
        ("Cơ quan chủ quản · owner", contract.owner.to_string()),
        ("Căn cứ pháp lý · legal basis", contract.legal_basis.clone()),
        ("Hình thức chia sẻ · sharing", sharing(contract).to_owned()),
        ("Tần suất · frequency", contract.frequency.to_string()),
        ("Lưu giữ · retention", contract.retention.to_string()),
        ("Khóa · key", contract.key.join(", ")),
        ("Bảng nguồn · source table", table),
        ("Lọc · filter", selection.filter.clone().unwrap_or_else(|| "–".to_owned())),
        ("Lập lúc · made at", at.to_string()),
    ];
    for (name, value) in rows {
        let _ = writeln!(html, "<tr><th>{name}</th><td>{}</td></tr>", escaped(&value));
    }
    html.push_str("</table>\n<h2>Trường · fields</h2>\n<table>\n<tr>");
    let heads = [
        "Trường · field",
        "Tên · name",
        "Kiểu · type",
        "Loại · class",
        "Bắt buộc · required",
        "Cột nguồn · source",
        "Quy tắc · rules",
        "Che · mask",
        "Căn cứ · basis",
    ];
    heads.iter().for_each(|head| html.push_str(&format!("<th>{head}</th>")));
    html.push_str("</tr>\n");
    for (index, (agreed, rule)) in contract.fields.iter().zip(&dataset.rules.fields).enumerate() {
        put_field(&mut html, (agreed, rule), contract.is_nullable(index), columns);
    }
    html.push_str("</table>\n</html>\n");
    html
}

fn put_field(
    html: &mut String,
    (agreed, rule): (&ContractField, &FieldRule),
    nullable: bool,
    columns: &[Column],
) {
    let name = if agreed.name_en.is_empty() {
        agreed.name_vi.clone()
    } else {
        format!("{} · {}", agreed.name_vi, agreed.name_en)
    };
    let source = |name: &str| match columns.iter().find(|column| column.name == name) {
        Some(column) => format!("{name} ({})", column.type_name),
        None => name.to_owned(),
    };
    let from: Vec<String> = rule.columns().into_iter().map(source).collect();
    let from = if from.is_empty() { "– (rỗng · null)".to_owned() } else { from.join(" + ") };
    let mask = if rule.mask == Mask::Keep { String::new() } else { meaning::mask(&rule.mask) };
    let cells = [
        agreed.name.clone(),
        name,
        agreed.kind.to_string(),
        class(agreed.class).to_owned(),
        if nullable { String::new() } else { "✓".to_owned() },
        from,
        meaning::rules(&rule.recipe),
        mask,
        agreed.legal_basis.clone(),
    ];
    html.push_str("<tr>");
    cells.iter().for_each(|cell| html.push_str(&format!("<td>{}</td>", escaped(cell))));
    html.push_str("</tr>\n");
}

fn class(class: Class) -> &'static str {
    match class {
        Class::P => "P công khai · public",
        Class::I => "I nội bộ · internal",
        Class::B => "B cá nhân cơ bản · basic personal",
        Class::X => "X nhạy cảm · sensitive",
        Class::N => "N định danh · identifier",
        Class::StateSecret => "bí mật nhà nước · state secret",
    }
}

fn sharing(contract: &Contract) -> &'static str {
    match contract.sharing {
        Sharing::Open => "mở · open",
        Sharing::Default => "mặc định · default",
        Sharing::Special => "đặc thù · special",
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::source::Native;

    #[test]
    fn the_document_names_fields_rules_and_masks_and_shows_no_markup_of_others() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../configs/agent.toml");
        let plan = Plan::load(Path::new(path)).unwrap();
        let legacy =
            plan.datasets.iter().find(|d| d.dataset().to_string() == "cong_dan.ho_tich_cu");
        let mut dataset = legacy.unwrap().clone();
        dataset.contract.title_en = "<script>\"&".to_owned();
        let column = Column {
            name: "so_cccd".to_owned(),
            type_name: "varchar(20)".to_owned(),
            native: Native::Text,
            nullable: true,
        };
        let html = page(&dataset, &[column], Timestamp::UNIX_EPOCH);
        for said in [
            "<h1>Hộ tịch (phần mềm cũ)</h1>",
            "<p>&lt;script&gt;&quot;&amp;</p>",
            "<td>so_cccd (varchar(20))</td><td>normalise → pad_left → check</td><td>hmac</td>",
            "<td>ho_dem + ten</td><td>compute → encoding → normalise → check</td>",
            "<td>– (rỗng · null)</td>",
            "X nhạy cảm · sensitive",
        ] {
            assert!(html.contains(said), "{said}: {html}");
        }
    }
}
