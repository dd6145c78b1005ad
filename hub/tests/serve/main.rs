//! The hub as its agents meet it: the real program, its own database, batches over mutual TLS.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that meets the unexpected should stop there"
)]
#![allow(clippy::print_stdout, reason = "spans that were measured are told")]

mod world;
mod terms;
mod mail;
mod minutes;
mod people;
mod citus;
mod fleet;
mod five_hundred;
mod hostile;
mod rollout;
mod record;
mod restored;
mod releases;
mod incidents;
mod steering;
mod escalation;

use std::time::{Duration, Instant};

use phusa_hub::failpoint::Point;
use phusa_protocol::batch::Phase;
use phusa_protocol::change::Op;
use phusa_protocol::fault::Code;
use phusa_protocol::ids::{Epoch, Seq};
use phusa_protocol::keys::SigningKey;
use phusa_protocol::value::Field;
use world::{Answer, Sender, World};

/// What the hub said, in one word for comparison.
fn code(answer: &Answer) -> Option<Code> {
    answer.as_ref().err().map(|refusal| refusal.code)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_taken_once_and_everything_else_is_refused_by_name() {
    let world = World::start().await;
    let mut agent = world.sender("H57.12/may-1");
    assert_eq!(agent.hello().await.unwrap().datasets[0].committed, None);

    let first =
        agent.seal(Phase::Read, false, &[(Op::Snapshot, 1, "An"), (Op::Snapshot, 2, "Bình")]);
    let receipt = agent.send(&first).await.unwrap();
    assert!(receipt.covers(first.signed.digest(), &world.hub_key()));
    assert_eq!(agent.send(&first).await.unwrap(), receipt, "a repeat gets the same receipt");
    let standing = agent.hello().await.unwrap().datasets[0].committed.unwrap();
    assert_eq!((standing.epoch, standing.seq), (Epoch(1), Seq(1)));

    let mut other = agent.clone();
    other.rewind(1);
    let conflict = other.seal(Phase::Read, false, &[(Op::Snapshot, 9, "khác")]);
    assert_eq!(code(&agent.send(&conflict).await), Some(Code::BatchConflict));
    let mut far = agent.clone();
    far.skip(20);
    let answer = agent.send(&far.seal(Phase::Read, false, &[])).await;
    assert_eq!(code(&answer), Some(Code::BatchOutOfTurn));
    assert_eq!(answer.unwrap_err().expected, Some((Epoch(1), Seq(2))));

    let mut second = agent.clone().seal(Phase::Read, false, &[(Op::Snapshot, 3, "Cúc")]);
    let last = second.body.len() - 1;
    second.body[last] ^= 1;
    assert_eq!(code(&agent.send(&second).await), Some(Code::FrameDamaged));
    let mut forger = agent.clone();
    forger.signing_key = SigningKey::generate().unwrap();
    let forged = forger.seal(Phase::Read, false, &[(Op::Snapshot, 3, "Cúc")]);
    assert_eq!(code(&agent.send(&forged).await), Some(Code::SignatureWrong));
    let alien = world.sender("H57.13/may-2").seal(Phase::Read, false, &[(Op::Snapshot, 3, "x")]);
    assert_eq!(code(&agent.send(&alien).await), Some(Code::SignatureWrong));
    let wider = agent.clone().seal_wider();
    assert_eq!(code(&agent.send(&wider).await), Some(Code::ContractViolation));
    let bad_text = agent.clone().seal_bytes(3, b"\xff\xfe");
    assert_eq!(code(&agent.send(&bad_text).await), Some(Code::ContractViolation));

    assert_eq!(world.names().await, ["An", "Bình"], "nothing refused left a trace");
    let third = agent.seal(Phase::Read, false, &[(Op::Snapshot, 3, "Cúc")]);
    agent.send(&third).await.unwrap();
    assert_eq!(world.names().await, ["An", "Bình", "Cúc"]);

    assert!(!agent.is_heard_without_certificate(&world).await);
    refuse_whole_agents(&world).await;
    let verified = world.log_verify();
    assert_eq!(verified["accepted"], 2);
    assert!(verified["refused"].as_u64().unwrap() >= 8, "{verified}");
    world.stop().await;
}

async fn refuse_whole_agents(world: &World) {
    let mut stranger = world.sender("H57.99/la");
    world.strike_out(&stranger).await;
    let batch = stranger.seal(Phase::Read, false, &[(Op::Snapshot, 1, "x")]);
    assert_eq!(code(&stranger.send(&batch).await), Some(Code::AgentUnknown));
    let mut foreign = world.sender("H57.13/may-2");
    let refused = "select count(*) = 1 from phusa.transfers where kind = 'refuse' \
                   and agent = 'H57.13/may-2' and dataset = 'cong_dan.citizens' \
                   and entry::json->>'refused' = 'not_owner'";
    assert_eq!(foreign.hello().await.unwrap().datasets[0].refused, Some(Code::NotOwner));
    assert!(world.ask(refused).await, "a greeting that is refused is an entry");
    let batch = foreign.seal(Phase::Read, false, &[(Op::Snapshot, 1, "x")]);
    assert_eq!(code(&foreign.send(&batch).await), Some(Code::NotOwner));
    world.suspend(&foreign).await;
    assert_eq!(code(&foreign.send(&batch).await), Some(Code::AgentSuspended));
    assert_eq!(foreign.hello().await.unwrap_err().code, Code::AgentSuspended);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_transaction_shows_only_when_it_is_closed() {
    let world = World::start().await;
    let mut agent = world.sender("H57.12/may-1");
    for batch in [
        agent.seal(Phase::Read, false, &[(Op::Snapshot, 1, "An")]),
        agent.seal(Phase::ReadEnd, false, &[]),
        agent.seal(Phase::Live, true, &[(Op::Insert, 2, "Bình")]),
        agent.seal(Phase::Live, true, &[(Op::Update, 2, "Bảo"), (Op::Update, 1, "Ân")]),
    ] {
        agent.send(&batch).await.unwrap();
    }
    assert_eq!(world.names().await, ["An"]);
    world.kill_and_start_again().await;
    assert_eq!(world.names().await, ["An"], "what is staged survives the hub");
    let closing = agent.seal(Phase::Live, false, &[(Op::Insert, 3, "Cúc")]);
    agent.send(&closing).await.unwrap();
    assert_eq!(world.names().await, ["Bảo", "Cúc", "Ân"]);
    let open = agent.seal(Phase::Live, true, &[(Op::Insert, 4, "Dũng")]);
    agent.send(&open).await.unwrap();
    let consistent = "select bool_and(consistent_at is not null) from phusa.streams";
    assert!(world.ask(consistent).await, "a transaction under way leaves it consistent");
    agent.begin_epoch();
    let again = agent.seal(Phase::Read, false, &[(Op::Snapshot, 1, "Ân")]);
    agent.send(&again).await.unwrap();
    let end = agent.seal(Phase::ReadEnd, false, &[]);
    agent.send(&end).await.unwrap();
    assert_eq!(world.names().await, ["Ân"], "rows not seen again are swept, staged ones forgotten");
    assert_eq!(world.log_verify()["accepted"], 8);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_sent_at_once_is_committed_in_order() {
    let world = World::start().await;
    let mut agent = world.sender("H57.12/may-1");
    let first = agent.seal(Phase::Read, false, &[(Op::Snapshot, 0, "0")]);
    agent.send(&first).await.unwrap();
    for window in 0..5 {
        let ids = (1..=4).map(|n| window * 4 + n);
        let batches: Vec<_> =
            ids.map(|id| agent.seal(Phase::Read, false, &[(Op::Snapshot, id, "x")])).collect();
        send_backwards(&agent, batches).await;
    }
    let end = agent.seal(Phase::ReadEnd, false, &[]);
    agent.send(&end).await.unwrap();
    for window in 0..5 {
        let ids = (1..=4).map(|n| window * 4 + n);
        let batches: Vec<_> =
            ids.map(|id| agent.seal(Phase::Live, false, &[(Op::Update, id, "y")])).collect();
        send_backwards(&agent, batches).await;
    }
    assert_eq!(world.names().await.iter().filter(|name| *name == "y").count(), 20);
    let versions = "select count(distinct _version) = 21 from cong_dan.citizens";
    assert!(world.ask(versions).await);
    let export = world.run(&["log", "export", "--format", "json"]);
    assert_eq!(
        export.lines().count(),
        46,
        "a contract with its three steps before, and 42 batches"
    );
    world.verify_export(&export);
    let metrics = world.metrics().await;
    let rows = "phusa_rows_total{dataset=\"cong_dan.citizens\",op=\"snapshot\"} 21";
    assert!(metrics.contains(rows), "{metrics}");
    assert!(world.run(&["fleet", "ls"]).contains("H57.12/may-1"));
    world.stop().await;
}

async fn send_backwards(agent: &Sender, batches: Vec<phusa_protocol::batch::Batch>) {
    let mut sending = tokio::task::JoinSet::new();
    for batch in batches.into_iter().rev() {
        let agent = agent.clone();
        sending.spawn(async move { agent.send(&batch).await });
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    while let Some(answer) = sending.join_next().await {
        answer.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_dies_anywhere_takes_a_batch_once() {
    let world = World::start().await;
    let mut agent = world.sender("H57.12/may-1");
    let first = agent.seal(Phase::Read, false, &[(Op::Snapshot, 0, "0")]);
    agent.send(&first).await.unwrap();
    for (id, point) in (1..).zip(Point::ALL) {
        world.start_again_to_die_at(point.name()).await;
        let batch = agent.seal(Phase::Read, false, &[(Op::Snapshot, id, point.name())]);
        let answered = agent.send_and_lose(&batch).await;
        // The log is kept beside the answer, so that one may come or not.
        let keeps_log = matches!(
            point,
            Point::SequencerBeforeCommit | Point::LogTilesDurable | Point::LogPublished
        );
        assert!(!answered || keeps_log, "{point:?}");
        world.start_again_after_death().await;
        agent.send(&batch).await.unwrap();
    }
    assert_eq!(world.names().await.len(), 1 + Point::ALL.len());
    assert_eq!(world.log_verify()["accepted"], 1 + Point::ALL.len());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_wait_while_the_disk_reserve_is_reached() {
    let world = World::start_with("9000000GiB").await;
    let mut agent = world.sender("H57.12/may-1");
    let batch = agent.seal(Phase::Read, false, &[(Op::Snapshot, 1, "An")]);
    let refusal = agent.send(&batch).await.unwrap_err();
    assert_eq!(refusal.code, Code::HubStorageFull);
    assert_eq!(refusal.retry_after_ms, Some(30_000));
    assert_eq!(world.log_verify()["entries"], 4, "waiting is no entry");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_alters_log_rows_or_streams_in_the_database_is_found_out() {
    let world = World::start().await;
    let mut agent = world.sender("H57.12/may-1");
    for id in 1..=2 {
        let batch = agent.seal(Phase::Read, false, &[(Op::Snapshot, id, "An")]);
        agent.send(&batch).await.unwrap();
    }
    assert_eq!(world.log_verify()["accepted"], 2);
    let check = async |harm: &str, repair: &str, expected: &str| {
        let said = world.log_verify_after(harm).await;
        let is_found = said.contains("log_broken") && said.contains(expected);
        // Once it is published, the log itself tells that the newest entry is gone.
        let is_gone = harm.contains("delete") && said.contains("log_restored");
        assert!(is_found || is_gone, "{harm}: {said}");
        world.ask(&format!("with repaired as ({repair} returning 1) select true")).await;
        world.log_verify();
    };
    check(
        "update phusa.transfers set entry = replace(entry, 'version\":\"0', 'version\":\"9') \
         where number = 6",
        "update phusa.transfers set entry = replace(entry, 'version\":\"9', 'version\":\"0') \
         where number = 6",
        "entry 6: the chain does not lead here",
    )
    .await;
    check(
        "update phusa.transfers set number = 9 where number = 5",
        "update phusa.transfers set number = 5 where number = 9",
        "expected entry 5 here",
    )
    .await;
    check(
        "create table cut as select * from phusa.transfers where number = 6; \
         delete from phusa.salts where transfer in (select transfer from cut); \
         delete from phusa.transfers where number = 6",
        "insert into phusa.transfers overriding system value select * from cut",
        "the log has no entry of batch 2",
    )
    .await;
    check(
        "update cong_dan.citizens set _transfer = 999 where id = 1",
        "update cong_dan.citizens set _transfer = _version where id = 1",
        "name transfer 999",
    )
    .await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_verifies_after_an_agent_was_given_another_key_and_no_key_can_be_slipped_in() {
    let world = World::start().await;
    let mut agent = world.sender("H57.12/may-1");
    let first = agent.seal(Phase::Read, false, &[(Op::Snapshot, 1, "An")]);
    agent.send(&first).await.unwrap();
    let before = agent.clone();
    agent.signing_key = SigningKey::generate().unwrap();
    world.give_key(&agent, &before).await;
    let second = agent.seal(Phase::Read, false, &[(Op::Snapshot, 2, "Bình")]);
    agent.send(&second).await.unwrap();
    let mut former = before;
    let forged = former.seal(Phase::Read, false, &[(Op::Snapshot, 3, "Cúc")]);
    assert_eq!(code(&former.send(&forged).await), Some(Code::SignatureWrong));
    assert_eq!(world.log_verify()["accepted"], 2);
    let spans = "select count(*) = 2 and count(replaced_at) = 1 and count(last_transfer) = 0 \
                 from phusa.keys where agent = 'H57.12/may-1'";
    assert!(world.ask(spans).await, "a batch may still be on its way under the former key");
    world
        .ask(
            "with a as (update phusa.keys set replaced_at = now() - interval '1 h' \
              where replaced_at is not null returning 1) select true",
        )
        .await;
    world.kill_and_start_again().await;
    assert!(world.ask(&spans.replace("(last_transfer) = 0", "(last_transfer) = 1")).await);
    assert_eq!(world.log_verify()["accepted"], 2);
    let harm = "update phusa.keys set last_transfer = null";
    let said = world.log_verify_after(harm).await;
    assert!(said.contains("a key of agent H57.12/may-1 is not signed"), "{said}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_contract_may_widen_and_nothing_else() {
    let world = World::start().await;
    let mut agent = world.sender("H57.12/may-1");
    let first = agent.seal(Phase::Read, false, &[(Op::Snapshot, 1, "An")]);
    agent.send(&first).await.unwrap();
    let ten = "{ name = \"ten\", type = \"text\", class = \"B\", name_vi = \"Tên\" },";
    let (code_of_narrow, said) = world.apply_contract(ten, "");
    assert_eq!(code_of_narrow, 1, "{said}");
    assert!(said.contains("contract_invalid") && said.contains("major version"), "{said}");
    let (code_of_same, said) = world.apply_contract("", "");
    assert_eq!((code_of_same, said.contains("unchanged")), (0, true), "{said}");
    let phone =
        "field = [\n  { name = \"phone\", type = \"text\", class = \"B\", name_vi = \"Số\" },";
    let text = world::CONTRACT.replacen("version = 1", "version = 1\nminor = 1", 1).replacen(
        "field = [",
        phone,
        1,
    );
    let said = world.run(&["contract", "apply", &world.contract("wide.toml", &text)]);
    assert!(said.contains("widened"), "{said}");
    let refused = agent.hello().await.unwrap().datasets[0].refused;
    assert_eq!(refused, None, "who has not changed its file yet need not stop");
    let second = agent.seal(Phase::Read, false, &[(Op::Snapshot, 2, "Bình")]);
    agent.send(&second).await.unwrap();
    let mut wider = agent.on(&text);
    wider.begin_epoch();
    let id = 3_i64.to_be_bytes();
    let fields = [Field::Value(b"0912"), Field::Value(&id), Field::Value("Chi".as_bytes())];
    let third = wider.seal_fields(&fields);
    wider.send(&third).await.unwrap();
    assert_eq!(world.names().await, ["An", "Bình", "Chi"]);
    assert_eq!(world.log_verify()["entries"], 11, "two contracts of four entries, three batches");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_sent_twice_at_once_while_a_table_is_loaded_is_taken_once() {
    let world = World::start().await;
    let mut agent = world.sender("H57.12/may-1");
    let first = agent.seal(Phase::Read, false, &[(Op::Snapshot, 1, "An")]);
    agent.send(&first).await.unwrap();
    for round in 1..=10 {
        let (low, high) = (round * 10, round * 10 + 1);
        let before = agent.seal(Phase::Read, false, &[(Op::Snapshot, low, "Bình")]);
        let early = agent.seal(Phase::Read, false, &[(Op::Snapshot, high, "Cúc")]);
        let (twice, again, once) =
            tokio::join!(agent.send(&early), agent.send(&early), agent.send(&before));
        once.unwrap();
        assert_eq!(twice.unwrap(), again.unwrap(), "round {round}");
    }
    assert_eq!(world.names().await.len(), 21);
    assert_eq!(world.log_verify()["refused"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_waits_for_one_before_it_does_not_hold_up_the_end_of_its_hub() {
    let world = World::start().await;
    let mut agent = world.sender("H57.12/may-1");
    let first = agent.seal(Phase::Read, false, &[(Op::Snapshot, 1, "An")]);
    agent.send(&first).await.unwrap();
    // As when the one before it went to another hub process.
    let _elsewhere = agent.seal(Phase::Read, false, &[(Op::Snapshot, 2, "Bình")]);
    let early = agent.seal(Phase::Read, false, &[(Op::Snapshot, 3, "Cúc")]);
    let held = "select exists (select from pg_stat_activity where state = 'idle in transaction')";
    let ends = async {
        while !world.ask(held).await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let asked = Instant::now();
        world.stop().await;
        asked.elapsed()
    };
    let (answer, took) = tokio::join!(agent.send(&early), ends);
    assert!(took < Duration::from_secs(15), "{took:?}");
    assert_eq!(code(&answer), Some(Code::BatchOutOfTurn));
}
