//! How far the full reads are: a bar with rows per second and time left when a person is watching,
//! a log line now and then when not.

use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::dataset::Shown;
use crate::status::State;

const BAR_INTERVAL: Duration = Duration::from_millis(200);
const LINE_INTERVAL: Duration = Duration::from_secs(10);

/// Shows the progress of full reads until stopped.
pub async fn show(shown: Vec<watch::Receiver<Shown>>, stop: CancellationToken) {
    let watched = std::io::stderr().is_terminal();
    let mut reads: Vec<Read> = shown.into_iter().map(Read::new).collect();
    let bars = MultiProgress::new();
    let mut clock = tokio::time::interval(if watched { BAR_INTERVAL } else { LINE_INTERVAL });
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = clock.tick() => reads.iter_mut().for_each(|read| read.update(watched, &bars)),
        }
    }
}

struct Read {
    shown: watch::Receiver<Shown>,
    /// When the full read that is under way was first seen, and the rows it had then.
    since: Option<(Instant, u64)>,
    bar: Option<ProgressBar>,
}

impl Read {
    fn new(shown: watch::Receiver<Shown>) -> Self {
        Self { shown, since: None, bar: None }
    }

    fn update(&mut self, watched: bool, bars: &MultiProgress) {
        let status = self.shown.borrow().status();
        let (rows, estimate) = (status.snapshot_rows, status.snapshot_rows_estimated);
        if status.state != State::Reading {
            self.since = None;
            if let Some(bar) = self.bar.take() {
                bar.finish();
            }
            return;
        }
        let (since, rows_then) = *self.since.get_or_insert((Instant::now(), rows));
        if watched {
            let name = status.dataset.to_string();
            let bar = self.bar.get_or_insert_with(|| bars.add(new_bar(name)));
            bar.set_length(estimate.max(rows));
            bar.set_position(rows);
            return;
        }
        let seconds = since.elapsed().as_secs();
        let rows_per_second = rows.saturating_sub(rows_then).checked_div(seconds).unwrap_or(0);
        let seconds_left = estimate.saturating_sub(rows).checked_div(rows_per_second);
        tracing::info!(
            dataset = %status.dataset, rows, rows_estimated = estimate, rows_per_second, seconds_left,
            "Reading {}: {rows} of about {estimate} rows", status.dataset
        );
    }
}

fn new_bar(name: String) -> ProgressBar {
    let template = "{prefix:30} [{bar:30}] {human_pos}/{human_len} rows, {per_sec}, {eta} left";
    let style = ProgressStyle::with_template(template);
    let style = style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("█▌ ");
    ProgressBar::new(0).with_style(style).with_prefix(name)
}
