//! The database that is read: which, where, by which login; and `agent.toml`, which says so.

use std::net::IpAddr;
use std::path::Path;

use super::super::look;
use super::files;
use super::hub::Sides;
use super::screen::{Asked, NoAnswer, Question, Screen};
use crate::config::Engine;
use crate::config::plan::Plan;

/// The name of the file that the password is kept in.
const PASSWORD_FILE: &str = "source.password";

/// What is known of the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Database {
    pub(super) engine: Engine,
    host: String,
    port: u16,
    pub(super) name: String,
    pub(super) user: String,
    /// Certificates its server's must descend from; `None` for a server on this machine.
    tls_ca_file: Option<String>,
}

/// Asks for the database.
pub(super) fn ask(screen: &mut Screen, folder: &Path) -> Asked<Database> {
    screen.say("Cơ sở dữ liệu được đọc (chỉ đọc):", "The database to read (reading only):");
    screen.line("  1 PostgreSQL   2 MySQL / MariaDB   3 SQL Server");
    let engine = screen.ask(&Question::new("engine", "Loại", "Kind").or("1"), engine)?;
    let question = Question::new("host", "Máy chủ", "Host").or("127.0.0.1");
    let host = screen.ask(&question, filled)?;
    let question = Question::new("port", "Cổng", "Port").or(engine.port().to_string());
    let port = screen.ask(&question, |text| {
        text.parse()
            .map_err(|_| ("cổng là 1 đến 65535".to_owned(), "a port is 1 to 65535".to_owned()))
    })?;
    let name = screen.ask(&Question::new("database", "Tên cơ sở dữ liệu", "Database"), filled)?;
    screen.say(
        "Tài khoản riêng cho tác tử, không được có quyền ghi (CT-16a).",
        "A login of the agent's own, which must not be able to write (CT-16a).",
    );
    let user = screen.ask(&Question::new("user", "Tài khoản", "Login").or("phusa"), filled)?;
    let tls_ca_file = ask_tls(screen, folder, &host)?;
    ask_password(screen, folder)?;
    Ok(Database { engine, host, port, name, user, tls_ca_file })
}

fn engine(text: &str) -> Result<Engine, NoAnswer> {
    match text.to_lowercase().as_str() {
        "1" | "postgresql" => Ok(Engine::Postgresql),
        "2" | "mysql" | "mariadb" => Ok(Engine::Mysql),
        "3" | "sqlserver" => Ok(Engine::Sqlserver),
        _ => Err(("chọn 1, 2 hoặc 3".to_owned(), "choose 1, 2 or 3".to_owned())),
    }
}

fn filled(text: &str) -> Result<String, NoAnswer> {
    if text.is_empty() || text.chars().any(char::is_control) {
        return Err(("không được để trống".to_owned(), "it cannot be empty".to_owned()));
    }
    Ok(text.to_owned())
}

/// Over a network the server must be known by its certificate.
fn ask_tls(screen: &mut Screen, folder: &Path, host: &str) -> Asked<Option<String>> {
    let loopback = host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    if loopback || host == "localhost" || host.starts_with('/') {
        return Ok(None);
    }
    screen.say(
        "Máy chủ ở máy khác: đường truyền phải mã hóa. Xin quản trị tệp chứng thư gốc (PEM).",
        "The server is another machine: the way there must be encrypted. Ask its administrator for \
         the root certificate (PEM).",
    );
    let question = Question::new("tls_ca_file", "Tệp đó", "That file").or("source-ca.pem");
    let file = screen.ask(&question, |text| {
        let file = folder.join(text);
        if file.is_file() {
            return Ok(text.to_owned());
        }
        let file = file.display();
        Err((format!("không có tệp {file}"), format!("there is no file {file}")))
    })?;
    Ok(Some(file))
}

/// The password goes into a file that its owner alone can read, and nowhere else.
fn ask_password(screen: &mut Screen, folder: &Path) -> Asked<()> {
    let file = folder.join(PASSWORD_FILE);
    let is_there = file.is_file();
    if is_there && (screen.is_scripted() || screen.known("password").is_some()) {
        return Ok(());
    }
    screen.say(
        "Mật khẩu được ghi vào tệp source.password (chỉ bạn đọc được), không vào đâu khác.",
        "The password goes into the file source.password (you alone can read it), nowhere else.",
    );
    if is_there {
        screen.say("Enter: giữ mật khẩu đã có.", "Enter: keep the password that is there.");
    }
    let question = Question::new("password", "Mật khẩu (không hiện)", "Password (not shown)");
    let secret = screen.secret(&question)?;
    if !secret.is_empty() || !is_there {
        files::write(&file, &secret, 0o600)?;
    }
    screen.keep("password", PASSWORD_FILE)?;
    Ok(())
}

/// `agent.toml` with what each part is for.
pub(super) fn agent_toml(sides: &Sides, database: &Database, folder: &Path) -> String {
    let Database { engine, host, port, name, user, tls_ca_file } = database;
    let key = |file: &str| match sides.keys.strip_prefix(folder) {
        Ok(inside) => quoted(&inside.join(file).display().to_string()),
        Err(_) => quoted(&sides.keys.join(file).display().to_string()),
    };
    let networks: Vec<String> = sides.networks.iter().map(|network| quoted(network)).collect();
    // On a server the state lies where the packages put it.
    let state = if folder.starts_with("/etc") { "/var/lib/phusa-agent" } else { "state" };
    let tls = match tls_ca_file {
        Some(file) => format!("tls = \"verify\"\ntls_ca_file = {}", quoted(file)),
        None => {
            "tls = \"off\"                                 # cùng máy · on this machine".to_owned()
        }
    };
    format!(
        "# Do `phusa-agent wizard` lập; sửa được bằng tay. Từng khóa: docs/CONFIG.md.\n\
         # Made by `phusa-agent wizard`; may be edited by hand. Every key: docs/CONFIG.md.\n\n\
         agency = {}\nagent = {}\n\
         state_dir = {}                         # hàng đợi, nhật ký · spool, ledger\n\
         datasets_dir = \"datasets\"                   # mỗi tệp một bảng được chia sẻ · a file for each shared table\n\
         allowed_networks = [{}]        # trung tâm phải nằm trong (CT-22) · the hub must lie inside\n\n\
         [hub]\nurl = {}\nca_file = {}\ncertificate_file = {}\nkey_file = {}\nsigning_key_file = {}\n\
         hub_key_file = {}\n\n[spool]\nkey_file = {}\n\n\
         [source]                                    # chỉ đọc · read only\n\
         engine = \"{}\"\nhost = {}\nport = {port}\ndatabase = {}\nuser = {}\n\
         password_file = \"{PASSWORD_FILE}\"\n{tls}",
        quoted(&sides.agent.agency().to_string()),
        quoted(sides.agent.name()),
        quoted(state),
        networks.join(", "),
        quoted(&sides.url),
        key("ca.pem"),
        key("agent.pem"),
        key("agent.key"),
        key("signing.key"),
        key("hub.pub"),
        key("spool.key"),
        engine.name(),
        quoted(host),
        quoted(name),
        quoted(user),
    )
}

/// What lets the agent's login exist and see tables at all.
pub(super) fn first_statements(plan: &Plan) -> Vec<String> {
    let mut statements = vec![look::new_login(plan)];
    if plan.source.engine == Engine::Mysql {
        // MySQL shows a login only what it may read.
        let (database, user) = (&plan.source.database, &plan.source.user);
        let (database, user) = (database.replace('`', "``"), user.replace('`', "``"));
        statements.push(format!("grant select on `{database}`.* to `{user}`;"));
    }
    statements
}

/// What lets the wizard look at the rows of a table.
pub(super) fn look_statements(plan: &Plan, table: &str) -> Vec<String> {
    let (schema, name) = table.split_once('.').unwrap_or(("", table));
    let user = &plan.source.user;
    match plan.source.engine {
        Engine::Postgresql => {
            let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
            let (schema, name, user) = (quoted(schema), quoted(name), quoted(user));
            vec![
                format!("grant usage on schema {schema} to {user};"),
                format!("grant select on {schema}.{name} to {user};"),
            ]
        }
        Engine::Mysql => {
            let quoted = |name: &str| format!("`{}`", name.replace('`', "``"));
            let (schema, name, user) = (quoted(schema), quoted(name), quoted(user));
            vec![format!("grant select on {schema}.{name} to {user};")]
        }
        Engine::Sqlserver => {
            let quoted = |name: &str| format!("[{}]", name.replace(']', "]]"));
            let (schema, name, user) = (quoted(schema), quoted(name), quoted(user));
            vec![format!("grant select on {schema}.{name} to {user};")]
        }
    }
}

/// A text as TOML writes it.
pub(super) fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}
