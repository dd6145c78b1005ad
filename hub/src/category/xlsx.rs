//! Spreadsheets (XLSX) into records of texts, and back. A code that the sheet holds as a number has
//! lost its zeros and is refused; days are read whichever way the sheet holds them.

use std::collections::BTreeMap;
use std::io::{Cursor, Read as _};

use calamine::{Data, ExcelDateTime, Reader as _, Xlsx, XlsxError};
use rust_xlsxwriter::{Format, Workbook};
use zip::ZipArchive;

/// A file larger than this is no list of codes.
pub const BYTES_MAX: u64 = 16 << 20;

/// What all parts of a file may come to once unpacked: 16 MiB can be packed from thousands of times
/// as much.
const UNPACKED_MAX: u64 = 256 << 20;

/// A sheet with a cell further to the right is no list of codes.
const COLUMNS_MAX: u32 = 256;

/// Reads the first sheet: its records with the number of the row each stands in.
///
/// # Errors
/// What is wrong with the file, or with which cell.
pub fn read(bytes: &[u8]) -> Result<Vec<(usize, Vec<String>)>, String> {
    let said = |error: XlsxError| format!("it is no XLSX file that can be read: {error}");
    holds_unpacked(bytes, UNPACKED_MAX)?;
    let mut book: Xlsx<_> = Xlsx::new(Cursor::new(bytes)).map_err(said)?;
    let name = book.sheet_names().first().cloned().ok_or("it has no sheet")?;
    // Cell by cell: two cells in opposite corners would make a rectangle of billions.
    let mut cells = book.worksheet_cells_reader(&name).map_err(said)?;
    let mut rows: BTreeMap<u32, BTreeMap<u32, String>> = BTreeMap::new();
    while let Some(cell) = cells.next_cell().map_err(said)? {
        let (row, column) = cell.get_position();
        let place = || format!("cell {}{}", letters(column), u64::from(row) + 1);
        if column >= COLUMNS_MAX {
            return Err(format!("{}: there are more than {COLUMNS_MAX} columns", place()));
        }
        let value = Data::from(cell.get_value().clone());
        let field = text(&value).map_err(|why| format!("{}: {why}", place()))?;
        if !field.is_empty() {
            rows.entry(row).or_default().insert(column, field);
        }
    }
    let columns = || rows.values().flat_map(|row| row.keys().copied());
    let (first, last) = (columns().min().unwrap_or(0), columns().max().unwrap_or(0));
    let record = |(row, mut fields): (u32, BTreeMap<u32, String>)| {
        let record = (first..=last).map(|column| fields.remove(&column).unwrap_or_default());
        (usize::try_from(row).unwrap_or(usize::MAX).saturating_add(1), record.collect())
    };
    Ok(rows.into_iter().map(record).collect())
}

/// Unpacks every part into nothing and counts, because what a part says of its own size need not be
/// so.
fn holds_unpacked(bytes: &[u8], bytes_max: u64) -> Result<(), String> {
    let said = |error: &dyn std::fmt::Display| format!("it is no XLSX file: {error}");
    let mut parts = ZipArchive::new(Cursor::new(bytes)).map_err(|error| said(&error))?;
    let mut left = bytes_max;
    for index in 0..parts.len() {
        let part = parts.by_index(index).map_err(|error| said(&error))?;
        let read = std::io::copy(&mut part.take(left + 1), &mut std::io::sink());
        let read = read.map_err(|error| said(&error))?;
        left = left.checked_sub(read).ok_or_else(|| {
            format!("unpacked it holds more than {} MiB; no list of codes does", bytes_max >> 20)
        })?;
    }
    Ok(())
}

fn text(cell: &Data) -> Result<String, String> {
    match cell {
        Data::Empty => Ok(String::new()),
        Data::String(text) => Ok(text.trim().to_owned()),
        Data::DateTimeIso(text) => Ok(text.get(..10).unwrap_or(text).to_owned()),
        Data::DateTime(moment) => Ok(day(*moment)),
        Data::Int(_) | Data::Float(_) => Err(
            "it holds a number, which has no leading zeros; give the column the format Text and \
             write the code again"
                .to_owned(),
        ),
        Data::Bool(_) | Data::DurationIso(_) => Err("it holds no text".to_owned()),
        Data::Error(error) => Err(format!("it holds an error of the sheet: {error}")),
    }
}

/// `2025-07-01`.
fn day(moment: ExcelDateTime) -> String {
    let (year, month, day, ..) = moment.to_ymd_hms_milli();
    format!("{year:04}-{month:02}-{day:02}")
}

/// The column's name in a sheet: `A`, `Z`, `AA`.
fn letters(column: u32) -> String {
    let (mut name, mut rest) = (String::new(), column + 1);
    while rest > 0 {
        rest -= 1;
        let letter = char::from_u32(u32::from('A') + rest % 26).unwrap_or('?');
        name.insert(0, letter);
        rest /= 26;
    }
    name
}

/// Records as the one sheet of a file. Every cell is text, so no code loses its zeros and nothing is
/// taken for a formula.
///
/// # Errors
/// What the library says, such as too many rows for a sheet.
pub fn write(name: &str, records: &[Vec<String>]) -> Result<Vec<u8>, String> {
    let said = |error: rust_xlsxwriter::XlsxError| error.to_string();
    let mut book = Workbook::new();
    let sheet = book.add_worksheet();
    // A sheet's name has at most 31 letters.
    sheet.set_name(name.chars().take(31).collect::<String>()).map_err(said)?;
    let (plain, bold) = (Format::new().set_num_format("@"), Format::new().set_bold());
    for (row, record) in (0_u32..).zip(records) {
        let format = if row == 0 { &bold } else { &plain };
        for (column, field) in (0_u16..).zip(record) {
            if !field.is_empty() {
                sheet.write_string_with_format(row, column, field, format).map_err(said)?;
            }
        }
    }
    // Typed beside the records, a code keeps its zeros too.
    for column in 0..4 {
        sheet.set_column_format(column, &plain).map_err(said)?;
    }
    sheet.set_column_width(1, 48).map_err(said)?;
    sheet.set_freeze_panes(1, 0).map_err(said)?;
    book.save_to_buffer().map_err(said)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again_with_its_zeros() {
        let records: Vec<Vec<String>> = [
            ["code", "name", "valid_from"],
            ["01", "Kinh", "2025-07-01"],
            ["=1+1", "Không là công thức", ""],
        ]
        .map(|record| record.map(str::to_owned).to_vec())
        .to_vec();
        let bytes = write("dan_toc", &records).unwrap();
        let read = read(&bytes).unwrap();
        let expected: Vec<_> = records.into_iter().enumerate().map(|(n, r)| (n + 1, r)).collect();
        assert_eq!(read, expected);
    }

    #[test]
    fn a_code_that_lost_its_zeros_is_refused_and_a_day_is_read_as_a_day() {
        let mut book = Workbook::new();
        let sheet = book.add_worksheet();
        let format = Format::new().set_num_format("dd/mm/yyyy");
        sheet.write_string(0, 0, "code").unwrap();
        let moment = rust_xlsxwriter::ExcelDateTime::from_ymd(2025, 7, 1).unwrap();
        sheet.write_datetime_with_format(0, 1, &moment, &format).unwrap();
        assert_eq!(
            read(&book.save_to_buffer().unwrap()).unwrap(),
            [(1, vec!["code".to_owned(), "2025-07-01".to_owned()])]
        );
        book.worksheet_from_index(0).unwrap().write_number(1, 0, 1.0).unwrap();
        let why = read(&book.save_to_buffer().unwrap()).unwrap_err();
        assert!(why.starts_with("cell A2: it holds a number"), "{why}");
        assert!(read(b"code,name").unwrap_err().contains("no XLSX file"));
        assert_eq!([0, 25, 26, 701, 702].map(letters), ["A", "Z", "AA", "ZZ", "AAA"]);
    }

    #[test]
    fn a_file_that_unpacks_beyond_bounds_or_spreads_over_the_sheet_is_refused() {
        let lines: Vec<Vec<String>> = (0..20_000).map(|n| vec![format!("{n:09}")]).collect();
        let bytes = write("bomb", &lines).unwrap();
        let limit = u64::try_from(bytes.len()).unwrap();
        assert!(holds_unpacked(&bytes, limit).unwrap_err().contains("unpacked"));
        assert_eq!(holds_unpacked(&bytes, UNPACKED_MAX), Ok(()));
        let mut book = Workbook::new();
        let sheet = book.add_worksheet();
        sheet.write_string(0, 0, "code").unwrap();
        sheet.write_string(1_048_575, 1, "x").unwrap();
        let bytes = book.save_to_buffer().unwrap();
        let ends = read(&bytes).unwrap();
        assert_eq!(ends.iter().map(|(row, _)| *row).collect::<Vec<_>>(), [1, 1_048_576]);
        let mut book = Workbook::new();
        book.add_worksheet().write_string(0, 16_383, "x").unwrap();
        let bytes = book.save_to_buffer().unwrap();
        assert!(read(&bytes).unwrap_err().starts_with("cell XFD1:"));
    }
}
