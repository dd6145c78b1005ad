//! The login: proved to be read-only before anything is read, and given no right too many.

use phusa_tests::database::Version;

use crate::world::{AGENCY, Share, World, said};

fn world() -> World {
    let mut world = World::new(Version::V15);
    world.source.psql(
        "create table dan (id int primary key, ten text, luong int); insert into dan values (1, 'Một', 5);
         create table khac (id int primary key); create sequence dem;",
    );
    let fields = &["id int4", "ten text"];
    world.share("", &[Share { table: "dan", key: "id", fields, rules: "" }]);
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_could_change_data_is_refused_unless_the_file_says_why() {
    let mut world = world();
    let login = world.login();
    let group = format!("{login}_nhom");
    let cases = [
        (
            "grant insert on khac to {}",
            "revoke insert on khac from {}",
            "may insert table public.khac",
        ),
        (
            "grant update (ten) on dan to {}",
            "revoke update (ten) on dan from {}",
            "may update table public.dan",
        ),
        (
            "grant truncate on khac to public",
            "revoke truncate on khac from public",
            "may truncate table public.khac",
        ),
        (
            "grant usage on sequence dem to {}",
            "revoke usage on sequence dem from {}",
            "may advance sequence public.dem",
        ),
        ("alter table khac owner to {}", "alter table khac owner to lab", "owns table public.khac"),
        ("alter role {} superuser", "alter role {} nosuperuser", "is a superuser"),
        (
            "create role {}_nhom noinherit; grant delete on khac to {}_nhom; grant {}_nhom to {}",
            "revoke delete on khac from {}_nhom; drop role {}_nhom",
            "may delete table public.khac",
        ),
    ];
    for (grant, revoke, named) in cases {
        world.source.psql(&grant.replace("{}", &login));
        let checked = world.agent(&["check", "--offline"]);
        let text = said(&checked);
        assert!(!checked.status.success(), "{grant}");
        assert!(text.contains("source_can_write") && text.contains(named), "{grant}: {text}");
        assert!(text.contains("create role"), "a login of its own is proposed: {text}");
        // Neither does anything else read with it.
        let previewed = world.agent(&["preview"]);
        assert!(said(&previewed).contains("source_can_write") && !previewed.status.success());
        world.source.psql(&revoke.replace("{}", &login));
        assert!(world.agent(&["check", "--offline"]).status.success(), "after {revoke}");
    }
    assert_eq!(
        world.source.psql(&format!("select count(*) from pg_roles where rolname = '{group}'")),
        "0\n"
    );

    world.source.psql(&format!("grant insert on khac to {login}"));
    world.province.start_hub();
    world.start_agent();
    world.trouble("dan", "source_can_write").await;
    assert_eq!(world.slots(), "", "nothing was begun");
    world.province.agent_process(AGENCY).stop();
    world.edit(
        "agent.toml",
        "tls = \"off\"\n",
        "tls = \"off\"\nlogin_may_write_because = \"Nhà cung cấp chỉ cấp một tài khoản\"\n",
    );
    let checked = world.agent(&["check"]);
    assert!(checked.status.success(), "{}", said(&checked));
    assert!(said(&checked).contains("the file says why"));
    world.start_agent();
    assert_eq!(world.identical("dan").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_statements_that_check_prints_are_all_the_set_up_there_is() {
    let world = world();
    let login = world.login();
    // `share` ran what check printed; these are the rights that came of it.
    let rights = "select string_agg(column_name, ' ' order by column_name)
                  from information_schema.column_privileges where grantee = '{}' and privilege_type = 'SELECT'";
    assert_eq!(world.source.psql(&rights.replace("{}", &login)).trim(), "id ten");
    let role = "select rolsuper, rolreplication, rolcreaterole, rolcreatedb from pg_roles where rolname = '{}'";
    assert_eq!(world.source.psql(&role.replace("{}", &login)).trim(), "f|t|f|f");
    let published = "select tablename || ':' || attnames::text from pg_publication_tables";
    assert_eq!(world.source.psql(published).trim(), "dan:{id,ten}");
    assert!(world.agent(&["check", "--offline"]).status.success());

    // Less than that is named, with the statement that helps.
    let undo = [
        (
            format!("revoke select (ten) on dan from {login}"),
            "grant select",
            "SELECT on public.dan (ten)",
        ),
        (format!("alter role {login} noreplication"), "alter role", "lacks REPLICATION"),
        (
            "revoke usage on schema public from public".to_owned(),
            "grant usage on schema",
            "lacks USAGE on schema public",
        ),
        (
            "do $$ declare p text; begin select pubname into p from pg_publication; \
          execute format('alter publication %I set table dan', p); end $$"
                .to_owned(),
            "alter publication",
            "carries columns that are not mapped: luong",
        ),
        (
            "do $$ declare p text; begin select pubname into p from pg_publication; \
          execute format('alter publication %I set (publish = ''insert'')', p); end $$"
                .to_owned(),
            "alter publication",
            "does not publish all four kinds of change",
        ),
        (
            "do $$ declare p text; begin select pubname into p from pg_publication; \
          execute format('drop publication %I', p); end $$"
                .to_owned(),
            "create publication",
            "there is no publication",
        ),
    ];
    for (sql, remedy, named) in undo {
        world.source.psql(&sql);
        let checked = world.agent(&["check", "--offline"]);
        let text = said(&checked);
        assert!(!checked.status.success() && text.contains(named), "{sql}: {text}");
        for statement in text.lines().filter(|line| line.starts_with(remedy)) {
            world.source.psql(statement);
        }
        let checked = world.agent(&["check", "--offline"]);
        assert!(checked.status.success(), "after {remedy}: {}", said(&checked));
    }
}
