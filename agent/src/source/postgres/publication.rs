//! The publication of one table: what it is to carry, and what of that lacks.

use std::fmt::Write as _;

use phusa_protocol::fault::{Code, Fault};

use super::catalogue::{Publication, ReplicaIdentity, Table, ident, idents};
use super::probe::{Inspection, Look, Server};
use crate::source::Selection;

/// From here on a publication can leave columns out.
pub(super) const VERSION_COLUMN_LISTS: u32 = 150_000;

/// Looks at the publication of one table, and says what lacks.
pub(super) async fn publication_findings(
    look: &Look<'_>,
    (selection, table): (&Selection, &Table),
    found: &mut Inspection,
) -> Result<(), Fault> {
    let Look { session, settings, server, .. } = look;
    let name = settings.publication(&selection.dataset);
    let place = format!("{}.{}", selection.schema, selection.table);
    let carried = published_columns(server, selection, table);
    let target = publication_target(selection, carried.as_deref());
    let Some(publication) = Publication::find(session, server.version, &name, selection).await?
    else {
        found.fault(Code::SourceSetting, format!("there is no publication {name} of {place}"));
        let mut sql = format!("create publication {} for table {target}", ident(&name));
        if table.kind == "p" {
            let _ = write!(sql, " with (publish_via_partition_root = true)");
        }
        found.statements.push(format!("{sql};"));
        return Ok(());
    };
    if !publication.complete {
        let what = format!("publication {name} does not publish all four kinds of change");
        found.fault(Code::SourceSetting, what);
        found.statements.push(format!(
            "alter publication {} set (publish = 'insert, update, delete, truncate');",
            ident(&name)
        ));
    }
    if table.kind == "p" && !publication.via_root {
        let what = format!("publication {name} shows the partitions of {place}, not the table");
        found.fault(Code::SourceSetting, what);
        found.statements.push(format!(
            "alter publication {} set (publish_via_partition_root = true);",
            ident(&name)
        ));
    }
    let wrong = match &publication.table {
        None => Some(format!("does not hold {place}")),
        Some(published) if published.filtered => Some(format!("filters the rows of {place}")),
        Some(published) => wrong_columns(carried.as_deref(), published.columns.as_deref()),
    };
    if let Some(wrong) = wrong {
        found.fault(Code::SourceSetting, format!("publication {name} {wrong}"));
        found.statements.push(format!("alter publication {} set table {target};", ident(&name)));
    }
    Ok(())
}

/// The columns the publication is to carry: the mapped ones and those of the replica identity,
/// without which the agency's own updates would fail; `None` where it cannot leave columns out.
fn published_columns(server: &Server, selection: &Selection, table: &Table) -> Option<Vec<String>> {
    if server.version < VERSION_COLUMN_LISTS || table.identity == ReplicaIdentity::Full {
        return None;
    }
    let identity = table.identity_columns();
    let wanted = |name: &str| {
        identity.contains(&name) || selection.columns.iter().any(|column| column == name)
    };
    let names = table.columns.iter().map(|attribute| attribute.column.name.clone());
    Some(names.filter(|name| wanted(name)).collect())
}

fn publication_target(selection: &Selection, columns: Option<&[String]>) -> String {
    let table = format!("{}.{}", ident(&selection.schema), ident(&selection.table));
    match columns {
        Some(columns) => format!("{table} ({})", idents(columns.iter().map(String::as_str))),
        None => table,
    }
}

fn wrong_columns(wanted: Option<&[String]>, published: Option<&[String]>) -> Option<String> {
    let (wanted, published) = (wanted?, published?);
    let missing = |from: &[String], of: &[String]| -> Vec<String> {
        of.iter().filter(|name| !from.contains(name)).cloned().collect()
    };
    let (lacking, beyond) = (missing(published, wanted), missing(wanted, published));
    if !lacking.is_empty() {
        return Some(format!("lacks the columns {}", lacking.join(", ")));
    }
    let more = (!beyond.is_empty()).then(|| beyond.join(", "))?;
    Some(format!("carries columns that are not mapped: {more}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_publication_carries_what_is_mapped_and_no_more() {
        let check =
            |wanted: Option<&[&str]>, published: Option<&[&str]>, expected: Option<&str>| {
                let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
                let wanted: Option<Vec<String>> = wanted.map(owned);
                let published: Option<Vec<String>> = published.map(owned);
                let wrong = wrong_columns(wanted.as_deref(), published.as_deref());
                assert_eq!(wrong.as_deref(), expected);
            };
        check(Some(&["id", "name"]), Some(&["name", "id"]), None);
        check(Some(&["id", "name"]), Some(&["id"]), Some("lacks the columns name"));
        let beyond = Some("carries columns that are not mapped: secret");
        check(Some(&["id"]), Some(&["id", "secret"]), beyond);
        check(None, Some(&["id", "secret"]), None);
        check(Some(&["id"]), None, None);
    }
}
