//! `phusa-hub category`: bring lists in, take them out, compare them, show what is held.

use std::path::{Path, PathBuf};

use clap::{Subcommand, ValueEnum};
use phusa_protocol::fault::{Code, Fault};

use super::{json, one, print, with_warehouse};
use crate::category::catalogue::CatalogueFile;
use crate::category::list::{Day, List};
use crate::category::{self, Imported, xlsx};
use crate::config::plan::Plan;
use crate::transfers::{Log, sequence};
use crate::warehouse::Warehouse;

#[derive(Debug, Subcommand)]
pub(super) enum CategoryCommand {
    /// Bring lists into force, each as its next version.
    Import {
        /// List files: TOML as in configs/lists; CSV or XLSX (`code,name,valid_from,valid_to`) with `--list`.
        #[arg(required_unless_present = "catalogue")]
        files: Vec<PathBuf>,
        /// The list a CSV or XLSX file holds the codes of; titles and source stay as they are held.
        #[arg(long)]
        list: Option<String>,
        /// Bring in every list that this catalogue (configs/categories.toml) names.
        #[arg(long)]
        catalogue: Option<PathBuf>,
    },
    /// Write a list out.
    Export {
        /// Which list.
        list: String,
        /// The form: `csv` or `xlsx` for spreadsheets, `toml` as an agent reads it.
        #[arg(long, value_enum, default_value = "csv")]
        format: Form,
        /// One version instead of the one in force.
        #[arg(long)]
        version: Option<i32>,
        /// Only codes in force on this day, such as 2025-06-30; CSV and XLSX alone.
        #[arg(long, value_parser = super::parse::<Day>)]
        as_of: Option<Day>,
        /// The file to write; without it the output. Needed for `xlsx` on a terminal.
        #[arg(long)]
        out: Option<PathBuf>,
    },
    /// What a file would change: `+` added, `-` left out, `~` said differently.
    Diff {
        /// A list file: TOML, CSV or XLSX.
        file: PathBuf,
        /// The list a CSV or XLSX file holds the codes of.
        #[arg(long)]
        list: Option<String>,
    },
    /// The lists in force.
    Ls {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
}

/// The form of an export.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Form {
    /// Comma-separated values.
    Csv,
    /// A spreadsheet.
    Xlsx,
    /// A list file.
    Toml,
}

/// Runs one of the commands.
pub(super) async fn run(config: &Path, command: CategoryCommand) -> Result<(), Vec<Fault>> {
    let plan = Plan::read(config)?;
    match command {
        CategoryCommand::Import { files, list, catalogue } => {
            let files = match catalogue {
                Some(catalogue) => [files, one(files_of(&catalogue))?].concat(),
                None => files,
            };
            import(&plan, &files, list.as_deref()).await
        }
        CategoryCommand::Export { list, format, version, as_of, out } => {
            with_warehouse(&plan, async |warehouse| {
                let client = warehouse.client().await?;
                let list = category::read(&**client, &list, version).await?;
                let bytes = match format {
                    Form::Csv => list.to_csv(as_of.as_ref()).into_bytes(),
                    Form::Toml => list.to_toml().into_bytes(),
                    Form::Xlsx => list.to_xlsx(as_of.as_ref()).map_err(|why| {
                        Fault::because(Code::ListInvalid, format!("list {}", list.list), why)
                    })?,
                };
                put_out(&bytes, out.as_deref(), format)
            })
            .await
        }
        CategoryCommand::Diff { file, list } => {
            with_warehouse(&plan, async |warehouse| diff(warehouse, &file, list.as_deref()).await)
                .await
        }
        CategoryCommand::Ls { json } => {
            with_warehouse(&plan, async |warehouse| ls(warehouse, json).await).await
        }
    }
}

/// Into the file, or to the output; a spreadsheet is nothing for a terminal.
fn put_out(bytes: &[u8], out: Option<&Path>, format: Form) -> Result<(), Fault> {
    use std::io::{IsTerminal as _, Write as _};
    if let Some(file) = out {
        return std::fs::write(file, bytes).map_err(|error| {
            Fault::because(Code::DiskFailed, format!("cannot write {}", file.display()), error)
        });
    }
    let mut output = std::io::stdout();
    if matches!(format, Form::Xlsx) && output.is_terminal() {
        let what = "an XLSX file is not for a terminal: name a file with `--out`";
        return Err(Fault::new(Code::ConfigInvalid, what));
    }
    output
        .write_all(bytes)
        .and_then(|()| output.flush())
        .map_err(|error| Fault::because(Code::DiskFailed, "cannot write to the output", error))
}

/// All files are read and checked before any is brought in.
async fn import(plan: &Plan, files: &[PathBuf], name: Option<&str>) -> Result<(), Vec<Fault>> {
    let log = Log::new(plan.signing_key.clone());
    with_warehouse(plan, async |warehouse| {
        let mut lists = Vec::new();
        for file in files {
            lists.push(read(warehouse, file, name).await?);
        }
        for list in &lists {
            let said = match category::import(warehouse, list, &log).await? {
                Imported::Version(version) => format!("phiên bản (version) {version}"),
                Imported::Unchanged => "không đổi (unchanged)".to_owned(),
            };
            print(&format!("{}: {said}, {} mã (codes)", list.list, list.codes.len()))?;
        }
        sequence::number_next(warehouse, super::log::published(plan)?).await.map(drop)
    })
    .await
}

async fn diff(warehouse: &Warehouse, file: &Path, name: Option<&str>) -> Result<(), Fault> {
    let new = read(warehouse, file, name).await?;
    let client = warehouse.client().await?;
    let held = category::read(&**client, &new.list, None).await?;
    let lines = held.differences(&new);
    if lines.is_empty() {
        return print("không khác (no difference)");
    }
    print(&lines.join("\n"))
}

async fn ls(warehouse: &Warehouse, as_json: bool) -> Result<(), Fault> {
    let client = warehouse.client().await?;
    let held = category::held(&**client).await?;
    if as_json {
        return print(&json(&held));
    }
    let line = |held: &category::Held| {
        let (list, version, codes) = (&held.list, held.version, held.codes);
        format!("{list:32} v{version:<4} {codes:>6}  {}", held.title_vi)
    };
    print(&held.iter().map(line).collect::<Vec<_>>().join("\n"))
}

/// A list from its file; a CSV or XLSX file holds codes alone, so the rest is taken from the list as
/// held.
async fn read(warehouse: &Warehouse, file: &Path, name: Option<&str>) -> Result<List, Fault> {
    let wrong = |why: String| {
        Fault::because(Code::ListInvalid, format!("list file {}", file.display()), why)
    };
    let is = |form: &str| file.extension().is_some_and(|ext| ext.eq_ignore_ascii_case(form));
    let size = std::fs::metadata(file).map_err(|error| wrong(error.to_string()))?.len();
    if size > xlsx::BYTES_MAX {
        return Err(wrong(format!("it has {size} bytes; a list has at most {}", xlsx::BYTES_MAX)));
    }
    let bytes = std::fs::read(file).map_err(|error| wrong(error.to_string()))?;
    let text = || std::str::from_utf8(&bytes).map_err(|_| wrong("it is not UTF-8".to_owned()));
    if !is("csv") && !is("xlsx") {
        return List::from_toml(text()?).map_err(wrong);
    }
    let Some(name) = name else {
        return Err(wrong("a CSV or XLSX file needs `--list NAME`".to_owned()));
    };
    let client = warehouse.client().await?;
    let held = category::read(&**client, name, None).await?;
    let read =
        if is("xlsx") { held.with_codes_of_xlsx(&bytes) } else { held.with_codes_of_csv(text()?) };
    read.map_err(wrong)
}

fn files_of(catalogue: &Path) -> Result<Vec<PathBuf>, Fault> {
    let wrong = |why: String| {
        Fault::because(Code::ListInvalid, format!("catalogue {}", catalogue.display()), why)
    };
    let text = std::fs::read_to_string(catalogue).map_err(|error| wrong(error.to_string()))?;
    let file = CatalogueFile::from_toml(&text).map_err(wrong)?;
    let base = catalogue.parent().unwrap_or(Path::new(""));
    Ok(file.category.iter().map(|category| base.join(&category.file)).collect())
}
