//! A day of a dataset as charts with axes, drawn here as SVG, and the same figures as a table for who
//! cannot see them or prints them.

use std::time::Duration;

use maud::{Markup, html};
use phusa_protocol::time::Timestamp;

use super::milliseconds;
use crate::fleet::flow::Hour;
use crate::portal::words::Lang;
use crate::transfers::minutes::page::count;

/// Width and height of a drawing, in its units; the field of values begins right of the axis.
const SIZE: (f64, f64) = (720.0, 200.0);
const LEFT: f64 = 90.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 170.0;

/// Hours of a day.
const HOURS: u8 = 24;

/// Lag and rows of the last day, hour by hour.
pub(super) fn day(lang: Lang, hours: &[Hour], now: Timestamp) -> Markup {
    let begin = first_hour(now);
    let lag = lang.say(
        "Trễ nguồn → kho theo giờ, 24 giờ qua",
        "Lag, source → warehouse, by hour, last 24 hours",
    );
    let rows = lang.say("Thay đổi dòng theo giờ, 24 giờ qua", "Row changes by hour, last 24 hours");
    html! {
        @if hours.is_empty() {
            p.quiet { (lang.say("Không có lô nào trong 24 giờ qua.", "No batch in the last 24 hours.")) }
        } @else {
            figure.chart { figcaption { (lag) ": "
                span.l0 { "p50" } " · " span.l1 { "p95" } " · " span.l2 { (lang.say("lớn nhất", "longest")) } }
                div.wide { (lines(lag, hours, begin)) } }
            figure.chart { figcaption { (rows) } div.wide { (bars(rows, hours, begin)) } }
            details { summary { (lang.say("Bảng số liệu theo giờ", "The figures by hour")) }
                (table(lang, hours)) }
        }
    }
}

fn table(lang: Lang, hours: &[Hour]) -> Markup {
    html! { div.scroll { table {
        thead { tr {
            th scope="col" { (lang.say("Từ", "From")) }
            th.n scope="col" { "p50" }
            th.n scope="col" { "p95" }
            th.n scope="col" { (lang.say("Lớn nhất", "Longest")) }
            th.n scope="col" { (lang.say("Thay đổi dòng", "Row changes")) }
        } }
        tbody { @for hour in hours { tr {
            td.t { (hour.at.vietnamese_minute()) }
            @for lag in hour.lag_ms { td.n { (milliseconds(lag)) } }
            td.n { (count(hour.rows)) }
        } } }
    } } }
}

/// The full hour in which the day before `now` began.
fn first_hour(now: Timestamp) -> Timestamp {
    const HOUR: i64 = 3_600_000_000;
    let this = now.micros().saturating_sub(now.micros().rem_euclid(HOUR));
    Timestamp::from_micros(this).before(Duration::from_secs(3_600 * u64::from(HOURS)))
}

/// Where an hour stands on the axis, in hours after its beginning.
fn place(hour: &Hour, begin: Timestamp) -> f64 {
    let after = hour.at.since(begin).as_secs() / 3_600;
    f64::from(u8::try_from(after).unwrap_or(HOURS).min(HOURS))
}

fn x(place: f64) -> f64 {
    LEFT + (SIZE.0 - LEFT - 10.0) * place / (f64::from(HOURS) + 1.0)
}

fn y(value: u64, most: u64) -> f64 {
    BOTTOM - (BOTTOM - TOP) * number(value) / number(most.max(1))
}

/// A drawing of 200 units needs no more.
fn number(value: u64) -> f64 {
    f64::from(u32::try_from(value).unwrap_or(u32::MAX))
}

fn lines(told: &str, hours: &[Hour], begin: Timestamp) -> Markup {
    let most = hours.iter().map(|hour| hour.lag_ms[2]).max().unwrap_or(0);
    let half_step = 0.5;
    let path = |which: usize| {
        let point = |hour: &Hour| {
            let lag = hour.lag_ms.get(which).copied().unwrap_or(0);
            format!("{:.1},{:.1}", x(place(hour, begin) + half_step), y(lag, most))
        };
        hours.iter().map(point).collect::<Vec<_>>().join(" ")
    };
    let dots = |which: usize| {
        hours.iter().map(move |hour| {
            let lag = hour.lag_ms.get(which).copied().unwrap_or(0);
            (x(place(hour, begin) + half_step), y(lag, most))
        })
    };
    drawing(
        told,
        (most, milliseconds),
        begin,
        &html! {
            @for (which, class) in ["l0", "l1", "l2"].into_iter().enumerate() {
                polyline class=(class) points=(path(which)) {}
                @for (at, up) in dots(which) {
                    circle class=(class) cx=(format!("{at:.1}")) cy=(format!("{up:.1}")) r="2.5" {}
                }
            }
        },
    )
}

fn bars(told: &str, hours: &[Hour], begin: Timestamp) -> Markup {
    let most = hours.iter().map(|hour| hour.rows).max().unwrap_or(0);
    let width = x(1.0) - x(0.0) - 4.0;
    drawing(
        told,
        (most, count),
        begin,
        &html! {
            @for hour in hours {
                @let top = y(hour.rows, most);
                rect x=(format!("{:.1}", x(place(hour, begin)) + 2.0)) y=(format!("{top:.1}"))
                    width=(format!("{width:.1}")) height=(format!("{:.1}", BOTTOM - top)) {}
            }
        },
    )
}

/// Axes with their figures around what is drawn.
fn drawing(
    told: &str,
    (most, words): (u64, impl Fn(u64) -> String),
    begin: Timestamp,
    content: &Markup,
) -> Markup {
    let frame = format!("0 0 {} {}", SIZE.0, SIZE.1);
    let steps = [0, most / 2, most];
    let steps = if most < 2 { &steps[1..] } else { &steps[..] };
    let right = SIZE.0 - 10.0;
    html! {
        svg.axes viewBox=(frame) role="img" aria-label=(told) {
            title { (told) }
            @for step in steps {
                @let at = y(*step, most);
                line.grid x1=(LEFT) x2=(right) y1=(format!("{at:.1}")) y2=(format!("{at:.1}")) {}
                text x=(LEFT - 6.0) y=(format!("{:.1}", at + 4.0)) text-anchor="end" { (words(*step)) }
            }
            line.axis x1=(LEFT) x2=(right) y1=(BOTTOM) y2=(BOTTOM) {}
            line.axis x1=(LEFT) x2=(LEFT) y1=(TOP) y2=(BOTTOM) {}
            @for hour in [0_u8, 6, 12, 18, 24] {
                @let at = x(f64::from(hour));
                @let moment = begin.after(Duration::from_secs(3_600 * u64::from(hour)));
                line.axis x1=(format!("{at:.1}")) x2=(format!("{at:.1}")) y1=(BOTTOM) y2=(BOTTOM + 5.0) {}
                text x=(format!("{at:.1}")) y=(BOTTOM + 20.0) text-anchor="middle" { (clock(moment)) }
            }
            (content)
        }
    }
}

/// `14:00`, by the Vietnamese clock.
fn clock(moment: Timestamp) -> String {
    const HOUR: i64 = 3_600_000_000;
    format!("{:02}:00", (moment.micros() / HOUR + 7).rem_euclid(24))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_drawn_within_its_field_and_told_as_a_table() {
        let now = Timestamp::try_from("2026-11-26T17:30:00Z".to_owned()).unwrap();
        let begin = first_hour(now);
        assert_eq!(clock(begin), "00:00");
        let hour = |after: u64, rows| Hour {
            at: begin.after(Duration::from_secs(3_600 * after)),
            lag_ms: [7, 900, 61_000],
            rows,
        };
        let (first, last) = (hour(0, 5), hour(24, 1_200));
        assert!(x(place(&first, begin)) >= LEFT && x(place(&last, begin) + 1.0) <= SIZE.0);
        assert!(y(0, 10) == BOTTOM && y(10, 10) == TOP && y(0, 0) == BOTTOM);
        let drawn = day(Lang::En, &[first, last], now).into_string();
        for part in ["<polyline class=\"l2\"", "<rect", "1.200", "7 ms", "1 min", "role=\"img\""] {
            assert!(drawn.contains(part), "{part} not in {drawn}");
        }
        assert!(day(Lang::Vi, &[], now).into_string().contains("Không có lô nào"));
    }
}
