//! `phusa-lab`: fills a database with an invented registry, changes it, and compares the two ends.

use std::collections::BTreeMap;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use phusa_tests::latency;
use phusa_tests::registry::{Share, Table};
use phusa_tests::sums;
use phusa_tests::workload::{self, Plan};
use tokio_postgres::{Client, NoTls};
use tokio_util::task::TaskTracker;

/// Invented registry data: load it, change it, compare it.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Work,
}

#[derive(Debug, Subcommand)]
enum Work {
    /// Make the tables in an empty database and fill them
    Load {
        /// The database
        #[arg(long)]
        url: String,
        /// Rows of `citizens`; 0 for no such table
        #[arg(long, default_value_t = 0)]
        citizens: u64,
        /// Rows of `dossiers`; 0 for no such table
        #[arg(long, default_value_t = 0)]
        dossiers: u64,
        /// The same seed gives the same data
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Change a loaded database as an office would
    Churn {
        /// The database
        #[arg(long)]
        url: String,
        /// The tables to change
        #[arg(long, value_delimiter = ',', default_value = "citizens,dossiers")]
        tables: Vec<TableName>,
        /// Single-row changes in all; without it, until --seconds are over
        #[arg(long)]
        changes: Option<u64>,
        /// Rows of one large transaction in the middle
        #[arg(long, default_value_t = 0)]
        large: u64,
        /// Changes a second; without it, as fast as it goes
        #[arg(long)]
        per_second: Option<u64>,
        /// How long, when --changes is not given
        #[arg(long, default_value_t = 86_400)]
        seconds: u64,
    },
    /// Measure how long a commit takes to be visible at the other end
    Latency {
        /// Where single rows of `probe` are changed
        #[arg(long)]
        source_url: String,
        /// Where they are looked for
        #[arg(long)]
        target_url: String,
        /// The table to look in
        #[arg(long, default_value = "danh_muc.probe")]
        target_table: String,
        /// Transactions a second
        #[arg(long, default_value_t = 200)]
        per_second: u64,
        /// How long
        #[arg(long, default_value_t = 30)]
        seconds: u64,
    },
    /// Print rows and a checksum of every column of a table
    Digest {
        /// The database
        #[arg(long)]
        url: String,
        /// The table
        #[arg(long)]
        table: String,
        /// The columns, in the order to print
        #[arg(long, value_delimiter = ',')]
        columns: Vec<String>,
    },
    /// Print the contract of a table
    Contract {
        /// Which
        table: TableName,
        /// The agency that owns it
        #[arg(long)]
        owner: String,
    },
    /// Print the mapping of a table
    Mapping {
        /// Which
        table: TableName,
        /// Its contract, relative to the mapping's file
        #[arg(long)]
        contract: String,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum TableName {
    Citizens,
    Dossiers,
}

impl From<TableName> for Table {
    fn from(name: TableName) -> Self {
        match name {
            TableName::Citizens => Self::Citizens,
            TableName::Dossiers => Self::Dossiers,
        }
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    match work(Arguments::parse().command).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("phusa-lab: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn work(command: Work) -> Result<(), Box<dyn std::error::Error>> {
    match command {
        Work::Load { url, citizens, dossiers, seed } => {
            workload::load(&connect(&url).await?, citizens, dossiers, seed).await?;
        }
        Work::Churn { url, tables, changes, large, per_second, seconds } => {
            let tables = tables.into_iter().map(Table::from).collect();
            let timed = per_second.unwrap_or(u64::MAX / 1_000_000).saturating_mul(seconds);
            let changes = changes.unwrap_or(timed);
            let transaction_max = per_second.map_or(100, |rate| (rate / 10).clamp(1, 100));
            let plan = Plan { tables, changes, large, transaction_max, per_second };
            print(&workload::run(&connect(&url).await?, &plan).await?)?;
        }
        Work::Latency { source_url, target_url, target_table, per_second, seconds } => {
            let (source, target) = (connect(&source_url).await?, connect(&target_url).await?);
            let rate = latency::Rate { per_second, seconds };
            print(&latency::measure(&source, &target, &target_table, rate).await?)?;
        }
        Work::Digest { url, table, columns } => {
            let client = connect(&url).await?;
            let names: Vec<&str> = columns.iter().map(String::as_str).collect();
            let (rows, sums) = sums::of_columns(&client, &table, &names).await?;
            let sums: BTreeMap<_, _> = columns.iter().zip(sums).collect();
            print(&serde_json::json!({ "table": table, "rows": rows, "sums": sums }))?;
        }
        Work::Contract { table, owner } => {
            print!("{}", Table::from(table).contract(&owner, Share::Agreed));
        }
        Work::Mapping { table, contract } => {
            print!("{}", Table::from(table).mapping(&contract, Share::Agreed));
        }
    }
    Ok(())
}

fn print(value: &impl serde::Serialize) -> Result<(), serde_json::Error> {
    println!("{}", serde_json::to_string(value)?);
    Ok(())
}

async fn connect(url: &str) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    TaskTracker::new().spawn(connection);
    Ok(client)
}
