//! The wizard against PostgreSQL, in both languages, and against MariaDB, in English.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use phusa_protocol::contract::Contract;
use phusa_protocol::contract::consent::SignedConsent;
use phusa_protocol::ids::AgentId;
use phusa_protocol::keys::SigningKey;
use phusa_tests::database::{Database, Server, Version};
use phusa_tests::mysql::{Flavour, MySqlServer};
use phusa_tests::process::{program, run};
use phusa_tests::province::{Province, Readable};
use phusa_tests::terminal::Terminal;

use crate::captures::Captures;

const AGENCY: &str = "H57.12";
const DATASET: &str = "cong_dan.citizens";

/// People, as an agency's program has them: dates by hand, a telephone under a name that says
/// nothing, an old column that is nobody's.
const COLUMNS: &str = "id bigint primary key, SoCCCD varchar(12) not null, HoTen varchar(100) not null,
  NgaySinh varchar(10) not null, GioiTinh smallint not null, DanToc varchar(2) not null,
  DiaChi varchar(200) not null, MaXa varchar(5) not null, F9 varchar(15), Email varchar(60),
  HonNhan smallint not null, TonGiao varchar(20), TaoLuc timestamp not null, CapNhatLuc timestamp not null";

/// So many people.
const ROWS: u32 = 120;

/// One agency: an empty folder, the province's keys and contracts, and a shell in a terminal.
struct Office {
    province: Province,
    terminal: Terminal,
    folder: PathBuf,
    captures: Captures,
    /// Its server ends with it.
    _warehouse: Database,
    /// Commands typed so far.
    commands: u32,
}

impl Office {
    fn new(database: &dyn Readable) -> Self {
        let warehouse = Server::shared(Version::V15).database();
        let mut province = Province::with_external(&warehouse);
        let folder = province.path().join("may-1");
        std::fs::create_dir(&folder).unwrap();
        let keys = province.invite(AGENCY, &folder);
        std::fs::create_dir(keys.join("contracts")).unwrap();
        for id in [DATASET, "ho_so.dossiers", "doanh_nghiep.doanh_nghiep"] {
            let sample = root().join(format!("configs/contracts/{id}.toml"));
            std::fs::copy(sample, keys.join(format!("contracts/{id}.toml"))).unwrap();
        }
        let contract = keys.join(format!("contracts/{DATASET}.toml"));
        run(&mut hub(&province, &["migrate"]));
        sign(&keys, &contract);
        run(hub(&province, &["contract", "apply"]).arg(&contract));
        province.start_hub_with(&[]);
        let programs = program("phusa-agent").parent().unwrap().to_owned();
        let terminal = Terminal::open(&folder, &programs);
        let mut captures = Captures::default();
        let shown = [
            (province.path().display().to_string(), "/home/phusa-H57.12".to_owned()),
            (province.hub_port().to_string(), "17443".to_owned()),
            (database.port().to_string(), "15432".to_owned()),
            (database.name().to_owned(), "hotich".to_owned()),
        ];
        captures.differs.extend(shown);
        let _ = terminal.wait_for("$");
        Self { province, terminal, folder, captures, _warehouse: warehouse, commands: 0 }
    }

    /// Types a command.
    fn command(&mut self, text: &str) {
        self.commands += 1;
        self.terminal.type_line(text);
    }

    /// Waits for a question, keeps the screen under a title, and answers.
    fn answer(&mut self, question: &str, title: Option<&'static str>, text: &str) {
        let screen = self.terminal.wait_for(question);
        if let Some(title) = title {
            self.captures.keep(title, &screen);
        }
        self.terminal.type_line(text);
    }

    /// What the administrator of the database does with the file that the wizard wrote.
    fn administrator_runs_the_file(&mut self, database: &dyn Readable) {
        self.commands += 1;
        let sql = std::fs::read_to_string(self.folder.join("quan-tri.sql")).unwrap();
        let statements = sql.lines().filter(|line| !line.starts_with("--") && !line.is_empty());
        statements.for_each(|statement| database.administer(statement));
    }

    /// Starts the agent with the very command that the wizard named.
    async fn first_rows(&mut self, named: &str) {
        let config = self.folder.join("agent.toml");
        let expected = format!("phusa-agent --config {} run", config.display());
        let one_line = named.replace('\n', "");
        assert!(one_line.contains(&expected), "{expected} is not named:\n{named}");
        self.command(&expected);
        let rows = self.province.wait_until_identical(AGENCY, DATASET).await;
        assert_eq!(rows, u64::from(ROWS));
        assert!(self.commands < 10, "{} commands", self.commands);
        println!("first rows after {} commands", self.commands);
        self.province.verify_log();
    }
}

/// Signs a contract as its owner before there is an `agent.toml` for `contract sign`, as another
/// machine of the agency would have.
fn sign(keys: &Path, file: &Path) {
    let key = std::fs::read_to_string(keys.join("signing.key")).unwrap();
    let key = SigningKey::from_text(key.trim()).unwrap();
    let contract = Contract::from_toml(&std::fs::read_to_string(file).unwrap()).unwrap();
    let agent = AgentId::try_from(format!("{AGENCY}/may-1")).unwrap();
    let signed = SignedConsent::of_owner(&contract, &agent, &key);
    let beside = format!("{}.signature", file.display());
    std::fs::write(beside, serde_json::to_string(&signed).unwrap()).unwrap();
}

fn hub(province: &Province, arguments: &[&str]) -> std::process::Command {
    let mut command = std::process::Command::new(program("phusa-hub"));
    command.arg("--config").arg(province.hub_config()).args(arguments);
    command
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn document() -> PathBuf {
    root().join("docs/wizard.md")
}

/// The rows as `values (…), (…)`.
fn people() -> String {
    let person = |n: u32| {
        let (given, sex) =
            [("Văn An", 1), ("Thị Bé", 2), ("Thị Lan", 2), ("Văn Ơn", 1)][n as usize % 4];
        let family = ["Nguyễn", "Trần", "Lê", "Phạm", "Hoàng"][n as usize % 5];
        let year = 1950 + n % 49;
        format!(
            "({n}, '0461{:02}{:06}', '{family} {given}', '{}/{}/{year}', {sex}, '01', \
             'Số {n}, Xã Lìa, Quảng Trị', '19{:03}', '09051{:05}', 'dan{n}@example.vn', 1, null, \
             '2026-01-01 08:00:00', '2026-02-01 08:00:00')",
            year % 100,
            n,
            1 + n % 28,
            1 + n % 12,
            n % 900,
            n
        )
    };
    (1..=ROWS).map(person).collect::<Vec<_>>().join(",\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_wizard_goes_from_an_empty_folder_to_the_first_rows_of_postgresql() {
    let server = Arc::new(Server::start(Version::V15, ""));
    let database = server.database();
    database.psql(&format!(
        "create table congdan ({}); insert into congdan values {}; analyze congdan;
         create table hoso (id bigint primary key, noidung text); analyze hoso;
         create role phusa login replication password 'bi-mat';
         grant select on congdan to phusa;",
        COLUMNS.replace("timestamp", "timestamptz"),
        people()
    ));
    let mut office = Office::new(&database);
    let hub = format!("127.0.0.1:{}", office.province.hub_port());
    let port = server.port().to_string();
    office.command("phusa-agent wizard");
    office.answer("That folder", None, "../certs");
    office.answer(
        "That folder",
        Some("Bắt đầu; một thư mục sai · The beginning; a wrong folder"),
        "../certs/agents/H57.12__may-1",
    );
    office.answer("hub's address", None, &hub);
    office.answer("Networks", None, "");
    office.answer("Kind", None, "");
    office.answer("Host", None, "");
    office.answer("Port", None, &port);
    office.answer("Database", None, database.name());
    office.answer("Login", None, "");
    office.answer("Password", None, "sai");
    office.answer(
        "try again",
        Some("Sai mật khẩu: nghĩa là gì, làm gì · A wrong password: what it means, what to do"),
        "<",
    );
    office.answer("Password", None, "bi-mat");
    // Leaving loses nothing.
    office.answer("Tables to share", Some("Các bảng · The tables"), "q");
    let _ = office.terminal.wait_for("$");
    office.terminal.clear();
    office.command("phusa-agent wizard");
    office.answer("Tables to share", Some("Nghỉ rồi làm tiếp · Left, and going on"), "congdan");
    office.answer("Folder of contracts", None, "");
    office.answer("Contract", Some("Hợp đồng · The contract"), "");
    office.answer(
        "Column",
        Some("Chưa chắc cột nào: điểm và lý do · Not sure which column: score and why"),
        "",
    );
    settle(&office);
    office.answer(
        "Write it?",
        Some("Tóm tắt trước khi ghi · The summary before anything is written"),
        "",
    );
    office.answer("try again", Some("Việc của quản trị · For the administrator"), "q");
    let _ = office.terminal.wait_for("$");
    office.administrator_runs_the_file(&database);
    office.terminal.clear();
    office.command("phusa-agent wizard");
    office.answer("on this screen alone?", Some("Kiểm tra · The check"), "");
    let named = office.terminal.wait_for("$");
    office.captures.keep("Xem thử và lệnh tiếp theo · The preview and the next command", &named);
    secrets_stay(&office.folder);
    office.captures.compare(&document(), "PostgreSQL, Việt · English");
    office.first_rows(&named).await;
}

/// Answers whatever is still asked about columns with what is proposed.
fn settle(office: &Office) {
    while office.terminal.wait_for_one(&["Write it?", "Column ("]) > 0 {
        office.terminal.type_line("");
    }
}

/// The password is in its own file and nowhere else, and that file is its owner's alone.
fn secrets_stay(folder: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    let file = folder.join("source.password");
    assert_eq!(phusa_tests::canary::files_with(b"bi-mat", folder), std::slice::from_ref(&file));
    let mode = std::fs::metadata(file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_wizard_goes_from_an_empty_folder_to_the_first_rows_of_mariadb_in_english() {
    let server = Arc::new(MySqlServer::start(Flavour::MariaDb, ""));
    server.sql("", "create database hotich");
    let database = server.database_named("hotich");
    database.sql(&format!(
        "create table congdan ({COLUMNS}); insert into congdan values {}; analyze table congdan;",
        people()
    ));
    server.sql("", "create user 'phusa'@'%' identified by 'bi-mat'");
    let mut office = Office::new(&database);
    let hub = format!("127.0.0.1:{}", office.province.hub_port());
    office.command("phusa-agent wizard --lang en");
    office.answer("That folder", None, "../certs/agents/H57.12__may-1");
    office.answer("hub's address", None, &hub);
    office.answer("Networks", None, "");
    office.answer("Kind", Some("The hub, and which database"), "2");
    office.answer("Host", None, "");
    office.answer("Port", None, &server.port().to_string());
    office.answer("Database", None, database.name());
    office.answer("Login", None, "");
    office.answer("Password", None, "bi-mat");
    // The login may see nothing yet.
    office.answer("try again", Some("A login that sees nothing yet"), "q");
    office.commands += 1;
    server.sql("", "grant select on `hotich`.* to `phusa`");
    let _ = office.terminal.wait_for("$");
    office.terminal.clear();
    office.command("phusa-agent wizard --lang en");
    office.answer("Tables to share", Some("The tables"), "1");
    office.answer("Folder of contracts", None, "");
    office.answer("Contract", None, "");
    office.answer("Column", Some("Not sure which column: score and why"), "");
    settle(&office);
    office.answer("Write it?", Some("The summary before anything is written"), "");
    // Comparing rows needs no more rights than it has, so nothing is left for the administrator.
    office.answer("on this screen alone?", Some("The check"), "");
    let named = office.terminal.wait_for("$");
    office.captures.keep("The preview and the next command", &named);
    office.captures.compare(&document(), "MariaDB, English");
    office.first_rows(&named).await;
}
