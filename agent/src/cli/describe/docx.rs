//! The document as a Word file: the least that Word, `LibreOffice` and others open without asking, in
//! the form of ECMA-376 (a zip of three parts and a page style).

use std::fmt::Write as _;
use std::io::{Cursor, Write as _};

use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::{Document, FIELDS, HEADS, escaped};

const CONTENT_TYPES: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\" standalone=\"yes\"?>\n\
<Types xmlns=\"http://schemas.openxmlformats.org/package/2006/content-types\">\
<Default Extension=\"rels\" ContentType=\"application/vnd.openxmlformats-package.relationships+xml\"/>\
<Default Extension=\"xml\" ContentType=\"application/xml\"/>\
<Override PartName=\"/word/document.xml\" ContentType=\"application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml\"/>\
</Types>";

const RELATIONS: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\" standalone=\"yes\"?>\n\
<Relationships xmlns=\"http://schemas.openxmlformats.org/package/2006/relationships\">\
<Relationship Id=\"rId1\" Type=\"http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument\" Target=\"word/document.xml\"/>\
</Relationships>";

const BORDERS: &str = "<w:tblPr><w:tblW w:w=\"5000\" w:type=\"pct\"/><w:tblBorders>\
<w:top w:val=\"single\" w:sz=\"4\"/><w:left w:val=\"single\" w:sz=\"4\"/>\
<w:bottom w:val=\"single\" w:sz=\"4\"/><w:right w:val=\"single\" w:sz=\"4\"/>\
<w:insideH w:val=\"single\" w:sz=\"4\"/><w:insideV w:val=\"single\" w:sz=\"4\"/>\
</w:tblBorders></w:tblPr>";

/// A4 on its side, for nine columns; in twentieths of a point.
const PAGE: &str = "<w:sectPr><w:pgSz w:w=\"16838\" w:h=\"11906\" w:orient=\"landscape\"/>\
<w:pgMar w:top=\"850\" w:right=\"850\" w:bottom=\"850\" w:left=\"850\" w:header=\"400\" w:footer=\"400\" w:gutter=\"0\"/></w:sectPr>";

/// The file's bytes.
///
/// # Errors
/// What the library says of the zip.
pub(super) fn package(document: &Document) -> Result<Vec<u8>, String> {
    let parts = [
        ("[Content_Types].xml", CONTENT_TYPES.to_owned()),
        ("_rels/.rels", RELATIONS.to_owned()),
        ("word/document.xml", body(document)),
    ];
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let stored = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for (name, text) in parts {
        zip.start_file(name, stored).map_err(|error| error.to_string())?;
        zip.write_all(text.as_bytes()).map_err(|error| error.to_string())?;
    }
    Ok(zip.finish().map_err(|error| error.to_string())?.into_inner())
}

fn body(document: &Document) -> String {
    let mut xml = "<?xml version=\"1.0\" encoding=\"UTF-8\" standalone=\"yes\"?>\n\
        <w:document xmlns:w=\"http://schemas.openxmlformats.org/wordprocessingml/2006/main\"><w:body>"
        .to_owned();
    xml += &paragraph(&document.title_vi, "<w:b/><w:sz w:val=\"36\"/>");
    xml += &paragraph(&document.title_en, "<w:i/>");
    let facts = document.facts.iter().map(|(name, value)| vec![(*name).to_owned(), value.clone()]);
    xml += &table(&[4_500, 10_600], None, facts);
    xml += &paragraph(FIELDS, "<w:b/><w:sz w:val=\"28\"/>");
    let widths = [1_678; HEADS.len()];
    xml += &table(&widths, Some(&HEADS), document.fields.iter().map(|cells| cells.to_vec()));
    // A table is followed by a paragraph, or Word takes the file for damaged.
    xml += "<w:p/>";
    xml += PAGE;
    xml += "</w:body></w:document>";
    xml
}

fn paragraph(text: &str, look: &str) -> String {
    let text = escaped(text);
    format!("<w:p><w:r><w:rPr>{look}</w:rPr><w:t xml:space=\"preserve\">{text}</w:t></w:r></w:p>")
}

fn table(widths: &[u32], head: Option<&[&str]>, rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut xml = format!("<w:tbl>{BORDERS}<w:tblGrid>");
    for width in widths {
        let _ = write!(xml, "<w:gridCol w:w=\"{width}\"/>");
    }
    xml += "</w:tblGrid>";
    let small = "<w:sz w:val=\"18\"/>";
    if let Some(head) = head {
        let cells: String =
            head.iter().map(|text| cell(text, "<w:b/><w:sz w:val=\"18\"/>")).collect();
        let _ = write!(xml, "<w:tr><w:trPr><w:tblHeader/></w:trPr>{cells}</w:tr>");
    }
    for row in rows {
        let cells: String = row.iter().map(|text| cell(text, small)).collect();
        let _ = write!(xml, "<w:tr>{cells}</w:tr>");
    }
    xml + "</w:tbl>"
}

fn cell(text: &str, look: &str) -> String {
    format!("<w:tc>{}</w:tc>", paragraph(text, look))
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn a_word_file_has_its_three_parts_and_shows_no_markup_of_others() {
        let bytes = package(&super::super::tests::sample()).unwrap();
        let mut zip = zip::ZipArchive::new(Cursor::new(bytes)).unwrap();
        let names: Vec<String> = zip.file_names().map(|name| name.unwrap().into_owned()).collect();
        assert_eq!(names, ["[Content_Types].xml", "_rels/.rels", "word/document.xml"]);
        let mut xml = String::new();
        zip.by_name("word/document.xml").unwrap().read_to_string(&mut xml).unwrap();
        assert!(xml.contains("Hộ tịch (phần mềm cũ)") && xml.contains("&lt;script&gt;"), "{xml}");
        assert!(!xml.contains("<script>"));
        for tag in ["w:tbl", "w:tr", "w:tc", "w:p", "w:r", "w:body"] {
            let count = |sign: String| xml.matches(&sign).count();
            let open = count(format!("<{tag}>"));
            assert_eq!(open, count(format!("</{tag}>")), "{tag}");
        }
    }
}
