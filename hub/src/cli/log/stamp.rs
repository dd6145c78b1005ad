//! Timestamps beside what `log ls`, `log show` and `log prove` say.

use phusa_protocol::evidence::Evidence;
use phusa_protocol::fault::Fault;
use phusa_protocol::policy::Policy;

use crate::config::plan::Plan;
use crate::stamping::shelf::{Shelf, Stamped};
use crate::transfers::evidence::{Found, prove};
use crate::transfers::folder::Folder;
use crate::transfers::publish::blocking;

/// The first timestamp that holds the entry of this number, or the newest of all for none.
pub(super) async fn of(plan: &Plan, number: Option<u64>) -> Result<Option<Stamped>, Fault> {
    let shelf = Shelf::new(&plan.state_dir);
    blocking(move || match number {
        Some(number) => shelf.first_with(number),
        None => shelf.last(),
    })
    .await
}

/// In words; empty where there is none.
pub(super) fn text(stamped: Option<&Stamped>) -> String {
    stamped.map_or_else(String::new, |stamped| {
        let (entries, at) = (stamped.entries, stamped.at);
        format!("Dấu thời gian (timestamped): {entries} mục (entries) lúc (at) {at}")
    })
}

/// The files that prove an entry under its timestamp; none where it has none. The proof leads to the
/// stamped checkpoint, as the log stands on the disk now: a log that was rewritten since does not.
pub(super) async fn files(
    plan: &Plan,
    folder: &Folder,
    found: &Found,
) -> Result<Vec<(&'static str, Vec<u8>)>, Fault> {
    let number = found.number.unwrap_or(u64::MAX);
    let Some(stamped) = of(plan, Some(number)).await? else { return Ok(Vec::new()) };
    let (shelf, folder) = (Shelf::new(&plan.state_dir), folder.clone());
    let (found, hub) = (found.clone(), plan.signing_key.public());
    let trust = plan.timestamp.as_ref().map(|terms| terms.trust.pem.clone());
    blocking(move || {
        let (note, checkpoint) = shelf.checkpoint(stamped.entries, folder.log())?;
        let policy = Policy::of_agents(*folder.log(), &[], 0);
        let evidence: Evidence = prove(&folder, number, &checkpoint, &policy)?;
        super::check(&evidence, &found, &hub, &policy)?;
        let mut files = vec![
            ("timestamp.checkpoint", note.into_bytes()),
            ("timestamp.tsr", shelf.reply(stamped.entries)?),
            ("timestamp.proof", evidence.to_text().into_bytes()),
            ("timestamp.policy", policy.to_text().into_bytes()),
        ];
        files.extend(trust.map(|pem| ("tsa-ca.pem", pem.into_bytes())));
        Ok(files)
    })
    .await
}

/// How whoever has these files checks the timestamp.
pub(super) fn command(dir: &str) -> String {
    format!(
        "\n  openssl ts -verify -data {dir}/timestamp.checkpoint -in {dir}/timestamp.tsr \
         -CAfile {dir}/tsa-ca.pem"
    )
}
