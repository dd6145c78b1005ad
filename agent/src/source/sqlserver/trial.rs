//! `Trial`: values as the driver hands them on, carried as they are in a capture, without a server, so
//! that tests and `tests/fuzz` can try what damage does. Nothing else uses it.

use tiberius::ColumnData;

use super::value;
use crate::source::Native;

/// Appends one field of a tuple; false when the value is not of this type.
pub fn put(native: &Native, data: &ColumnData<'_>, out: &mut Vec<u8>) -> bool {
    value::put(native, data, out).is_ok()
}

/// A key part as the server reads it back; `None` where there is none.
#[must_use]
pub fn key_text(native: &Native, data: &ColumnData<'_>) -> Option<String> {
    value::key_text(native, data)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tiberius::time::{Date, DateTime2, DateTimeOffset, Time};

    #[test]
    fn days_that_the_calendar_does_not_have_are_refused_and_not_counted() {
        let moment = |days| DateTime2::new(Date::new(days), Time::new(0, 7));
        for (days, is_taken) in [(730_119, true), (0x00ff_ffff, false)] {
            let plain = ColumnData::DateTime2(Some(moment(days)));
            let offset = ColumnData::DateTimeOffset(Some(DateTimeOffset::new(moment(days), 420)));
            for (native, value) in [(Native::Timestamp, plain), (Native::OffsetTenths, offset)] {
                assert_eq!(put(&native, &value, &mut Vec::new()), is_taken, "{native:?} {days}");
                assert_eq!(key_text(&native, &value).is_some(), is_taken, "{native:?} {days}");
            }
        }
    }
}
