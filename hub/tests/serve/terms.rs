//! What a contract states beyond types: the hub holds every batch against it, whatever the agent
//! thinks, and category lists are kept with their history.

use phusa_protocol::batch::{Batch, Phase};
use phusa_protocol::change::Op;
use phusa_protocol::fault::Code;
use phusa_protocol::value::Field;

use crate::code;
use crate::world::{Sender, World};

const LIST: &str = "list = \"ten\"\ntitle_vi = \"Tên\"\nsource = \"QĐ 1\"\n\
                    code = [{ code = \"An\", name = \"An\" }, { code = \"Bình\", name = \"Bình\" }]\n";

const STRICT: &str = r#"
dataset = "cong_dan.ten"
version = 1
title_vi = "Tên"
owner = "H57.12"
purposes = ["tthc"]
legal_basis = "QĐ 1"
sharing = "default"
frequency = "15m"
retention = "3650d"
key = ["id"]
field = [
  { name = "id", type = "int8", class = "N", name_vi = "Mã" },
  { name = "ten", type = "text", class = "B", name_vi = "Tên", max_length = 4, code_list = "ten" },
]
"#;

fn row(agent: &mut Sender, id: i64, name: &str) -> Batch {
    agent.seal(Phase::Read, false, &[(Op::Snapshot, id, name)])
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_contract_does_not_allow_is_refused_with_an_entry_and_other_datasets_go_on() {
    let world = World::start().await;
    let contract = world.contract("ten.toml", STRICT);
    let (exit, said) = world.run_and_fail(&["contract", "apply", &contract]);
    assert!(exit == 1 && said.contains("list_invalid"), "a list the hub lacks: {said}");
    world.run(&["category", "import", &world.write("list.toml", LIST)]);
    world.run(&["contract", "apply", &contract]);

    let mut other = world.sender("H57.12/may-1");
    let strict = other.on(STRICT);
    strict.hello().await.unwrap();
    let forged = STRICT.replace("max_length = 4", "max_length = 4000");
    let id = 3_i64.to_be_bytes();
    let (id, an) = (Field::Value(&id), Field::Value(b"An"));
    let bad = [
        ("an extra field", strict.clone().seal_wider(), Code::ContractViolation),
        ("a longer value", row(&mut strict.clone(), 3, "Bình Minh"), Code::ContractViolation),
        ("a code of no list", row(&mut strict.clone(), 3, "Chi"), Code::ContractViolation),
        (
            "a wrong type",
            strict.clone().seal_fields(&[Field::Value(b"0003"), an]),
            Code::ContractViolation,
        ),
        ("a missing field", strict.clone().seal_fields(&[id]), Code::ContractViolation),
        ("a forged fingerprint", row(&mut strict.on(&forged), 3, "An"), Code::ContractMismatch),
    ];
    for (number, (what, batch, expected)) in (1..).zip(&bad) {
        assert_eq!(code(&strict.send(batch).await), Some(*expected), "{what}");
        let fine = row(&mut other, number, "Xuân");
        assert!(other.send(&fine).await.is_ok(), "another dataset after {what}");
    }
    let fine = row(&mut strict.clone(), 3, "Bình");
    assert!(strict.send(&fine).await.is_ok(), "the dataset goes on once its batch is right");
    let entries = "select count(*) = 6 from phusa.transfers where kind = 'refuse' \
                   and dataset = 'cong_dan.ten'";
    assert!(world.ask(entries).await, "each refusal is an entry");
    let verified = world.log_verify();
    assert_eq!((&verified["accepted"], &verified["refused"]), (&7.into(), &6.into()));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_version_of_a_list_counts_at_once_and_the_old_one_stays_readable() {
    let world = World::start().await;
    world.run(&["category", "import", &world.write("list.toml", LIST)]);
    world.run(&["contract", "apply", &world.contract("ten.toml", STRICT)]);
    let agent = world.sender("H57.12/may-1").on(STRICT);
    agent.hello().await.unwrap();
    let early = row(&mut agent.clone(), 1, "Chi");
    assert_eq!(code(&agent.send(&early).await), Some(Code::ContractViolation));

    let csv = "code;name;valid_from;valid_to\nAn;An;;2025-07-01\nChi;Chi;2025-07-01;\n";
    let csv = world.write("new.csv", csv);
    let changes = world.run(&["category", "diff", &csv, "--list", "ten"]);
    for line in ["~ An An […, 2025-07-01)", "- Bình Bình […, …)", "+ Chi Chi [2025-07-01, …)"]
    {
        assert!(changes.contains(line), "{line}: {changes}");
    }
    let said = world.run(&["category", "import", &csv, "--list", "ten"]);
    assert!(said.contains("(version) 2"), "{said}");
    let said = world.run(&["category", "import", &csv, "--list", "ten"]);
    assert!(said.contains("unchanged"), "{said}");

    agent.hello().await.unwrap();
    assert!(agent.send(&row(&mut agent.clone(), 1, "Chi")).await.is_ok(), "a greeting finds it");
    let old = world.run(&["category", "export", "ten", "--as-of", "2025-06-30"]);
    assert_eq!(
        old.lines().collect::<Vec<_>>(),
        ["code,name,valid_from,valid_to", "An,An,,2025-07-01"]
    );
    let first = world.run(&["category", "export", "ten", "--version", "1", "--format", "toml"]);
    assert!(first.contains("Bình"), "{first}");
    let kept = "select count(*) = 4 from danh_muc._code where list = 'ten'";
    assert!(world.ask(kept).await, "both versions are kept");
    let logged = "select count(*) = 2 from phusa.transfers where kind = 'category' \
                  and dataset = 'danh_muc.ten'";
    assert!(world.ask(logged).await, "each version is an entry");

    let (_, said) = world.run_and_fail(&["category", "import", &csv]);
    assert!(said.contains("needs `--list NAME`"), "{said}");
    let (_, said) = world.run_and_fail(&["category", "export", "khong_co"]);
    assert!(said.contains("list_invalid"), "{said}");
    world.log_verify();
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shipped_lists_and_themes_come_into_force_and_terms_may_be_loosened_only() {
    let world = World::start().await;
    let configs = concat!(env!("CARGO_MANIFEST_DIR"), "/../configs");
    world.run(&["category", "import", "--catalogue", &format!("{configs}/categories.toml")]);
    let held: serde_json::Value =
        serde_json::from_str(&world.run(&["category", "ls", "--json"])).unwrap();
    assert_eq!(held.as_array().unwrap().len(), 45);
    for theme in [
        "cong_dan.cong_dan",
        "doanh_nghiep.doanh_nghiep",
        "cbccvc.cbccvc",
        "tthc.tthc",
        "danh_muc.danh_muc",
        "danh_muc.danh_muc_muc",
        "danh_muc.danh_muc_anh_xa",
        "ho_so.ho_so",
    ] {
        let text = std::fs::read_to_string(format!("{configs}/contracts/{theme}.toml")).unwrap();
        let mut contract = phusa_protocol::contract::Contract::from_toml(&text).unwrap();
        contract.owner = "H57.12".to_owned().try_into().unwrap();
        let file = world.contract(&format!("{theme}.toml"), &contract.to_toml());
        let said = world.run(&["contract", "apply", &file]);
        assert!(said.contains("created"), "{said}");
    }

    world.run(&["category", "import", &world.write("list.toml", LIST)]);
    world.run(&["contract", "apply", &world.contract("ten.toml", STRICT)]);
    let apply = |from: &str, to: &str| {
        let file = world.contract("other.toml", &STRICT.replace(from, to));
        world.run_and_fail(&["contract", "apply", &file]).1
    };
    assert!(apply("max_length = 4", "max_length = 3").contains("ten becomes shorter"));
    assert!(apply(", code_list = \"ten\"", "").contains("another list"));
    assert!(apply("[\"tthc\"]", "[\"quang_cao\"]").contains("none of profile hue-2026"));
    let wider = STRICT.replace("max_length = 4", "max_length = 40");
    let said = apply("max_length = 4", "max_length = 40");
    assert!(said.contains("minor = 1 or later"), "one number stands for one text: {said}");
    let wider = wider.replace("version = 1", "version = 1\nminor = 1");
    let wider = world.contract("wider.toml", &wider);
    assert!(world.run(&["contract", "apply", &wider]).contains("widened"));
    world.stop().await;
}
