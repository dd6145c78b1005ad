//! One agency: its focal point, its agents, their machines and datasets.

use axum::response::Response;
use maud::{Markup, html};
use phusa_protocol::ids::AgencyId;
use phusa_protocol::report::{DatasetReport, Report};
use phusa_protocol::time::Timestamp;
use phusa_protocol::verdict::{State, Verdict};

use super::chart;
use super::{Day, dialled, span_of, tag, why};
use crate::fleet::contact::Contact;
use crate::fleet::health::Health;
use crate::fleet::reports::Step;
use crate::notices::Notice;
use crate::portal::form::query;
use crate::portal::frame;
use crate::portal::guard::Visitor;
use crate::portal::live::region;
use crate::portal::notices::banner;
use crate::portal::words::Lang;
use crate::transfers::minutes::page::count;

/// The page.
pub(super) fn page(
    visitor: &Visitor,
    agency: &AgencyId,
    (all, notices, wanted): (&[Day], &[Notice], &Markup),
) -> Response {
    let lang = visitor.lang;
    let now = Timestamp::now();
    let contact = all.iter().find_map(|(one, _)| one.contact.as_ref());
    let content = html! {
        p { a href="/fleet" { "← " (lang.say("Tổng quan", "Overview")) } }
        div.head {
            h1 { (lang.say("Cơ quan ", "Agency ")) (agency) }
            p.quiet { (lang.say("Lúc ", "As of ")) (now.vietnamese()) " · "
                a href=(visitor.path) { (lang.say("Tải lại", "Reload")) } }
        }
        (banner(visitor, notices, Some(agency.as_str())))
        (focal_point(lang, agency, contact))
        (region(&format!("/live/fleet/{agency}"), &agents(lang, all)))
        (wanted)
        p { a href={ "/incidents?" (query(&[("agency", agency.as_str()), ("state", "all")])) } {
            (lang.say("Sự cố của cơ quan", "The agency's incidents")) } " · "
            a href={ "/transfers?" (query(&[("agency", agency.as_str())])) } {
            (lang.say("Nhật ký truyền nhận của cơ quan", "The agency's transfers")) } }
    };
    frame::page(visitor, agency.as_str(), &content)
}

/// The part that changes: every agent with its machine and datasets.
pub(super) fn agents(lang: Lang, all: &[Day]) -> Markup {
    let now = Timestamp::now();
    html! { @for (one, day) in all { (agent(lang, one, day, now)) } }
}

/// The five items of NA-10.
fn focal_point(lang: Lang, agency: &AgencyId, contact: Option<&Contact>) -> Markup {
    html! {
        div.card {
            h2 { (lang.say("Đầu mối", "Focal point")) }
            @match contact {
                Some(contact) => dl.items {
                    (item(lang.say("Họ tên", "Name"), &contact.name))
                    (item(lang.say("Chức vụ", "Position"), &contact.position))
                    (item(lang.say("Nhiệm vụ", "Duty"), &contact.duty))
                    div { dt { (lang.say("Điện thoại", "Phone")) }
                        dd { a href={ "tel:" (dialled(&contact.phone)) } { (contact.phone) } } }
                    div { dt { (lang.say("Thư điện tử", "E-mail")) }
                        dd { a href={ "mailto:" (contact.email) } { (contact.email) } } }
                },
                None => p { (lang.say("Chưa ghi.", "Not written down yet.")) },
            }
            p { a href={ "/contacts/" (agency) } { (lang.say("Đầu mối và thủ trưởng", "Focal point and head")) } }
        }
    }
}

fn item(name: &str, value: &str) -> Markup {
    html! { div { dt { (name) } dd { (value) } } }
}

fn agent(lang: Lang, one: &Health, day: &[Step], now: Timestamp) -> Markup {
    let verdict = &one.verdict;
    html! {
        h2.agent { (tag(lang, verdict.state)) " " (one.row.agent) }
        div.card {
            div.why { (why(lang, verdict, verdict.state >= State::Attention)) }
            dl.items {
                (item(lang.say("Trạng thái này từ", "In this state since"), &verdict.since.vietnamese()))
                @if let Some(deadline) = verdict.deadline {
                    (item(lang.say("Phải xử lý trước", "To be dealt with by"), &deadline.vietnamese()))
                }
                @if let Some(at) = one.reported_at {
                    (item(lang.say("Báo cáo cuối", "Last report"), &format!("{} ({})", at.vietnamese(), span_of(lang, now, at))))
                }
                @if let Some(report) = &one.report { (machine(lang, report)) }
            }
            (sparks(lang, day))
        }
        @if let Some(report) = &one.report { (datasets(lang, one, report)) }
    }
}

fn machine(lang: Lang, report: &Report) -> Markup {
    let spool = format!("{} / {}", bytes(report.spool.bytes), bytes(report.spool.bytes_max));
    let free = report.disk_free_bytes.map(bytes);
    let skew = report.skew_ms.map(|ms| format!("{ms} ms"));
    html! {
        (item(lang.say("Phiên bản", "Version"), &report.version))
        (item(lang.say("Hàng đợi", "Spool"), &spool))
        @if let Some(oldest) = report.spool.oldest {
            (item(lang.say("Lô cũ nhất chờ từ", "Oldest waits since"), &oldest.vietnamese()))
        }
        @if let Some(free) = &free { (item(lang.say("Đĩa còn trống", "Disk free"), free)) }
        @if let Some(certificate) = report.certificate {
            (item(lang.say("Chứng thư đến", "Certificate until"), &certificate.until.vietnamese()))
        }
        @if let Some(skew) = &skew { (item(lang.say("Lệch đồng hồ", "Clock differs by"), skew)) }
    }
}

/// Lag and rows of the last day, in steps of five minutes.
fn sparks(lang: Lang, day: &[Step]) -> Markup {
    // A drawing of 240 points needs no more.
    let number = |n: i64| f64::from(u32::try_from(n).unwrap_or(u32::MAX));
    let lag: Vec<_> = day.iter().map(|step| number(step.lag_seconds)).collect();
    let pairs = day.iter().zip(day.iter().skip(1));
    // An agent that was started anew counts from 0.
    let rows: Vec<_> = pairs.map(|(a, b)| number(b.rows.saturating_sub(a.rows).max(0))).collect();
    let most = day.iter().map(|step| step.lag_seconds).max().unwrap_or(0).unsigned_abs();
    let sum: i64 =
        day.iter().zip(day.iter().skip(1)).map(|(a, b)| b.rows.saturating_sub(a.rows).max(0)).sum();
    let lag_told = format!(
        "{} {} s",
        lang.say("Trễ nhất trong 24 giờ:", "Longest lag in 24 hours:"),
        count(most)
    );
    let rows_told = format!(
        "{} {}",
        lang.say("Dòng đọc trong 24 giờ:", "Rows read in 24 hours:"),
        count(sum.unsigned_abs())
    );
    html! {
        div.sparks {
            figure { (chart::line(&lag, &lag_told)) figcaption { (lag_told) } }
            figure { (chart::line(&rows, &rows_told)) figcaption { (rows_told) } }
        }
    }
}

fn datasets(lang: Lang, one: &Health, report: &Report) -> Markup {
    html! {
        div.scroll { table.stack {
            thead { tr {
                th scope="col" { (lang.say("Trạng thái", "State")) }
                th scope="col" { (lang.say("Bộ dữ liệu", "Dataset")) }
                th.n scope="col" { (lang.say("Kỷ/lô", "Epoch/batch")) }
                th.n scope="col" { (lang.say("Trễ", "Lag")) }
                th.n scope="col" { (lang.say("Dòng", "Rows")) }
                th.n scope="col" { (lang.say("Bị loại", "Rejected")) }
                th scope="col" { (lang.say("Đến trung tâm lúc", "Arrived at the hub")) }
                th scope="col" { (lang.say("Vì sao", "Why")) }
            } }
            tbody { @for (dataset, verdict) in report.datasets.iter().zip(&one.datasets) {
                (dataset_line(lang, one, dataset, verdict))
            } }
        } }
    }
}

fn dataset_line(lang: Lang, one: &Health, dataset: &DatasetReport, verdict: &Verdict) -> Markup {
    let name = dataset.dataset.to_string();
    let stream = one.row.streams.iter().find(|stream| stream.dataset == name);
    let arrived = stream.and_then(|stream| stream.last_committed_at);
    let plain = Verdict { dataset: None, ..verdict.clone() };
    html! {
        tr {
            td { (tag(lang, verdict.state)) }
            td { a href={ "/datasets/" (name) } { code { (name) } } }
            td.n { (dataset.epoch) "/" (dataset.released_seq) }
            td.n { (count(dataset.lag_seconds)) " s" }
            td.n { (count(dataset.rows)) }
            td.n { (count(dataset.rejects)) }
            td.t { (arrived.map_or("–".to_owned(), Timestamp::vietnamese)) }
            td { (why(lang, &plain, verdict.state >= State::Attention)) }
        }
    }
}

/// In the largest unit of which there is one, with one decimal.
fn bytes(bytes: u64) -> String {
    let units = [("GiB", 1_u64 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    let unit = units.into_iter().find(|(_, size)| bytes >= *size);
    unit.map_or_else(
        || format!("{bytes} B"),
        |(name, size)| format!("{},{} {name}", count(bytes / size), (bytes % size) * 10 / size),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_told_in_a_unit_that_fits() {
        let told = [0, 1_023, 1_536, 5 << 20, (3 << 30) + (1 << 29)].map(bytes);
        assert_eq!(told, ["0 B", "1023 B", "1,5 KiB", "5,0 MiB", "3,5 GiB"]);
    }
}
