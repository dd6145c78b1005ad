//! The mapping: which rows, which columns, what is hidden of them; and the look at it beforehand.

use phusa_tests::database::Version;

use crate::world::{AGENCY, Share, World, said};

/// 32 bytes of 7 in base64.
const HMAC_KEY: &str = "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=";

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_chosen_texts_normalised_and_fields_masked_as_the_mapping_says() {
    let mut world = World::new(Version::V15);
    world.source.psql(
        "create table dan (id int primary key, ten text, dien_thoai text, ngay_sinh date,
           cccd text, benh text, phuong text, tinh_trang int);
         insert into dan values
           (1, E'Nguye\\u0302\\u0303n', '0912345678', '1990-02-28', '092190001234', 'Ho', '31000', 1),
           (2, 'Ở nơi khác', '0987654321', '1980-01-01', '092180001234', 'Sốt', '32000', 1),
           (3, 'Đã mất', '12', null, '092170001234', null, '31000', 9),
           (4, 'Không rõ', null, '0044-03-15 BC', '092160001234', null, null, 1),
           (5, 'Trần Văn Ơn', '0911111111', '1923-01-09', '092150001234', null, '31000', 2);",
    );
    let fields = &[
        "id int4",
        "ten text",
        "dien_thoai text { keep_last = 4 }",
        "ngay_sinh>nam_sinh int4 \"year\"",
        "cccd>ma_gia text { hmac = \"../hmac.key\" }",
        "benh text \"drop\"",
        "phuong text",
        "tinh_trang int4",
    ];
    let rules = "where = \"phuong = '31000' and tinh_trang in (1, 2)\"";
    let folder = world.province.path().join(format!("certs/agents/{AGENCY}__may-1"));
    std::fs::create_dir_all(&folder).unwrap();
    let key = folder.join("hmac.key");
    std::fs::write(&key, HMAC_KEY).unwrap();
    phusa_tests::province::private(&key);
    world.share("", &[Share { table: "dan", key: "id", fields, rules }]);

    // Before anything runs: what would be sent is shown, and nothing is.
    let previewed = world.agent(&["preview"]);
    let text = said(&previewed);
    assert!(previewed.status.success(), "{text}");
    for shown in ["Nguyễn", "******5678", "1990", "Trần Văn Ơn"] {
        assert!(text.contains(shown), "{shown}: {text}");
    }
    for hidden in ["0912345678", "092190001234", "Ho", "Ở nơi khác", "Đã mất", "-02-28"] {
        assert!(!text.contains(hidden), "{hidden}: {text}");
    }
    assert!(said(&world.agent(&["spool"])).contains("empty"), "nothing was spooled");
    assert_eq!(world.slots(), "", "nothing was begun at the source");

    world.start();
    assert_eq!(world.identical("dan").await, 2);
    let ask = "select string_agg(concat_ws(' ', id, ten, dien_thoai, nam_sinh, length(ma_gia), benh), '|' order by id) from thu.dan";
    let first = world.warehouse.psql(ask);
    let pseudonym = world.warehouse.psql("select length(ma_gia) from thu.dan where id = 1");
    let length = pseudonym.trim();
    assert_eq!(
        first.trim(),
        format!("1 Nguyễn ******5678 1990 {length}|5 Trần Văn Ơn ******1111 1923 {length}")
    );

    // A row that begins to match appears, one that no longer does goes, and one that never did
    // leaves no trace; in NFC, whatever the source wrote.
    world.source.psql(
        "update dan set phuong = '31000' where id = 2;
         update dan set phuong = '32000' where id = 1;
         update dan set ten = 'Vẫn không' where id = 3;
         insert into dan values (6, E'Vu\\u031b\\u031bong', '1', null, 'x', null, '31000', 1),
                                (7, 'Không gửi', '1', null, 'y', null, '39000', 1);
         update dan set id = 50, tinh_trang = 1 where id = 5;
         delete from dan where id = 4;",
    );
    world
        .warehouse_says("select string_agg(id::text, ' ' order by id) from thu.dan", "2 6 50")
        .await;
    assert_eq!(world.identical("dan").await, 3);
    let names = world.warehouse.psql("select bool_and(ten is nfc normalized) from thu.dan");
    assert_eq!(names.trim(), "t");
    // The same person has the same pseudonym under another key of the record.
    let history = "select count(distinct ma_gia) from (select ma_gia from thu.dan where id = 50
                   union all select ma_gia from thu.dan__history where id = 5) all_of_5";
    assert_eq!(world.warehouse.psql(history).trim(), "1");
    // Columns that no field names are not even published.
    let published = world.source.psql("select attnames::text from pg_publication_tables");
    assert!(!published.contains("benh"), "{published}");
}
