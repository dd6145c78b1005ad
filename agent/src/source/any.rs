//! `AnySource`: the engine that the configuration names, behind the one trait.

use phusa_protocol::fault::Fault;
use tokio::sync::mpsc;

use super::mysql::MySqlSource;
use super::postgres::PostgresSource;
use super::sqlserver::SqlServerSource;
use super::{Block, Findings, Intake, Listed, Offer, Selection, Source, Start};

/// One of the engines.
#[derive(Debug, Clone)]
pub enum AnySource {
    /// PostgreSQL.
    Postgres(PostgresSource),
    /// SQL Server.
    SqlServer(SqlServerSource),
    /// MySQL or MariaDB.
    MySql(MySqlSource),
}

impl Source for AnySource {
    async fn probe(&self, selections: &[Selection]) -> Result<Findings, Fault> {
        match self {
            Self::Postgres(source) => source.probe(selections).await,
            Self::SqlServer(source) => source.probe(selections).await,
            Self::MySql(source) => source.probe(selections).await,
        }
    }

    async fn offers(&self, selections: &[Selection]) -> Result<Vec<Offer>, Fault> {
        match self {
            Self::Postgres(source) => source.offers(selections).await,
            Self::SqlServer(source) => source.offers(selections).await,
            Self::MySql(source) => source.offers(selections).await,
        }
    }

    async fn tables(&self) -> Result<Vec<Listed>, Fault> {
        match self {
            Self::Postgres(source) => source.tables().await,
            Self::SqlServer(source) => source.tables().await,
            Self::MySql(source) => source.tables().await,
        }
    }

    async fn capture(
        &self,
        selection: &Selection,
        start: Start,
        intake: Intake,
    ) -> Result<(), Fault> {
        match self {
            Self::Postgres(source) => source.capture(selection, start, intake).await,
            Self::SqlServer(source) => source.capture(selection, start, intake).await,
            Self::MySql(source) => source.capture(selection, start, intake).await,
        }
    }

    async fn scan(
        &self,
        selection: &Selection,
        rows_max: Option<u64>,
        blocks: mpsc::Sender<Block>,
    ) -> Result<(), Fault> {
        match self {
            Self::Postgres(source) => source.scan(selection, rows_max, blocks).await,
            Self::SqlServer(source) => source.scan(selection, rows_max, blocks).await,
            Self::MySql(source) => source.scan(selection, rows_max, blocks).await,
        }
    }

    async fn reread(
        &self,
        selection: &Selection,
        keys: &[Vec<Vec<u8>>],
        blocks: mpsc::Sender<Block>,
    ) -> Result<bool, Fault> {
        match self {
            Self::Postgres(source) => source.reread(selection, keys, blocks).await,
            Self::SqlServer(source) => source.reread(selection, keys, blocks).await,
            Self::MySql(source) => source.reread(selection, keys, blocks).await,
        }
    }

    async fn release(&self, selection: &Selection) -> Result<(), Fault> {
        match self {
            Self::Postgres(source) => source.release(selection).await,
            Self::SqlServer(source) => source.release(selection).await,
            Self::MySql(source) => source.release(selection).await,
        }
    }
}
