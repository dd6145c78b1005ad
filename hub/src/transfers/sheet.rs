//! Tables for spreadsheet programs: CSV and XLSX with the same cells.
//!
//! Cells are names, numbers and moments of this program's own making; a text that a sheet could take
//! for a formula is written as text.

use phusa_protocol::fault::{Code, Fault};
use rust_xlsxwriter::{Format, Workbook, XlsxError};

/// Rows a sheet holds, without its head.
pub const ROWS_MAX: usize = 1_048_575;

/// One cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cell {
    /// A text; empty for none.
    Text(String),
    /// A count.
    Number(u64),
}

impl Cell {
    /// A text, or an empty cell.
    #[must_use]
    pub fn text(text: Option<impl ToString>) -> Self {
        Self::Text(text.map(|text| text.to_string()).unwrap_or_default())
    }
}

impl std::fmt::Display for Cell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Number(number) => write!(f, "{number}"),
        }
    }
}

/// One row as a line of CSV, without its end; quoted where it must be.
#[must_use]
pub fn csv(row: &[Cell]) -> String {
    let quoted = |cell: &Cell| {
        let text = cell.to_string();
        match text.contains([',', '"', '\n', '\r']) {
            true => format!("\"{}\"", text.replace('"', "\"\"")),
            false => text,
        }
    };
    row.iter().map(quoted).collect::<Vec<_>>().join(",")
}

/// A file of one sheet with this head and these rows.
///
/// # Errors
/// `config_invalid` when there are more rows than a sheet holds.
pub fn xlsx(name: &str, head: &[&str], rows: &[Vec<Cell>]) -> Result<Vec<u8>, Fault> {
    if rows.len() > ROWS_MAX {
        let what = format!("{} rows do not fit into a sheet; take a shorter period", rows.len());
        return Err(Fault::new(Code::ConfigInvalid, what));
    }
    write(name, head, rows)
        .map_err(|error| Fault::because(Code::Bug, "cannot make a spreadsheet", error))
}

fn write(name: &str, head: &[&str], rows: &[Vec<Cell>]) -> Result<Vec<u8>, XlsxError> {
    let mut book = Workbook::new();
    let sheet = book.add_worksheet();
    sheet.set_name(name)?;
    let (bold, text, number) = (
        Format::new().set_bold(),
        Format::new().set_num_format("@"),
        Format::new().set_num_format("#,##0"),
    );
    for (column, title) in (0_u16..).zip(head) {
        sheet.write_string_with_format(0, column, *title, &bold)?;
    }
    for (row, cells) in (1_u32..).zip(rows) {
        for (column, cell) in (0_u16..).zip(cells) {
            match cell {
                Cell::Text(value) if value.is_empty() => {}
                Cell::Text(value) => {
                    sheet.write_string_with_format(row, column, value, &text)?;
                }
                // A sheet's numbers are exact up to 2^53; larger counts stay texts.
                Cell::Number(value) => match u32::try_from(*value) {
                    Ok(small) => {
                        sheet.write_number_with_format(row, column, small, &number)?;
                    }
                    Err(_) => {
                        sheet.write_string_with_format(row, column, value.to_string(), &text)?;
                    }
                },
            }
        }
    }
    sheet.set_freeze_panes(1, 0)?;
    sheet.autofit();
    book.save_to_buffer()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_quoted_only_where_it_must_be() {
        let row = [Cell::Text("a,b".to_owned()), Cell::Number(7), Cell::text(None::<String>)];
        assert_eq!(csv(&row), "\"a,b\",7,");
    }
}
