//! The power goes out at the agent: what it had not synced is gone, and still it goes on where it
//! was. A killed process leaves its unsynced writes to the kernel; only a copy of the disk's image
//! shows whether anything was promised too early.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use phusa_tests::process::{output, run};
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
    let Some(mut disk) = Disk::new(&scene) else { return };
    let config = scene.province.agent_config(AGENCY);
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("[spool]", "[spool]\ndisk_reserve = \"4MiB\"")).unwrap();
    scene.revive(Victim::Agent);
    let mut random = Random::new(5, 0);
    for cut in 0..CUTS {
        scene.stir().await;
        scene.wait_for_batches(random.between(1, 30)).await;
        scene.process(Victim::Agent).signal(Signal::STOP);
        disk.copy();
        scene.kill(Victim::Agent);
        disk.fall_back_to_copy();
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

/// An ext4 image mounted as the agent's state folder.
struct Disk {
    image: PathBuf,
    copy: PathBuf,
    folder: PathBuf,
}

impl Disk {
    /// `None`, with the reason printed, where images cannot be mounted.
    fn new(scene: &Scene) -> Option<Self> {
        let folder = scene.province.agent_folder(AGENCY).join("state");
        let at = |name: &str| scene.province.path().join(name);
        let disk = Self { image: at("disk.img"), copy: at("copy.img"), folder };
        fs::File::create(&disk.image).unwrap().set_len(DISK_MIB << 20).unwrap();
        run(Command::new("/sbin/mkfs.ext4").args(["-q", "-F"]).arg(&disk.image));
        if let Err(why) = disk.mount() {
            let must = std::env::var("CI").as_deref() == Ok("true")
                && rustix::process::geteuid().is_root();
            assert!(!must, "no loop device in CI: {why}");
            println!("skipped: an image cannot be mounted here: {why}");
            return None;
        }
        Some(disk)
    }

    fn mount(&self) -> Result<(), String> {
        let mut mount = Command::new("mount");
        let done = output(mount.args(["-o", "loop"]).arg(&self.image).arg(&self.folder));
        let said = || String::from_utf8_lossy(&done.stderr).into_owned();
        done.status.success().then_some(()).ok_or_else(said)
    }

    /// Keeps what is on the disk now, without what its file system still holds back.
    fn copy(&mut self) {
        fs::copy(&self.image, &self.copy).unwrap();
    }

    /// The disk is as it was when it was copied.
    fn fall_back_to_copy(&mut self) {
        unmount(&self.folder);
        fs::rename(&self.copy, &self.image).unwrap();
        self.mount().unwrap();
    }
}

fn unmount(folder: &Path) {
    run(Command::new("umount").arg(folder));
}
