//! The admin interface's packets, through the real client: a conversation with the lab in which one turn is replaced.

use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use lab::nodes::Nodes;
use lab::proxysql::ProxySql;
use proxysql_stonith::proxysql::{Admin, ObserveError, Settings, observe, probe};
use proxysql_stonith::secret::{Credential, Secret};
use stonith_core::node::Node;
use stonith_core::observed::ProxyView;
use stonith_core::policy::Policy;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::decision::of_proxy;
use super::may_be_said;
use super::server::{Said, Script, Stage};

/// Packets of a real ProxySQL, for what the lab does not say in this conversation.
const RECORDED: &str = include_str!("../packets.txt");

/// Far longer than anything here takes: what hangs is a finding.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Is never sent as it is.
const PASSWORD: &str = "hunter2";

/// Each turn whole, each of its packets, and each recorded packet in place of the first.
pub fn seeds() -> Vec<Vec<u8>> {
    let recorded: Vec<Vec<u8>> = RECORDED.lines().filter(|line| !line.starts_with('#')).map(from_hex).collect();
    let mut seeds = Vec::new();
    for (at, turn) in (0..).zip(turns()) {
        seeds.push([&[at, 0], &turn[..]].concat());
        for (number, payload) in (1..).zip(payloads(turn)) {
            seeds.push([&[at, number], &payload[..]].concat());
        }
        seeds.extend(recorded.iter().map(|payload| [&[at, 1], &payload[..]].concat()));
    }
    seeds
}

fn from_hex(line: &str) -> Vec<u8> {
    let digits = line.split(' ').next().unwrap().as_bytes();
    let byte = |two: &[u8]| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

/// An input: which turn, which of its packets is replaced (0: the bytes are the turn), the bytes.
pub fn packets(bytes: &[u8]) -> bool {
    let [turn, packet, bytes @ ..] = bytes else { return false };
    let turn = usize::from(*turn) % turns().len();
    let mut changed = turns().to_vec();
    match packet.checked_sub(1) {
        None => changed[turn] = bytes.to_vec(),
        Some(packet) => {
            let mut payloads = payloads(&changed[turn]);
            let at = usize::from(packet) % payloads.len();
            payloads[at] = bytes.to_vec();
            changed[turn] = framed(&payloads, changed[turn][3]);
        }
    }
    match play(changed, Some(turn)) {
        Ok(view) => {
            of_proxy(view);
            true
        }
        Err(error) => {
            may_be_said(&error.to_string());
            false
        }
    }
}

/// Says these turns to the client; one of them is nothing that a ProxySQL said.
pub fn play(turns: Vec<Vec<u8>>, changed: Option<usize>) -> Result<ProxyView, ObserveError> {
    thread_local! {
        static STAGE: Stage = Stage::new();
    }
    let script: Script = Arc::new(move |turn, heard| {
        assert!(!heard.windows(PASSWORD.len()).any(|bytes| bytes == PASSWORD.as_bytes()), "I11: it said its password");
        assert!(may_be_heard(turn, heard), "turn {turn}: {heard:?}");
        match turns.get(turn) {
            // From there on nobody knows which turn is whose.
            Some(bytes) if changed.is_some_and(|changed| turn >= changed) => Said::Changed(bytes.clone()),
            Some(bytes) => Said::Well(bytes.clone()),
            None => Said::End,
        }
    });
    let began = Instant::now();
    let view = STAGE.with(|stage| stage.play(&script, converse(stage.port(), PASSWORD)));
    assert!(began.elapsed() < TIMEOUT, "it hung: {view:?}");
    view
}

/// The client says a login, a proof of 20 bytes, a statement or goodbye; nothing that a plugin of another name asked for.
fn may_be_heard(turn: usize, heard: &[u8]) -> bool {
    const LOGIN: &[u8] = b"mysql_native_password\0";
    let is_one = |packet: &[u8]| match packet {
        [20, 0, 0, _, proof @ ..] if turn == 2 => proof.len() == 20,
        [_, 0, 0, 1, login @ ..] if turn == 1 => login.ends_with(LOGIN),
        [_, _, _, 0, command @ ..] => matches!(command, [3, ..] | [1]),
        packet => packet.is_empty(),
    };
    is_one(heard)
}

async fn converse(port: u16, password: &str) -> Result<ProxyView, ObserveError> {
    let address = Node::new("127.0.0.1", port).unwrap();
    let credential = Credential { user: "radmin".to_owned(), password: Secret::new(password) };
    let mut admin =
        Admin::connect(&Settings { address, socket: None, credential, tls: None, timeout: TIMEOUT }).await?;
    let probed = probe(&mut admin, false).await?;
    observe(&mut admin, &probed, &Policy::default(), "us", None, 0).await.map(|seen| seen.view)
}

/// What the lab says in each turn of [`converse`], its greeting first: recorded once, so that it is what is asked today.
pub fn turns() -> &'static [Vec<u8>] {
    static TURNS: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    TURNS.get_or_init(|| {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(record())
    })
}

async fn record() -> Vec<Vec<u8>> {
    let proxy = ProxySql::start(Nodes::new(&["node01"]), lab::proxysql::Settings::default()).await.unwrap();
    for sql in [
        "INSERT INTO mysql_servers (hostgroup_id,hostname,comment) VALUES (10,'node01','it''s [x]'),(20,'node02','')",
        "UPDATE mysql_servers SET status='OFFLINE_SOFT',comment=' [stonith:1 superseded was=ONLINE]' WHERE hostname='node02'",
        "LOAD MYSQL SERVERS TO RUNTIME",
        "SAVE MYSQL SERVERS TO DISK",
    ] {
        proxy.query(sql).unwrap();
    }
    let between = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (port, behind) = (between.local_addr().unwrap().port(), proxy.address());
    let turns = Arc::new(Mutex::new(vec![Vec::new()]));
    let kept = turns.clone();
    tokio::spawn(async move {
        let (mut client, mut server) = (between.accept().await.unwrap().0, TcpStream::connect(behind).await.unwrap());
        let (mut asked, mut answered) = (vec![0; 65_536], vec![0; 65_536]);
        loop {
            tokio::select! {
                Ok(size @ 1..) = server.read(&mut answered) => {
                    kept.lock().unwrap().last_mut().unwrap().extend(&answered[..size]);
                    client.write_all(&answered[..size]).await.unwrap();
                }
                Ok(size @ 1..) = client.read(&mut asked) => {
                    kept.lock().unwrap().push(Vec::new());
                    server.write_all(&asked[..size]).await.unwrap();
                }
                else => return,
            }
        }
    });
    let view = converse(port, "radmin").await.unwrap();
    assert!(view.runtime.len() == 2 && view.pairs.len() == 1, "{view:?}");
    let mut turns = turns.lock().unwrap().clone();
    turns.retain(|turn| !turn.is_empty()); // the client's farewell gets no answer
    turns
}

/// A turn's packets, without their heads.
fn payloads(mut turn: &[u8]) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    while let [a, b, c, _, rest @ ..] = turn {
        let (payload, after) = rest.split_at(u32::from_le_bytes([*a, *b, *c, 0]) as usize);
        found.push(payload.to_vec());
        turn = after;
    }
    found
}

/// Packets with right heads.
fn framed(payloads: &[Vec<u8>], first: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (number, payload) in payloads.iter().enumerate() {
        let size = u32::try_from(payload.len()).unwrap().to_le_bytes();
        bytes.extend([size[0], size[1], size[2], first.wrapping_add((number % 256) as u8)]);
        bytes.extend(payload);
    }
    bytes
}
