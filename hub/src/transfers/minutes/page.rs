//! The page of minutes: A4, black on white, Vietnamese with English beside it, nothing that runs.

use std::collections::BTreeMap;

use maud::{DOCTYPE, Markup, PreEscaped, html};
use phusa_protocol::checkpoint::Checkpoint;
use phusa_protocol::ids::DatasetId;
use phusa_protocol::keys::PublicKey;
use phusa_protocol::minutes::{Figures, Minutes};

/// Titles of datasets as their contracts have them; a dataset without one is shown by its name.
pub type Titles = BTreeMap<DatasetId, String>;

/// Margins and type as administrative documents have them (Nghị định 30/2020/NĐ-CP).
const STYLE: &str = include_str!("minutes.css");

/// The page up to where its figures and the signature follow.
#[must_use]
pub fn write(
    minutes: &Minutes,
    checkpoint: &Checkpoint,
    hub: &PublicKey,
    titles: &Titles,
) -> String {
    let figures = &minutes.figures;
    let page = html! {
        (head(minutes))
        h1 { "BIÊN BẢN GIAO NHẬN DỮ LIỆU" span.en lang="en" { "Minutes of data delivery" } }
        (parties(minutes))
        (delivered(figures, titles))
        (refused(figures))
        (proven(figures, titles))
        (evidence(minutes, checkpoint, hub))
        (signatures())
        (sealed())
    };
    let title = format!("Biên bản giao nhận dữ liệu {}", figures.scope.agency);
    let opening = html! {
        (DOCTYPE)
        (PreEscaped("<html lang=\"vi\">\n<head>\n"))
        meta charset="utf-8";
        meta name="viewport" content="width=device-width, initial-scale=1";
        title { (title) }
        style { (PreEscaped(STYLE)) }
        (PreEscaped("\n</head>\n<body>\n"))
    };
    opening.into_string() + &page.into_string()
}

/// A count as people in Vietnam write it: `1.234.567`.
#[must_use]
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push('.');
        }
        text.push(digit);
    }
    text
}

fn head(minutes: &Minutes) -> Markup {
    let number = minutes.transfer;
    html! {
        header {
            div.hub {
                p { "ĐƠN VỊ VẬN HÀNH" br; "KHO DỮ LIỆU DÙNG CHUNG" }
                p.en lang="en" { "Operator of the shared warehouse" }
                p { "Số: " (number) "/BB-GNDL" }
            }
            div.nation {
                p { "CỘNG HÒA XÃ HỘI CHỦ NGHĨA VIỆT NAM" }
                p.motto { "Độc lập - Tự do - Hạnh phúc" }
                p.day { "Lập lúc " (minutes.made_at.vietnamese()) " (+07:00)" }
            }
        }
    }
}

/// A fact with its name in both languages.
fn fact(vi: &str, en: &str, value: &Markup) -> Markup {
    html! { tr { th scope="row" { (vi) span.en lang="en" { (en) } } td { (value) } } }
}

fn parties(minutes: &Minutes) -> Markup {
    let scope = &minutes.figures.scope;
    let dataset = scope.dataset.as_ref();
    html! {
        table.facts {
            (fact("Bên giao", "Delivered by", &html! { "Cơ quan " b { (scope.agency) } }))
            (fact("Bên nhận", "Received by", &html! { "Kho dữ liệu dùng chung của tỉnh" }))
            (fact("Kỳ", "Period", &html! {
                "từ " b { (scope.from.vietnamese()) } " đến trước " b { (scope.to.vietnamese()) }
                " (+07:00)"
            }))
            (fact("Bộ dữ liệu", "Dataset", &html! {
                @match dataset {
                    Some(dataset) => (dataset),
                    None => "tất cả · all",
                }
            }))
            (fact("Người lập", "Made by", &html! { (minutes.made_by) }))
            (fact("Nguồn số liệu", "Source of the figures", &html! {
                (count(minutes.figures.entries)) " mục của nhật ký truyền nhận, trong các mục 1 – "
                (count(scope.up_to)) ". "
                span.en lang="en" {
                    "Counted from " (count(minutes.figures.entries)) " entries of the transfer log, "
                    "among entries 1 to " (count(scope.up_to)) "."
                }
            }))
        }
    }
}

/// A column's head in both languages.
fn column(vi: &str, en: &str) -> Markup {
    html! { th scope="col" { (vi) span.en lang="en" { (en) } } }
}

fn named(dataset: &DatasetId, titles: &Titles) -> Markup {
    html! {
        @if let Some(title) = titles.get(dataset) { (title) br; }
        code { (dataset) }
    }
}

fn delivered(figures: &Figures, titles: &Titles) -> Markup {
    let sum = figures.sum();
    html! {
        h2 { "1. Dữ liệu đã nhận" span.en lang="en" { "Data received" } }
        @if figures.delivered.is_empty() {
            p { "Không có lô nào được nhận trong kỳ. "
                span.en lang="en" { "No batch was received in the period." } }
        } @else {
            table.figures {
                thead { tr {
                    (column("Bộ dữ liệu", "Dataset")) (column("Lô", "Batches"))
                    (column("Đọc toàn bộ", "Full read")) (column("Thêm", "Inserted"))
                    (column("Sửa", "Updated")) (column("Xóa", "Deleted"))
                    (column("Đổi khóa", "Key changed")) (column("Làm rỗng", "Emptied"))
                    (column("Byte", "Bytes"))
                } }
                @for line in &figures.delivered {
                    tbody {
                        tr {
                            td { (named(&line.dataset, titles)) }
                            td.n { (count(line.batches)) }
                            (operations(&line.rows))
                            td.n { (count(line.bytes)) }
                        }
                        tr.where { td colspan="9" {
                            "Tác tử · agent " code { (line.agent) }
                            "; mục · entries " (count(line.first)) " – " (count(line.last))
                            "; " (line.first_at.vietnamese()) " – " (line.last_at.vietnamese())
                        } }
                    }
                }
                tfoot { tr {
                    th scope="row" { "Cộng" span.en lang="en" { "Total" } }
                    td.n { (count(sum.batches)) }
                    (operations(&sum.rows))
                    td.n { (count(sum.bytes)) }
                } }
            }
        }
    }
}

fn operations(rows: &phusa_protocol::change::Counts) -> Markup {
    let counts = [rows.snapshot, rows.insert, rows.update, rows.delete, rows.rekey, rows.truncate];
    html! { @for number in counts { td.n { (count(number)) } } }
}

fn refused(figures: &Figures) -> Markup {
    html! {
        h2 { "2. Lần gửi bị từ chối" span.en lang="en" { "Deliveries refused" } }
        @if figures.refused.is_empty() {
            p { "Không có. " span.en lang="en" { "None." } }
        } @else {
            table.figures {
                thead { tr {
                    (column("Bộ dữ liệu", "Dataset")) (column("Lý do", "Reason"))
                    (column("Số lần", "Times"))
                } }
                tbody { @for line in &figures.refused {
                    tr {
                        td { @if let Some(dataset) = &line.dataset { code { (dataset) } } @else { "–" } }
                        td { (reason(&line.code)) }
                        td.n { (count(line.deliveries)) }
                    }
                } }
            }
        }
    }
}

/// What a code means, as the faults' catalogue says it.
fn reason(code: &str) -> Markup {
    let known = phusa_protocol::fault::CATALOGUE.iter().find(|words| words.name == code);
    html! {
        code { (code) }
        @if let Some(words) = known {
            br; (words.meaning_vi) " " span.en lang="en" { (words.meaning_en) }
        }
    }
}

fn proven(figures: &Figures, titles: &Titles) -> Markup {
    html! {
        h2 { "3. Đối chiếu nguồn và kho" span.en lang="en" { "Source compared with warehouse" } }
        @if figures.proven.is_empty() {
            p { "Không có lần đối chiếu nào trong kỳ. "
                span.en lang="en" { "Nothing was compared in the period." } }
        } @else {
            table.figures {
                thead { tr {
                    (column("Bộ dữ liệu", "Dataset")) (column("Số lần", "Times"))
                    (column("Trùng khớp", "Identical")) (column("Dòng ở nguồn, lần cuối", "Rows at source, last"))
                    (column("Dòng ở kho, lần cuối", "Rows in warehouse, last"))
                    (column("Bản ghi khác, lần cuối", "Records differing, last"))
                    (column("Lần cuối", "Last"))
                } }
                tbody { @for line in &figures.proven {
                    tr {
                        td { (named(&line.dataset, titles)) }
                        td.n { (count(line.comparisons)) }
                        td.n { (count(line.identical)) }
                        td.n { (count(line.source_rows)) }
                        td.n { (count(line.warehouse_rows)) }
                        td.n { (count(line.differing)) }
                        td { (line.last_at.vietnamese()) }
                    }
                } }
            }
        }
        @if figures.others > 0 {
            p { "Ngoài ra có " (count(figures.others)) " mục về hợp đồng dữ liệu của cơ quan. "
                span.en lang="en" { "Besides, " (count(figures.others)) " entries on the agency's contracts." } }
        }
    }
}

fn evidence(minutes: &Minutes, checkpoint: &Checkpoint, hub: &PublicKey) -> Markup {
    let witnesses: Vec<&str> =
        checkpoint.cosignatures.iter().map(|cosignature| cosignature.name.as_str()).collect();
    html! {
        h2 { "4. Bằng chứng" span.en lang="en" { "Evidence" } }
        table.facts.proof {
            (fact("Mốc nhật ký", "Log checkpoint", &html! {
                (count(checkpoint.head.size)) " mục, gốc cây · entries, root "
                code { (checkpoint.head.root) }
            }))
            (fact("Nhân chứng đã ký", "Cosigned by", &html! {
                @if witnesses.is_empty() { "chưa có · none yet" }
                @else { (witnesses.join(", ")) }
            }))
            (fact("Mã số liệu", "Digest of the figures", &html! {
                code { (minutes.figures.fingerprint()) }
            }))
            (fact("Mã các mục đã đếm", "Digest of the entries", &html! {
                code { (minutes.figures.digest) }
            }))
            (fact("Khóa của trung tâm", "The hub's key", &html! { code { (String::from(*hub)) } }))
            (fact("Cách kiểm tra", "How to verify", &html! {
                code { "phusa-hub log minutes verify FILE --hub-key signing.pub" } br;
                code { "phusa-agent ledger minutes FILE" }
            }))
        }
    }
}

fn signatures() -> Markup {
    html! {
        section.people {
            div { p { b { "ĐẠI DIỆN BÊN GIAO" } } p.en lang="en" { "For the agency" }
                p.hint { "(Ký, ghi rõ họ tên · sign, full name)" } }
            div { p { b { "ĐẠI DIỆN BÊN NHẬN" } } p.en lang="en" { "For the hub" }
                p.hint { "(Ký, ghi rõ họ tên · sign, full name)" } }
        }
    }
}

fn sealed() -> Markup {
    html! {
        h2.seal { "Chữ ký số của trung tâm" span.en lang="en" { "Signed by the hub" } }
        p.seal { "Chữ ký bao trùm mọi chữ phía trên của tệp này. "
            span.en lang="en" { "It covers every byte of this file above it." } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_written_as_in_vietnam() {
        let check = |number: u64, text: &str| assert_eq!(count(number), text);
        check(0, "0");
        check(999, "999");
        check(1_000, "1.000");
        check(1_234_567, "1.234.567");
    }
}
