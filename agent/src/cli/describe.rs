//! `phusa-agent describe`: the technical document of a dataset (CT-13) as a page, a spreadsheet or a
//! Word file: what is agreed, where it comes from, which rules it passes. Names and types, never a
//! value.

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::ValueEnum;
use phusa_protocol::contract::{Class, Contract, ContractField, Sharing};
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::time::Timestamp;

use super::look::chosen;
use super::meaning;
use crate::config::plan::{DatasetPlan, Plan};
use crate::disk::disk_code;
use crate::mapping::field::{FieldRule, Mask};
use crate::pipeline::wiring;
use crate::source::{Column, Source as _};

mod docx;
mod html;
mod xlsx;

/// Arguments of `describe`.
#[derive(Debug, clap::Args)]
pub(super) struct Describe {
    /// Bộ dữ liệu · the dataset.
    pub(super) dataset: String,
    /// Không hỏi nguồn · do not ask the source.
    #[arg(long)]
    pub(super) offline: bool,
    /// Dạng tài liệu · the form of the document.
    #[arg(long, value_enum, default_value = "html")]
    pub(super) format: Form,
    /// Tệp để ghi; không có thì in ra · the file to write; without it the output.
    #[arg(long)]
    pub(super) out: Option<PathBuf>,
}

/// The form of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Form {
    /// A page.
    Html,
    /// A spreadsheet.
    Xlsx,
    /// A Word file.
    Docx,
}

/// What a document says, whatever its form.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Document {
    title_vi: String,
    title_en: String,
    /// Name and value.
    facts: Vec<(&'static str, String)>,
    /// One per field, in the order of [`HEADS`].
    fields: Vec<[String; HEADS.len()]>,
}

/// What is said of each field.
const HEADS: [&str; 9] = [
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

/// The heading over the fields.
const FIELDS: &str = "Trường · fields";

/// Writes the document; the source is asked for the types of its columns unless `offline`.
pub(super) async fn describe(plan: &Plan, wanted: &Describe) -> Result<ExitCode, Fault> {
    for dataset in chosen(plan, Some(&wanted.dataset))? {
        let mut columns = Vec::new();
        if !wanted.offline {
            let selection = std::slice::from_ref(&dataset.selection);
            let found = wiring::source(plan)?.probe(selection).await?;
            columns.extend(found.columns.into_iter().flatten().flat_map(|all| all.to_vec()));
        }
        let document = document(dataset, &columns, Timestamp::now());
        let unmade = |why: String| {
            Fault::because(Code::Bug, format!("cannot describe {}", dataset.dataset()), why)
        };
        let bytes = match wanted.format {
            Form::Html => html::page(&document).into_bytes(),
            Form::Xlsx => xlsx::book(&document).map_err(unmade)?,
            Form::Docx => docx::package(&document).map_err(unmade)?,
        };
        put_out(&bytes, wanted.out.as_deref(), wanted.format)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn put_out(bytes: &[u8], out: Option<&Path>, form: Form) -> Result<(), Fault> {
    if let Some(file) = out {
        return std::fs::write(file, bytes).map_err(|error| {
            Fault::because(disk_code(&error), format!("cannot write {}", file.display()), error)
        });
    }
    let mut output = std::io::stdout();
    if form != Form::Html && output.is_terminal() {
        let what = "this form is not for a terminal: name a file with `--out`";
        return Err(Fault::new(Code::ConfigInvalid, what));
    }
    // A reader that has gone away is no reason to fail.
    let _ = output.write_all(bytes).and_then(|()| output.flush());
    Ok(())
}

fn document(dataset: &DatasetPlan, columns: &[Column], at: Timestamp) -> Document {
    let (contract, selection) = (&dataset.contract, &dataset.selection);
    let table = format!("{}.{}", selection.schema, selection.table);
    let facts = vec![
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
    let pairs = contract.fields.iter().zip(&dataset.rules.fields).enumerate();
    let cells = |(index, pair)| field(pair, contract.is_nullable(index), columns);
    Document {
        title_vi: contract.title_vi.clone(),
        title_en: contract.title_en.clone(),
        facts,
        fields: pairs.map(cells).collect(),
    }
}

fn field(
    (agreed, rule): (&ContractField, &FieldRule),
    nullable: bool,
    columns: &[Column],
) -> [String; HEADS.len()] {
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
    [
        agreed.name.clone(),
        name,
        agreed.kind.to_string(),
        class(agreed.class).to_owned(),
        if nullable { String::new() } else { "✓".to_owned() },
        from,
        meaning::rules(&rule.recipe),
        mask,
        agreed.legal_basis.clone(),
    ]
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

/// Text between the signs of a markup; what XML does not allow is left out.
fn escaped(text: &str) -> String {
    let allowed = |letter: &char| !letter.is_control() || matches!(letter, '\t' | '\n' | '\r');
    let text: String = text.chars().filter(allowed).collect();
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Native;

    /// The old register, with a title that is markup.
    pub(super) fn sample() -> Document {
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
        document(&dataset, &[column], Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn the_document_names_fields_rules_and_masks() {
        let document = sample();
        let of = |name: &str| document.fields.iter().find(|field| field[0] == name).unwrap();
        let [_, _, _, _, _, from, rules, mask, _] = of("so_dinh_danh");
        assert_eq!(from, "so_cccd (varchar(20))");
        assert_eq!((rules.as_str(), mask.as_str()), ("normalise → pad_left → check", "hmac"));
        assert_eq!(of("ho_ten")[5], "ho_dem + ten");
        assert_eq!(of("dan_toc")[5], "– (rỗng · null)");
        assert_eq!(escaped("a\u{0}<b>"), "a&lt;b&gt;");
    }
}
