//! The example files of `configs/` are read by the code that reads real ones, and fit together.

use std::collections::BTreeMap;

use phusa_hub::category::catalogue::CatalogueFile;
use phusa_hub::category::list::List;
use phusa_hub::config::profile::Profile;
use phusa_protocol::contract::Contract;

use crate::files::{below, text};

/// The themes of CT 9.1, with the dataset that is the heart of each.
const THEMES: [&str; 6] = [
    "cong_dan.cong_dan",
    "doanh_nghiep.doanh_nghiep",
    "cbccvc.cbccvc",
    "tthc.tthc",
    "danh_muc.danh_muc_muc",
    "ho_so.ho_so",
];

fn contracts() -> BTreeMap<String, Contract> {
    let read = |(path, text): (String, String)| {
        let contract = Contract::from_toml(&text).unwrap_or_else(|error| panic!("{path}: {error}"));
        (contract.dataset.to_string(), contract)
    };
    below("configs/contracts", ".toml").into_iter().map(read).collect()
}

#[test]
fn the_example_contracts_load() {
    assert!(contracts().len() >= 2);
}

#[test]
fn the_six_themes_are_contracts_with_names_in_both_languages_and_a_sample_mapping() {
    let contracts = contracts();
    let hue = Profile::shipped("hue-2026").unwrap();
    for theme in THEMES {
        let contract = &contracts[theme];
        assert!(!text(&format!("configs/datasets/{theme}.toml")).is_empty(), "{theme}");
        assert!(!contract.title_en.is_empty() && !contract.purposes.is_empty(), "{theme}");
        assert!(hue.unknown_purposes(&contract.purposes).is_empty(), "{theme}");
        let unnamed = contract.fields.iter().find(|field| field.name_en.is_empty());
        assert!(unnamed.is_none(), "{theme}: {unnamed:?}");
    }
}

#[test]
fn the_five_legal_profiles_load_and_have_the_six_themes() {
    let files = below("configs/profile", ".toml");
    assert_eq!(files.len(), 5);
    for (path, text) in files {
        let profile = Profile::from_toml(&text).unwrap_or_else(|why| panic!("{path}: {why}"));
        assert!(path.ends_with(&format!("/{}.toml", profile.name)), "{path}");
        let themes: Vec<_> = profile.themes.iter().map(|theme| theme.name.as_str()).collect();
        for dataset in THEMES {
            assert!(themes.contains(&dataset.split('.').next().unwrap()), "{path}: {dataset}");
        }
    }
}

#[test]
fn the_forty_five_lists_load_and_are_named_as_the_catalogue_and_contracts_name_them() {
    let catalogue = CatalogueFile::from_toml(&text("configs/categories.toml")).unwrap();
    let numbers: Vec<_> = catalogue.category.iter().map(|category| category.number).collect();
    assert_eq!(numbers, (1..=45).collect::<Vec<_>>());
    let mut sizes = BTreeMap::new();
    for category in &catalogue.category {
        let path = format!("configs/{}", category.file.display());
        let list = List::from_toml(&text(&path)).unwrap_or_else(|why| panic!("{path}: {why}"));
        assert_eq!(list.list, category.list, "{path}");
        sizes.insert(list.list, list.codes.len());
    }
    assert_eq!(sizes["ethnic_group"], 54);
    assert_eq!(sizes["country_nationality"], 249);
    assert_eq!(sizes["admin_unit_province"], 63 + 34);
    for contract in contracts().values() {
        for list in contract.fields.iter().filter_map(|field| field.code_list.as_ref()) {
            assert!(sizes.contains_key(list), "{}: {list}", contract.dataset);
        }
    }
}

/// Whether nothing is sent, or something of one length.
fn hides_length(mask: &toml::Value) -> bool {
    ["drop", "hmac"].iter().any(|name| mask.to_string().contains(name))
}

#[test]
fn a_sample_mapping_keeps_to_agreed_lengths_itself() {
    let contracts = contracts();
    // Otherwise one long value would have the hub refuse the batch, and the dataset would stand still.
    for (path, text) in below("configs/datasets", ".toml") {
        let file: toml::Table = toml::from_str(&text).unwrap();
        let contract = &contracts[file["dataset"].as_str().unwrap()];
        for field in file["field"].as_array().unwrap() {
            let to = field["to"].as_str().unwrap();
            let agreed = contract.fields.iter().find(|agreed| agreed.name == to).unwrap();
            if agreed.max_length.is_none() {
                continue;
            }
            let rules = field.get("check").map(ToString::to_string).unwrap_or_default();
            let bounded = ["length", "regex", "in_list", "tax_code", "phone"];
            let is_bounded = bounded.iter().any(|rule| rules.contains(&format!("\"{rule}\"")))
                || field.get("mask").is_some_and(hides_length)
                || field.get("convert").is_some_and(|convert| convert.get("date").is_some());
            assert!(is_bounded, "{path}: `{to}` may be longer than agreed");
        }
    }
}

#[test]
fn the_example_datasets_fit_their_contracts() {
    let contracts = contracts();
    for (path, text) in below("configs/datasets", ".toml") {
        let file: toml::Table = toml::from_str(&text).unwrap();
        let contract = &contracts[file["dataset"].as_str().unwrap()];
        let fields = file["field"].as_array().unwrap();
        for field in fields {
            let (to, class) = (field["to"].as_str().unwrap(), field["class"].as_str().unwrap());
            let agreed = contract.fields.iter().find(|agreed| agreed.name == to);
            let agreed = agreed.unwrap_or_else(|| panic!("{path}: `{to}` is not in the contract"));
            assert_eq!(format!("{:?}", agreed.class), class, "{path}: class of `{to}`");
        }
        let shared = |name: &String| fields.iter().any(|f| f["to"].as_str() == Some(name.as_str()));
        assert!(contract.key.iter().all(shared), "{path}: a key field is not mapped");
    }
}

#[test]
fn the_example_configuration_loads_whole() {
    let path = crate::files::root().join("configs/agent.toml");
    let plan = phusa_agent::config::plan::Plan::load(&path);
    let plan = plan.unwrap_or_else(|faults| panic!("{faults:#?}"));
    assert_eq!(plan.datasets.len(), below("configs/datasets", ".toml").len());
}
