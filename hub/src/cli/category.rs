//! `phusa-hub category`: bring lists in, take them out, compare them, show what is held.

use std::path::{Path, PathBuf};

use clap::{Subcommand, ValueEnum};
use phusa_protocol::fault::{Code, Fault};

use super::{json, one, print, with_warehouse};
use crate::category::catalogue::CatalogueFile;
use crate::category::list::{Day, List};
use crate::category::{self, Imported};
use crate::config::plan::Plan;
use crate::transfers::{Log, sequence};
use crate::warehouse::Warehouse;

#[derive(Debug, Subcommand)]
pub(super) enum CategoryCommand {
    /// Bring lists into force, each as its next version.
    Import {
        /// List files: TOML as in configs/lists; CSV (`code,name,valid_from,valid_to`) with `--list`.
        #[arg(required_unless_present = "catalogue")]
        files: Vec<PathBuf>,
        /// The list a CSV file holds the codes of; titles and source stay as they are held.
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
        /// The form: `csv` for spreadsheets, `toml` as an agent reads it.
        #[arg(long, value_enum, default_value = "csv")]
        format: Form,
        /// One version instead of the one in force.
        #[arg(long)]
        version: Option<i32>,
        /// Only codes in force on this day, such as 2025-06-30; CSV alone.
        #[arg(long, value_parser = super::parse::<Day>)]
        as_of: Option<Day>,
    },
    /// What a file would change: `+` added, `-` left out, `~` said differently.
    Diff {
        /// A list file, TOML or CSV.
        file: PathBuf,
        /// The list a CSV file holds the codes of.
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
        CategoryCommand::Export { list, format, version, as_of } => {
            with_warehouse(&plan, async |warehouse| {
                let client = warehouse.client().await?;
                let list = category::read(&**client, &list, version).await?;
                print(&match format {
                    Form::Csv => list.to_csv(as_of.as_ref()),
                    Form::Toml => list.to_toml(),
                })
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

/// A list from its file; a CSV file holds codes alone, so the rest is taken from the list as held.
async fn read(warehouse: &Warehouse, file: &Path, name: Option<&str>) -> Result<List, Fault> {
    let wrong = |why: String| {
        Fault::because(Code::ListInvalid, format!("list file {}", file.display()), why)
    };
    let text = std::fs::read_to_string(file).map_err(|error| wrong(error.to_string()))?;
    if file.extension().is_none_or(|extension| !extension.eq_ignore_ascii_case("csv")) {
        return List::from_toml(&text).map_err(wrong);
    }
    let Some(name) = name else {
        return Err(wrong("a CSV file needs `--list NAME`".to_owned()));
    };
    let client = warehouse.client().await?;
    let held = category::read(&**client, name, None).await?;
    held.with_codes_of_csv(&text).map_err(wrong)
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
