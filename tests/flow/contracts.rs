//! The life of a contract between a real agency and a real hub: proposed, signed by both, in force,
//! broken; and what an agent does itself so that the hub need not refuse it.

use std::fs;

use phusa_protocol::digest::Digest;
use phusa_protocol::fault::Code;
use phusa_protocol::frame;
use phusa_protocol::keys::SigningKey;
use phusa_protocol::value::Field;
use phusa_tests::database::Version;
use phusa_tests::forger::Forger;
use phusa_tests::process::wait_until;
use phusa_tests::province::ARRIVES_WITHIN;
use serde_json::Value;

use crate::world::{AGENCY, Share, World, said};

const PEOPLE: Share<'static> =
    Share { table: "dan", key: "id", fields: &["id int8", "ten text", "gioi text"], rules: "" };

const OTHERS: Share<'static> =
    Share { table: "khac", key: "id", fields: &["id int8", "ten text"], rules: "" };

const LIST: &str = "list = \"gioi\"\ntitle_vi = \"Giới\"\nsource = \"QĐ 1\"\n\
                    code = [{ code = \"1\", name = \"Nam\" }, { code = \"2\", name = \"Nữ\" }]\n";

/// The hub's answer to a command that must do.
fn hub(world: &World, arguments: &[&str]) -> String {
    let done = world.province.hub(arguments);
    assert!(done.status.success(), "{arguments:?}: {}", said(&done));
    said(&done)
}

/// What a command says that must fail with this fault.
fn refused(done: &std::process::Output, code: Code) -> String {
    let text = said(done);
    assert!(!done.status.success() && text.contains(code.name()), "{code}: {text}");
    text
}

fn write(world: &World, name: &str, text: &str) -> String {
    let file = world.province.path().join(name);
    fs::write(&file, text).unwrap();
    file.display().to_string()
}

/// A world whose contract of `dan` bounds names to 6 characters and takes sexes from a list.
fn with_terms() -> World {
    let mut world = World::new(Version::V15);
    world.source.psql(
        "create table dan (id int8 primary key, ten text, gioi text);
         create table khac (id int8 primary key, ten text);
         insert into khac values (1, 'một')",
    );
    world.share("", &[PEOPLE, OTHERS]);
    let file = "contracts/thu.dan.toml";
    world.edit(file, "name_vi = \"ten\"", "name_vi = \"ten\"\nmax_length = 6");
    world.edit(file, "name_vi = \"gioi\"", "name_vi = \"gioi\"\ncode_list = \"gioi\"");
    hub(&world, &["category", "import", &write(&world, "gioi.toml", LIST)]);
    world
}

fn contract_of(world: &World, table: &str) -> String {
    let folder = world.province.agent_folder(AGENCY);
    fs::read_to_string(folder.join(format!("contracts/thu.{table}.toml"))).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_lives_from_proposal_to_rebuilt_table_with_both_signatures_and_no_row_lost() {
    let mut world = World::new(Version::V15);
    world.source.psql(
        "create table khac (id int8 primary key, ten text);
         insert into khac select i, 'Dân ' || i from generate_series(1, 50) i",
    );
    world.share("", &[OTHERS]);
    world.start();
    assert_eq!(world.identical("khac").await, 50);
    let first = contract_of(&world, "khac");

    // A field that may be null: proposed, read, signed by one, by both, in force.
    let field = "\n[[field]]\nname = \"moi\"\ntype = \"text\"\nclass = \"I\"\nname_vi = \"Mới\"\n";
    let wider = first.replacen("version = 1", "version = 1\nminor = 1", 1) + field;
    let file = write(&world, "wider.toml", &wider);
    let proposed = hub(&world, &["contract", "propose", &file]);
    assert!(proposed.contains("compatible") && proposed.contains("moi: mới"), "{proposed}");
    refused(&world.province.hub(&["contract", "approve", "thu.khac"]), Code::ContractUnsigned);
    let shown = said(&world.agent(&["contract", "show", "thu.khac"]));
    assert!(shown.contains("PROPOSED") && shown.contains("changes against 1.0"), "{shown}");
    let read_first = world.agent(&["contract", "approve", "thu.khac"]);
    assert_eq!(read_first.status.code(), Some(1), "{}", said(&read_first));
    let wrong = world.agent(&["contract", "approve", "thu.khac", "--fingerprint", "00000000"]);
    refused(&wrong, Code::ContractInvalid);
    approve(&world, &wider);
    refused(&world.province.hub(&["contract", "apply", "thu.khac"]), Code::ContractUnsigned);
    hub(&world, &["contract", "approve", "thu.khac"]);
    assert!(hub(&world, &["contract", "apply", "thu.khac"]).contains("widened"));

    // Who has not changed its file yet goes on; with the new file it reads anew.
    world.source.psql("insert into khac values (51, 'sau')");
    world.warehouse_says("select ten from thu.khac where id = 51", "sau").await;
    take_over(&mut world, "thu.khac");
    assert_eq!(world.identical("khac").await, 51);
    wait_until("the agreement to be kept", ARRIVES_WITHIN, async || {
        let agreed = said(&world.agent(&["contract", "ls"]));
        agreed.contains("thu.khac 1.1").then_some(())
    })
    .await;

    a_breaking_version_rebuilds_the_table(&mut world, &first).await;
    assert!(world.province.hub(&["incident", "ls"]).status.success(), "nobody broke anything");
    world.province.verify_log();
}

/// A field goes away: refused under this number, refused without `--major`, and then done.
async fn a_breaking_version_rebuilds_the_table(world: &mut World, first: &str) {
    let broken = write(world, "broken.toml", &first.replacen("= 1", "= 1\nminor = 2", 1));
    refused(&world.province.hub(&["contract", "propose", &broken]), Code::ContractInvalid);
    let next = first.replacen("version = 1", "version = 2", 1);
    let next_file = write(world, "next.toml", &next);
    let proposed = hub(world, &["contract", "propose", &next_file]);
    assert!(proposed.contains("breaking") && proposed.contains("! moi: bị bỏ"), "{proposed}");
    let diff = hub(world, &["contract", "diff", "thu.khac", "thu.khac@proposed"]);
    assert!(diff.contains("1.1 → 2.0: 1 thay đổi (changes), 1 phá vỡ (breaking)"), "{diff}");
    approve(world, &next);
    hub(world, &["contract", "approve", "thu.khac"]);
    let kept = world.province.hub(&["contract", "apply", "thu.khac"]);
    assert!(refused(&kept, Code::ContractInvalid).contains("--major"));
    let before = world.epoch("khac");
    assert!(hub(world, &["contract", "apply", "--major", "thu.khac"]).contains("rebuilt"));
    world.source.psql("update khac set ten = 'đổi' where id = 1");
    wait_until("the agent to hear of it", ARRIVES_WITHIN, async || {
        let code = world.status("khac")?["delivery_trouble"]["code"].clone();
        (code == "contract_mismatch").then_some(())
    })
    .await;
    take_over(world, "thu.khac");
    assert_eq!(world.identical("khac").await, 51);
    assert!(world.epoch("khac") > before);
    let aside = "select count(*) from thu.khac__v1 where moi is null";
    assert_eq!(world.warehouse.psql(aside).trim(), "51", "the old table stays readable");
    world.source.psql("update khac set ten = 'nữa' where id = 2");
    let history = "select count(*) from thu.khac__history";
    world.warehouse_says(history, "1").await;
    let listed = hub(world, &["contract", "ls", "--json"]);
    let listed: Vec<Value> = serde_json::from_str(&listed).unwrap();
    let states: Vec<_> = listed.iter().map(|one| one["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["past", "past", "in_force"]);
}

/// The agency signs what is proposed, having read its fingerprint.
fn approve(world: &World, text: &str) {
    let fingerprint = phusa_protocol::contract::Contract::from_toml(text).unwrap().fingerprint();
    let short = fingerprint.to_string()[..16].to_owned();
    let done = world.agent(&["contract", "approve", "thu.khac", "--fingerprint", &short]);
    assert!(done.status.success(), "{}", said(&done));
}

/// The agency puts the version in force into its folder and starts its agent again.
fn take_over(world: &mut World, dataset: &str) {
    let text = world.agent(&["contract", "show", dataset, "--toml"]);
    assert!(text.status.success(), "{}", said(&text));
    let file = world.province.agent_folder(AGENCY).join(format!("contracts/{dataset}.toml"));
    fs::write(file, text.stdout).unwrap();
    assert!(world.province.agent_process(AGENCY).stop().success());
    world.start_agent();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_the_hub_would_refuse_stays_at_the_agency_alone() {
    let mut world = with_terms();
    world.source.psql(
        "insert into dan values (1, 'An', '1'), (2, 'Nguyễn Văn', '1'), (3, 'Bình', '9'),
         (4, 'Quyền', '2'), (5, null, null)",
    );
    world.start();
    let ids = "select string_agg(id::text, ',' order by id) from thu.dan";
    world.warehouse_says(ids, "1,4,5").await;
    assert_eq!(world.identical("dan").await, 3);
    let rejects = world.status("dan").unwrap()["rejects"].clone();
    assert_eq!(rejects["ten:agreed_length"], 1, "{rejects}");
    assert_eq!(rejects["gioi:agreed_code"], 1, "{rejects}");
    world.source.psql(
        "update dan set ten = 'Rất là dài' where id = 1; insert into dan values (6, 'x', '2')",
    );
    world.warehouse_says(ids, "1,4,5,6").await;
    let refusals = "select count(*) from phusa.transfers where kind = 'refuse'";
    assert_eq!(world.warehouse.psql(refusals).trim(), "0");

    // A new version of the list counts from the next greeting on.
    let more = LIST.replace("{ code = \"2\"", "{ code = \"9\", name = \"Khác\" }, { code = \"2\"");
    hub(&world, &["category", "import", &write(&world, "gioi.toml", &more)]);
    assert!(world.province.agent_process(AGENCY).stop().success());
    world.start_agent();
    wait_until("the new list", ARRIVES_WITHIN, async || {
        let kept = world.province.agent_folder(AGENCY).join("state/lists/gioi.json");
        fs::read_to_string(kept).ok()?.contains("\"9\"").then_some(())
    })
    .await;
    world.source.psql("update dan set ten = 'Bảo' where id = 3");
    world.warehouse_says(ids, "1,3,4,5,6").await;
    world.province.verify_log();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_patched_agent_is_refused_with_one_incident_per_cause_and_its_other_datasets_go_on() {
    let mut world = with_terms();
    // The stream of `dan` is the patched agent's; the real one carries the other dataset.
    let folder = world.province.agent_folder(AGENCY).to_owned();
    fs::remove_file(folder.join("datasets/thu.dan.toml")).unwrap();
    world.start();
    let contract = contract_of(&world, "dan");
    let port = world.province.hub_port();
    let mut forger = Forger::new(&folder, &format!("{AGENCY}/may-1"), port, &contract);
    let id = 7_i64.to_be_bytes();
    let (id, an, nam) = (Field::Value(&id), Field::Value(b"An"), Field::Value(b"1"));
    let honest = forger.seal(&[id, an, nam]);
    forger.send(frame::encode(&honest)).await.unwrap();

    let right = (forger.fingerprint, forger.mapping, forger.signing_key.clone());
    let other = Digest::of(b"forged");
    let long = Field::Value("Nguyễn Văn".as_bytes());
    let attacks: [(&str, Vec<Field<'_>>, Code); 8] = [
        ("fields", vec![id, an, nam, Field::Value(b"them")], Code::ContractViolation),
        ("ten/longer", vec![id, long, nam], Code::ContractViolation),
        ("ten/longer", vec![id, long, nam], Code::ContractViolation),
        ("id/type", vec![Field::Value(b"0007"), an, nam], Code::ContractViolation),
        ("gioi/code", vec![id, an, Field::Value(b"3")], Code::ContractViolation),
        ("fingerprint", vec![id, an, nam], Code::ContractMismatch),
        ("mapping", vec![id, an, nam], Code::MappingMismatch),
        ("signature", vec![id, an, nam], Code::SignatureWrong),
    ];
    for (number, (cause, fields, code)) in (2..).zip(&attacks) {
        match *cause {
            "fingerprint" => forger.fingerprint = other,
            "mapping" => forger.mapping = other,
            "signature" => forger.signing_key = SigningKey::generate().unwrap(),
            _ => {}
        }
        let batch = forger.seal(fields);
        let refusal = forger.send(frame::encode(&batch)).await.unwrap_err();
        assert_eq!(refusal.code, *code, "{cause}: {}", refusal.what);
        forger.take_back(&batch);
        (forger.fingerprint, forger.mapping, forger.signing_key) =
            (right.0, right.1, right.2.clone());
        world.source.psql(&format!("insert into khac values ({number}, 'vẫn chạy')"));
        let sql = format!("select count(*) from thu.khac where id = {number}");
        world.warehouse_says(&sql, "1").await;
    }

    let listed = world.province.hub(&["incident", "ls", "--json"]);
    assert_eq!(listed.status.code(), Some(1), "open incidents are told by the exit code");
    let open: Vec<Value> = serde_json::from_slice(&listed.stdout).unwrap();
    assert_eq!(open.len(), 7, "one per cause: {open:?}");
    let longer = open.iter().find(|one| one["count"] == 2).unwrap();
    assert!(longer["cause"].as_str().unwrap().contains("`ten` is longer than agreed"), "{longer}");
    assert_eq!(longer["timeline"].as_array().unwrap().len(), 2);
    let text = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(!text.contains("Nguyễn") && !text.contains("them"), "no value in it: {text}");
    let refusals = "select count(*) from phusa.transfers where kind = 'refuse'";
    assert_eq!(world.warehouse.psql(refusals).trim(), "8", "each refusal is an entry");
    let ids = "select string_agg(id::text, ',') from thu.dan";
    assert_eq!(world.warehouse.psql(ids).trim(), "7", "nothing refused left a trace");
    let metrics = world.province.page("/metrics");
    assert!(metrics.contains("phusa_incidents_open{kind=\"contract\"} 6"), "{metrics}");
    assert!(metrics.contains("phusa_incidents_open{kind=\"signature\"} 1"), "{metrics}");
    every_incident_is_told_and_closed(&world, &open, longer);

    let again = forger.seal(&[id, long, nam]);
    forger.send(frame::encode(&again)).await.unwrap_err();
    let listed = world.province.hub(&["incident", "ls", "--json"]);
    let open: Vec<Value> = serde_json::from_slice(&listed.stdout).unwrap();
    assert_eq!(open.len(), 1, "what comes again after it was closed is a new incident");
    world.province.verify_log();
}

/// An operator reads one and closes each of them, once.
fn every_incident_is_told_and_closed(world: &World, open: &[Value], longer: &Value) {
    let number = longer["incident"].to_string();
    let story = hub(world, &["incident", "show", &number]);
    assert!(story.contains("vi phạm hợp đồng") && story.contains("transfer"), "{story}");
    for one in open {
        let number = one["incident"].to_string();
        let by = ["incident", "close", &number, "--by", "Trần Thị B", "--note", "đã hỏi cơ quan"];
        hub(world, &by);
        refused(&world.province.hub(&by), Code::IncidentUnknown);
    }
    assert!(hub(world, &["incident", "ls"]).contains("no incident is open"));
}
