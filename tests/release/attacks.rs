//! The ten attacks that TUF is made against, each with the fault that names it; after each the agent goes
//! on with what it had and believes the honest hub as before.

use std::fs;
use std::time::Duration;

use phusa_hub::release::{ceremony, metadata, online};
use phusa_protocol::fault::Code;
use phusa_protocol::keys::SigningKey;
use phusa_protocol::release::Facts;
use phusa_protocol::time::Timestamp;
use phusa_tests::releases::{Client, Releases, facts};
use tough::schema::{Role as _, Signed, Targets};

const PROGRAM: &[u8] = b"the program that people signed";

/// One way to lie: changes a copy of the hub's folder, which holds the hub's online key.
type Lie = fn(&Releases);

/// Signs whatever lies in the folder with the stolen online key.
fn sign_online(evil: &Releases) {
    online::sign(&evil.store(), Timestamp::now()).unwrap();
}

/// Targets of the attacker's own, signed by these, put into force with the stolen online key.
fn own_targets(evil: &Releases, signers: &[SigningKey]) {
    let store = evil.store();
    let before = store.targets().unwrap().unwrap();
    let next = before.signed.version().get() + 1;
    let until = Timestamp::now().after(Duration::from_secs(86_400));
    let digest = phusa_protocol::digest::Digest::of(b"evil");
    let facts = facts("0.2.0", "0.1.0");
    let mut targets: Signed<Targets> =
        metadata::with_target(&before, (next, until), (4, digest), &facts).unwrap();
    for signer in signers {
        metadata::sign(&mut targets, signer).unwrap();
    }
    let file = store.metadata().join(format!("{next}.targets.json"));
    fs::write(file, metadata::bytes(&targets)).unwrap();
    let target = format!("{}.{}", metadata::hex(digest.as_bytes()), facts.target_name());
    fs::write(store.targets_dir().join(target), b"evil").unwrap();
    sign_online(evil);
}

fn others() -> Vec<SigningKey> {
    (0..3).map(|_| SigningKey::generate().unwrap()).collect()
}

fn endless(evil: &Releases) {
    let file = evil.store().metadata().join("timestamp.json");
    let mut text = fs::read(&file).unwrap();
    text.resize(16 << 20, b' ');
    fs::write(file, text).unwrap();
}

/// Without a key of the hub: version numbers that leave no room above them.
fn fast_forward(evil: &Releases) {
    let until = Timestamp::now().after(Duration::from_secs(86_400));
    let store = evil.store();
    let snapshot = store.snapshot().unwrap().unwrap();
    let number = snapshot.signed.version().get();
    let bytes = fs::read(store.metadata().join(format!("{number}.snapshot.json"))).unwrap();
    let mut stamp = metadata::timestamp(u64::MAX / 2, until, (number, &bytes)).unwrap();
    metadata::sign(&mut stamp, &others()[0]).unwrap();
    fs::write(store.metadata().join("timestamp.json"), metadata::bytes(&stamp)).unwrap();
}

/// Words that were right eight days ago, shown again and again.
fn freeze(evil: &Releases) {
    let ago = Timestamp::now().before(Duration::from_secs(8 * 86_400));
    online::sign(&evil.store(), ago).unwrap();
}

fn mix_and_match(evil: &Releases) {
    let store = evil.store();
    let newest = store.snapshot().unwrap().unwrap().signed.version().get();
    let folder = store.metadata();
    let older = folder.join(format!("{}.snapshot.json", newest - 1));
    fs::copy(older, folder.join(format!("{newest}.snapshot.json"))).unwrap();
}

fn tampered(evil: &Releases) {
    for entry in fs::read_dir(evil.store().targets_dir()).unwrap().flatten() {
        let mut program = fs::read(entry.path()).unwrap();
        program[3] ^= 1;
        fs::write(entry.path(), program).unwrap();
    }
}

/// Whoever can have a program for another system signed has it offered to this one.
fn wrong_software(evil: &Releases) {
    let facts = Facts { system: "aarch64-linux".to_owned(), ..facts("0.3.0", "0.1.0") };
    evil.release(b"for another system", &facts);
}

#[tokio::test]
async fn ten_attacks_are_refused_by_name_and_the_agent_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let honest = Releases::begin(&dir.path().join("honest"));
    honest.release(b"the first", &facts("0.1.0", "0.1.0"));
    let kept_back = honest.copied(&dir.path().join("kept-back"));
    // What was revoked: the third key signed until the root was rotated; the fourth came in its place.
    ceremony::rotate(&honest.store(), honest.people(&[0, 1, 3]), false, Timestamp::now()).unwrap();
    honest.sign_drafts(&[0, 1]);
    honest.publish();
    honest.release(PROGRAM, &facts("0.2.0", "0.1.0"));
    // The first, seventh, eighth and ninth have stolen the hub's own key, too.
    let cases: [(&str, Code, &str, Lie); 10] = [
        ("arbitrary software", Code::ReleaseUntrusted, "0.2.0", |evil| {
            own_targets(evil, &others());
        }),
        ("endless data", Code::ReleaseDamaged, "0.2.0", endless),
        ("fast-forward", Code::ReleaseUntrusted, "0.2.0", fast_forward),
        ("freeze", Code::ReleaseExpired, "0.2.0", freeze),
        ("mix-and-match", Code::ReleaseMixed, "0.2.0", mix_and_match),
        ("rollback", Code::ReleaseOlder, "0.1.0", |_| {}),
        ("one key of three", Code::ReleaseUntrusted, "0.2.0", |evil| {
            own_targets(evil, &evil.keys[..1]);
        }),
        ("revoked key", Code::ReleaseUntrusted, "0.2.0", |evil| {
            own_targets(evil, &[evil.keys[0].clone(), evil.keys[2].clone()]);
        }),
        ("wrong software", Code::ReleaseUnfit, "0.3.0", wrong_software),
        ("tampered download", Code::ReleaseDamaged, "0.2.0", tampered),
    ];
    for (number, (name, code, release, lie)) in cases.into_iter().enumerate() {
        let honest = honest.copied(&dir.path().join(format!("honest-{number}")));
        let agent = dir.path().join(format!("agent-{number}"));
        let client = Client::new(&agent, &honest);
        assert_eq!(client.bring(&honest, "0.2.0").await.unwrap(), PROGRAM);
        let from = if name == "rollback" { &kept_back } else { &honest };
        let evil = from.copied(&dir.path().join(format!("evil-{number}")));
        lie(&evil);
        fs::remove_file(agent.join("program")).unwrap();
        let refused = client.bring(&evil, release).await.map(|_| ()).unwrap_err();
        assert_eq!(refused.code, code, "{name}: {}", refused.chain());
        println!("{name}: {}: {}", refused.code, refused.chain());
        if [0, 6, 7, 8].contains(&number) {
            // What a stolen key numbered ahead ends with the key.
            let people = honest.people(&[0, 1, 3]);
            ceremony::rotate(&honest.store(), people, true, Timestamp::now()).unwrap();
            honest.sign_drafts(&[0, 1]);
            honest.publish();
        } else {
            // As the running hub does each day.
            (0..3).for_each(|_| sign_online(&honest));
        }
        let went_on = client.bring(&honest, "0.2.0").await;
        let went_on = went_on.unwrap_or_else(|fault| panic!("after {name}: {}", fault.chain()));
        assert_eq!(went_on, PROGRAM, "after {name}");
    }
}

#[tokio::test]
async fn a_revoked_key_does_not_come_back_by_hiding_the_newer_root() {
    let dir = tempfile::tempdir().unwrap();
    let honest = Releases::begin(&dir.path().join("honest"));
    honest.release(PROGRAM, &facts("0.1.0", "0.1.0"));
    let old = honest.copied(&dir.path().join("old"));
    ceremony::rotate(&honest.store(), honest.people(&[0, 3, 4]), true, Timestamp::now()).unwrap();
    honest.sign_drafts(&[0, 1, 3]);
    honest.publish();
    let client = Client::new(&dir.path().join("agent"), &honest);
    client.look(&honest).await.unwrap();
    own_targets(&old, &[old.keys[1].clone(), old.keys[2].clone()]);
    let refused = client.look(&old).await.unwrap_err();
    assert_eq!(refused.code, Code::ReleaseUntrusted, "{}", refused.chain());
}

#[tokio::test]
async fn a_stolen_online_key_that_raced_ahead_is_outlived_by_rotating_it() {
    let dir = tempfile::tempdir().unwrap();
    let honest = Releases::begin(&dir.path().join("honest"));
    honest.release(PROGRAM, &facts("0.1.0", "0.1.0"));
    let client = Client::new(&dir.path().join("agent"), &honest);
    let thief = honest.copied(&dir.path().join("thief"));
    for _ in 0..20 {
        sign_online(&thief);
    }
    client.look(&thief).await.unwrap();
    assert_eq!(client.look(&honest).await.unwrap_err().code, Code::ReleaseOlder);
    ceremony::rotate(&honest.store(), honest.people(&[0, 1, 2]), true, Timestamp::now()).unwrap();
    honest.sign_drafts(&[0, 1]);
    honest.publish();
    assert_eq!(client.bring(&honest, "0.1.0").await.unwrap(), PROGRAM);
    assert_eq!(client.look(&thief).await.unwrap_err().code, Code::ReleaseUntrusted);
}

#[tokio::test]
async fn what_people_no_longer_allow_is_too_old_whoever_assigns_it() {
    let dir = tempfile::tempdir().unwrap();
    let honest = Releases::begin(&dir.path().join("honest"));
    honest.release(b"with a hole", &facts("0.1.0", "0.1.0"));
    honest.release(PROGRAM, &facts("0.2.0", "0.1.0"));
    let client = Client::new(&dir.path().join("agent"), &honest);
    assert_eq!(client.bring(&honest, "0.1.0").await.unwrap(), b"with a hole", "going back");
    honest.release(b"without it", &facts("0.3.0", "0.2.0"));
    let _gone = fs::remove_file(dir.path().join("agent/program"));
    assert_eq!(client.bring(&honest, "0.1.0").await.unwrap_err().code, Code::ReleaseOlder);
    assert_eq!(client.bring(&honest, "0.2.0").await.unwrap(), PROGRAM);
}

#[test]
fn nothing_is_published_before_enough_people_signed_and_nothing_is_lost_by_trying() {
    let dir = tempfile::tempdir().unwrap();
    let releases = Releases::begin(&dir.path().join("hub"));
    releases.draft(PROGRAM, &facts("0.1.0", "0.1.0"));
    let publish = || ceremony::publish(&releases.store(), Timestamp::now());
    releases.sign_drafts(&[0]);
    releases.sign_drafts(&[0]);
    let one = publish().unwrap_err();
    assert!(one.chain().contains("1 of 2 signatures are there"), "{}", one.chain());
    releases.sign_drafts(&[4]);
    assert_eq!(publish().unwrap_err().code, Code::ReleaseRefused, "a stranger's does not count");
    releases.sign_drafts(&[2]);
    assert_eq!(publish().unwrap().targets, 2);
    let again = ceremony::add(
        &releases.store(),
        &dir.path().join("hub/program"),
        &facts("0.1.0", "0.1.0"),
        Timestamp::now(),
    );
    assert!(again.unwrap_err().chain().contains("is there already"));
    let strangers = releases.people(&[3, 4]);
    ceremony::rotate(&releases.store(), strangers, false, Timestamp::now()).unwrap();
    releases.sign_drafts(&[3, 4]);
    assert_eq!(publish().unwrap_err().code, Code::ReleaseRefused, "the old ones must agree");
    releases.sign_drafts(&[1, 2, 3, 4]);
    assert_eq!(publish().unwrap().root, 2);
}

#[test]
fn the_end_of_what_people_signed_is_counted_down_and_the_hubs_own_is_signed_anew() {
    let dir = tempfile::tempdir().unwrap();
    let releases = Releases::begin(&dir.path().join("hub"));
    let (store, now) = (releases.store(), Timestamp::now());
    let days = |days: u64| now.after(Duration::from_secs(days * 86_400 + 60));
    let step = |role: &str, at: u64| {
        let ends = online::ends(&store).unwrap().unwrap();
        ends.into_iter().find(|end| end.role == role).unwrap().step(days(at))
    };
    let steps = [300, 334, 336, 350, 352, 357, 359, 363, 364, 400].map(|at| step("root", at));
    let told =
        [None, None, Some(30), Some(30), Some(14), Some(14), Some(7), Some(7), Some(1), Some(1)];
    assert_eq!(steps, told);
    assert_eq!((step("timestamp", 5), step("timestamp", 6)), (None, Some(1)));
    assert!(!online::renew(&store, now).unwrap(), "fresh enough");
    assert!(online::renew(&store, days(1)).unwrap());
    let ends = online::ends(&store).unwrap().unwrap();
    assert_eq!((ends[2].version, ends[3].version), (2, 2));
}
