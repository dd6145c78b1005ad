//! The power goes out at the agent: what it had not synced is gone, and still it goes on where it
//! was. A killed process leaves its unsynced writes to the kernel; only a file system that was shut
//! down without a last flush shows whether anything was promised too early.

use std::fs;

use phusa_tests::power::PowerDisk;
use phusa_tests::random::Random;
use rustix::process::Signal;

use crate::scene::{AGENCY, Scene, Victim};

/// Size of the agent's disk.
const DISK_MIB: u64 = 96;

/// How often the power goes out.
const CUTS: u64 = 4;

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_whose_power_went_out_goes_on_in_the_same_epoch() {
    let mut scene = Scene::new(600).await;
    scene.hurry();
    let folder = scene.province.agent_folder(AGENCY).join("state");
    let Some(disk) = PowerDisk::new(&folder, scene.province.path(), DISK_MIB) else { return };
    let config = scene.province.agent_config(AGENCY);
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("[spool]", "[spool]\ndisk_reserve = \"4MiB\"")).unwrap();
    scene.revive(Victim::Agent);
    let mut random = Random::new(5, 0);
    for cut in 0..CUTS {
        scene.stir().await;
        scene.wait_for_batches(random.between(1, 30)).await;
        scene.process(Victim::Agent).signal(Signal::STOP);
        disk.cut();
        scene.kill(Victim::Agent);
        disk.come_back();
        scene.revive(Victim::Agent);
        if cut == 0 {
            scene.wait_until_live().await;
            scene.watch();
        }
    }
    let epochs = scene.epochs().await;
    assert_eq!(epochs, [1, 1, 1], "something was promised before it was durable");
    scene.conclude().await;
}
