//! The line to a collector: TCP, TLS or UDP, or a file beside the hub.
//!
//! Nothing is waited for without a bound. What TCP could not have acknowledged within
//! [`ACKNOWLEDGED_WITHIN`] breaks the line, so that a line that stands has delivered what is older.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use phusa_protocol::fault::{Code, Fault};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::fs::{File, OpenOptions};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use super::message::{Event, Form};

/// How long a connection and its handshake may take.
const OPENS_WITHIN: Duration = Duration::from_secs(5);

/// How long TCP tries to have what was sent acknowledged.
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(10);

/// How long a collector that is told of the end may take to close its side.
const CLOSES_WITHIN: Duration = Duration::from_secs(2);

/// How a collector is reached.
#[derive(Clone)]
pub enum Way {
    /// Plain TCP.
    Tcp {
        /// Host and port.
        to: (String, u16),
    },
    /// TLS over TCP.
    Tls {
        /// Host and port.
        to: (String, u16),
        /// The name its certificate must have.
        name: ServerName<'static>,
        /// Whom to believe, and who the hub is.
        config: Arc<ClientConfig>,
    },
    /// One datagram each.
    Udp {
        /// Host and port.
        to: (String, u16),
    },
    /// A file that something else reads.
    File {
        /// The file.
        path: PathBuf,
        /// At this size the hub waits until somebody has taken it away.
        bytes_max: u64,
    },
}

impl std::fmt::Debug for Way {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp { to } => write!(f, "Tcp({to:?})"),
            Self::Tls { to, .. } => write!(f, "Tls({to:?})"),
            Self::Udp { to } => write!(f, "Udp({to:?})"),
            Self::File { path, .. } => write!(f, "File({})", path.display()),
        }
    }
}

trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// An open line.
pub struct Line(Open);

enum Open {
    Stream(Box<dyn Duplex>),
    Udp(UdpSocket),
    File { path: PathBuf, bytes_max: u64 },
}

impl std::fmt::Debug for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match &self.0 {
            Open::Stream(_) => "Line(stream)",
            Open::Udp(_) => "Line(udp)",
            Open::File { .. } => "Line(file)",
        })
    }
}

impl Way {
    /// Opens the line.
    ///
    /// # Errors
    /// When nobody answers in time, or not with a certificate that is believed.
    pub async fn open(&self) -> io::Result<Line> {
        match timeout(OPENS_WITHIN, self.connect()).await {
            Ok(opened) => opened.map(Line),
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "no answer in time")),
        }
    }

    async fn connect(&self) -> io::Result<Open> {
        Ok(match self {
            Self::Tcp { to } => Open::Stream(Box::new(tcp(to).await?)),
            Self::Tls { to, name, config } => {
                let connector = tokio_rustls::TlsConnector::from(Arc::clone(config));
                Open::Stream(Box::new(connector.connect(name.clone(), tcp(to).await?).await?))
            }
            Self::Udp { to } => {
                let mut addresses = tokio::net::lookup_host((to.0.as_str(), to.1)).await?;
                let address = addresses
                    .next()
                    .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no such host"))?;
                let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
                let socket = UdpSocket::bind(any).await?;
                socket.connect(address).await?;
                Open::Udp(socket)
            }
            Self::File { path, bytes_max } => {
                drop(appended(path).await?);
                Open::File { path: path.clone(), bytes_max: *bytes_max }
            }
        })
    }

    /// Whether what was written is there for good at once.
    #[must_use]
    pub fn is_sure(&self) -> bool {
        matches!(self, Self::File { .. })
    }

    /// The fault of a collector that is not reached.
    #[must_use]
    pub fn unreachable(to: &str, error: io::Error) -> Fault {
        Fault::because(Code::SiemUnreachable, format!("cannot send to {to}"), error)
    }
}

async fn tcp(to: &(String, u16)) -> io::Result<TcpStream> {
    let stream = TcpStream::connect((to.0.as_str(), to.1)).await?;
    let socket = socket2::SockRef::from(&stream);
    socket.set_tcp_user_timeout(Some(ACKNOWLEDGED_WITHIN))?;
    let alive = socket2::TcpKeepalive::new().with_time(ACKNOWLEDGED_WITHIN);
    socket.set_tcp_keepalive(&alive.with_interval(ACKNOWLEDGED_WITHIN / 4))?;
    Ok(stream)
}

async fn appended(path: &PathBuf) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o640).open(path).await
}

impl Line {
    /// Sends events in order.
    ///
    /// # Errors
    /// When the line breaks or stands still; some of them may have arrived.
    pub async fn send(&mut self, events: &[&Event], form: Form, host: &str) -> io::Result<()> {
        let framed =
            || events.iter().flat_map(|event| event.framed(form, host)).collect::<Vec<u8>>();
        let sending = async {
            match &mut self.0 {
                Open::Stream(stream) => {
                    stream.write_all(&framed()).await?;
                    stream.flush().await
                }
                Open::Udp(socket) => {
                    for event in events {
                        socket.send(&event.syslog(host)).await?;
                    }
                    Ok(())
                }
                // Opened by its name each time: whoever rotates it moves it away.
                Open::File { path, bytes_max } => {
                    let mut file = appended(path).await?;
                    let bytes = framed();
                    let length = file.metadata().await?.len();
                    if length.saturating_add(bytes.len() as u64) > *bytes_max {
                        let full = "the file is full: it waits until somebody takes it away";
                        return Err(io::Error::new(io::ErrorKind::FileTooLarge, full));
                    }
                    let written = async {
                        file.write_all(&bytes).await?;
                        file.flush().await?;
                        file.sync_data().await
                    };
                    let written = written.await;
                    if written.is_err() {
                        // Half a line would be no line.
                        file.set_len(length).await?;
                    }
                    written
                }
            }
        };
        match timeout(ACKNOWLEDGED_WITHIN, sending).await {
            Ok(sent) => sent,
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the collector takes nothing")),
        }
    }

    /// Waits until the collector is gone; for ever while it is there. What it says is not looked at.
    pub async fn gone(&mut self) -> io::Error {
        let mut said = [0; 512];
        loop {
            let read = match &mut self.0 {
                Open::Stream(stream) => stream.read(&mut said).await,
                Open::Udp(socket) => socket.recv(&mut said).await.map(|_| 1),
                Open::File { .. } => std::future::pending().await,
            };
            match read {
                Ok(0) => return io::Error::new(io::ErrorKind::UnexpectedEof, "it closed the line"),
                Ok(_) => {}
                Err(error) => return error,
            }
        }
    }

    /// Ends the line; true when the collector has everything that was sent: it read to the end.
    pub async fn close(mut self) -> bool {
        let Open::Stream(stream) = &mut self.0 else { return matches!(self.0, Open::File { .. }) };
        if stream.shutdown().await.is_err() {
            return false;
        }
        let closed = timeout(CLOSES_WITHIN, self.gone()).await;
        closed.is_ok_and(|error| error.kind() == io::ErrorKind::UnexpectedEof)
    }
}

#[cfg(test)]
mod tests {
    use super::super::message::{About, Severity};
    use super::*;
    use phusa_protocol::time::Timestamp;

    fn event(text: &str) -> Event {
        let about = (About::Audit, Severity::Notice);
        Event::new(Timestamp::UNIX_EPOCH, about, "x", text)
    }

    #[tokio::test]
    async fn a_file_is_written_on_after_it_was_taken_away_and_never_past_its_size() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("siem.jsonl");
        let way = Way::File { path: path.clone(), bytes_max: 400 };
        let mut line = way.open().await.unwrap();
        let (one, two) = (event("one"), event("two"));
        line.send(&[&one, &two], Form::Json, "h").await.unwrap();
        let full = line.send(&[&one, &two], Form::Json, "h").await.unwrap_err();
        assert_eq!(full.kind(), io::ErrorKind::FileTooLarge);
        let moved = dir.path().join("siem.1");
        std::fs::rename(&path, &moved).unwrap();
        line.send(&[&two], Form::Json, "h").await.unwrap();
        let lines = |path| std::fs::read_to_string(path).unwrap().lines().count();
        assert_eq!((lines(&moved), lines(&path)), (2, 1));
    }

    #[tokio::test]
    async fn a_datagram_holds_one_message_without_a_count() {
        let receiver = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let to = ("127.0.0.1".to_owned(), receiver.local_addr().unwrap().port());
        let mut line = Way::Udp { to }.open().await.unwrap();
        line.send(&[&event("one"), &event("two")], Form::Syslog, "h").await.unwrap();
        let mut bytes = [0; 2048];
        for expected in ["one", "two"] {
            let length = receiver.recv(&mut bytes).await.unwrap();
            let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
            assert!(text.starts_with("<109>1 1970-") && text.ends_with(expected), "{text}");
        }
        drop(receiver);
        // The first is lost without a word; the answer to it breaks the line.
        let _ = line.send(&[&event("three")], Form::Syslog, "h").await;
        assert_eq!(line.gone().await.kind(), io::ErrorKind::ConnectionRefused);
    }

    #[tokio::test]
    async fn an_orderly_end_is_known_from_a_broken_line() {
        for reads in [true, false] {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let to = ("127.0.0.1".to_owned(), listener.local_addr().unwrap().port());
            let mut line = Way::Tcp { to }.open().await.unwrap();
            let (mut stream, _) = listener.accept().await.unwrap();
            line.send(&[&event("one")], Form::Syslog, "h").await.unwrap();
            let close = line.close();
            let end = async {
                let mut all = Vec::new();
                if reads {
                    stream.read_to_end(&mut all).await.unwrap();
                }
                drop(stream);
            };
            let (has_all, ()) = tokio::join!(close, end);
            assert_eq!(has_all, reads);
        }
    }
}
