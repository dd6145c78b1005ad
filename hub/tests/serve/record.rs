//! The history of a record at the portal: by right, for a purpose, each look an entry, the key nowhere.

use std::time::Duration;

use phusa_protocol::batch::Phase;
use phusa_protocol::change::Op;

use crate::people::{first, hire};
use crate::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn a_records_versions_are_shown_to_who_may_read_and_each_look_is_an_entry_without_the_key() {
    let world = World::start().await;
    let mut agent = world.sender("H57.12/may-1");
    for batch in [
        agent.seal(Phase::Read, false, &[(Op::Snapshot, 73_519, "Trần Cũ")]),
        agent.seal(Phase::ReadEnd, false, &[]),
        agent.seal(Phase::Live, false, &[(Op::Update, 73_519, "Trần Mới")]),
    ] {
        agent.send(&batch).await.unwrap();
    }
    let (an, _) = first(&world).await;
    let (inspector, _) = hire(&world, &an, ("thanh.tra", "inspector", "")).await;
    let (other, _) = hire(&world, &an, ("h57-13.it", "unit_admin", "H57.13")).await;
    let path = "/datasets/cong_dan.citizens/record";
    let form = inspector.get(path).await;
    for word in ["name=\"key\"", "name=\"purpose\"", "Mỗi lần xem là một dòng"] {
        assert!(form.text.contains(word), "{word} not in {}", form.text);
    }
    let purpose = form.between("<option value=\"", "\"");
    assert_eq!(other.get(path).await.status, 404, "sees no such dataset");
    let asked = |key| [("key", key), ("purpose", purpose.as_str())];
    let shown = inspector.submit(path, path, &asked("73519")).await;
    assert_eq!(shown.status, 200, "{}", shown.text);
    for word in ["Trần Mới", "Trần Cũ", "đang hiệu lực", "đã đổi", "dòng nhật ký"]
    {
        assert!(shown.text.contains(word), "{word} not in {}", shown.text);
    }
    let newest = shown.text.find("Trần Mới").unwrap();
    assert!(newest < shown.text.find("Trần Cũ").unwrap(), "the newest first");
    let entry = shown.between("<a href=\"/transfers/", "\"");
    assert!(inspector.get(&format!("/transfers/{entry}")).await.text.contains("push"));
    let none = inspector.submit(path, path, &asked("4")).await;
    assert!(none.text.contains("<b>0</b>"), "{}", none.text);
    let unfit = inspector.submit(path, path, &asked("không phải số")).await;
    assert!(unfit.status != 200 && !unfit.text.contains("không phải số"), "{}", unfit.text);
    let purposeless = [("key", "73519"), ("purpose", "tò mò")];
    assert_ne!(inspector.submit(path, path, &purposeless).await.status, 200);
    assert_eq!(
        inspector.post(path, &asked("73519")).await.status,
        403,
        "of no form of this session"
    );
    let entries = "select count(*) = 2 from phusa.transfers where kind = 'read' \
                   and entry like '%thanh.tra%'";
    assert!(world.ask(entries).await, "two looks");
    let silent = "select not exists (select from phusa.transfers where entry like '%73519%')";
    assert!(world.ask(silent).await, "the key stands in no entry");
    let dataset = inspector.get("/datasets/cong_dan.citizens").await;
    for word in [path, "svg class=\"axes\"", "p95", "Bảng số liệu theo giờ"] {
        assert!(dataset.text.contains(word), "{word} not in {}", dataset.text);
    }
    world.log_verify();
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_source_whose_clock_is_ahead_changed_is_there_now_and_its_entry_keeps_what_it_said()
{
    const AHEAD: Duration = Duration::from_secs(40 * 86_400);
    let world = World::start().await;
    let mut agent = world.sender("H57.12/may-1");
    agent.source_ahead = AHEAD;
    let first =
        agent.seal(Phase::Read, false, &[(Op::Snapshot, 1, "Một"), (Op::Snapshot, 2, "Hai")]);
    let begun = agent.seal(Phase::ReadEnd, false, &[]);
    let moved = agent.seal(Phase::Live, false, &[(Op::Update, 1, "Một mới")]);
    for batch in [first, begun, moved] {
        agent.send(&batch).await.unwrap();
    }
    // Its clock is set right: by it, the next commit is long before the last one.
    agent.source_ahead = Duration::ZERO;
    let names = [(Op::Update, 1, "Một mới nhất"), (Op::Update, 2, "Hai mới")];
    let after = agent.seal(Phase::Live, false, &names);
    agent.send(&after).await.unwrap();
    for (what, sql) in [
        (
            "what is in force",
            "select count(*) = 2 and bool_and(_source_time <= now()) from cong_dan.citizens",
        ),
        (
            "what was",
            "select count(*) = 3 and bool_and(_source_time < _until and _until <= now()) \
             from cong_dan.citizens__history",
        ),
        (
            "what the source said",
            "select count(*) = 3 from phusa.transfers where kind = 'push' and \
             ((entry::jsonb ->> 'header')::jsonb ->> 'source_time')::timestamptz > now() + '39 days'",
        ),
    ] {
        assert!(world.ask(sql).await, "{what}");
    }
    world.log_verify();
    world.stop().await;
}
