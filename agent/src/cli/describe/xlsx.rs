//! The document as a spreadsheet: a sheet of what is agreed, a sheet of fields. Every cell is text,
//! so nothing is taken for a formula.

use rust_xlsxwriter::{Format, FormatAlign, Workbook, XlsxError};

use super::{Document, HEADS};

/// The file's bytes.
///
/// # Errors
/// What the library says of a cell that a sheet cannot hold.
pub(super) fn book(document: &Document) -> Result<Vec<u8>, String> {
    write(document).map_err(|error| error.to_string())
}

fn write(document: &Document) -> Result<Vec<u8>, XlsxError> {
    let bold = Format::new().set_bold();
    let wrapped = Format::new().set_text_wrap().set_align(FormatAlign::Top);
    let mut book = Workbook::new();
    let sheet = book.add_worksheet();
    sheet.set_name("Hợp đồng")?;
    sheet.set_column_width(0, 46)?;
    sheet.set_column_width(1, 80)?;
    sheet.write_string_with_format(0, 0, &document.title_vi, &bold)?;
    sheet.write_string(0, 1, &document.title_en)?;
    for (row, (name, value)) in (2_u32..).zip(&document.facts) {
        sheet.write_string_with_format(row, 0, *name, &bold)?;
        sheet.write_string_with_format(row, 1, value, &wrapped)?;
    }
    let sheet = book.add_worksheet();
    sheet.set_name("Trường")?;
    for (column, head) in (0_u16..).zip(HEADS) {
        sheet.set_column_width(column, 24)?;
        sheet.write_string_with_format(0, column, head, &bold)?;
    }
    for (row, cells) in (1_u32..).zip(&document.fields) {
        for (column, cell) in (0_u16..).zip(cells) {
            sheet.write_string_with_format(row, column, cell, &wrapped)?;
        }
    }
    sheet.set_freeze_panes(1, 1)?;
    book.save_to_buffer()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spreadsheet_is_a_zip_with_both_sheets() {
        let bytes = book(&super::super::tests::sample()).unwrap();
        let mut zip = zip::ZipArchive::new(std::io::Cursor::new(bytes)).unwrap();
        for part in ["xl/worksheets/sheet1.xml", "xl/worksheets/sheet2.xml"] {
            assert!(zip.by_name(part).is_ok(), "{part}");
        }
    }
}
