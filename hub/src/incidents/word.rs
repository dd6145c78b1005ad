//! A table as a Word file: the least that Word, `LibreOffice` and others open without asking, in the
//! form of ECMA-376 (a zip of three parts).

use std::fmt::Write as _;
use std::io::{Cursor, Write as _};

use phusa_protocol::fault::{Code, Fault};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

const HEAD: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\" standalone=\"yes\"?>\n";

const CONTENT_TYPES: &str = "<Types xmlns=\"http://schemas.openxmlformats.org/package/2006/content-types\">\
<Default Extension=\"rels\" ContentType=\"application/vnd.openxmlformats-package.relationships+xml\"/>\
<Default Extension=\"xml\" ContentType=\"application/xml\"/>\
<Override PartName=\"/word/document.xml\" ContentType=\"application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml\"/>\
</Types>";

const RELATIONS: &str = "<Relationships xmlns=\"http://schemas.openxmlformats.org/package/2006/relationships\">\
<Relationship Id=\"rId1\" Type=\"http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument\" Target=\"word/document.xml\"/>\
</Relationships>";

const BORDERS: &str = "<w:tblPr><w:tblW w:w=\"5000\" w:type=\"pct\"/><w:tblBorders>\
<w:top w:val=\"single\" w:sz=\"4\"/><w:left w:val=\"single\" w:sz=\"4\"/>\
<w:bottom w:val=\"single\" w:sz=\"4\"/><w:right w:val=\"single\" w:sz=\"4\"/>\
<w:insideH w:val=\"single\" w:sz=\"4\"/><w:insideV w:val=\"single\" w:sz=\"4\"/>\
</w:tblBorders></w:tblPr>";

/// A4 on its side; in twentieths of a point. A table is followed by a paragraph, or Word takes the file
/// for damaged.
const FOOT: &str = "<w:p/><w:sectPr><w:pgSz w:w=\"16838\" w:h=\"11906\" w:orient=\"landscape\"/>\
<w:pgMar w:top=\"850\" w:right=\"850\" w:bottom=\"850\" w:left=\"850\" w:header=\"400\" w:footer=\"400\" w:gutter=\"0\"/>\
</w:sectPr></w:body></w:document>";

/// Lines above a table with this head and these rows, as a file's bytes.
///
/// # Errors
/// `bug` with what the library says of the zip.
pub(super) fn document(
    lines: &[String],
    head: &[&str],
    rows: &[Vec<String>],
) -> Result<Vec<u8>, Fault> {
    let parts = [
        ("[Content_Types].xml", CONTENT_TYPES.to_owned()),
        ("_rels/.rels", RELATIONS.to_owned()),
        ("word/document.xml", body(lines, head, rows)),
    ];
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let stored = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for (name, text) in parts {
        zip.start_file(name, stored).map_err(failed)?;
        zip.write_all(HEAD.as_bytes()).map_err(failed)?;
        zip.write_all(text.as_bytes()).map_err(failed)?;
    }
    Ok(zip.finish().map_err(failed)?.into_inner())
}

fn failed(error: impl std::error::Error + Send + Sync + 'static) -> Fault {
    Fault::because(Code::Bug, "cannot make a Word file", error)
}

fn body(lines: &[String], head: &[&str], rows: &[Vec<String>]) -> String {
    let mut xml = "<w:document xmlns:w=\"http://schemas.openxmlformats.org/wordprocessingml/2006/main\"><w:body>"
        .to_owned();
    for (place, line) in lines.iter().enumerate() {
        xml += &paragraph(line, if place == 0 { "<w:b/><w:sz w:val=\"32\"/>" } else { "" });
    }
    let _ = write!(xml, "<w:tbl>{BORDERS}<w:tblGrid>");
    let width = 15_100 / head.len().max(1);
    for _ in head {
        let _ = write!(xml, "<w:gridCol w:w=\"{width}\"/>");
    }
    xml += "</w:tblGrid>";
    let cells = |texts: &[&str], look: &str| -> String {
        texts.iter().map(|text| format!("<w:tc>{}</w:tc>", paragraph(text, look))).collect()
    };
    let bold = cells(head, "<w:b/><w:sz w:val=\"18\"/>");
    let _ = write!(xml, "<w:tr><w:trPr><w:tblHeader/></w:trPr>{bold}</w:tr>");
    for row in rows {
        let texts: Vec<&str> = row.iter().map(String::as_str).collect();
        let _ = write!(xml, "<w:tr>{}</w:tr>", cells(&texts, "<w:sz w:val=\"18\"/>"));
    }
    xml + "</w:tbl>" + FOOT
}

fn paragraph(text: &str, look: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let text: String = text.chars().filter(|c| !c.is_control()).collect();
    format!("<w:p><w:r><w:rPr>{look}</w:rPr><w:t xml:space=\"preserve\">{text}</w:t></w:r></w:p>")
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn a_word_file_has_its_three_parts_and_shows_no_markup_of_others() {
        let rows = [vec!["1".to_owned(), "<b>Huế & Đà Nẵng</b>".to_owned()]];
        let bytes = document(&["Sự cố".to_owned()], &["Số", "Gì"], &rows).unwrap();
        let mut zip = zip::ZipArchive::new(Cursor::new(bytes)).unwrap();
        let names: Vec<String> = zip.file_names().map(|name| name.unwrap().into_owned()).collect();
        assert_eq!(names, ["[Content_Types].xml", "_rels/.rels", "word/document.xml"]);
        let mut xml = String::new();
        zip.by_name("word/document.xml").unwrap().read_to_string(&mut xml).unwrap();
        assert!(xml.contains("&lt;b&gt;Huế &amp; Đà Nẵng&lt;/b&gt;"), "{xml}");
        for tag in ["w:tbl", "w:tr", "w:tc", "w:p", "w:r", "w:body"] {
            let count = |sign: String| xml.matches(&sign).count();
            assert_eq!(count(format!("<{tag}>")), count(format!("</{tag}>")), "{tag}");
        }
    }
}
