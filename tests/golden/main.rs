//! Bytes and texts that must not change unseen: frames, headers, receipts, entries, first words and
//! the messages of a wrong contract. `UPDATE=1` rewrites the files; the difference is reviewed.

use std::path::PathBuf;

use phusa_protocol::batch::{
    Batch, Encoding, HEADER_VERSION, Header, Phase, SALT_BYTES, SignedHeader, commitment,
};
use phusa_protocol::change::{BodyWriter, Op};
use phusa_protocol::contract::Contract;
use phusa_protocol::digest::Digest;
use phusa_protocol::entry::act::{Act, BackupAct, BackupStep, DestroyAct, ReadAct, Seen};
use phusa_protocol::entry::{Compared, Entry, Kind, link};
use phusa_protocol::fault::Code;
use phusa_protocol::frame;
use phusa_protocol::hello::{Committed, Hello, Offer, Refusal, Terms, Welcome};
use phusa_protocol::ids::{AgentId, DatasetId, Epoch, Seq};
use phusa_protocol::keys::SigningKey;
use phusa_protocol::proof::{Answer, Named, Print, Proof, Question, Summary};
use phusa_protocol::receipt::{Receipt, SignedReceipt};
use phusa_protocol::row::{Tuple, put_tuple};
use phusa_protocol::time::Timestamp;
use phusa_protocol::value::Field;

/// Compares `found` with the golden file `name`, or rewrites it.
fn check(name: &str, found: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden").join(name);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, found).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(found, kept, "{name}: run with UPDATE=1 if this change is meant, and review it");
}

fn agent_key() -> SigningKey {
    SigningKey::from_text("BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=").unwrap()
}

fn hub_key() -> SigningKey {
    SigningKey::from_text("CAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAg=").unwrap()
}

fn agent() -> AgentId {
    AgentId::try_from("H57.12/may-1".to_owned()).unwrap()
}

fn dataset() -> DatasetId {
    DatasetId::new("cong_dan.citizens").unwrap()
}

/// One row of every operation: id and name, the name unchanged in the update.
fn body() -> (Vec<u8>, phusa_protocol::change::Counts) {
    let mut body = BodyWriter::default();
    let (id, other) = (Field::Value(&[0, 0, 0, 0, 0, 0, 0, 7]), Field::Value(&[0; 8]));
    let name = Field::Value("Huế".as_bytes());
    put_tuple(body.begin_row(Op::Snapshot), &[id, name]);
    put_tuple(body.begin_row(Op::Insert), &[id, Field::Null]);
    put_tuple(body.begin_row(Op::Update), &[id, Field::Unchanged]);
    put_tuple(body.begin_row(Op::Delete), &[id]);
    body.begin_row(Op::Truncate);
    let rekey = body.begin_row(Op::Rekey);
    put_tuple(rekey, &[id]);
    put_tuple(rekey, &[other, name]);
    body.finish()
}

fn batch() -> Batch {
    let (body, counts) = body();
    let salt = [9; SALT_BYTES];
    let header = Header {
        v: HEADER_VERSION,
        agent: agent(),
        dataset: dataset(),
        epoch: Epoch(2),
        seq: Seq(1),
        previous: Digest::ZERO,
        contract: Digest::of(b"contract"),
        mapping: Digest::of(b"mapping"),
        phase: Phase::Read,
        tx_open: false,
        position_from: String::new(),
        position_to: "0/16B3748".to_owned(),
        counts,
        quality: std::collections::BTreeMap::new(),
        body_bytes: body.len() as u64,
        encoding: Encoding::None,
        commitment: commitment(&salt, &body),
        read_at: Timestamp::from_micros(1_795_250_600_000_000),
        source_time: Timestamp::from_micros(1_795_250_599_000_000),
        agent_version: "0.1.0".to_owned(),
    };
    Batch { signed: SignedHeader::sign(header, &agent_key()), salt, body }
}

fn hex(bytes: &[u8]) -> String {
    let line = |line: &[u8]| line.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    bytes.chunks(32).map(|bytes| line(bytes) + "\n").collect()
}

fn json<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_string_pretty(value).unwrap() + "\n"
}

#[test]
fn the_bytes_of_a_body_and_a_frame_stay() {
    check("body.golden", &hex(&body().0));
    check("frame.golden", &hex(&frame::encode(&batch())));
}

#[test]
fn the_canonical_header_stays() {
    check("header.golden", &(String::from_utf8(batch().signed.bytes).unwrap() + "\n"));
}

#[test]
fn the_header_with_counts_of_broken_rules_stays() {
    let mut header = batch().signed.header;
    let counts = [("null_field/ngay_sinh/unconvertible", 2), ("reject_row/-/row_bytes_max", 1)];
    header.quality = counts.map(|(name, rows)| (name.to_owned(), rows)).into();
    let signed = SignedHeader::sign(header, &agent_key());
    check("header_quality.golden", &(String::from_utf8(signed.bytes).unwrap() + "\n"));
}

#[test]
fn the_receipt_stays() {
    let receipt = Receipt {
        v: 1,
        agent: agent(),
        dataset: dataset(),
        epoch: Epoch(2),
        seq: Seq(1),
        header: batch().signed.digest(),
        transfer: 12,
        committed_at: Timestamp::from_micros(1_795_250_601_000_000),
    };
    check("receipt.golden", &json(&SignedReceipt::sign(receipt, &hub_key())));
}

#[test]
fn log_entries_and_their_links_stay() {
    let signed = batch().signed;
    let mut entry = Entry {
        v: 1,
        kind: Kind::Push,
        transfer: 12,
        agent: Some(agent()),
        dataset: Some(dataset()),
        header: Some(String::from_utf8(signed.bytes).unwrap()),
        agent_signature: Some(signed.signature),
        refused: None,
        compared: None,
        contract: Some(signed.header.contract),
        bytes: 1234,
        received_at: Timestamp::from_micros(1_795_250_600_500_000),
        committed_at: Timestamp::from_micros(1_795_250_601_000_000),
        hub_version: "0.1.0".to_owned(),
        step: None,
        restored: None,
        identity: None,
        act: None,
        deed: None,
    };
    let (push, push_signature) = entry.seal(&hub_key());
    let first = link(Digest::ZERO, &push);
    (entry.kind, entry.refused, entry.transfer) = (Kind::Refuse, Some(Code::NotOwner), 13);
    let (refuse, refuse_signature) = entry.seal(&hub_key());
    let second = link(first, &refuse);
    (entry.kind, entry.refused, entry.transfer) = (Kind::Proof, None, 14);
    (entry.header, entry.agent_signature, entry.bytes) = (None, None, 0);
    entry.compared = Some(Compared {
        at: Timestamp::from_micros(1_795_250_590_000_000),
        source_rows: 3_000,
        warehouse_rows: 3_001,
        differing: 4,
        identical: false,
    });
    let (proof, proof_signature) = entry.seal(&hub_key());
    let third = link(second, &proof);
    let lines = [
        (push, push_signature, first),
        (refuse, refuse_signature, second),
        (proof, proof_signature, third),
    ];
    let text = |(entry, signature, link): &(String, _, Digest)| {
        format!("{entry}\nsigned {}\nlink {link}\n\n", String::from(*signature))
    };
    check("entries.golden", &lines.iter().map(text).collect::<String>());
}

/// One act of each kind.
fn acts() -> [Act; 4] {
    let moment = Timestamp::from_micros(1_795_250_600_000_000);
    let read = ReadAct {
        by: "Phạm Thanh Tra".to_owned(),
        purpose: "tthc".to_owned(),
        seen: Seen::AsOf,
        as_of: Some(moment),
        rows: 1,
        asked: Digest::of(b"asked"),
        content: None,
    };
    let export = ReadAct { content: Some(Digest::of(b"file")), as_of: None, ..read.clone() };
    let backup = BackupAct {
        step: BackupStep::Drilled,
        name: "phusa-20261121T084320Z".to_owned(),
        made_at: moment,
        manifest: Digest::of(b"manifest"),
        bytes: 9_000,
        entries: 41,
        rows: Some(200),
        failed: None,
        by: None,
    };
    let destroy = DestroyAct {
        proposal: 2,
        before: moment,
        current: true,
        rows: 201,
        versions: 7,
        transfers: 9,
        between: Some((3, 40)),
        proposed_by: "Đỗ Đề Nghị".to_owned(),
        approved_by: "Bùi Phê Duyệt".to_owned(),
        run_by: "Hồ Thực Hiện".to_owned(),
        because: "hết thời hạn".to_owned(),
        backups: 14,
    };
    [Act::Backup(backup), Act::Read(read), Act::Export(export), Act::Destroy(destroy)]
}

#[test]
fn entries_of_what_the_hub_did_stay() {
    let moment = Timestamp::from_micros(1_795_250_601_000_000);
    let sealed = |act: Act| {
        let mut entry = Entry::of_hub(act.kind(), 15, moment, "0.1.0");
        entry.act = Some(act);
        let (text, _) = entry.seal(&hub_key());
        assert_eq!(serde_json::from_str::<Entry>(&text).unwrap(), entry);
        format!("{text}\n\n")
    };
    check("acts.golden", &acts().into_iter().map(sealed).collect::<String>());
}

#[test]
fn the_first_words_stay() {
    let moment = Timestamp::from_micros(1_795_250_600_000_000);
    let offer = Offer { dataset: dataset(), contract: Digest::of(b"c"), mapping: Digest::of(b"m") };
    let hello = Hello {
        protocol: phusa_protocol::PROTOCOL_VERSION,
        agent: agent(),
        agent_version: "0.1.0".to_owned(),
        sent_at: moment,
        datasets: vec![offer],
    };
    let committed = Committed { epoch: Epoch(2), seq: Seq(1), header: batch().signed.digest() };
    let welcome = Welcome {
        protocol: phusa_protocol::PROTOCOL_VERSION,
        hub_version: "0.1.0".to_owned(),
        answered_at: moment,
        datasets: vec![
            Terms {
                dataset: dataset(),
                refused: None,
                committed: Some(committed),
                agreement: None,
                lists: std::collections::BTreeMap::new(),
            },
            Terms {
                dataset: dataset(),
                refused: Some(Code::ContractMismatch),
                committed: None,
                agreement: None,
                lists: std::collections::BTreeMap::new(),
            },
        ],
    };
    let refusal = Refusal {
        code: Code::BatchOutOfTurn,
        what: "batch 9 of cong_dan.citizens".to_owned(),
        expected: Some((Epoch(2), Seq(2))),
        retry_after_ms: None,
    };
    check("hello.golden", &(json(&hello) + &json(&welcome) + &json(&refusal)));
}

#[test]
fn the_words_of_a_proof_stay() {
    let moment = Timestamp::from_micros(1_795_250_600_000_000);
    let mut row = Vec::new();
    put_tuple(&mut row, &[Field::Value("Nguyễn".as_bytes()), Field::Value(&7_i64.to_be_bytes())]);
    let print = Print::of(Tuple::take(&mut row.as_slice()).unwrap(), &[1]).unwrap();
    let mut summary = Summary::new(12);
    summary.add(&print);
    let question = Question {
        protocol: phusa_protocol::PROTOCOL_VERSION,
        agent: agent(),
        dataset: dataset(),
        contract: Digest::of(b"c"),
        bits: 12,
        named: vec![print.part(12)],
    };
    let answer = Answer {
        answered_at: moment,
        parts: summary.parts(),
        named: vec![Named::new(&print)],
        complete: true,
    };
    let proof = Proof {
        protocol: phusa_protocol::PROTOCOL_VERSION,
        agent: agent(),
        dataset: dataset(),
        contract: Digest::of(b"c"),
        source: summary.total(),
        warehouse: summary.total(),
        differing: 0,
        compared_at: moment,
    };
    check("proof.golden", &(json(&question) + &json(&answer) + &json(&proof)));
}

#[test]
fn a_wrong_contract_is_explained_in_the_same_words() {
    let sample = include_str!("../../configs/contracts/ho_so.dossiers.toml");
    let wrong = [
        ("version = 1", "verzion = 1"),
        ("version = 1", "version = 0"),
        ("type = \"int8\"", "type = \"int9\""),
        ("frequency = \"15m\"", "frequency = \"15 phút\""),
        ("key = [\"id\"]", "key = [\"ma\"]"),
        ("key = [\"id\"]", "key = []"),
        ("name = \"ma_xa\"", "name = \"id\""),
        ("name = \"ma_xa\"", "name = \"Mã xã\""),
        ("class = \"P\"", "class = \"X\""),
        ("class = \"P\"", "class = \"state_secret\""),
        ("dataset = \"ho_so.dossiers\"", "dataset = \"phusa.dossiers\""),
    ];
    let explain = |(from, to): &(&str, &str)| {
        assert!(sample.contains(from), "{from}");
        let error = Contract::from_toml(&sample.replacen(from, to, 1)).unwrap_err();
        format!("# {to}\n{error}\n\n")
    };
    check("contract_errors.golden", &wrong.iter().map(explain).collect::<String>());
}
