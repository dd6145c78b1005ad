//! How small the agent is: idle, at one and at five times the rows, and through one transaction
//! that changes every row; where no SQL Server is, beside the scripted one, without the transaction.

use std::path::Path;
use std::time::Duration;

use phusa_tests::office::{Office as _, Row, Way};
use phusa_tests::process::{program, wait_until};
use phusa_tests::registry::Table;
use phusa_tests::tds::SqlServer;
use phusa_tests::world::{AGENCY, World};

use crate::lab::{Engine, Lab, Outcome};
use crate::meter::{Watch, own_cpu, private_bytes};
use crate::movers::{Mover, Target, WITHIN};
use crate::ours::Ours;
use crate::report::{Figure, Report};

/// How long an idle agent is watched.
const IDLE: Duration = Duration::from_secs(20);

/// Takes every figure of the agent: at `rows` beside PostgreSQL, MariaDB and the scripted SQL Server,
/// and at five times as many beside PostgreSQL.
pub(crate) async fn take(lab: &Lab, rows: u64, report: &mut Report) -> Outcome<()> {
    for name in ["phusa-agent", "phusa-hub"] {
        report.add(Figure::bytes("binary", name, size_of(&program(name))));
    }
    agent(lab, Engine::PostgreSql, "1 x rows", report).await?;
    agent(lab, Engine::MariaDb, "1 x rows, MariaDB", report).await?;
    beside_sql_server(rows, report).await?;
    let larger = Lab::start(rows * 5).await?;
    agent(&larger, Engine::PostgreSql, "5 x rows", report).await
}

async fn agent(lab: &Lab, engine: Engine, size: &'static str, report: &mut Report) -> Outcome<()> {
    let target = lab.fresh_target();
    let mut ours = Ours::new(engine);
    ours.prepare(lab, &target, &[Table::Citizens]).await?;
    let watch = watch_agents();
    ours.read_all(lab, &target).await?;
    report.add(Figure::bytes("agent, full read", size, watch.finish().1));

    let id = ours.agent_id();
    idle(id, size, report).await;

    let watch = watch_agents();
    change_every_row(lab, &target, size).await?;
    report.add(Figure::bytes("agent, one transaction", size, watch.finish().1));
    ours.finish(lab, &target).await?;
    lab.drop_slots();
    Ok(())
}

/// Beside the scripted server that stands in SQL Server's place: a full read of a narrow table, and idle
/// afterwards.
async fn beside_sql_server(rows: u64, report: &mut Report) -> Outcome<()> {
    let size = "1 x narrow rows, scripted SQL Server";
    let (server, way, rows) = (SqlServer::start("bi-mat"), Way::Snapshot, i64::try_from(rows)?);
    let row = |id| Row { id, part: id % 8, name: format!("Lê Thị {id}"), number: id };
    server.create(way, &(1..=rows).map(row).collect::<Vec<_>>());
    let mut world = World::around(server);
    world.share("", &[way.share(&way.rules())]);
    let watch = watch_agents();
    world.start();
    let client = world.warehouse.connect().await;
    let sql = "select 1 from phusa.streams having sum(rows)::int8 >= $1";
    wait_until("every row", WITHIN, async || client.query_opt(sql, &[&rows]).await.ok().flatten())
        .await;
    report.add(Figure::bytes("agent, full read", size, watch.finish().1));
    let id = world.province.agent_process(AGENCY).id();
    idle(id, size, report).await;
    Ok(())
}

/// What an agent takes that has nothing to do.
async fn idle(id: u32, size: &'static str, report: &mut Report) {
    let before = own_cpu(id).unwrap_or(0.0);
    tokio::time::sleep(IDLE).await;
    let used = own_cpu(id).unwrap_or(0.0) - before;
    report.add(Figure::bytes("agent, idle", size, private_bytes(id)));
    report.add(Figure::share("agent, idle CPU", size, used / IDLE.as_secs_f64()));
}

/// One transaction over all rows, until the warehouse shows the last of them; `mark` is not to be
/// used twice.
async fn change_every_row(lab: &Lab, target: &Target, mark: &str) -> Outcome<()> {
    let mark = mark.get(..12).unwrap_or(mark);
    lab.change_all(&format!("update citizens set household_no = '{mark}'")).await?;
    let client = target.connect().await;
    let changed =
        format!("select 1 from cong_dan.citizens where id = {} and so_ho = '{mark}'", lab.rows);
    wait_until("the large transaction", WITHIN, async || {
        client.query_opt(&changed, &[]).await.ok().flatten()
    })
    .await;
    Ok(())
}

/// Begins to look at the agents that this program started.
pub(crate) fn watch_agents() -> Watch {
    Watch::start(Box::new(|| {
        let own = std::process::id();
        let is_agent = |id: &u32| {
            let title = std::fs::read_to_string(format!("/proc/{id}/cmdline")).unwrap_or_default();
            title.split('\0').next().is_some_and(|name| name.ends_with("phusa-agent"))
        };
        crate::meter::family(own).into_iter().filter(is_agent).collect()
    }))
}

fn size_of(file: &Path) -> u64 {
    std::fs::metadata(file).map_or(0, |about| about.len())
}
