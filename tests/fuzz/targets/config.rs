//! Configuration files: any text is read or refused, in every form there is.

#![cfg_attr(fuzzing, no_main)]

use phusa_agent::config::rules::ListFile;
use phusa_agent::config::{AgentFile, DatasetFile};
use phusa_fuzz::fuzz_target;
use phusa_protocol::contract::Contract;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let _ = toml::from_str::<AgentFile>(text);
    let _ = toml::from_str::<DatasetFile>(text);
    let _ = toml::from_str::<ListFile>(text);
    let _ = Contract::from_toml(text);
});
