//! `log verify`, `log audit` and `log export`: the whole log, walked or written out.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use phusa_protocol::entry::KeySpan;
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::ids::{AgencyId, AgentId, DatasetId};
use phusa_protocol::keys::PublicKey;
use phusa_protocol::policy::Policy;
use phusa_protocol::time::Timestamp;
use serde::Serialize;

use super::super::{json, one, parse, print, with_warehouse};
use crate::catalog::Catalog;
use crate::config::plan::Plan;
use crate::config::register::Register;
use crate::fleet;
use crate::transfers::audit::{self, Audited};
use crate::transfers::deed::console;
use crate::transfers::export::{Filter, Format, export};
use crate::transfers::publish::blocking;
use crate::transfers::verify::{Verified, verify_database, verify_file};
use crate::transfers::{Log, keys, witnesses};

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Verify {
    /// An exported log (`log export --format json`) instead of the database.
    #[arg(long, requires = "hub_key", requires = "agents")]
    file: Option<PathBuf>,
    /// The hub's public key; may be given several times, for keys it had before. Default: that of
    /// the configured signing key.
    #[arg(long)]
    hub_key: Vec<PathBuf>,
    /// Folder of registered agents with their public keys; may be given several times, for keys
    /// they had before. Default: the configured one, and every key the database knows them to have
    /// had.
    #[arg(long)]
    agents: Vec<PathBuf>,
    /// The result as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Export {
    /// The form of the export.
    #[arg(long, value_enum, default_value = "json")]
    format: Format,
    /// Only this dataset.
    #[arg(long, value_parser = parse::<DatasetId>)]
    dataset: Option<DatasetId>,
    /// Only agents of this agency.
    #[arg(long, value_parser = parse::<AgencyId>)]
    agency: Option<AgencyId>,
    /// Only committed at or after this moment, such as 2026-11-21T00:00:00+07:00.
    #[arg(long, value_parser = parse::<Timestamp>)]
    from: Option<Timestamp>,
    /// Only committed before this moment.
    #[arg(long, value_parser = parse::<Timestamp>)]
    to: Option<Timestamp>,
}

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Audit {
    /// Compute the whole tree anew and compare it with every file and every head that witnesses
    /// signed; without it only what a restart looks at.
    #[arg(long)]
    full: bool,
    /// A key the hub signed leaves with before; may be given several times.
    #[arg(long)]
    hub_key: Vec<PathBuf>,
    /// The result as JSON.
    #[arg(long)]
    json: bool,
}

/// Files and database together.
#[derive(Serialize)]
struct Whole {
    files: Option<Audited>,
    database: Verified,
}

pub(super) async fn audit(config: &Path, wanted: Audit) -> Result<(), Vec<Fault>> {
    let plan = Plan::read(config)?;
    let mut hub: Vec<PublicKey> =
        one(wanted.hub_key.iter().map(|file| read_public(file)).collect())?;
    hub.push(plan.signing_key.public());
    let whole = with_warehouse(&plan, async |warehouse| {
        let folder = super::folder(&plan)?;
        let mut files = None;
        if let Some(folder) = folder.clone().filter(|_| wanted.full) {
            let heads = witnesses::kept(&warehouse.client().await?, folder.log()).await?;
            let agents = keys::known_to(warehouse, &hub, &plan.register).await?;
            let mut known: Vec<PublicKey> =
                agents.into_values().flatten().map(|span| span.key).collect();
            known.extend(plan.log_policy.iter().flat_map(Policy::witnesses));
            let hub = hub.clone();
            let audited = blocking(move || audit::files(&folder, &hub, &heads, &known)).await?;
            files = Some(audited);
        }
        let agents = keys::known_to(warehouse, &hub, &plan.register).await?;
        let catalog = Catalog::open(warehouse.clone(), plan.signing_key.public()).await?;
        let tables: Vec<_> = catalog.current().iter().map(|a| a.shape.clone()).collect();
        let compared = (tables.as_slice(), folder.as_ref());
        let database = verify_database(warehouse, hub.clone(), agents, compared).await?;
        fleet::proofs::agree_with_log(&warehouse.client().await?).await?;
        Ok(Whole { files, database })
    })
    .await?;
    if wanted.json {
        return one(print(&json(&whole)));
    }
    let mut text = verified_text(&whole.database);
    if let Some(files) = &whole.files {
        text += &format!(
            "\nTệp nhật ký đúng (the log's files are sound): {} mục (entries), {} tệp (files), {} \
             mốc đã ký mà nhật ký nối tiếp (signed heads it extends), {} chữ ký nhân chứng \
             (cosignatures)\nGốc cây (root): {}",
            files.entries, files.files, files.heads, files.cosignatures, files.root
        );
    }
    one(print(&text))
}

pub(super) async fn verify(config: &Path, wanted: Verify) -> Result<(), Vec<Fault>> {
    let mut hub: Vec<PublicKey> =
        one(wanted.hub_key.iter().map(|file| read_public(file)).collect())?;
    let agents = given_keys(&wanted.agents)?;
    let verified = if let Some(file) = &wanted.file {
        let opened = File::open(file).map_err(|error| {
            Fault::because(Code::DiskFailed, format!("cannot open {}", file.display()), error)
        });
        one(verify_file(BufReader::new(one(opened)?), hub, agents))?
    } else {
        let plan = Plan::read(config)?;
        if hub.is_empty() {
            hub.push(plan.signing_key.public());
        }
        with_warehouse(&plan, async |warehouse| {
            let agents = match wanted.agents.is_empty() {
                true => keys::known_to(warehouse, &hub, &plan.register).await?,
                false => agents,
            };
            let catalog = Catalog::open(warehouse.clone(), plan.signing_key.public()).await?;
            let tables: Vec<_> = catalog.current().iter().map(|a| a.shape.clone()).collect();
            let folder = super::folder(&plan)?;
            let compared = (tables.as_slice(), folder.as_ref());
            let verified = verify_database(warehouse, hub, agents, compared).await?;
            fleet::proofs::agree_with_log(&warehouse.client().await?).await?;
            Ok(verified)
        })
        .await?
    };
    one(print(&if wanted.json { json(&verified) } else { verified_text(&verified) }))
}

/// The keys of registers that a person trusts.
fn given_keys(registers: &[PathBuf]) -> Result<BTreeMap<AgentId, Vec<KeySpan>>, Vec<Fault>> {
    let mut keys = BTreeMap::<_, Vec<_>>::new();
    for dir in registers {
        for (agent, key) in Register::read(dir)?.keys() {
            keys.entry(agent).or_default().push(KeySpan::always(key));
        }
    }
    Ok(keys)
}

fn verified_text(verified: &Verified) -> String {
    let summary = &verified.summary;
    format!(
        "Nhật ký đúng (the log verifies): {} mục (entries), {} nhận (accepted), {} từ chối \
         (refused), {} thay đổi dòng (row changes), {} chờ số (unsequenced), {} bảng đã đối chiếu \
         (tables compared), {} đã công bố (published){}\nMắt xích cuối (last link): {}",
        summary.entries,
        summary.accepted,
        summary.refused,
        summary.rows,
        verified.unsequenced,
        verified.tables,
        verified.published,
        if summary.missing == 0 { String::new() } else { missing_text(summary.missing) },
        summary.link
    )
}

fn missing_text(missing: u64) -> String {
    format!(
        "\n{missing} mục chỉ còn trong tệp nhật ký, vì cơ sở dữ liệu đã được khôi phục từ bản sao \
         lưu (entries are in the log's files alone: the database was restored from a backup)"
    )
}

pub(super) fn read_public(file: &Path) -> Result<PublicKey, Fault> {
    let what = || format!("public key file {}", file.display());
    let text = std::fs::read_to_string(file)
        .map_err(|error| Fault::because(Code::SecretUnreadable, what(), error))?;
    PublicKey::try_from(text.trim().to_owned())
        .map_err(|error| Fault::because(Code::SecretUnreadable, what(), error))
}

pub(super) async fn write_out(config: &Path, wanted: Export) -> Result<(), Vec<Fault>> {
    let plan = Plan::read(config)?;
    let filter = Filter {
        dataset: wanted.dataset,
        agency: wanted.agency,
        from: wanted.from,
        to: wanted.to,
        up_to: None,
    };
    let log = Log::new(plan.signing_key.clone());
    with_warehouse(&plan, async |warehouse| {
        let mut out = std::io::BufWriter::new(std::io::stdout().lock());
        export((warehouse, &log), &filter, wanted.format, &console(), &mut out).await.map(drop)
    })
    .await
}
