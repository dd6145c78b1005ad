//! Citus: which statements on the datasets' tables would not run where those were distributed by their
//! record key. They are recorded from a run (`log_statement = all`) and held against the documented rules;
//! **nothing here was run on a cluster**. A statement that breaks a rule and is not among the known ones
//! fails with the statement and the rule. See docs/decisions/0025-citus.md.
//!
//! Rules: <https://docs.citusdata.com/en/stable/develop/reference_workarounds.html>,
//! <https://docs.citusdata.com/en/latest/develop/reference_ddl.html>,
//! <https://github.com/citusdata/citus/pull/5705> (triggers),
//! <https://github.com/citusdata/citus/issues/4656> (constraints).

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use phusa_protocol::batch::{Batch, Phase};
use phusa_protocol::change::{BodyWriter, Op};
use phusa_protocol::row::put_tuple;
use phusa_protocol::value::Field;

use crate::world::{CONTRACT, Sender, World};

/// What Citus documents that it does not do, or only within one shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rule {
    /// UNIQUE, EXCLUDE and PRIMARY KEY must include the distribution column.
    UniqueWithoutKey,
    /// A foreign key of a distributed table must lead along the distribution column, or to a reference
    /// table.
    ForeignKey,
    /// Triggers on distributed tables are refused, those of statements in any case.
    Trigger,
    /// A data-modifying CTE works within one shard only.
    ModifyingCte,
    /// SELECT … FOR UPDATE works within one shard only.
    ForUpdate,
    /// TABLESAMPLE works within one shard only.
    TableSample,
    /// A recursive CTE works within one shard only.
    RecursiveCte,
    /// Grouping sets work within one shard only.
    GroupingSets,
    /// A join, merge or correlation must be on the distribution column, with a table that is distributed
    /// alike or is a reference table; a table of this session alone is neither.
    LocalJoin,
    /// Subqueries within INSERT … VALUES are not supported.
    SubqueryInInsert,
    /// Functions used in UPDATE must not be VOLATILE.
    VolatileUpdate,
    /// The distribution column cannot be given another type, and no row another value of it.
    KeyChanged,
}

/// What is known to break a rule: the beginning of the statement, and why it stands (decision 0025).
const KNOWN: [(Rule, &str, &str); 10] = [
    (
        Rule::Trigger,
        "keep_delete on cong_dan.citizens",
        "history is kept by triggers of statements over transition tables, a tenth of a merge's time; \
         distributed, each shard would need its own",
    ),
    (Rule::Trigger, "keep_update on cong_dan.citizens", "as keep_delete"),
    (
        Rule::LocalJoin,
        "merge into cong_dan.citizens",
        "rows are staged in a table of the session; distributed, the stage would have to be too",
    ),
    (Rule::LocalJoin, "delete from cong_dan.citizens as t using pg_temp.stage", "as merge"),
    (Rule::LocalJoin, "update cong_dan.citizens as t set", "as merge"),
    (Rule::LocalJoin, "select count(*) from pg_temp.stage", "as merge"),
    (
        Rule::LocalJoin,
        "delete from cong_dan.citizens as t where t._agency = $1 and not exists",
        "keys seen by a full read are remembered in a table of the coordinator",
    ),
    (
        Rule::ModifyingCte,
        "with gone as (delete from cong_dan.citizens",
        "records that change keys are parked; one record each, so within one shard",
    ),
    (Rule::ModifyingCte, "with t as (delete from pg_temp.parked", "as the one that parks them"),
    (
        Rule::KeyChanged,
        "update cong_dan.citizens as t set (",
        "a change of key writes the key anew; distributed, it would be a delete and an insert",
    ),
];

/// A statement of a dataset's table in one form: lower case, no quotes, one space.
fn plain(statement: &str) -> String {
    let text = statement.replace('"', "").to_lowercase();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The rules that a statement on `table`, distributed by `key`, breaks.
fn broken(statement: &str, table: &str, key: &str) -> BTreeSet<Rule> {
    let has = |part: &str| statement.contains(part);
    let changes = ["insert into", "update", "delete from", "merge into"];
    let begins = |words: &str| statement.starts_with(words);
    // A definition runs on the coordinator; its rules are asked of the catalogue.
    if ["create ", "comment ", "drop ", "grant "].iter().any(|word| begins(word)) {
        return BTreeSet::new();
    }
    let inside_with = statement.split_once(" as (").map_or("", |(_, inside)| inside);
    let sets_key = statement.split_once(" set ").is_some_and(|(_, sets)| {
        let sets = sets.split(" where ").next().unwrap_or_default();
        let columns = sets.strip_prefix('(').and_then(|sets| sets.split(')').next());
        columns.is_some_and(|columns| columns.split(", ").any(|column| column == key))
            || sets.split(", ").any(|set| set.starts_with(&format!("{key} = ")))
    });
    let is_of_session = has("pg_temp.") || has("phusa.seen_");
    let is_bare_copy = begins("copy");
    let volatile = ["nextval(", "random(", "clock_timestamp(", "gen_random_uuid("];
    let checks = [
        (
            Rule::ModifyingCte,
            begins("with ") && changes.iter().any(|word| inside_with.starts_with(word)),
        ),
        (Rule::ForUpdate, has(" for update") || has(" for share") || has(" for no key update")),
        (Rule::TableSample, has(" tablesample ")),
        (Rule::RecursiveCte, has("with recursive")),
        (Rule::GroupingSets, has("grouping sets") || has(" rollup") || has(" cube")),
        (
            Rule::LocalJoin,
            has(table)
                && is_of_session
                && !is_bare_copy
                && !begins("with ")
                && !begins(&format!("insert into {table}")),
        ),
        (Rule::SubqueryInInsert, begins("insert into") && has("values (") && has("(select")),
        (Rule::VolatileUpdate, begins("update") && volatile.iter().any(|function| has(function))),
        (
            Rule::KeyChanged,
            sets_key && begins("update")
                || (begins("alter table") && has(&format!("alter column {key} type"))),
        ),
    ];
    checks.into_iter().filter_map(|(rule, breaks)| breaks.then_some(rule)).collect()
}

/// Statements that name the datasets' tables, from the server's own log.
fn recorded(world: &World) -> BTreeSet<String> {
    let mut text = String::new();
    for file in fs::read_dir(world.path("state/postgresql/log")).unwrap() {
        text += &String::from_utf8_lossy(&fs::read(file.unwrap().path()).unwrap());
    }
    let mut statements = BTreeSet::new();
    let mut current: Option<String> = None;
    for line in text.lines() {
        let begins = ["LOG:  statement: ", "LOG:  execute "].iter().find_map(|mark| {
            let (_, rest) = line.split_once(mark)?;
            Some(if mark.ends_with("execute ") { rest.split_once(": ")?.1 } else { rest })
        });
        match (begins, &mut current, line.starts_with('\t')) {
            (Some(statement), ..) => {
                statements.extend(current.replace(statement.to_owned()));
            }
            (None, Some(current), true) => {
                current.push(' ');
                current.push_str(line);
            }
            (None, ..) => statements.extend(current.take()),
        }
    }
    statements.extend(current);
    let plain = statements.iter().map(|statement| plain(statement));
    plain.filter(|statement| statement.contains("cong_dan.citizens")).collect()
}

/// Every kind of change there is, so that every statement is run.
async fn run_everything(world: &World) {
    let mut agent = world.sender("H57.12/may-1");
    let (read, live) = (Phase::Read, Phase::Live);
    let mut batches = vec![
        agent.seal(read, false, &[(Op::Snapshot, 1, "An"), (Op::Snapshot, 2, "Bình")]),
        agent.seal(read, false, &[(Op::Snapshot, 3, "Cúc")]),
        agent.seal(Phase::ReadEnd, false, &[]),
        agent.seal(live, false, &[(Op::Insert, 4, "Dũng"), (Op::Update, 1, "Ân")]),
        agent.seal(live, false, &[(Op::Update, 2, "Bảo"), (Op::Insert, 9, "Em")]),
        agent.seal_rekey(live, &[(3, 33, "Cúc")]),
        agent.seal_rekey(live, &[(33, 4, "Cúc"), (4, 33, "Dũng")]),
        agent.seal_deletes(live, &[1]),
        agent.seal(live, true, &[(Op::Insert, 5, "Giang")]),
        agent.seal(live, false, &[(Op::Insert, 6, "Hà")]),
        agent.seal_truncate(live),
        agent.seal(live, false, &[(Op::Insert, 7, "Khoa")]),
    ];
    agent.begin_epoch();
    batches.push(agent.seal(read, false, &[(Op::Snapshot, 7, "Khoa")]));
    batches.push(agent.seal(read, false, &[(Op::Snapshot, 8, "Lan")]));
    batches.push(agent.seal(Phase::ReadEnd, false, &[]));
    deliver(&agent, &batches).await;
    let phone =
        "field = [\n  { name = \"phone\", type = \"text\", class = \"B\", name_vi = \"Số\" },";
    let wider = CONTRACT.replacen("version = 1", "version = 1\nminor = 1", 1).replacen(
        "field = [",
        phone,
        1,
    );
    world.run(&["contract", "apply", &world.contract("wide.toml", &wider)]);
    let mut wider = agent.on(&wider);
    (0..2).for_each(|_| wider.begin_epoch());
    let id = 7_i64.to_be_bytes();
    let row = [Field::Value(b"0912"), Field::Value(&id), Field::Value(b"Khoa")];
    let mut batches = vec![wider.seal_fields(&row), wider.seal(Phase::ReadEnd, false, &[])];
    batches.push(wider.seal_left_out(live, &[Field::Value(b"0913"), row[1], Field::Unchanged]));
    deliver(&wider, &batches).await;
    world.log_verify();
}

async fn deliver(agent: &Sender, batches: &[Batch]) {
    for batch in batches {
        if let Err(refused) = agent.send(batch).await {
            panic!("{}: {}", refused.code, refused.what);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_statement_on_a_datasets_table_keeps_to_what_citus_documents_or_is_known_not_to() {
    let world = World::start().await;
    let database = world.database().await;
    let settings = "alter system set log_statement = 'all'; select pg_reload_conf()";
    for statement in settings.split("; ") {
        database.batch_execute(statement).await.unwrap();
    }
    run_everything(&world).await;
    let mut found: Vec<(Rule, String)> = Vec::new();
    let mut statements = BTreeSet::new();
    // The server writes its log a moment after it has answered.
    for _ in 0..100 {
        statements = recorded(&world);
        if statements
            .iter()
            .any(|statement| statement.starts_with("update cong_dan.citizens as t set phone"))
        {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    println!("{} statements on the dataset's tables", statements.len());
    for statement in &statements {
        let rules = broken(statement, "cong_dan.citizens", "id");
        found.extend(rules.into_iter().map(|rule| (rule, statement.clone())));
    }
    let of_dataset = "c.relnamespace = 'cong_dan'::regnamespace";
    let catalogue = [
        (
            Rule::Trigger,
            format!(
                "select tgname || ' on ' || c.oid::regclass from pg_trigger join pg_class c on c.oid = tgrelid where not tgisinternal and {of_dataset}"
            ),
        ),
        (
            Rule::ForeignKey,
            format!(
                "select conname::text from pg_constraint join pg_class c on c.oid = conrelid where contype = 'f' and {of_dataset}"
            ),
        ),
        (
            Rule::UniqueWithoutKey,
            format!(
                "select i.indexrelid::regclass::text from pg_index i join pg_class c on c.oid = i.indrelid where i.indisunique and {of_dataset} and not exists (select from pg_attribute a where a.attrelid = c.oid and a.attname = 'id' and a.attnum = any (i.indkey))"
            ),
        ),
    ];
    for (rule, sql) in catalogue {
        let rows = database.query(&sql, &[]).await.unwrap();
        found.extend(rows.iter().map(|row| (rule, row.get::<_, String>(0))));
    }
    let is_known = |(rule, statement): &(Rule, String)| {
        KNOWN.iter().any(|(known, begins, _)| known == rule && statement.starts_with(begins))
    };
    let new: Vec<_> = found.iter().filter(|one| !is_known(one)).collect();
    assert!(new.is_empty(), "breaks a rule of Citus (docs/decisions/0025-citus.md): {new:#?}");
    let gone = KNOWN.iter().filter(|(rule, begins, _)| {
        !found.iter().any(|(found, statement)| found == rule && statement.starts_with(begins))
    });
    let gone: Vec<_> = gone.collect();
    assert!(gone.is_empty(), "no longer so, or no longer recorded: {gone:#?}");
    world.stop().await;
}

#[test]
fn each_rule_is_seen_where_it_is_broken() {
    let check = |statement: &str, expected: &[Rule]| {
        let found: Vec<Rule> = broken(&plain(statement), "a.b", "id").into_iter().collect();
        assert_eq!(found, expected, "{statement}");
    };
    check("select * from a.b where id = $1", &[]);
    check("copy a.b (id) from stdin (format binary)", &[]);
    check("select * from \"a\".\"b\"\n for update", &[Rule::ForUpdate]);
    check("with recursive x as (select 1) select from a.b", &[Rule::RecursiveCte]);
    check("with x as (delete from a.b returning *) select from x", &[Rule::ModifyingCte]);
    check("select from a.b tablesample system (1)", &[Rule::TableSample]);
    check("select id from a.b group by rollup (id)", &[Rule::GroupingSets]);
    check("merge into a.b as t using pg_temp.s on t.id = s.id", &[Rule::LocalJoin]);
    check("insert into a.b (id) values ((select max(id) from a.b))", &[Rule::SubqueryInInsert]);
    check("update a.b set x = random()", &[Rule::VolatileUpdate]);
    check("update a.b as t set (x, id) = row(1, 2) where id = 3", &[Rule::KeyChanged]);
    check("alter table a.b alter column id type int8", &[Rule::KeyChanged]);
}

impl Sender {
    /// An update that leaves fields as they are.
    fn seal_left_out(&mut self, phase: Phase, row: &[Field<'_>]) -> Batch {
        let mut body = BodyWriter::default();
        put_tuple(body.begin_row(Op::Update), row);
        self.seal_body(phase, false, body)
    }

    /// Records that go from one key to another.
    fn seal_rekey(&mut self, phase: Phase, rows: &[(i64, i64, &str)]) -> Batch {
        let mut body = BodyWriter::default();
        for (old, new, name) in rows {
            let (old, new) = (old.to_be_bytes(), new.to_be_bytes());
            let out = body.begin_row(Op::Rekey);
            put_tuple(out, &[Field::Value(&old)]);
            put_tuple(out, &[Field::Value(&new), Field::Value(name.as_bytes())]);
        }
        self.seal_body(phase, false, body)
    }

    /// Records that go.
    fn seal_deletes(&mut self, phase: Phase, ids: &[i64]) -> Batch {
        let mut body = BodyWriter::default();
        for id in ids {
            put_tuple(body.begin_row(Op::Delete), &[Field::Value(&id.to_be_bytes())]);
        }
        self.seal_body(phase, false, body)
    }

    /// A table that is emptied.
    fn seal_truncate(&mut self, phase: Phase) -> Batch {
        let mut body = BodyWriter::default();
        body.begin_row(Op::Truncate);
        self.seal_body(phase, false, body)
    }
}
