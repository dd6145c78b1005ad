//! `phusa-hub ca`: make a root, make and renew what is under it, move to another root, show it all.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use phusa_protocol::digest::Digest;
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::time::Timestamp;
use serde::Serialize;

use super::{json, print};
use crate::identity::ca::{self, HubWanted};
use crate::identity::facts::Facts;
use crate::identity::passphrase::Passphrase;

/// Less than this left and somebody must act.
const DAYS_WARNED: i64 = 30;

#[derive(Debug, Subcommand)]
pub(super) enum CaCommand {
    /// Make a root. Do it away from the hub, on a medium that is locked away afterwards.
    Init {
        /// Folder for `root.key` and `root.pem`.
        #[arg(long)]
        root_dir: PathBuf,
        /// Its name, for people.
        #[arg(long, default_value = "Phù Sa root")]
        name: String,
        #[command(flatten)]
        new: NewPassphrase,
    },
    /// Put the root's key under another passphrase.
    Protect {
        /// The root's folder.
        #[arg(long)]
        root_dir: PathBuf,
        /// File whose first line is the passphrase it has now; asked for at the terminal without it.
        #[arg(long)]
        old_passphrase_file: Option<PathBuf>,
        #[command(flatten)]
        new: NewPassphrase,
    },
    /// Make a new intermediate for the hub, and the hub's own certificate, from the root.
    Issue {
        /// The root's folder.
        #[arg(long)]
        root_dir: PathBuf,
        /// The hub's folder.
        #[arg(long)]
        dir: PathBuf,
        /// A name or address agents reach the hub by; may be given several times.
        #[arg(long, required = true)]
        hub_name: Vec<String>,
        /// How long the hub's own certificate is valid.
        #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=825))]
        days: u32,
        /// File whose first line is the passphrase of the root's key; asked for at the terminal without it.
        #[arg(long)]
        passphrase_file: Option<PathBuf>,
    },
    /// Renew the hub's own certificate under its intermediate; the root is not needed.
    Renew {
        /// The hub's folder.
        #[arg(long)]
        dir: PathBuf,
        /// How long it is valid.
        #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=825))]
        days: u32,
    },
    /// Make or renew the certificate of a broker between agents and hub, under the hub's intermediate.
    Broker {
        /// The hub's folder.
        #[arg(long)]
        dir: PathBuf,
        /// A name or address agents and hub reach the broker by; may be given several times.
        #[arg(long, required = true)]
        broker_name: Vec<String>,
        /// Folder for `broker.pem`, `broker.key` and `ca.pem`.
        #[arg(long)]
        out: PathBuf,
        /// How long it is valid.
        #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=825))]
        days: u32,
    },
    /// Trust another root too: the first step of moving to it. Agents learn it when they renew.
    Trust {
        /// The other root's folder; `root.pem` in it is enough.
        #[arg(long)]
        root_dir: PathBuf,
        /// The hub's folder.
        #[arg(long)]
        dir: PathBuf,
    },
    /// Trust a root no longer: the last step of moving to another one.
    Distrust {
        /// Its fingerprint, as `ca show` prints it.
        #[arg(value_parser = super::parse::<Digest>)]
        fingerprint: Digest,
        /// The hub's folder.
        #[arg(long)]
        dir: PathBuf,
    },
    /// Fingerprints and days left; the exit code is 1 when something ends within 30 days.
    Show {
        /// The hub's folder, or a root's.
        #[arg(long)]
        dir: PathBuf,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
}

/// What a root's key is put under.
#[derive(Debug, Args)]
pub(super) struct NewPassphrase {
    /// File whose first line is the passphrase, 12 characters or more; asked for at the terminal
    /// without it.
    #[arg(long, conflicts_with = "no_passphrase")]
    passphrase_file: Option<PathBuf>,
    /// No passphrase: whoever holds the medium is the root.
    #[arg(long)]
    no_passphrase: bool,
}

impl NewPassphrase {
    fn take(&self) -> Result<Option<Passphrase>, Fault> {
        if self.no_passphrase {
            return Ok(None);
        }
        if let Some(file) = &self.passphrase_file {
            return Passphrase::of_file(file).map(Some);
        }
        let first = typed("Cụm mật khẩu mới của khóa gốc (new passphrase of the root's key): ")?;
        if typed("Gõ lại (once more): ")? != first {
            return Err(Fault::new(Code::ConfigInvalid, "the two passphrases differ"));
        }
        Passphrase::new(first).map(Some)
    }
}

/// The passphrase of a root that has one.
fn given(root_dir: &Path, file: Option<&PathBuf>) -> Result<Option<Passphrase>, Fault> {
    if !ca::is_sealed(root_dir)? {
        return Ok(None);
    }
    let passphrase = match file {
        Some(file) => Passphrase::of_file(file),
        None => Passphrase::new(typed("Cụm mật khẩu của khóa gốc (the root's passphrase): ")?),
    };
    passphrase.map(Some)
}

fn typed(question: &str) -> Result<String, Fault> {
    rpassword::prompt_password(question).map_err(|error| {
        let what = "nobody can be asked for the passphrase of the root's key here: name a file by \
                    --passphrase-file, or say --no-passphrase when making one";
        Fault::because(Code::ConfigInvalid, what, error)
    })
}

/// One certificate as `ca show` has it.
#[derive(Debug, Serialize)]
struct Shown {
    file: &'static str,
    days_left: i64,
    #[serde(flatten)]
    facts: Facts,
}

/// Runs one of the commands.
pub(super) fn run(command: CaCommand) -> Result<(), Fault> {
    const AGAIN: &str = "khởi động lại trung tâm để dùng (restart the hub to use it)";
    match command {
        CaCommand::Init { root_dir, name, new } => {
            let passphrase = new.take()?;
            let root = ca::init(&root_dir, &name, passphrase.as_ref())?;
            print(&made(&root, &root_dir, passphrase.is_some()))
        }
        CaCommand::Protect { root_dir, old_passphrase_file, new } => {
            let old = given(&root_dir, old_passphrase_file.as_ref())?;
            ca::protect(&root_dir, old.as_ref(), new.take()?.as_ref())?;
            let file = root_dir.join("root.key");
            print(&format!("{}: đã đổi (changed)", file.display()))
        }
        CaCommand::Issue { root_dir, dir, hub_name, days, passphrase_file } => {
            let passphrase = given(&root_dir, passphrase_file.as_ref())?;
            ca::issue(&HubWanted {
                root_dir: &root_dir,
                dir: &dir,
                names: hub_name,
                days,
                passphrase: passphrase.as_ref(),
            })?;
            print(&format!(
                "{}: CA trung gian và chứng thư của trung tâm đã sẵn sàng (intermediate and the \
                 hub's certificate are ready); {AGAIN}",
                dir.display()
            ))?;
            warn_of_root(&root_dir, &dir)
        }
        CaCommand::Renew { dir, days } => {
            ca::renew(&dir, days)?;
            print(&format!("{}: đã gia hạn (renewed); {AGAIN}", dir.join("hub.pem").display()))
        }
        CaCommand::Broker { dir, broker_name, out, days } => {
            ca::broker(&dir, &out, (&broker_name, days))?;
            print(&format!(
                "{}: broker.pem, broker.key, ca.pem đã sẵn sàng (are ready); khởi động lại broker để \
                 dùng (restart the broker to use them)",
                out.display()
            ))
        }
        CaCommand::Trust { root_dir, dir } => {
            ca::trust(&root_dir, &dir)?;
            print(&format!(
                "{}: đã tin thêm (also trusted); {AGAIN}; tác tử biết khi gia hạn (agents learn it \
                 when they renew)",
                dir.join("ca.pem").display()
            ))
        }
        CaCommand::Distrust { fingerprint, dir } => {
            ca::distrust(&dir, &fingerprint)?;
            print(&format!("{fingerprint}: không còn tin (trusted no longer); {AGAIN}"))
        }
        CaCommand::Show { dir, json: as_json } => show(&dir, as_json),
    }
}

fn made(root: &Facts, root_dir: &Path, is_sealed: bool) -> String {
    let (state_vi, state_en) = if is_sealed {
        (
            "dưới cụm mật khẩu; mất cụm ấy là mất gốc",
            "under the passphrase; without it the root is lost",
        )
    } else {
        ("không mã hóa", "not encrypted")
    };
    format!(
        "CA gốc (root): {}\n  dấu vân tay (fingerprint): {}\n  đến (until): {}\n\
         CẢNH BÁO: {}/root.key {state_vi}, quyền 0600. Giữ thư mục này trên phương tiện rời, khóa \
         trong tủ; không để trên máy trung tâm.\n\
         WARNING: {}/root.key is {state_en}, mode 0600. Keep this folder on a removable medium \
         under lock; not on the hub.",
        root.subject,
        root.fingerprint,
        root.not_after,
        root_dir.display(),
        root_dir.display()
    )
}

/// Says so where the root lies on the hub's own disk.
fn warn_of_root(root_dir: &Path, dir: &Path) -> Result<(), Fault> {
    use std::os::unix::fs::MetadataExt as _;
    let device = |path: &Path| std::fs::metadata(path).ok().map(|found| found.dev());
    if device(root_dir) != device(dir) {
        return Ok(());
    }
    print(&format!(
        "CẢNH BÁO: khóa gốc {0} nằm cùng ổ đĩa với trung tâm; hãy mang đi.\n\
         WARNING: the root's key {0} lies on the hub's own disk; take it away.",
        root_dir.join("root.key").display()
    ))
}

fn show(dir: &Path, as_json: bool) -> Result<(), Fault> {
    let now = Timestamp::now();
    let mut all = Vec::new();
    for (file, facts) in ca::show(dir)? {
        all.extend(facts.into_iter().map(|facts| {
            let days_left = (facts.not_after.micros() - now.micros()) / 86_400_000_000;
            Shown { file, days_left, facts }
        }));
    }
    print(&if as_json { json(&all) } else { all.iter().map(line).collect::<Vec<_>>().join("\n") })?;
    match all.iter().find(|shown| shown.days_left < DAYS_WARNED) {
        Some(Shown { file, days_left, facts }) => {
            let what = format!("{file}, {}: {days_left} days left", facts.subject);
            Err(Fault::new(Code::HubCertificate, what))
        }
        None => Ok(()),
    }
}

fn line(shown: &Shown) -> String {
    let Shown { file, days_left, facts } = shown;
    let role = match (facts.is_root, facts.is_ca) {
        (true, _) => "gốc · root",
        (false, true) => "trung gian · intermediate",
        (false, false) => "trung tâm · hub",
    };
    format!(
        "{file:<12} {role:<26} {days_left:>5} ngày · days  {}  {} {}",
        facts.fingerprint,
        facts.subject,
        facts.hosts.join(" ")
    )
}
