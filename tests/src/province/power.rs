//! The power goes out at the hub.

use std::fs;

use super::{Province, STARTS_WITHIN};
use crate::power::PowerDisk;
use crate::process::{hold_still, is_running, kill, wait_until_blocking};

impl Province {
    /// The power goes out at the hub and comes back: its files, the transfer log's and the warehouse's, are
    /// on this disk, and nobody was asked to stop.
    ///
    /// # Panics
    /// When a process does not end, or the hub does not come up.
    pub fn cut_power_of_hub(&mut self, disk: &PowerDisk) {
        let server = self.hub_folder().join("state/postgresql/data/postmaster.pid");
        let text = fs::read_to_string(&server).expect("the warehouse's server");
        let id = text.lines().next().and_then(|id| id.trim().parse().ok()).expect("its id");
        self.hub_process().signal(rustix::process::Signal::STOP);
        let ids = hold_still(id);
        disk.cut();
        self.hub_process().kill();
        ids.iter().copied().for_each(kill);
        let gone = || !ids.iter().any(|id| is_running(*id));
        wait_until_blocking("the warehouse's server to be gone", STARTS_WITHIN, gone);
        disk.come_back();
        // After a real cut no process has this id; here its parent may not have noticed its end.
        let _ = fs::remove_file(server);
        self.start_hub_with(&[]);
    }
}
