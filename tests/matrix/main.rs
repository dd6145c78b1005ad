//! Every engine in every way of following it, whatever happens meanwhile: in the end source and
//! warehouse hold the same. Prints one table, which also stands in `matrix.txt` of the target folder.

mod event;
mod given;
mod lane;
mod table;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use phusa_tests::database::{Server, Version};
use phusa_tests::mysql::{Flavour, MySqlServer, mysql_programs, why_no_mysql};
use phusa_tests::office::{Replica, Standby};
use phusa_tests::tds::SqlServer;

use crate::table::Line;

/// How many servers are worked on at once: much of it is waiting, for two cores too.
const AT_ONCE: usize = 4;

/// A kind of server, and what is done with it.
struct Place {
    name: &'static str,
    run: fn(&str) -> Vec<Line>,
}

const PLACES: [Place; 7] = [
    Place {
        name: "PostgreSQL 15",
        run: |name| lane::run(name, Arc::new(Server::start(Version::V15, "")).database()),
    },
    Place {
        name: "PostgreSQL 16 standby",
        run: |name| lane::run(name, Standby::start(Version::V16)),
    },
    Place {
        name: "PostgreSQL 18 standby",
        run: |name| lane::run(name, Standby::start(Version::V18)),
    },
    Place {
        name: "MariaDB",
        run: |name| lane::run(name, Arc::new(MySqlServer::start(Flavour::MariaDb, "")).database()),
    },
    Place {
        name: "MariaDB replica",
        run: |name| lane::run(name, Replica::start(Flavour::MariaDb)),
    },
    Place { name: "MySQL 9", run: with_mysql },
    Place {
        name: "SQL Server (scripted)",
        run: |name| lane::run(name, SqlServer::start("bi-mat")),
    },
];

/// Only a failed fetch is a reason to leave MySQL out: nothing else leaves the file with its words
/// behind.
fn with_mysql(name: &str) -> Vec<Line> {
    if mysql_programs().is_none() {
        let why = why_no_mysql().expect("MySQL, or why not: run packaging/setup --tests");
        let why = why.lines().next().unwrap_or_default().to_owned();
        return vec![Line::impossible(name, "every way", format!("it was not fetched: {why}"))];
    }
    lane::run(name, Arc::new(MySqlServer::start(Flavour::MySql, "")).database())
}

#[test]
fn every_engine_in_every_way_ends_with_source_and_warehouse_the_same() {
    let wanted = std::env::var("PHUSA_MATRIX").unwrap_or_default();
    let places: Vec<_> = PLACES.iter().filter(|place| place.name.contains(&wanted)).collect();
    let (queue, done) = (Mutex::new(places.iter().enumerate()), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
                while let Some((at, place)) = next() {
                    let lines = catch_unwind(AssertUnwindSafe(|| (place.run)(place.name)));
                    let lines = lines.unwrap_or_else(|_| vec![Line::broken(place.name)]);
                    done.lock().unwrap_or_else(PoisonError::into_inner).push((at, lines));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|(at, _)| *at);
    let lines: Vec<Line> = done.into_iter().flat_map(|(_, lines)| lines).collect();
    let text = table::table(&lines);
    println!("{text}");
    table::keep(&text);
    let failed: Vec<_> = lines.iter().flat_map(Line::failures).collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}
