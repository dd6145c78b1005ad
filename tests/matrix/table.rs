//! `Line`: what came of one way of following one server, and the table of all of them.

use std::fmt::Write as _;
use std::path::Path;

use crate::event::Event;

/// What came of one event.
#[derive(Debug, Clone)]
pub(crate) enum Cell {
    /// As many records of both ends are the same.
    Same(usize),
    /// It cannot be, and why.
    Impossible(String),
    /// What was wrong.
    Failed(String),
}

/// A line of the table.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    pub(crate) place: String,
    pub(crate) way: String,
    /// One for each event, in their order; a single one where it stands for all.
    pub(crate) cells: Vec<Cell>,
    /// The whole table after all events.
    pub(crate) end: Cell,
}

impl Line {
    /// A way that this kind of server cannot go.
    pub(crate) fn impossible(place: &str, way: &str, why: String) -> Self {
        let (place, way) = (place.to_owned(), way.to_owned());
        let why = Cell::Impossible(why);
        Self { place, way, cells: vec![why.clone(); Event::ALL.len()], end: why }
    }

    /// A server with which the test could not go on.
    pub(crate) fn broken(place: &str) -> Self {
        let cell = Cell::Failed("the test could not go on; see above".to_owned());
        let cells = vec![cell.clone(); Event::ALL.len()];
        Self { place: place.to_owned(), way: "every way".to_owned(), cells, end: cell }
    }

    /// What went wrong, each with where.
    pub(crate) fn failures(&self) -> Vec<String> {
        let names = Event::ALL.iter().map(|event| event.name()).chain(["in the end"]);
        let cells = self.cells.iter().chain([&self.end]);
        let failure = |(name, cell): (&str, &Cell)| match cell {
            Cell::Failed(what) => Some(format!("{}, {}, {name}: {what}", self.place, self.way)),
            Cell::Same(_) | Cell::Impossible(_) => None,
        };
        names.zip(cells).filter_map(failure).collect()
    }
}

/// The table: what is impossible is numbered and explained below it.
pub(crate) fn table(lines: &[Line]) -> String {
    let mut reasons: Vec<&str> = Vec::new();
    let mut head = vec!["server".to_owned(), "way".to_owned()];
    head.extend(Event::ALL.iter().map(|event| event.name().to_owned()));
    head.push("in the end".to_owned());
    let mut rows = vec![head];
    for line in lines {
        let mut row = vec![line.place.clone(), line.way.clone()];
        for cell in line.cells.iter().chain([&line.end]) {
            row.push(match cell {
                Cell::Same(records) => format!("ok ({records})"),
                Cell::Failed(_) => "FAILED".to_owned(),
                Cell::Impossible(why) => {
                    let at = reasons.iter().position(|known| known == why).unwrap_or_else(|| {
                        reasons.push(why);
                        reasons.len() - 1
                    });
                    format!("n/a: [{}]", at + 1)
                }
            });
        }
        rows.push(row);
    }
    let mut text = aligned(&rows);
    for (number, why) in (1..).zip(reasons) {
        let _ = writeln!(text, "[{number}] {why}");
    }
    let (mut same, mut not, mut failed) = (0, 0, 0);
    for cell in lines.iter().flat_map(|line| &line.cells) {
        match cell {
            Cell::Same(_) => same += 1,
            Cell::Impossible(_) => not += 1,
            Cell::Failed(_) => failed += 1,
        }
    }
    let _ =
        writeln!(text, "{same} cells ok, {not} n/a, {failed} failed; (n) records were compared");
    text
}

fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |at: usize| {
        let widths = rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count());
        widths.max().unwrap_or(0)
    };
    let widths: Vec<_> = (0..columns).map(width).collect();
    let mut text = String::new();
    for (number, row) in rows.iter().enumerate() {
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(text, "| {cell:width$} ");
        }
        text.push_str("|\n");
        if number == 0 {
            for width in &widths {
                let _ = write!(text, "|{}", "-".repeat(width + 2));
            }
            text.push_str("|\n");
        }
    }
    text
}

/// Writes the table where the build's files are.
pub(crate) fn keep(text: &str) {
    let own = std::env::current_exe().expect("the path of this program");
    // <target>/<profile>/deps/<program>
    let target = own.ancestors().nth(3).unwrap_or(Path::new("."));
    std::fs::write(target.join("matrix.txt"), text).expect("matrix.txt");
}
