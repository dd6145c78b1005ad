//! The row filter: any text is a condition or a refusal, and a condition can be written as SQL.

#![cfg_attr(fuzzing, no_main)]

use phusa_agent::mapping::filter::{Dialect, Filter};
use phusa_fuzz::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(filter) = Filter::parse(text) else { return };
    for dialect in [Dialect::PostgreSql, Dialect::MySql, Dialect::SqlServer] {
        assert!(!filter.to_sql(dialect).is_empty());
    }
    assert!(filter.columns().count() > 0 || !text.is_empty());
});
