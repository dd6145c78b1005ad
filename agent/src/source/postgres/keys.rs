//! Keys as they stand in blocks, brought to the text that SQL takes; and the row of one key.

use bytes::Bytes;
use phusa_protocol::fault::{Code, Fault};
use tokio_postgres::types::{Format, IsNull, ToSql, Type, to_sql_checked};

use super::session::{Session, get};
use super::target::Target;
use crate::source::snapshot::KeyText;

/// The text of a key's parts. The server makes it, so that it is right for every type.
pub(super) async fn text_of(
    session: &Session,
    target: &Target,
    key: &[Vec<u8>],
) -> Result<KeyText, Fault> {
    let parts: Vec<Raw<'_>> = key.iter().map(|part| Raw(part)).collect();
    let parameters: Vec<&(dyn ToSql + Sync)> =
        parts.iter().map(|part| part as &(dyn ToSql + Sync)).collect();
    let (doing, query) = (target.doing(), target.key_text_query());
    let row = session.first_row(&doing, &query, &parameters).await?;
    let row = row.ok_or_else(|| Fault::new(Code::Bug, doing))?;
    (0..key.len()).map(|index| get(&row, index)).collect()
}

/// The row that has this key now, as a tuple of the target's columns, values above `bytes_max` cut.
pub(super) async fn row_of(
    session: &Session,
    target: &Target,
    key: &[Vec<u8>],
    bytes_max: u64,
) -> Result<Option<Bytes>, Fault> {
    let key = text_of(session, target, key).await?;
    let mut rows = session.copy(&target.doing(), &target.row_query(&key, bytes_max)).await?;
    let Some(row) = rows.next().await? else { return Ok(None) };
    match rows.next().await? {
        None => Ok(Some(row)),
        Some(_) => Err(Fault::new(Code::Bug, format!("{}: a key is not unique", target.doing()))),
    }
}

/// The bytes of a key part, sent as they are.
#[derive(Debug)]
struct Raw<'a>(&'a [u8]);

impl ToSql for Raw<'_> {
    fn to_sql(
        &self,
        _: &Type,
        out: &mut bytes::BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        out.extend_from_slice(self.0);
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn encode_format(&self, _: &Type) -> Format {
        Format::Binary
    }

    to_sql_checked!();
}
