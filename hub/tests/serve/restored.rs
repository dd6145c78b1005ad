//! The log after its database was put back: numbers that the published log gave to others since.

use std::time::Duration;

use phusa_hub::transfers::Log;
use phusa_hub::transfers::acts::Done;
use phusa_hub::transfers::folder::Folder;
use phusa_hub::transfers::publish::Publisher;
use phusa_hub::transfers::restore::{Continued, go_on};
use phusa_hub::transfers::sequence::number_next;
use phusa_hub::transfers::verify::{Verified, verify_database};
use phusa_protocol::digest::Digest;
use phusa_protocol::entry::act::{Act, BackupAct, BackupStep};
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::keys::SigningKey;
use phusa_protocol::time::Timestamp;

use crate::incidents::Lab;

/// A log with its files, whose database is put back as the test says.
struct Kept {
    lab: Lab,
    files: tempfile::TempDir,
    log: Log,
    log_key: SigningKey,
}

impl Kept {
    async fn new() -> Self {
        let (lab, files) = (Lab::new().await, tempfile::tempdir().unwrap());
        let key = || SigningKey::generate().unwrap();
        Self { lab, files, log: Log::new(key()), log_key: key() }
    }

    fn folder(&self) -> Folder {
        Folder::new(self.files.path(), self.log_key.public())
    }

    /// One entry more, with its number.
    async fn add(&self) {
        let act = BackupAct {
            step: BackupStep::Made,
            name: "thử".to_owned(),
            made_at: Timestamp::now(),
            manifest: Digest::ZERO,
            bytes: 1,
            entries: 0,
            rows: None,
            failed: None,
            by: Some("Trần Vận Hành".to_owned()),
        };
        let done = Done::whole(Act::Backup(act));
        self.log.done_alone(&self.lab.warehouse, done).await.unwrap();
        self.number().await;
    }

    async fn number(&self) {
        let published = self.folder().checkpoint().unwrap().map_or(0, |known| known.head.size);
        number_next(&self.lab.warehouse, published).await.unwrap();
    }

    /// Publishes as a hub that was just started does.
    async fn publish(&self) -> Result<(), Code> {
        let keys = (self.log_key.clone(), self.log.key().clone());
        let mut publisher =
            Publisher::new(self.lab.warehouse.clone(), self.folder(), keys.0, keys.1);
        publisher.grow().await.map(drop).map_err(|fault| fault.code)
    }

    /// As a person does, who tries again while a transaction before still holds the numbers.
    async fn go_on(&self) -> Result<Option<Continued>, Fault> {
        for _ in 0..100 {
            match go_on(&self.lab.warehouse, &self.folder(), &self.log, "máy chủ hỏng").await {
                Err(fault) if fault.code == Code::HubBusy => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                answer => return answer,
            }
        }
        panic!("the numbers are held for ever");
    }

    async fn verified(&self) -> Verified {
        let hub = vec![self.log.public_key()];
        let folder = self.folder();
        let with = (&[][..], Some(&folder));
        verify_database(&self.lab.warehouse, hub, [].into(), with).await.unwrap()
    }

    async fn sql(&self, sql: &str) {
        self.lab.warehouse.client().await.unwrap().batch_execute(sql).await.unwrap();
    }

    /// A copy of what a backup holds of the log.
    async fn back_up(&self, name: &str) {
        let sql = format!(
            "create table {name} as table phusa.transfers; \
             create table {name}_log as table phusa.log"
        );
        self.sql(&sql).await;
    }

    async fn put_back(&self, name: &str) {
        let sql = format!(
            "delete from phusa.transfers; insert into phusa.transfers select * from {name}; \
             delete from phusa.log; insert into phusa.log select * from {name}_log; \
             select setval(pg_get_serial_sequence('phusa.transfers', 'transfer'), \
             (select max(transfer) from phusa.transfers))"
        );
        self.sql(&sql).await;
    }

    /// Two published entries, the first backup, a third; then the second backup, with a fourth and a
    /// fifth that have numbers and are not published; and the log going on from the first backup.
    async fn of_two_backups() -> Self {
        let kept = Self::new().await;
        kept.add().await;
        kept.add().await;
        kept.publish().await.unwrap();
        kept.back_up("first").await;
        kept.add().await;
        kept.publish().await.unwrap();
        kept.add().await;
        kept.add().await;
        kept.back_up("second").await;
        kept.put_back("first").await;
        let went_on = kept.go_on().await.unwrap();
        let expected = Continued { first: 3, last: 3, number: 4, again: 0 };
        assert_eq!(went_on, Some(expected));
        kept.publish().await.unwrap();
        assert_eq!(kept.verified().await.summary.entries, 4);
        kept
    }
}

#[tokio::test]
async fn numbers_of_a_backup_that_were_given_to_others_since_are_given_anew() {
    let kept = Kept::of_two_backups().await;
    kept.put_back("second").await;
    // What the hub would say if nobody let the log go on.
    assert_eq!(kept.publish().await, Err(Code::LogBroken));
    let went_on = kept.go_on().await.unwrap();
    assert_eq!(went_on, Some(Continued { first: 4, last: 4, number: 5, again: 2 }));
    assert_eq!(kept.verified().await.unsequenced, 2);
    kept.number().await;
    kept.publish().await.unwrap();
    let verified = kept.verified().await;
    assert_eq!((verified.summary.entries, verified.summary.missing), (7, 1));
    assert_eq!((verified.unsequenced, verified.published), (0, 7));
    assert_eq!(kept.go_on().await.unwrap(), None);
}

#[tokio::test]
async fn an_entry_that_was_altered_is_not_given_another_number() {
    let kept = Kept::of_two_backups().await;
    kept.put_back("second").await;
    kept.sql("update phusa.transfers set entry = replace(entry, 'Hành', 'Hạnh') where number = 5")
        .await;
    let fault = kept.go_on().await.unwrap_err();
    assert_eq!(fault.code, Code::LogBroken, "{}", fault.chain());
    assert!(fault.chain().contains("as the hub committed it"), "{}", fault.chain());
    // Nothing was changed.
    let client = kept.lab.warehouse.client().await.unwrap();
    let row = client.query_one("select count(number), max(number) from phusa.transfers", &[]).await;
    let row = row.unwrap();
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (5, 5));
}
