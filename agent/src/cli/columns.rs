//! A table before it has a dataset file: its columns with their types, and what a sample of its rows
//! shows of each.

use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::ids::DatasetId;
use phusa_protocol::value::Field;
use tokio::sync::mpsc;

use crate::mapping::evidence::Evidence;
use crate::pipeline::sample::each_row;
use crate::source::any::AnySource;
use crate::source::{Block, Capture, Column, Native, Selection, Source as _};

/// Rows that are looked at to propose a mapping.
const ROWS_MAX: u64 = 300;

/// The columns, by two looks at the catalogue: the first finds the names.
pub(super) async fn columns(
    source: &AnySource,
    dataset: &DatasetId,
    table: &str,
) -> Result<Vec<Column>, Fault> {
    let missing = || Fault::new(Code::SourceTableMissing, format!("there is no table {table}"));
    let mut selection = selection(dataset, table)?;
    let names = source.probe(std::slice::from_ref(&selection)).await?;
    selection.columns = names.unread.into_iter().next().unwrap_or_default();
    let found = source.probe(&[selection]).await?.columns.into_iter().flatten().next();
    let found = found.filter(|columns| !columns.is_empty()).ok_or_else(missing)?;
    Ok(found.to_vec())
}

fn selection(dataset: &DatasetId, table: &str) -> Result<Selection, Fault> {
    let (schema, name) = table.split_once('.').ok_or_else(|| {
        Fault::new(Code::MappingInvalid, "a table is schema.table, such as public.citizens")
    })?;
    Ok(Selection {
        dataset: dataset.clone(),
        schema: schema.to_owned(),
        table: name.to_owned(),
        columns: Vec::new(),
        key: Vec::new(),
        filter: None,
        capture: Capture::Auto,
        watermark: None,
    })
}

/// What the first rows show of each column, in order. Bytes are not looked at: nobody matches
/// pictures by eye, and they are large.
pub(super) async fn evidence(
    source: &AnySource,
    dataset: &DatasetId,
    table: &str,
    columns: &[Column],
) -> Result<Vec<Evidence>, Fault> {
    let mut selection = selection(dataset, table)?;
    let looked = columns.iter().filter(|column| column.native != Native::Bytea);
    selection.columns = looked.map(|column| column.name.clone()).collect();
    // Whichever unique key the table has lies among all its columns; a look once needs no log.
    selection.capture = Capture::Reconcile;
    selection.key = (0..selection.columns.len()).collect();
    let mut evidence = vec![Evidence::default(); columns.len()];
    let (blocks, mut taken) = mpsc::channel::<Block>(2);
    let read = source.scan(&selection, Some(ROWS_MAX), blocks);
    let look = async {
        while let Some(block) = taken.recv().await {
            add(&block, columns, &mut evidence)?;
        }
        drop(taken);
        Ok(())
    };
    let (read, looked) = tokio::join!(read, look);
    looked.and(read)?;
    Ok(evidence)
}

fn add(block: &Block, columns: &[Column], evidence: &mut [Evidence]) -> Result<(), Fault> {
    let place = |name: &str| columns.iter().position(|column| column.name == name);
    let places: Vec<Option<usize>> =
        block.columns.iter().map(|column| place(&column.name)).collect();
    each_row(&block.body, |row| {
        let fields: Vec<Field<'_>> = row.fields().collect();
        for ((field, place), column) in fields.iter().zip(&places).zip(block.columns.iter()) {
            if let Some(evidence) = place.and_then(|at| evidence.get_mut(at)) {
                evidence.add(&column.native, *field);
            }
        }
        Ok(())
    })
}
