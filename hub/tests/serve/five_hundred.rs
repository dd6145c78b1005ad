//! Five hundred agents in mixed states, as the link would have left them in a hub's database.

use std::time::Duration;

use phusa_protocol::digest::Digest;
use phusa_protocol::ids::{AgentId, DatasetId};
use phusa_protocol::report::{
    Birth, CertificateReport, DatasetReport, Obstacle, Phase, Report, SpoolReport,
};
use phusa_protocol::time::Timestamp;
use tokio_postgres::Client;

const GIB: u64 = 1 << 30;

/// A report of an agent that follows one dataset; nothing has arrived of it.
pub(crate) fn report(agent: &str) -> Report {
    let now = Timestamp::now();
    let day = Duration::from_secs(86_400);
    let dataset = DatasetReport {
        dataset: DatasetId::new("cong_dan.citizens").unwrap(),
        phase: Phase::Following,
        epoch: 1,
        position: "0/16B3748".to_owned(),
        spooled_seq: 42,
        released_seq: 42,
        lag_seconds: 0,
        rows: 120_345,
        rejects: 3,
        obstacle: None,
        contract: Digest::of(b"contract"),
        mapping: Digest::of(b"mapping"),
    };
    Report {
        v: Report::FORM,
        agent: AgentId::try_from(agent.to_owned()).unwrap(),
        version: "0.1.0".to_owned(),
        birth: Birth(now),
        started_at: now,
        at: now,
        spool: SpoolReport { bytes: 5 << 20, bytes_max: 10 * GIB, oldest: None },
        disk_free_bytes: Some(80 * GIB),
        disk_reserve_bytes: GIB,
        certificate: Some(CertificateReport { from: now, until: now.after(day * 7) }),
        skew_ms: Some(12),
        datasets: vec![dataset],
        update: None,
        orders: None,
        diagnosis: None,
    }
}

/// How the agents of the picture are, in turn.
fn mood(index: usize, report: &mut Report) -> u64 {
    let trouble =
        |code: &str| Some(Obstacle { code: code.to_owned(), since: Timestamp::UNIX_EPOCH });
    let dataset = report.datasets.first_mut().unwrap();
    match index {
        3 | 250 => return 400,
        7 => dataset.obstacle = trouble("source_schema"),
        8 => dataset.obstacle = trouble("source_login"),
        20..24 => dataset.lag_seconds = 4_000,
        40 => report.spool.bytes = 9 * GIB,
        41 => report.disk_free_bytes = Some(GIB + (GIB >> 1)),
        42 => report.skew_ms = Some(-95_000),
        60..64 => dataset.phase = Phase::Reading,
        _ => {}
    }
    10
}

/// Five hundred agents as they would have been left by the link: their reports, what arrived, a day
/// of figures, and whom to call.
pub(crate) async fn populate(client: &Client, dataset: &str) {
    let columns = "insert into phusa.fleet_agents (agent, report, reported_at, birth) values \
                   ($1, $2, now() - $3::text::interval, '')";
    for index in 0..500 {
        let agent = format!("H57.{index:03}/may-1");
        let mut report = report(&agent);
        report.datasets[0].dataset = DatasetId::new(dataset).unwrap();
        let ago = format!("{} s", mood(index, &mut report));
        let text = serde_json::to_string(&report).unwrap();
        client.execute(columns, &[&agent, &text, &ago]).await.unwrap();
    }
    let streams = "
      insert into phusa.streams (agent, dataset, epoch, seq, rows, consistent_at, last_committed_at)
      select agent, $1, 1, 42, 120345, now(), reported_at from phusa.fleet_agents
      where agent like 'H57.%'";
    client.execute(streams, &[&dataset]).await.unwrap();
    let sql = "
      insert into phusa.fleet_history
      select 'H57.007/may-1', date_bin('5 minutes', now(), 'epoch') - n * interval '5 minutes',
             case when n < 12 then (12 - n) * 60 else n * 7 % 13 end,
             1000000 - n * 700 - (n * 7919 % 600), 0, 1000 from generate_series(0, 287) n;
      insert into phusa.contacts (agency, name, position, duty, phone, email, set_by, set_at)
      select split_part(agent, '/', 1), 'Trần Thị Bình', 'Chuyên viên CNTT',
             'Đầu mối kết nối dữ liệu', '0234 3821 ' || right(split_part(agent, '/', 1), 3),
             'binh.tran@example.vn', 'an', now()
      from phusa.fleet_agents where agent like 'H57.%' and agent <> 'H57.008/may-1';";
    client.batch_execute(sql).await.unwrap();
}
