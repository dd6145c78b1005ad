//! `phusa-hub fleet digest` and `fleet availability`: figures of a week and of a month, printed or mailed.

use clap::Args;
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::time::Timestamp;
use std::time::Duration;

use super::{json, print};
use crate::config::plan::Plan;
use crate::escalation::digest::{self, Availability, Line};
use crate::escalation::send::Mail;
use crate::fleet::aligned;
use crate::warehouse::Warehouse;

/// The days that a digest looks back.
const DIGEST_DAYS: u64 = 7;

#[derive(Debug, Args)]
pub(super) struct Digest {
    /// As JSON.
    #[arg(long)]
    json: bool,
    /// Send it to the province's addresses in `[escalation]`; for a timer, once a week.
    #[arg(long)]
    mail: bool,
}

#[derive(Debug, Args)]
pub(super) struct Available {
    /// Which month, such as 2026-11. Default: this one.
    #[arg(long)]
    month: Option<String>,
    /// As JSON.
    #[arg(long)]
    json: bool,
    /// Send it to the province's addresses in `[escalation]`; for a timer, once a month.
    #[arg(long)]
    mail: bool,
}

pub(super) async fn of_week(
    plan: &Plan,
    warehouse: &Warehouse,
    wanted: Digest,
) -> Result<(), Fault> {
    let now = Timestamp::now();
    let since = now.before(Duration::from_secs(DIGEST_DAYS * 86_400));
    let lines = digest::lateness(&warehouse.client().await?, since).await?;
    let text = week(&lines, since, now);
    if wanted.mail {
        let subject = "[Phù Sa] Dữ liệu trễ hạn trong tuần · Lateness of the week".to_owned();
        send(plan, (format!("digest-{}", now.micros() / 86_400_000_000), subject), &text).await?;
    }
    print(&if wanted.json { json(&lines) } else { text })
}

pub(super) async fn of_month(
    plan: &Plan,
    warehouse: &Warehouse,
    wanted: Available,
) -> Result<(), Fault> {
    let now = Timestamp::now();
    let month = match wanted.month {
        Some(month) => checked(month)?,
        None => {
            let text = now.vietnamese();
            format!(
                "{}-{}",
                text.get(6..10).unwrap_or_default(),
                text.get(3..5).unwrap_or_default()
            )
        }
    };
    let found = digest::availability(&warehouse.client().await?, &month, now).await?;
    let text = available(&found);
    if wanted.mail {
        let subject = format!("[Phù Sa] Mức sẵn sàng tháng · Availability of {month}");
        send(plan, (format!("availability-{month}"), subject), &text).await?;
    }
    print(&if wanted.json { json(&found) } else { text })
}

fn checked(month: String) -> Result<String, Fault> {
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let known = month.split_once('-').is_some_and(|(year, number)| {
        let range = number.parse().is_ok_and(|number: u8| (1..=12).contains(&number));
        year.len() == 4 && digits(year) && number.len() == 2 && range
    });
    let wrong =
        || Fault::new(Code::ConfigInvalid, format!("--month {month} is none such as 2026-11"));
    if known { Ok(month) } else { Err(wrong()) }
}

async fn send(plan: &Plan, (id, subject): (String, String), text: &str) -> Result<(), Fault> {
    let terms = plan.escalation.as_ref().and_then(|terms| Some((terms.mail.as_ref()?, terms)));
    let Some((mailer, terms)) = terms else {
        return Err(Fault::new(Code::ConfigInvalid, "--mail needs `smtp` in [escalation]"));
    };
    let body = text.replace('\n', "\r\n");
    mailer.send(&Mail { id, to: terms.province.clone(), subject, body }).await
}

fn week(lines: &[Line], since: Timestamp, now: Timestamp) -> String {
    let period = format!("{} → {}", since.vietnamese_minute(), now.vietnamese_minute());
    if lines.is_empty() {
        return format!("{period}: không cơ quan nào trễ hạn (nothing was late)");
    }
    let head = [
        "Cơ quan (agency)",
        "Trễ hạn (late)",
        "Mất liên lạc (lost)",
        "Dừng vì lỗi (stopped)",
        "Đang mở (open)",
        "Mở từ (open since)",
    ];
    let mut rows = vec![head.map(str::to_owned)];
    rows.extend(lines.iter().map(|one| {
        let oldest = one.oldest.map_or("–".to_owned(), Timestamp::vietnamese);
        let counts = [one.late, one.lost, one.stopped, one.open].map(|count| count.to_string());
        let [late, lost, stopped, open] = counts;
        [one.agency.clone(), late, lost, stopped, open, oldest]
    }));
    format!("{period}\n{}", aligned(&rows))
}

fn available(found: &Availability) -> String {
    let Availability { month, minutes, good, announced, percent } = found;
    if *minutes == 0 {
        return format!("{month}: chưa có số đo nào (no probe yet)");
    }
    format!(
        "{month}: {percent:.3} % ({good} / {minutes} phút (minutes) ghi được; bảo trì đã báo (announced \
         maintenance) {announced} phút)"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_month_is_a_year_and_two_digits() {
        assert!(checked("2026-11".to_owned()).is_ok());
        for text in ["2026-13", "2026-1", "26-11", "2026-11-01", "", "x"] {
            assert!(checked(text.to_owned()).is_err(), "{text}");
        }
    }
}
