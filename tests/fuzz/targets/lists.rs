//! Category lists as they arrive: text of any separator, and spreadsheets.

#![cfg_attr(fuzzing, no_main)]

use phusa_fuzz::fuzz_target;
use phusa_hub::category::list::List;
use phusa_hub::category::{csv, xlsx};

fuzz_target!(|data: &[u8]| {
    let _ = xlsx::read(data);
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(records) = csv::read(text) else { return };
    // What was read is written, and read as it was.
    let lines: String = records
        .iter()
        .map(|(_, fields)| csv::line(&fields.iter().map(String::as_str).collect::<Vec<_>>()))
        .collect();
    if let Ok(again) = csv::read(&lines) {
        let fields = |records: &[(usize, Vec<String>)]| {
            records.iter().map(|(_, fields)| fields.clone()).collect::<Vec<_>>()
        };
        assert_eq!(fields(&again), fields(&records));
    }
    let _ = List::from_toml(text);
});
