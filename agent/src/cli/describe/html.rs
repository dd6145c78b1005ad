//! The document as one page that needs nothing beside it.

use std::fmt::Write as _;

use super::{Document, FIELDS, HEADS, escaped};

/// The page.
pub(super) fn page(document: &Document) -> String {
    let title = escaped(&document.title_vi);
    let mut html = format!(
        "<!doctype html>\n<html lang=\"vi\">\n<meta charset=\"utf-8\">\n<title>{title}</title>\n\
         <style>body{{font-family:sans-serif;margin:2em}}table{{border-collapse:collapse}}\
         td,th{{border:1px solid #999;padding:.3em .6em;text-align:left;vertical-align:top}}\
         </style>\n<h1>{title}</h1>\n<p>{}</p>\n<table>\n",
        escaped(&document.title_en)
    );
    for (name, value) in &document.facts {
        let _ = writeln!(html, "<tr><th>{name}</th><td>{}</td></tr>", escaped(value));
    }
    let _ = write!(html, "</table>\n<h2>{FIELDS}</h2>\n<table>\n<tr>");
    HEADS.iter().for_each(|head| html.push_str(&format!("<th>{head}</th>")));
    html.push_str("</tr>\n");
    for cells in &document.fields {
        html.push_str("<tr>");
        cells.iter().for_each(|cell| html.push_str(&format!("<td>{}</td>", escaped(cell))));
        html.push_str("</tr>\n");
    }
    html.push_str("</table>\n</html>\n");
    html
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_shows_no_markup_of_others() {
        let html = page(&super::super::tests::sample());
        for said in [
            "<h1>Hộ tịch (phần mềm cũ)</h1>",
            "<p>&lt;script&gt;&quot;&amp;</p>",
            "<td>so_cccd (varchar(20))</td><td>normalise → pad_left → check</td><td>hmac</td>",
            "X nhạy cảm · sensitive",
        ] {
            assert!(html.contains(said), "{said}: {html}");
        }
    }
}
