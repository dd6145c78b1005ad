//! Sound files give a plan; every broken rule is named at its line.

use std::fs::{create_dir, write};

use tempfile::TempDir;

use super::*;
use crate::mapping::field::Mask;

const AGENT: &str = r#"
agency = "H57.12"
agent = "may-1"
state_dir = "state"
allowed_networks = ["10.0.0.0/8", "127.0.0.1"]

[hub]
url = "https://10.1.2.3:7443"
ca_file = "ca.pem"
certificate_file = "agent.pem"
key_file = "agent.key"
signing_key_file = "credential:signing.key"
hub_key_file = "hub.pub"

[spool]
key_file = "spool.key"

[source]
engine = "postgresql"
host = "127.0.0.1"
database = "hotich"
user = "phusa"
tls = "off"
"#;

const CONTRACT: &str = r#"
dataset = "cong_dan.citizens"
version = 1
title_vi = "Công dân"
owner = "H57.12"
legal_basis = "Quyết định 1046/QĐ-UBND"
sharing = "default"
frequency = "15m"
retention = "3650d"
key = ["ma"]
field = [
  { name = "ma", type = "int8", class = "N", name_vi = "Mã" },
  { name = "so_dinh_danh", type = "text", class = "N", name_vi = "Số định danh" },
  { name = "nam_sinh", type = "int2", class = "B", required = true, name_vi = "Năm sinh" },
  { name = "ghi_chu", type = "text", class = "I", name_vi = "Ghi chú" },
]
"#;

const DATASET: &str = r#"
dataset = "cong_dan.citizens"
contract = "../citizens.contract.toml"
table = "public.citizens"
where = "ward_code = '31000' and id in (1, 2)"

[[field]]
from = "id"
to = "ma"
class = "N"

[[field]]
from = "ward_code"
to = "so_dinh_danh"
class = "N"
mask = { keep_last = 4 }

[[field]]
from = "born"
to = "nam_sinh"
class = "B"
mask = "year"
"#;

/// A folder with the three files, of which `file` is changed from `from` to `to`.
fn folder(file: &str, from: &str, to: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    create_dir(folder.path().join("datasets")).unwrap();
    let files = [
        ("agent.toml", AGENT),
        ("citizens.contract.toml", CONTRACT),
        ("datasets/citizens.toml", DATASET),
    ];
    for (name, text) in files {
        let text = if name == file {
            assert!(text.contains(from), "{from}");
            text.replacen(from, to, 1)
        } else {
            text.to_owned()
        };
        write(folder.path().join(name), text).unwrap();
    }
    folder
}

fn faults(folder: &TempDir) -> Vec<String> {
    let faults = Plan::load(&folder.path().join("agent.toml")).err().unwrap_or_default();
    let root = format!("{}/", folder.path().display());
    let shown = faults.iter().map(|fault| format!("{} {}", fault.code, fault.chain()));
    shown.map(|text| text.replace(&root, "")).collect()
}

#[test]
fn sound_files_give_a_plan() {
    let folder = folder("agent.toml", "may-1", "may-2");
    let plan = Plan::load(&folder.path().join("agent.toml")).unwrap();
    assert_eq!(plan.agent.to_string(), "H57.12/may-2");
    assert_eq!(plan.state_dir, folder.path().join("state"));
    assert_eq!(plan.hub.signing_key_file, SecretFile::Credential("signing.key".to_owned()));
    assert_eq!(plan.hub.address.to_string(), "https://10.1.2.3:7443");
    assert_eq!(plan.batch.batch_linger, Duration::from_millis(50));
    assert_eq!(plan.source.password_file, None);
    assert_eq!(plan.source.tls_ca_file, None);
    assert_eq!(plan.guard.rows_per_second_max, None);
    let [dataset] = plan.datasets.as_slice() else { panic!("one dataset") };
    assert_eq!(dataset.dataset().to_string(), "cong_dan.citizens");
    assert_eq!(dataset.selection.columns, ["id", "ward_code", "born"]);
    assert_eq!(dataset.selection.key, [0]);
    let filter = dataset.selection.filter.as_deref();
    assert_eq!(filter, Some("(\"ward_code\" = '31000' and \"id\" in (1, 2))"));
    let masks: Vec<_> = dataset.rules.fields.iter().map(|field| &field.mask).collect();
    assert_eq!(masks, [&Mask::Keep, &Mask::KeepLast(4), &Mask::Year, &Mask::Keep]);
    assert_eq!(dataset.rules.fields[3].from, None);
}

#[test]
fn the_password_file_beside_the_configuration_is_found() {
    let folder = folder("agent.toml", "may-1", "may-1");
    write(folder.path().join("source.password"), "secret").unwrap();
    let plan = Plan::load(&folder.path().join("agent.toml")).unwrap();
    let expected = SecretFile::File(folder.path().join("source.password"));
    assert_eq!(plan.source.password_file, Some(expected));
}

#[test]
fn the_fingerprint_is_of_the_mapping_and_not_of_its_spaces() {
    let fingerprint = |from: &str, to: &str| {
        let folder = folder("datasets/citizens.toml", from, to);
        Plan::load(&folder.path().join("agent.toml")).unwrap().datasets[0].mapping
    };
    let plain = fingerprint("from = \"id\"", "from = \"id\"");
    assert_eq!(fingerprint("from = \"id\"", "from   =   \"id\" # key"), plain);
    assert_ne!(fingerprint("keep_last = 4", "keep_last = 3"), plain);
}

#[test]
fn a_wrong_agent_file_is_named_at_its_line() {
    let check = |from: &str, to: &str, expected: &str| {
        let found = faults(&folder("agent.toml", from, to));
        assert!(found.iter().any(|fault| fault.starts_with(expected)), "{expected}: {found:#?}");
    };
    check("[spool]", "[spol]", "config_invalid agent.toml:15:2: TOML parse error at line 15");
    check("may-1", "Máy", "config_invalid agent.toml:3:9: agent \"Máy\" is not a valid name");
    check("10.0.0.0/8", "10.0.0.1/8", "config_invalid agent.toml:5:21: \"10.0.0.1/8\": a network");
    check("\"10.0.0.0/8\", ", "", "network_not_allowed agent.toml:8:7: the hub's address 10.1.2.3");
    check("[\"10.0.0.0/8\", \"127.0.0.1\"]", "[]", "config_invalid agent.toml:5:20: `allowed_netw");
    check("https://", "http://", "config_invalid agent.toml:8:7: `url` is https://");
    check(
        "\"127.0.0.1\"\ndat",
        "\"10.0.0.9\"\ndat",
        "config_invalid agent.toml:23:7: `tls = \"off\"",
    );
    let batch = |key: &str| format!("[batch]\n{key}\n[source]");
    let size = batch("batch_bytes_max = \"65MiB\"");
    check(
        "[source]",
        &size,
        "config_invalid agent.toml:19:19: `batch_bytes_max` is 64KiB to 64MiB",
    );
    check("[source]", &batch("batch_rows_max = 0"), "config_invalid agent.toml:19:18: ");
    check("[source]", &batch("batch_linger = \"61s\""), "config_invalid agent.toml:19:16: ");
    check("[source]", &batch("row_bytes_max = \"65MiB\""), "config_invalid agent.toml:19:17: ");
    check(
        "state\"",
        "state\"\ndatasets_dir = \"none\"",
        "config_invalid agent.toml:5:16: cannot read",
    );
}

#[test]
fn a_password_written_into_the_file_is_not_repeated() {
    let found = faults(&folder("agent.toml", "user =", "password = \"canary\"\nuser ="));
    assert!(found[0].contains("unknown field `password`, expected one of"), "{found:?}");
    assert!(!found[0].contains("canary"), "{found:?}");
}

#[test]
fn a_wrong_dataset_file_is_named_at_its_line() {
    let check = |from: &str, to: &str, expected: &str| {
        let found = faults(&folder("datasets/citizens.toml", from, to));
        let expected = expected.replacen(' ', " datasets/citizens.toml:", 1);
        assert!(found.iter().any(|fault| fault.starts_with(&expected)), "{expected}: {found:#?}");
    };
    check("table =", "tabel =", "config_invalid 4:1: TOML parse error at line 4, column 1");
    check("to = \"ma\"", "to = \"mã\"", "mapping_invalid 9:6: `mã` is not a field");
    check("to = \"ma\"", "to = \"nam_sinh\"", "mapping_invalid 20:6: `nam_sinh` is mapped twice");
    check(
        "to = \"ma\"",
        "to = \"ghi_chu\"",
        "mapping_invalid 3:12: the contract requires field `ma`",
    );
    check("class = \"B\"", "class = \"P\"", "mapping_invalid 21:9: `nam_sinh` is of class B");
    check("class = \"B\"", "class = \"state_secret\"", "state_secret 21:9: `nam_sinh` is classed");
    check("mask = \"year\"", "mask = \"drop\"", "mapping_invalid 22:8: `nam_sinh` may not be null");
    check(
        "\"year\"",
        "{ keep_last = 4 }",
        "mapping_invalid 22:8: `keep_last` is for contract type",
    );
    check("\"year\"", "{ hmac = \"k\" }", "mapping_invalid 22:8: `hmac` is for contract types");
    check("\"year\"", "\"month\"", "config_invalid 22:8: TOML parse error at line 22, column 8");
    check("public.citizens", "citizens", "mapping_invalid 4:9: `table` is schema.table");
    check("'31000'", "like '31%'", "mapping_invalid 5:9: `where`, character 13: expected 'text'");
    check("id in", "name in", "mapping_invalid 5:9: `where` reads column `name`");
    check(
        "cong_dan.citizens",
        "cong_dan.people",
        "mapping_invalid 2:11: the contract is of dataset",
    );
    check("citizens.contract", "nothing", "contract_invalid 3:12: the contract: cannot read");
}

#[test]
fn a_key_stays_one_to_one() {
    let check = |from: &str, to: &str, expected: &str| {
        let found = faults(&folder("datasets/citizens.toml", from, to));
        let hit = found.iter().any(|fault| fault.contains(expected));
        assert!(hit || (expected.is_empty() && found.is_empty()), "{expected}: {found:#?}");
    };
    let text_key = folder("citizens.contract.toml", "key = [\"ma\"]", "key = [\"so_dinh_danh\"]");
    assert!(faults(&text_key)[0].contains("`so_dinh_danh` is a key field"), "{text_key:?}");
    check("class = \"N\"", "class = \"N\"\nmask = \"drop\"", "`ma` may not be null");
    check("mask = { keep_last = 4 }", "mask = { hmac = \"hmac.key\" }", "");
    let both =
        folder("citizens.contract.toml", "key = [\"ma\"]", "key = [\"ma\", \"so_dinh_danh\"]");
    let text = DATASET.replace("from = \"ward_code\"", "from = \"id\"").replace("ward_code", "id");
    let text = text.replace("mask = { keep_last = 4 }", "");
    write(both.path().join("datasets/citizens.toml"), text).unwrap();
    let found = faults(&both);
    assert!(found[0].contains("`so_dinh_danh` shares its column with another"), "{found:?}");
}

#[test]
fn a_contract_that_is_wrong_or_secret_is_told_apart() {
    let check = |from: &str, to: &str, expected: &str| {
        let found = faults(&folder("citizens.contract.toml", from, to));
        assert!(found[0].starts_with(expected), "{found:?}");
    };
    check(
        "key = [\"ma\"]",
        "key = [\"id\"]",
        "contract_invalid datasets/../citizens.contract.toml",
    );
    check("class = \"I\"", "class = \"X\"", "contract_invalid ");
    check("class = \"I\"", "class = \"state_secret\"", "state_secret ");
}

#[test]
fn one_wrong_dataset_does_not_hide_the_next() {
    let folder = folder("datasets/citizens.toml", "table =", "tabel =");
    let second = DATASET.replace("public.citizens", "citizens");
    write(folder.path().join("datasets/more.toml"), second).unwrap();
    write(folder.path().join("datasets/zz.toml"), DATASET).unwrap();
    write(folder.path().join("datasets/notes.txt"), "not a dataset").unwrap();
    let found = faults(&folder);
    assert_eq!(found.len(), 3, "{found:#?}");
    assert!(found[1].contains("more.toml:4:9: `table` is schema.table"), "{found:#?}");
    assert!(found[2].contains("zz.toml:2:11: dataset cong_dan.citizens stands in "), "{found:#?}");
}

#[test]
fn the_shipped_configuration_is_sound() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../configs/agent.toml");
    let plan = Plan::load(Path::new(path)).unwrap();
    assert!(plan.datasets.len() >= 3);
    let legacy = plan.datasets.iter().find(|d| d.dataset().to_string() == "cong_dan.ho_tich_cu");
    let columns = &legacy.unwrap().selection.columns;
    assert!(columns.contains(&"ho_dem".to_owned()) && !columns.contains(&"dan_toc".to_owned()));
}

#[test]
fn rules_that_make_no_sense_are_refused_at_their_line() {
    let check = |rules: &str, expected: &str| {
        let text = DATASET.replace("mask = { keep_last = 4 }", rules);
        let all = faults(&folder("datasets/citizens.toml", DATASET, &text));
        assert!(all.iter().any(|fault| fault.contains(expected)), "{rules}: {all:?}");
    };
    check("on_bad = \"warn\"", "cannot be sent with a warning");
    check("pad_left = 0", "`pad_left` is 1 to 64");
    check("pad_left = 99", "`pad_left` is 1 to 64");
    check("convert = { date = [\"dd.mm\"] }", "unknown variant");
    check("convert = { bool = { yes = [\"1\"] } }", "missing field `no`");
    check("check = [{ rule = \"luhn\" }]", "unknown variant `luhn`");
    check("check = [{ rule = \"phone\", min = \"1\" }]", "this rule takes no `min`");
    check("check = [{ rule = \"regex\" }]", "needs `pattern`");
    check("check = [{ rule = \"regex\", pattern = \"(\" }]", "`pattern`: regex parse error");
    let long = format!("check = [{{ rule = \"regex\", pattern = \"{}\" }}]", "a".repeat(501));
    check(&long, "at most 500 characters");
    check("check = [{ rule = \"regex\", pattern = \"(a{1000}){1000}\" }]", "size limit");
    check("check = [{ rule = \"range\" }]", "`range` needs `min`, `max` or both");
    check("check = [{ rule = \"range\", min = \"x\" }]", "compares numbers");
    check("check = [{ rule = \"length\", min = \"9\", max = \"1\" }]", "`min` is at most `max`");
    check("check = [{ rule = \"not_before\", field = \"khong\" }]", "`khong` is not a field");
    check(
        "check = [{ rule = \"citizen_id\", sex_field = \"ghi_chu\", male = [\"1\"], female = [\"2\"] }]",
        "`ghi_chu` is not a field",
    );
    check("check = [{ rule = \"citizen_id\", sex_field = \"ma\" }]", "needs `male` and `female`");
    check(
        "check = [{ rule = \"in_list\", list = \"none.toml\", as_of = \"2025-07-01\" }]",
        "none.toml",
    );
    check("crosswalk = { list = \"none.toml\" }", "none.toml");
    check("check = [{ rule = \"required\", on_bad = \"null_field\" }]", "cannot be made null");
    check("mask = { band = 0 }", "`band` is at least 1");
    check("compute = { upper = \"x\" }", "a `from` or a `compute`, and not both");
    check("encoding = \"vps\"", "unknown variant `vps`");
}

#[test]
fn keys_and_required_fields_keep_what_they_need() {
    let check = |from: &str, to: &str, expected: &str| {
        let all = faults(&folder("datasets/citizens.toml", from, to));
        assert!(all.iter().any(|fault| fault.contains(expected)), "{to}: {all:?}");
    };
    let key = "from = \"id\"\nto = \"ma\"\n";
    check(key, "compute = { lower = \"id\" }\nto = \"ma\"\n", "a key field is a column");
    check(key, &format!("{key}on_bad = \"null_field\"\n"), "cannot use `null_field`");
    check(key, &format!("{key}mask = {{ keep_first = 2 }}\n"), "keep_first");
}

#[test]
fn a_changed_list_is_a_changed_mapping() {
    let rules = "crosswalk = { list = \"../list.toml\", as_of = \"2025-07-01\" }";
    let text = DATASET.replace("mask = { keep_last = 4 }", rules);
    let plan = |codes: &str| {
        let folder = folder("datasets/citizens.toml", DATASET, &text);
        let head = "list = \"x\"\ntitle_vi = \"X\"\nsource = \"x\"\n";
        write(folder.path().join("list.toml"), format!("{head}{codes}")).unwrap();
        let plan = Plan::load(&folder.path().join("agent.toml"));
        plan.map(|plan| plan.datasets[0].mapping).map_err(|faults| faults[0].chain())
    };
    let one = plan("code = [{ code = \"1\", name = \"Một\" }]").unwrap();
    assert_eq!(plan("code = [{ code = \"1\", name = \"Một\" }]"), Ok(one));
    assert_ne!(plan("code = [{ code = \"2\", name = \"Hai\" }]").unwrap(), one);
    let refused = |codes: &str, expected: &str| {
        let fault = plan(codes).unwrap_err();
        assert!(fault.contains("list.toml") && fault.contains(expected), "{fault}");
    };
    refused("code = [{ code = \"1\" }]", "missing field `name`");
    refused("code = [{ code = \"1\", name = \"x\", valid_to = \"1/7/2025\" }]", "is no date");
    let twice = "becomes = [{ from = \"1\", to = \"2\" }, { from = \"1\", to = \"3\" }]";
    refused(twice, "at the same time");
    let dangling =
        "code = [{ code = \"1\", name = \"x\" }]\nbecomes = [{ from = \"9\", to = \"7\" }]";
    refused(dangling, "codes become `7`, which is not a code of this list");
    refused("any_of_digits = 0", "`any_of_digits` is 1 to 20");
}
