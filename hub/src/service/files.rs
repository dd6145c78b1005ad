//! Files and connections the process may have open: as many as its bounds on connections add up to,
//! where the system allows that.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::{debug, warn};

/// 4,096 connections of agents, 2,048 sessions of the link, 512 of people, and what the hub itself
/// opens.
const FILES_WANTED: u64 = 8_192;

/// Asks the system for so many. Started by hand a process often may open 1,024, and then a thousand
/// agents would leave the hub no file for its own log.
pub(super) fn allow() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_none_or(|current| current >= FILES_WANTED) {
        return;
    }
    let wanted = maximum.unwrap_or(FILES_WANTED).min(FILES_WANTED);
    let allowed = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum });
    match allowed {
        Ok(()) if wanted == FILES_WANTED => debug!(wanted, "May open {wanted} files"),
        Ok(()) => warn!(
            wanted,
            "May open {wanted} files only, of {FILES_WANTED} that as many connections as are let in \
             may need: raise LimitNOFILE"
        ),
        Err(error) => warn!(%error, "Cannot ask for {wanted} open files: {error}"),
    }
}
