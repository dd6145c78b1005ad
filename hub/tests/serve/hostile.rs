//! Bad neighbours: agents with good keys, and machines without any, that say everything out of turn, too
//! large, too slowly and without end. Each is ended by a bound; the hub's memory keeps to its own, and
//! a good agent goes on delivering all the while.

use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use phusa_protocol::batch::{Phase, SignedHeader, commitment};
use phusa_protocol::change::Op;
use phusa_protocol::fault::Code;
use phusa_protocol::frame::{self, BODY_BYTES_MAX};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;

use crate::world::{Sender, World};

const GOOD: &str = "H57.12/may-1";
const BAD: &str = "H57.13/may-2";

/// A good delivery may take so long beside all that, on a machine that is busy with much else.
const GOOD_WITHIN: Duration = Duration::from_secs(20);

/// How much later than its bound an end may be seen.
const SLACK: Duration = Duration::from_secs(15);

/// TCP from an address of its own, so that what is counted by address is.
async fn tcp(from: [u8; 4], port: u16) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from((from, 0)))?;
    socket.connect(SocketAddr::from(([127, 0, 0, 1], port))).await
}

/// A connection with the certificate of an agent.
async fn tls(world: &World, agent: &str, port: u16) -> TlsStream<TcpStream> {
    let own = world.path("agents").join(agent.replace('/', "__"));
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(own.join("ca.pem")).unwrap()).unwrap();
    let chain = CertificateDer::pem_file_iter(own.join("agent.pem")).unwrap();
    let chain = chain.collect::<Result<Vec<_>, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_file(own.join("agent.key")).unwrap();
    let config = ClientConfig::builder().with_root_certificates(roots);
    let config = config.with_client_auth_cert(chain, key).unwrap();
    let stream = tcp([127, 0, 0, 3], port).await.unwrap();
    let name = ServerName::try_from("127.0.0.1").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap()
}

/// Writes the parts with a second between them, then nothing, until the other side has had enough;
/// what it said, and after how long.
async fn ended<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    parts: Vec<Vec<u8>>,
    within: Duration,
) -> (String, Duration) {
    let began = Instant::now();
    let (mut parts, mut said) = (parts.into_iter(), Vec::new());
    let ending = async {
        let mut more = parts.next();
        loop {
            let mut bytes = [0; 4096];
            tokio::select! {
                read = stream.read(&mut bytes) => match read {
                    Ok(0) | Err(_) => return,
                    Ok(count) => said.extend_from_slice(&bytes[..count]),
                },
                // The pace of whoever is slow on purpose; nothing waits for it.
                () = tokio::time::sleep(Duration::from_secs(1)), if more.is_some() => {
                    let part = more.take().unwrap();
                    if stream.write_all(&part).await.is_err() || stream.flush().await.is_err() {
                        return;
                    }
                    more = parts.next();
                }
            }
        }
    };
    let in_time = tokio::time::timeout(within + SLACK, ending).await.is_ok();
    assert!(in_time, "still open after {:?}", within + SLACK);
    (String::from_utf8_lossy(&said).into_owned(), began.elapsed())
}

/// The same bytes one by one, for ever as far as this test goes.
fn dribble(bytes: &[u8]) -> Vec<Vec<u8>> {
    bytes.iter().chain(std::iter::repeat(&b'a')).take(200).map(|byte| vec![*byte]).collect()
}

/// A good agent that delivers again and again, over an old connection and over new ones, until told;
/// its slowest delivery.
async fn good(world: &World, agent: &mut Sender, until: &CancellationToken) -> (i64, Duration) {
    let (mut id, mut slowest) = (0, Duration::ZERO);
    while !until.is_cancelled() {
        id += 1;
        let began = Instant::now();
        let batch = agent.seal(Phase::Read, false, &[(Op::Snapshot, id, "x")]);
        // What an agent is asked to wait for, it sends again.
        while let Err(refused) = agent.send(&batch).await {
            assert_eq!(refused.code, Code::HubBusy, "{}", refused.what);
        }
        let fresh = world.sender(GOOD);
        assert!(fresh.hello().await.is_ok(), "whoever comes new is let in");
        slowest = slowest.max(began.elapsed());
        assert!(slowest < GOOD_WITHIN, "{slowest:?}");
        let pause = tokio::time::sleep(Duration::from_millis(200));
        until.run_until_cancelled(pause).await;
    }
    (id, slowest)
}

/// Runs `bad` while a good agent delivers, and sees that nothing of that one is missing, that the hub
/// took at most so many mebibytes more than before, and that the log verifies.
async fn beside_a_good_agent(world: World, mib_max: u64, bad: impl AsyncFnOnce(&World)) {
    let before = world.memory_mib();
    let done = CancellationToken::new();
    let mut agent = world.sender(GOOD);
    let (delivered, ()) = tokio::join!(good(&world, &mut agent, &done), async {
        bad(&world).await;
        done.cancel();
    });
    let (rows, slowest) = delivered;
    let grown = world.memory_mib().saturating_sub(before);
    println!(
        "{rows} good deliveries, the slowest in {slowest:?}; the hub grew by {grown} MiB from {before} MiB"
    );
    assert_eq!(world.names().await.len(), usize::try_from(rows).unwrap());
    assert!(grown <= mib_max, "{grown} MiB more than before");
    assert_eq!(u64::try_from(rows).unwrap(), world.log_verify()["accepted"].as_u64().unwrap());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_slow_on_purpose_is_cut_at_each_step() {
    const HEAD: &str = "POST /v1/batch HTTP/1.1\r\nHost: a\r\n";
    let connect = b"\x10\x18\x00\x04MQTT\x04\x02\x00\x02\x00\x0cH57.13/may-2";
    beside_a_good_agent(World::start().await, 100, async |world| {
        let (port, link) = (world.port(), world.link_port());
        let mut all = JoinSet::new();
        let seconds = Duration::from_secs;
        // Before and within TLS: silence, a dribbled greeting, a length that never comes.
        for (to, parts) in [
            (port, Vec::new()),
            (port, dribble(&[22, 3, 1, 0, 250, 1, 0, 0, 246, 3, 3])),
            (port, vec![vec![22, 3, 1, 0x40, 0, 1, 0, 0x3f, 0xfc, 3, 3]]),
            (link, Vec::new()),
            (link, dribble(&[22, 3, 1, 0, 250])),
        ] {
            let stream = tcp([127, 0, 0, 2], to).await.unwrap();
            all.spawn(async move {
                let (_, after) = ended(stream, parts, seconds(10)).await;
                assert!(after > seconds(5), "a handshake has ten seconds: {after:?}");
            });
        }
        // Within HTTP: a head without end, and bodies that stop or come byte by byte.
        let announced =
            |length: usize| format!("{HEAD}Content-Length: {length}\r\n\r\n").into_bytes();
        for (parts, within, words) in [
            (dribble(HEAD.as_bytes()), 120, ""),
            (vec![announced(BODY_BYTES_MAX)], 30, "frame_damaged"),
            (vec![announced(5_000), vec![b'P']], 30, "frame_damaged"),
        ] {
            let stream = tls(world, BAD, port).await;
            all.spawn(async move {
                let (said, after) = ended(stream, parts, seconds(within)).await;
                assert!(said.contains(words), "{words} is not in {said:?}");
                println!("{within} s: ended after {after:?}");
            });
        }
        // Within MQTT: no first packet, half of one, and half of a later one.
        let half = [&connect[..], &[0x30, 0x80, 0x10, 0]].concat();
        for (parts, within) in [
            (Vec::new(), 10),
            (dribble(&connect[..10]), 10),
            // It said itself that two seconds of silence are too many.
            (vec![half], 4),
        ] {
            let stream = tls(world, BAD, link).await;
            all.spawn(async move { drop(ended(stream, parts, seconds(within)).await) });
        }
        while let Some(one) = all.join_next().await {
            one.unwrap();
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_too_large_or_out_of_turn_is_refused_by_name() {
    beside_a_good_agent(World::start().await, 700, async |world| {
        let (port, link) = (world.port(), world.link_port());
        let batch = world.sender(BAD).seal(Phase::Read, false, &[(Op::Snapshot, 1, "x")]);
        let frame = frame::encode(&batch);
        let request = |path: &str, head: &str, body: &[u8]| {
            let head = format!("POST {path} HTTP/1.1\r\nHost: a\r\n{head}\r\n");
            [head.as_bytes(), body].concat()
        };
        let with = |path: &str, body: &[u8]| {
            request(path, &format!("Content-Length: {}\r\nConnection: close\r\n", body.len()), body)
        };
        let huge = format!("X: {}\r\n", "a".repeat(2 << 20));
        let (hello, length) = (br#"{"protocol":1}"#, BODY_BYTES_MAX * 2);
        for (bytes, expected) in [
            (with("/v1/hello", &frame), "protocol_version"),
            (with("/v1/batch", hello), "frame_damaged"),
            (with("/v1/digest", &frame), "protocol_version"),
            (with("/v1/proof", hello), "protocol_version"),
            (with("/v1/contract/approve", hello), "protocol_version"),
            (with("/v1/list", b"[]"), "protocol_version"),
            (with("/v1/batch", &frame), "not_owner"),
            (with("/v1/nothing", hello), "404"),
            (b"GET /v1/batch HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".to_vec(), "405"),
            (
                request(
                    "/v1/batch",
                    &format!("Content-Length: {length}\r\nConnection: close\r\n"),
                    b"",
                ),
                "batch_too_large",
            ),
            (
                request("/v1/batch", "Transfer-Encoding: chunked\r\n", b"5\r\nabcde\r\n"),
                "frame_damaged",
            ),
            // It is cut while it is still being sent, and its answer with it.
            (request("/v1/batch", &huge, b""), ""),
            (b"\x16\x03\x01 no HTTP at all\r\n\r\n".to_vec(), "400"),
        ] {
            let mut stream = tls(world, BAD, port).await;
            // A hub that has heard enough may close before it has all.
            let _cut = stream.write_all(&bytes).await;
            let (said, _) = ended(stream, Vec::new(), Duration::from_secs(20)).await;
            assert!(said.contains(expected), "{expected} is not in {said:?}");
        }
        // Packets that no agent has a reason to send, one too large to be any, and no packets.
        for bytes in [
            &b"\x20\x02\x00\x00"[..],
            b"\x30\xff\xff\xff\x7f",
            b"\xf0\xff garbage",
            b"\x10\xff\xff\x7f",
        ] {
            let mut stream = tls(world, BAD, link).await;
            let _cut = stream.write_all(bytes).await;
            let (said, after) = ended(stream, Vec::new(), Duration::from_secs(1)).await;
            assert!(said.is_empty() && after < SLACK, "{said:?}");
        }
        bombs(world).await;
        impossible_counts(world).await;
    })
    .await;
}

/// Counts that no body can have: the refusal stands in the log with them, and is shown.
async fn impossible_counts(world: &World) {
    let mut sender = world.sender(GOOD);
    sender.begin_epoch();
    let mut batch = sender.seal(Phase::Read, false, &[]);
    let mut header = batch.signed.header.clone();
    (header.counts.snapshot, header.counts.delete) = (u64::MAX, u64::MAX);
    batch.signed = SignedHeader::sign(header, &sender.signing_key);
    let refused = sender.send(&batch).await.unwrap_err();
    assert_eq!(refused.code, Code::ContractViolation, "{}", refused.what);
    assert!(world.run(&["log", "export"]).contains(&u64::MAX.to_string()));
}

/// Bodies of some kilobytes that unpack to a hundred mebibytes, as their headers say or not.
async fn bombs(world: &World) {
    let packed = frame::pack(vec![0; 100 << 20], 1).1;
    assert!(packed.len() < 64 << 10);
    let mut all = JoinSet::new();
    for at in 0..16_u64 {
        let mut sender = world.sender(GOOD);
        // A new epoch is what comes next, so that each is unpacked.
        sender.begin_epoch();
        let mut batch = sender.seal(Phase::Read, false, &[]);
        let mut header = batch.signed.header.clone();
        header.body_bytes = if at % 2 == 0 { 100 << 20 } else { 5 };
        header.commitment = commitment(&batch.salt, &packed);
        batch.signed = SignedHeader::sign(header, &sender.signing_key);
        batch.body.clone_from(&packed);
        all.spawn(async move { sender.send(&batch).await.unwrap_err().code });
    }
    while let Some(code) = all.join_next().await {
        let code = code.unwrap();
        let expected = [Code::ContractViolation, Code::FrameDamaged, Code::HubBusy];
        assert!(expected.contains(&code), "{code}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_connections_of_one_neighbour_and_bodies_without_end_leave_room_for_others() {
    const CONNECTIONS: usize = 10_000;
    beside_a_good_agent(World::start().await, 400, async |world| {
        let port = world.port();
        let mut open = Vec::with_capacity(CONNECTIONS);
        for _ in 0..CONNECTIONS {
            open.extend(tcp([127, 0, 0, 2], port).await);
        }
        println!("{} of {CONNECTIONS} connections came about", open.len());
        let held = open.iter().filter(|stream| is_open(stream)).count();
        println!("{held} of them are held; the hub has {} files open", world.files());
        assert!(held <= 1_024, "no more than an address may have: {held}");
        assert!(world.files() < 4_096);
        drop(open);
        let announced = b"POST /v1/batch HTTP/1.1\r\nHost: a\r\nContent-Length: 134217728\r\n\r\n";
        let mut all = JoinSet::new();
        for _ in 0..12 {
            let mut stream = tls(world, BAD, port).await;
            all.spawn(async move {
                stream.write_all(announced).await.unwrap();
                let piece = vec![b'x'; 1 << 20];
                let endless = async { while stream.write_all(&piece).await.is_ok() {} };
                tokio::time::timeout(Duration::from_secs(60), endless).await.is_ok()
            });
        }
        while let Some(ended) = all.join_next().await {
            assert!(ended.unwrap(), "what is longer than announced is cut");
        }
    })
    .await;
}

/// Whether the other side has not closed it yet.
fn is_open(stream: &TcpStream) -> bool {
    let read = stream.try_read(&mut [0; 1]);
    read.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
}

impl World {
    /// What the hub's process takes of memory, at its most.
    fn memory_mib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.hub_id())).unwrap();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        peak.trim().trim_end_matches(" kB").parse::<u64>().unwrap() >> 10
    }

    /// Files and connections it has open.
    fn files(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.hub_id())).unwrap().count()
    }
}
