//! The functions through which a login that has no right on a table follows it all the same: what
//! they are, whether they are there, and how they are called.
//!
//! They run with the rights of the administrator who made them, and each of them is about one
//! dataset: its slot, its publication and its mapped columns stand in their text. A login that may
//! call them sees those columns and nothing else. They live in a schema of their own, named after
//! the slot, and nothing in them depends on the table, so that the agency can still alter it.

use phusa_protocol::digest::Digest;
use phusa_protocol::fault::{Code, Fault};

use super::catalogue::{Table, ident, idents, literal};
use super::place::Lsn;
use super::session::{Session, get};
use crate::source::Selection;
use crate::source::snapshot::KeyText;

/// What every function is: it runs as its owner, and no name in it can be captured.
const DEFINER: &str = "security definer set search_path = pg_catalog, pg_temp";

/// The functions of one dataset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Functions {
    /// Their schema; the name of the slot too.
    schema: String,
}

impl Functions {
    pub(super) fn new(slot: &str) -> Self {
        Self { schema: slot.to_owned() }
    }

    fn call(&self, function: &str, arguments: &str) -> String {
        format!("{}.{function}({arguments})", ident(&self.schema))
    }

    /// What the server is: system identifier, timeline, and the form of the functions.
    pub(super) async fn who(&self, session: &Session) -> Result<(String, u32, String), Fault> {
        let sql = format!("select system, timeline, form from {}", self.call("who", ""));
        let row = session.row("cannot ask the server who it is", &sql, &[]).await?;
        let timeline: i32 = get(&row, 1)?;
        Ok((get(&row, 0)?, u32::try_from(timeline).unwrap_or(0), get(&row, 2)?))
    }

    /// Makes the slot anew; returns where it starts.
    pub(super) async fn renew(&self, session: &Session) -> Result<Lsn, Fault> {
        let doing = format!("cannot create replication slot {}", self.schema);
        let sql = format!("select {}::text", self.call("renew", ""));
        let text: String = get(&session.row(&doing, &sql, &[]).await?, 0)?;
        Lsn::parse(&text).ok_or_else(|| Fault::new(Code::SourceVersion, doing))
    }

    /// Drops the slot, if it is there.
    pub(super) async fn give_up(&self, session: &Session) -> Result<(), Fault> {
        let doing = format!("cannot drop replication slot {}", self.schema);
        session.rows(&doing, &format!("select {}", self.call("give_up", "")), &[]).await.map(drop)
    }

    /// Lets the server forget the log before `at`.
    pub(super) async fn advance(&self, session: &Session, at: Lsn) -> Result<(), Fault> {
        let doing = format!("cannot release what was read from slot {}", self.schema);
        let sql = format!("select {}", self.call("advance", "$1::text::pg_lsn"));
        session.rows(&doing, &sql, &[&at.to_string()]).await.map(drop)
    }

    /// The query for the next messages of the log, at most so many and the rest of a transaction.
    pub(super) fn peek_query(&self, messages: u64) -> String {
        format!("select data from {} as data", self.call("peek", &messages.to_string()))
    }

    /// What stands for the table in a query for the rows of a range, in key order.
    pub(super) fn range(&self, after: Option<&KeyText>, upto: Option<&KeyText>) -> String {
        self.call("rows", &format!("{}, {}, null, null", array(after), array(upto)))
    }

    /// What stands for the table in a query for its first rows.
    pub(super) fn first(&self, rows_max: Option<u64>) -> String {
        let most = rows_max.map_or_else(|| "null".to_owned(), |rows| rows.to_string());
        self.call("rows", &format!("null, null, null, {most}"))
    }

    /// What stands for the table in a query for the row with this key.
    pub(super) fn only(&self, key: &KeyText) -> String {
        self.call("rows", &format!("null, null, {}, null", array(Some(key))))
    }

    /// The query for the key at which a range of `rows` rows after `after` ends.
    pub(super) fn boundary_query(
        &self,
        after: Option<&KeyText>,
        rows: u64,
        parts: usize,
    ) -> String {
        let offset = rows.max(1) - 1;
        let ends = self.call("ends", &format!("{}, {offset}", array(after)));
        let parts: Vec<String> = (1..=parts).map(|part| format!("key[{part}]")).collect();
        format!("select {} from {ends} key where key is not null", parts.join(", "))
    }
}

fn array(key: Option<&KeyText>) -> String {
    let Some(key) = key else { return "null".to_owned() };
    let parts: Vec<String> = key.iter().map(|part| literal(part)).collect();
    format!("array[{}]::text[]", parts.join(", "))
}

/// How far the functions of a dataset are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// All of them, in the form that the mapping asks for.
    Whole,
    /// Something lacks, or they are of another mapping.
    Lacking,
    /// There is no schema of their name.
    Absent,
}

/// The functions as they are to be.
pub(super) struct Script {
    /// Stands for their text.
    form: String,
    /// What makes them, ready to run.
    statements: Vec<String>,
    schema: String,
}

/// The functions that are made, with their arguments.
const MADE: [&str; 7] = [
    "who()",
    "renew()",
    "give_up()",
    "peek(integer)",
    "advance(pg_lsn)",
    "ends(text[],bigint)",
    "rows(text[],text[],text[],bigint)",
];

impl Script {
    /// The script for one table, read along the key `walk` (places in the selection's columns).
    pub(super) async fn new(
        session: &Session,
        [slot, publication]: [&str; 2],
        selection: &Selection,
        (table, walk): (&Table, &[usize]),
    ) -> Result<Self, Fault> {
        let types = qualified_types(session, table).await?;
        let columns: Vec<(&str, &str)> = selection
            .columns
            .iter()
            .filter_map(|name| {
                types.iter().find(|(column, _)| column == name).map(|(_, of)| (&**name, &**of))
            })
            .collect();
        let keys: Vec<(&str, &str)> =
            walk.iter().filter_map(|&at| columns.get(at)).copied().collect();
        let place = format!("{}.{}", ident(&selection.schema), ident(&selection.table));
        let mut made = log_functions(slot, publication);
        made.extend(row_functions(slot, &place, &columns, &keys));
        let form: String =
            Digest::of(made.join("\n").as_bytes()).to_string().chars().take(16).collect();
        made.push(who_function(slot, &form));
        Ok(Self { form, statements: made, schema: slot.to_owned() })
    }

    /// How far they are there, as far as this login can tell.
    pub(super) async fn standing(&self, session: &Session) -> Result<Standing, Fault> {
        let doing = "cannot look up the functions";
        let sql = "select has_schema_privilege(oid, 'usage') from pg_namespace where nspname = $1";
        let rows = session.rows(doing, sql, &[&self.schema]).await?;
        let Some(row) = rows.first() else { return Ok(Standing::Absent) };
        if !get::<bool>(row, 0)? {
            return Ok(Standing::Lacking);
        }
        let schema = ident(&self.schema);
        let names: Vec<String> = MADE.iter().map(|name| format!("{schema}.{name}")).collect();
        let sql = "select bool_and(coalesce(has_function_privilege(to_regprocedure(name), \
                   'execute'), false)) from unnest($1::text[]) name";
        if !get::<bool>(&session.row(doing, sql, &[&names]).await?, 0)? {
            return Ok(Standing::Lacking);
        }
        let (_, _, form) = Functions::new(&self.schema).who(session).await?;
        Ok(if form == self.form { Standing::Whole } else { Standing::Lacking })
    }

    /// What an administrator runs so that `user` can call them.
    pub(super) fn statements(&self, standing: Standing, user: &str) -> Vec<String> {
        let (schema, user) = (ident(&self.schema), ident(user));
        let mut all = Vec::new();
        if standing != Standing::Absent {
            all.push(format!("drop schema {schema} cascade;"));
        }
        all.push(format!("create schema {schema};"));
        all.extend(self.statements.iter().cloned());
        all.push(format!("revoke all on all functions in schema {schema} from public;"));
        all.push(format!("grant usage on schema {schema} to {user};"));
        all.push(format!("grant execute on all functions in schema {schema} to {user};"));
        all
    }
}

/// The type of each column under a name that holds whatever the search path is. Without a length:
/// a function's result has none.
async fn qualified_types(session: &Session, table: &Table) -> Result<Vec<(String, String)>, Fault> {
    let doing = "cannot look up the types of the columns";
    session.run(doing, "set search_path = pg_catalog").await?;
    let sql = "select attname::text, format_type(atttypid, -1) from pg_attribute \
               where attrelid = $1 and attnum > 0 and not attisdropped";
    let rows = session.rows(doing, sql, &[&table.oid]).await?;
    session.run(doing, "reset search_path").await?;
    rows.iter().map(|row| Ok((get(row, 0)?, get(row, 1)?))).collect()
}

fn function(slot: &str, head: &str, language: &str, body: &str) -> String {
    let mut tag = "$phusa$".to_owned();
    while body.contains(&tag) {
        tag.insert(1, '_');
    }
    format!(
        "create function {}.{head} language {language} {DEFINER} as {tag} {body} {tag};",
        ident(slot)
    )
}

/// Timeline: on a primary that of the log it writes, on a standby that of its last checkpoint.
fn who_function(slot: &str, form: &str) -> String {
    let body = format!(
        "select (select system_identifier::text from pg_control_system()), \
         case when pg_is_in_recovery() then (select timeline_id from pg_control_checkpoint()) \
         else ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::int end, \
         {}",
        literal(form)
    );
    let head = "who() returns table (system text, timeline int, form text)";
    function(slot, head, "sql", &body)
}

fn log_functions(slot: &str, publication: &str) -> Vec<String> {
    let name = literal(slot);
    let drop = format!(
        "perform pg_drop_replication_slot(slot_name) from pg_replication_slots \
         where slot_name = {name};"
    );
    let renew = format!(
        "begin {drop} return (select lsn from \
         pg_create_logical_replication_slot({name}, 'pgoutput')); end"
    );
    let peek = format!(
        "select data from pg_logical_slot_peek_binary_changes({name}, null, $1, \
         'proto_version', '1', 'publication_names', {}, 'binary', 'true')",
        literal(&ident(publication))
    );
    let advance = format!(
        "begin perform pg_replication_slot_advance(slot_name, $1) from pg_replication_slots \
         where slot_name = {name} and confirmed_flush_lsn < $1; end"
    );
    vec![
        function(slot, "renew() returns pg_lsn", "plpgsql", &renew),
        function(slot, "give_up() returns void", "plpgsql", &format!("begin {drop} end")),
        function(slot, "peek(integer) returns setof bytea", "sql", &peek),
        function(slot, "advance(pg_lsn) returns void", "plpgsql", &advance),
    ]
}

fn row_functions(
    slot: &str,
    place: &str,
    columns: &[(&str, &str)],
    keys: &[(&str, &str)],
) -> Vec<String> {
    let names = idents(keys.iter().map(|(name, _)| *name));
    let key = |parameter: u8| {
        let part = |(index, (_, of)): (usize, &(&str, &str))| {
            format!("(${parameter})[{}]::{of}", index + 1)
        };
        keys.iter().enumerate().map(part).collect::<Vec<_>>().join(", ")
    };
    let when = |parameter: u8, sign: &str| {
        let condition = literal(&format!(" and ({names}) {sign} ({})", key(parameter)));
        format!("case when ${parameter} is null then '' else {condition} end")
    };
    let selected = idents(columns.iter().map(|(name, _)| *name));
    let select = literal(&format!("select {selected} from {place} where true"));
    let rows = format!(
        "begin return query execute {select} || {} || {} || {} || {} using $1, $2, $3, $4; end",
        when(1, ">"),
        when(2, "<="),
        when(3, "="),
        literal(&format!(" order by {names} limit $4")),
    );
    let texts: Vec<String> =
        keys.iter().map(|(name, _)| format!("{}::text", ident(name))).collect();
    let ends = format!(
        "declare found text[]; begin execute {} || {} || {} into found using $1, $2; \
         return found; end",
        literal(&format!("select array[{}] from {place} where true", texts.join(", "))),
        when(1, ">"),
        literal(&format!(" order by {names} offset $2 limit 1")),
    );
    let table: Vec<String> =
        columns.iter().map(|(name, of)| format!("{} {of}", ident(name))).collect();
    let head =
        format!("rows(text[], text[], text[], bigint) returns table ({}) stable", table.join(", "));
    vec![
        function(slot, &head, "plpgsql", &rows),
        function(slot, "ends(text[], bigint) returns text[] stable", "plpgsql", &ends),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_asked_for_by_key_and_values_cannot_break_out() {
        let functions = Functions::new("phusa_1_people");
        let key = vec!["7".to_owned(), "O'x".to_owned()];
        assert_eq!(
            functions.range(None, Some(&key)),
            "\"phusa_1_people\".rows(null, array['7', 'O''x']::text[], null, null)"
        );
        assert_eq!(
            functions.boundary_query(Some(&key), 50, 2),
            "select key[1], key[2] from \
             \"phusa_1_people\".ends(array['7', 'O''x']::text[], 49) key where key is not null"
        );
    }

    #[test]
    fn a_function_names_its_columns_and_no_others() {
        let made = row_functions("s", "\"public\".\"t\"", &[("id", "bigint")], &[("id", "bigint")]);
        let rows = made.first().unwrap();
        assert!(rows.starts_with("create function \"s\".rows(text[], text[], text[], bigint) "));
        assert!(rows.contains("returns table (\"id\" bigint) stable language plpgsql"), "{rows}");
        assert!(rows.contains("'select \"id\" from \"public\".\"t\" where true'"), "{rows}");
        assert!(rows.contains("' and (\"id\") > (($1)[1]::bigint)'"), "{rows}");
    }

    #[test]
    fn no_name_ends_the_text_of_a_function_early() {
        let made = function("s", "f() returns int", "sql", "select 1 as \"$phusa$\"");
        assert!(made.ends_with("as $_phusa$ select 1 as \"$phusa$\" $_phusa$;"), "{made}");
    }
}
