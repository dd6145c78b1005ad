//! The example files of `configs/` are read by the code that reads real ones, and fit together.

use std::collections::BTreeMap;

use phusa_protocol::contract::Contract;

use crate::files::below;

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
