//! Sigsum's own witness, which others wrote and Debian packages, follows our log: it takes each
//! checkpoint with the proof that it extends the last one, and refuses whatever does not.
//! (`litewitness` of Debian 13 accepts the first one and then panics in its own database code.)

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use phusa_hub::transfers::folder::Folder as LogFolder;
use phusa_protocol::checkpoint::{Checkpoint, Cosignature};
use phusa_protocol::keys::PublicKey;
use phusa_protocol::tree::consistency_plan;
use phusa_tests::database::free_port;
use phusa_tests::folder::Folder;
use phusa_tests::log_tools;
use phusa_tests::process::{Process, run, wait_until_blocking};
use phusa_tests::province::ARRIVES_WITHIN;

use super::{add, proven, world};
use crate::world::World;

/// A running witness with its public key.
struct Outside {
    port: u16,
    key: PublicKey,
    _process: Process,
}

impl Outside {
    /// Starts one that knows our log by its key alone; or says why it cannot.
    fn start(log: &PublicKey) -> Result<Self, String> {
        let program = log_tools::program("sigsum-witness")?;
        let folder = Arc::new(Folder::new());
        let at = |name: &str| folder.path().join(name).display().to_string();
        run(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f", &at("key")]));
        let key = fs::read_to_string(at("key.pub")).unwrap();
        let key = BASE64.decode(key.split(' ').nth(1).unwrap()).unwrap();
        let key = PublicKey::from_bytes(key.last_chunk().unwrap()).unwrap();
        fs::write(at("log.pub"), log.to_openssh("log")).unwrap();
        let port = free_port();
        let mut command = Command::new(program);
        command.args(["-k", &at("key"), "--log-key", &at("log.pub")]);
        command.args(["--state-file", &at("state"), &format!("127.0.0.1:{port}")]);
        // Debian builds it so that Go takes "POST /…" for a host's name unless told otherwise.
        let process =
            Process::start(&folder, "sigsum-witness", command.env("GODEBUG", "httpmuxgo121=0"));
        wait_until_blocking("sigsum-witness", ARRIVES_WITHIN, || {
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        Ok(Self { port, key, _process: process })
    }

    /// Offers a checkpoint after one of `old` entries; status and body of the answer.
    fn offer(&self, old: u64, proof: &[String], note: &str) -> (u16, String) {
        let lines: String = proof.iter().map(|hash| format!("{hash}\n")).collect();
        let body = format!("old {old}\n{lines}\n{note}");
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let head = format!(
            "POST /add-checkpoint HTTP/1.1\r\nHost: witness\r\nContent-Length: {}\r\n\
             Connection: close\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        (status, body.to_owned())
    }
}

/// The proof that the published log extends its first `old` entries, in base64.
fn extension(folder: &LogFolder, old: u64, new: u64) -> Vec<String> {
    let plan = consistency_plan(old, new).unwrap();
    let loaded = folder.load(plan.iter().flatten(), new).unwrap();
    let proof = loaded.proof(&plan).unwrap();
    proof.iter().map(|hash| BASE64.encode(hash.as_bytes())).collect()
}

fn published(world: &World, key: &PublicKey) -> (LogFolder, Checkpoint) {
    let folder = LogFolder::new(&world.province.hub_folder().join("state"), *key);
    let checkpoint = folder.checkpoint().unwrap().unwrap();
    (folder, checkpoint)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_witness_of_others_cosigns_our_log_as_it_grows_and_refuses_what_does_not_extend_it() {
    let world = world(20).await;
    proven(&world, 1).await;
    let key = fs::read_to_string(world.province.hub_folder().join("state/log.pub")).unwrap();
    let key = PublicKey::try_from(key).unwrap();
    let outside = match Outside::start(&key) {
        Ok(outside) => outside,
        Err(why) => return eprintln!("NOT VERIFIED with sigsum-witness: {why}"),
    };
    let (_, first) = published(&world, &key);
    let note = first.to_note();
    let (status, body) = outside.offer(0, &[], &note);
    assert_eq!(status, 200, "{body}");
    // Its cosignature holds by our programs: over this head, by the key it says it has.
    let cosignature = Cosignature::parse(body.trim_end()).unwrap();
    assert!(cosignature.holds(&first, &outside.key), "{body}");

    for id in 100..103 {
        add(&world, id).await;
        proven(&world, 2).await;
    }
    let (folder, second) = published(&world, &key);
    let (old, new) = (first.head.size, second.head.size);
    assert!(new > old);
    let proof = extension(&folder, old, new);
    let wrong: Vec<String> = proof.iter().map(|_| BASE64.encode([7; 32])).collect();
    let note = second.to_note();
    let altered = note.replacen(&format!("\n{new}\n"), &format!("\n{}\n", new + 1), 1);
    for (what, old, proof, note) in [
        ("a wrong proof", old, &wrong, &note),
        ("an altered size", old, &proof, &altered),
        ("another beginning", old + 1, &proof, &note),
    ] {
        let (status, body) = outside.offer(old, proof, note);
        assert!((400..500).contains(&status), "{what}: {status} {body}");
        println!("sigsum-witness refuses {what}: {status} {}", body.trim());
    }
    let (status, body) = outside.offer(old, &proof, &note);
    assert_eq!(status, 200, "{body}");
    println!("sigsum-witness cosigns {old} and then {new} entries: {}", body.trim());
}
