//! A scripted SQL Server: TDS 7.4 on loopback before a small database that changes, with faults on
//! demand. It answers what the engine sends and nothing else.

mod answer;
pub mod model;
pub mod sql;
pub mod tls;
pub mod value;
mod wire;

use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::database::free_port;
use crate::process::wait_until_blocking;
use crate::province::Readable;

use self::answer::{Answer, answer};
use self::model::Database;
use self::tls::{Encryption, Stream};
use self::value::Value;
use self::wire::{ANSWER, ATTENTION, BATCH, Cursor, LOGIN, PRELOGIN, RPC, Tokens};

/// What goes wrong instead of an answer.
#[derive(Debug, Clone)]
pub enum Trouble {
    /// Nothing comes any more.
    Hang,
    /// The connection ends.
    Drop,
    /// The connection ends after this many rows of the answer.
    DropAfter(usize),
    /// An error with this number.
    Error(u32),
    /// The login is sent on to another server.
    Route(u16),
}

/// When and how often something goes wrong.
#[derive(Debug, Clone)]
struct Planned {
    /// A part of the statement; `login` stands for the login.
    sign: String,
    trouble: Trouble,
    times: usize,
}

#[derive(Debug)]
struct Shared {
    database: Mutex<Database>,
    planned: Mutex<Vec<Planned>>,
    statements: Mutex<Vec<String>>,
    transactions: AtomicU64,
    encryption: Mutex<Encryption>,
    password: String,
    /// The connections of this life of the server; `None` while it is stopped.
    lives: Mutex<Option<Vec<TcpStream>>>,
}

/// How long its port may be another's.
const PORT_WITHIN: Duration = Duration::from_secs(20);

/// A server on a port of its own; it ends with the test.
#[derive(Debug, Clone)]
pub struct SqlServer {
    shared: Arc<Shared>,
    port: u16,
}

impl SqlServer {
    /// Starts it; its one login has this password.
    ///
    /// # Panics
    /// When no port can be had.
    #[must_use]
    pub fn start(password: &str) -> Self {
        let shared = Arc::new(Shared {
            database: Mutex::new(Database::new()),
            planned: Mutex::new(Vec::new()),
            statements: Mutex::new(Vec::new()),
            transactions: AtomicU64::new(1),
            encryption: Mutex::new(Encryption::None),
            password: password.to_owned(),
            lives: Mutex::new(None),
        });
        let server = Self { shared, port: free_port() };
        server.resume();
        server
    }

    /// Starts it where it had stopped; its database is as it was left.
    ///
    /// # Panics
    /// When its port stays taken.
    pub fn resume(&self) {
        // A program that another test starts just then may hold what was open here until it runs.
        let mut listener = None;
        wait_until_blocking("the server's port", PORT_WITHIN, || {
            listener = TcpListener::bind(("127.0.0.1", self.port)).ok();
            listener.is_some()
        });
        let listener = listener.expect("it was waited for");
        *self.shared.lives() = Some(Vec::new());
        let shared = Arc::clone(&self.shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let Ok(other) = stream.try_clone() else { continue };
                match shared.lives().as_mut() {
                    Some(lives) => lives.push(other),
                    None => return,
                }
                let shared = Arc::clone(&shared);
                let Ok(end) = stream.try_clone() else { continue };
                std::thread::spawn(move || {
                    serve(&shared, stream);
                    // It is known among the lives as well, which would keep it open.
                    let _ = end.shutdown(std::net::Shutdown::Both);
                });
            }
        });
    }

    /// Ends it as a crash would: every connection breaks off where it is, and nobody listens.
    ///
    /// # Panics
    /// When it was not running, or its port does not become free.
    pub fn stop(&self) {
        let lives = self.shared.lives().take().expect("a running server");
        for life in lives {
            let _ = life.shutdown(std::net::Shutdown::Both);
        }
        let free = || {
            let _ = TcpStream::connect(("127.0.0.1", self.port)); // so that it notices
            TcpListener::bind(("127.0.0.1", self.port)).is_ok()
        };
        wait_until_blocking("the server's port to be free", PORT_WITHIN, free);
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The database, for a test to change; nobody reads meanwhile.
    pub fn database(&self) -> MutexGuard<'_, Database> {
        self.shared.database.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Protects the connections that come from now on so.
    pub fn encrypt(&self, encryption: Encryption) {
        *self.shared.encryption.lock().unwrap_or_else(PoisonError::into_inner) = encryption;
    }

    /// Lets the next `times` statements in which `sign` stands go wrong; `login` is the login.
    pub fn plan(&self, sign: &str, trouble: Trouble, times: usize) {
        let planned = Planned { sign: sign.to_owned(), trouble, times };
        self.planned().push(planned);
    }

    /// Whether everything that was planned happened.
    #[must_use]
    pub fn all_went_wrong(&self) -> bool {
        self.planned().iter().all(|planned| planned.times == 0)
    }

    /// Every statement received so far.
    #[must_use]
    pub fn statements(&self) -> Vec<String> {
        self.shared.statements.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn planned(&self) -> MutexGuard<'_, Vec<Planned>> {
        self.shared.planned.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Readable for SqlServer {
    fn engine(&self) -> &'static str {
        "sqlserver"
    }

    fn port(&self) -> u16 {
        self.port
    }

    fn name(&self) -> &'static str {
        "hotich"
    }

    fn schema(&self) -> &'static str {
        "dbo"
    }

    /// It has one login, whatever its name.
    fn make_login(&self, _user: &str, _password: &str) {}

    fn administer(&self, sql: &str) {
        self.database().administer(sql);
    }
}

impl Shared {
    fn lives(&self) -> MutexGuard<'_, Option<Vec<TcpStream>>> {
        self.lives.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn trouble(&self, statement: &str) -> Option<Trouble> {
        let mut planned = self.planned.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = |one: &&mut Planned| one.times > 0 && statement.contains(&one.sign);
        let due = planned.iter_mut().find(is_due)?;
        due.times -= 1;
        Some(due.trouble.clone())
    }
}

/// One connection, from its greeting to its end.
fn serve(shared: &Shared, mut stream: TcpStream) {
    let Some((PRELOGIN, _)) = wire::receive(&mut stream) else { return };
    let encryption = shared.encryption.lock().unwrap_or_else(PoisonError::into_inner).clone();
    // VERSION and ENCRYPTION.
    let greeting =
        [0, 0, 11, 0, 6, 1, 0, 17, 0, 1, 0xff, 11, 0, 0x1b, 0x5c, 0, 0, encryption.announced()];
    if !wire::send(&mut stream, ANSWER, &greeting) {
        return;
    }
    let Some(mut stream) = Stream::after_handshake(stream, &encryption) else { return };
    let Some((LOGIN, login)) = wire::receive(&mut stream) else { return };
    if !log_in(shared, &mut stream, &login) {
        return;
    }
    let mut snapshot = None;
    while let Some((kind, body)) = wire::receive(&mut stream) {
        if kind == ATTENTION {
            let mut tokens = Tokens::default();
            tokens.done(ATTENTION, false);
            if !wire::send(&mut stream, ANSWER, &tokens.0) {
                return;
            }
            continue;
        }
        let (sql, params) = request(kind, &body);
        if !reply(shared, &mut stream, (kind, &sql, &params), &mut snapshot) {
            return;
        }
    }
}

/// The login, with its password in the form it travels in.
fn log_in(shared: &Shared, stream: &mut Stream, login: &[u8]) -> bool {
    let part = |at: usize| {
        let number = |at: usize| usize::from(u16::from_le_bytes([login[at], login[at + 1]]));
        login[number(at)..number(at) + 2 * number(at + 2)].to_vec()
    };
    let plain: Vec<u8> = part(44).iter().map(|byte| (byte ^ 0xa5).rotate_left(4)).collect();
    let mut tokens = Tokens::default();
    let trouble = shared.trouble("login");
    let accepted = match trouble {
        Some(Trouble::Hang) => return wait_for_the_end(stream),
        Some(Trouble::Drop | Trouble::DropAfter(_)) => return false,
        Some(Trouble::Error(number)) => {
            tokens.error(number, "The login was refused by the script.");
            false
        }
        Some(Trouble::Route(port)) => {
            tokens.login_ack("hotich");
            tokens.route("127.0.0.1", port);
            true
        }
        None if wire::utf16(&plain) == shared.password => {
            tokens.login_ack("hotich");
            true
        }
        None => {
            tokens.error(18_456, "Login failed for user 'phusa'.");
            false
        }
    };
    tokens.done(BATCH, !accepted);
    wire::send(stream, ANSWER, &tokens.0) && accepted
}

/// Reads until the other side has had enough.
fn wait_for_the_end(stream: &mut Stream) -> bool {
    while wire::receive(stream).is_some() {}
    false
}

/// The statement of a request and its parameters in order.
fn request(kind: u8, body: &[u8]) -> (String, Vec<Value>) {
    let mut cursor = Cursor(body);
    cursor.skip_headers();
    if kind == BATCH {
        return (wire::utf16(cursor.0), Vec::new());
    }
    assert_eq!((kind, cursor.u16(), cursor.u16()), (RPC, 0xffff, 10), "sp_executesql is expected");
    cursor.u16();
    let mut params = Vec::new();
    while !cursor.0.is_empty() {
        params.push(cursor.parameter());
    }
    let Value::Text(sql) = &params[0].1 else { panic!("a statement is text") };
    let sql = String::from_utf16_lossy(sql);
    (sql, params.into_iter().skip(2).map(|(_, value)| value).collect())
}

/// Answers one request; false when the connection is over.
fn reply(
    shared: &Shared,
    stream: &mut Stream,
    (kind, sql, params): (u8, &str, &[Value]),
    snapshot: &mut Option<Database>,
) -> bool {
    shared.statements.lock().unwrap_or_else(PoisonError::into_inner).push(sql.to_owned());
    let trouble = shared.trouble(sql);
    let mut tokens = Tokens::default();
    let mut failed = false;
    match &trouble {
        Some(Trouble::Hang) => return wait_for_the_end(stream),
        Some(Trouble::Drop) => return false,
        Some(Trouble::Error(number)) => {
            tokens.error(*number, "The script says so.");
            failed = true;
        }
        Some(Trouble::DropAfter(_) | Trouble::Route(_)) | None => {}
    }
    let mut database = shared.database.lock().unwrap_or_else(PoisonError::into_inner);
    if failed {
    } else if sql == "begin transaction" {
        *snapshot = Some(database.clone());
        tokens.transaction(Some(shared.transactions.fetch_add(1, Ordering::Relaxed)));
    } else if sql == "commit transaction" {
        *snapshot = None;
        tokens.transaction(None);
    } else {
        let seen = snapshot.as_mut().unwrap_or(&mut database);
        match answer(seen, sql, params) {
            Answer::Done => {}
            Answer::Error(number, words) => {
                tokens.error(number, &words);
                failed = true;
            }
            Answer::Rows(columns, rows) => {
                tokens.columns(&columns);
                for (sent, row) in rows.iter().enumerate() {
                    if matches!(trouble, Some(Trouble::DropAfter(count)) if count == sent) {
                        drop(database);
                        wire::send(stream, ANSWER, &tokens.0);
                        return false;
                    }
                    tokens.row(&columns, row);
                }
            }
        }
    }
    drop(database);
    tokens.done(kind, failed);
    wire::send(stream, ANSWER, &tokens.0)
}
