//! `AnySource`: the engine that the configuration names, behind the one trait.

use phusa_protocol::fault::Fault;
use tokio::sync::mpsc;

use super::postgres::PostgresSource;
use super::{Block, Findings, Intake, Offer, Selection, Source, Start};

/// One of the engines.
#[derive(Debug, Clone)]
pub enum AnySource {
    /// PostgreSQL.
    Postgres(PostgresSource),
}

impl Source for AnySource {
    async fn probe(&self, selections: &[Selection]) -> Result<Findings, Fault> {
        match self {
            Self::Postgres(source) => source.probe(selections).await,
        }
    }

    async fn offers(&self, selections: &[Selection]) -> Result<Vec<Offer>, Fault> {
        match self {
            Self::Postgres(source) => source.offers(selections).await,
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
        }
    }

    async fn release(&self, selection: &Selection) -> Result<(), Fault> {
        match self {
            Self::Postgres(source) => source.release(selection).await,
        }
    }
}
