//! Spreadsheets (XLSX) into records of texts, and back. A code that the sheet holds as a number has
//! lost its zeros and is refused; days are read whichever way the sheet holds them.

use std::io::Cursor;

use calamine::{Data, ExcelDateTime, Reader as _, Xlsx, XlsxError};
use rust_xlsxwriter::{Format, Workbook};

/// A file larger than this is no list of codes.
pub const BYTES_MAX: u64 = 16 << 20;

/// Reads the first sheet: its records with the number of the row each stands in.
///
/// # Errors
/// What is wrong with the file, or with which cell.
pub fn read(bytes: &[u8]) -> Result<Vec<(usize, Vec<String>)>, String> {
    let said = |error: XlsxError| format!("it is no XLSX file that can be read: {error}");
    let mut book: Xlsx<_> = Xlsx::new(Cursor::new(bytes)).map_err(said)?;
    let sheet = book.worksheet_range_at(0).ok_or("it has no sheet")?.map_err(said)?;
    let (first_row, first_column) = sheet.start().unwrap_or_default();
    let mut records = Vec::new();
    for (index, cells) in sheet.rows().enumerate() {
        let row = index + usize::try_from(first_row).unwrap_or(0) + 1;
        let record = cells.iter().enumerate().map(|(column, cell)| {
            let column = column + usize::try_from(first_column).unwrap_or(0);
            text(cell).map_err(|why| format!("cell {}{row}: {why}", letters(column)))
        });
        let record: Vec<String> = record.collect::<Result<_, _>>()?;
        if record.iter().any(|field| !field.is_empty()) {
            records.push((row, record));
        }
    }
    Ok(records)
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
fn letters(column: usize) -> String {
    let (mut name, mut rest) = (String::new(), column + 1);
    while rest > 0 {
        rest -= 1;
        let letter = u8::try_from(rest % 26).map_or('?', |letter| char::from(b'A' + letter));
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
}
