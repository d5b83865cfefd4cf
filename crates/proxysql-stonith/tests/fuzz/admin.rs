//! The admin interface's packets: a recorded conversation of the real client with the lab, played back with changes.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use lab::nodes::Nodes;
use lab::proxysql::ProxySql;
use proxysql_stonith::proxysql::{Admin, AdminError, Credential, ObserveError, Settings, observe, version};
use proxysql_stonith::secret::Secret;
use stonith_core::node::Node;
use stonith_core::observed::ProxyView;
use stonith_core::policy::Policy;

use crate::mutation::{Mutator, fuzz};
use crate::server::{Said, Server};

/// The longest wait for one reply; the conversation has 13.
const TIMEOUT: Duration = Duration::from_millis(100);
/// A hung reply ends the conversation, so it costs one timeout and what a busy machine adds.
const LONGEST: Duration = Duration::from_secs(3);

async fn converse(address: SocketAddr, timeout: Duration) -> Result<ProxyView, ObserveError> {
    let address = Node::new("127.0.0.1", address.port()).unwrap();
    let credential = Credential { user: "radmin".to_owned(), password: Secret::new("radmin") };
    let mut admin = Admin::connect(&Settings { address, credential, timeout }).await?;
    version(&mut admin).await?;
    observe(&mut admin, &Policy::default(), "us").await
}

/// What the lab says in each turn of [`converse`]: its greeting first.
fn recorded() -> Vec<Vec<u8>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let proxy = runtime.block_on(ProxySql::start(Nodes::new(&["node01"]), lab::proxysql::Settings::default())).unwrap();
    for sql in [
        "INSERT INTO mysql_servers (hostgroup_id,hostname,comment) VALUES (10,'node01','it''s [x]'),(20,'node02','')",
        "UPDATE mysql_servers SET status='OFFLINE_SOFT',comment=' [stonith:1 superseded was=ONLINE]' WHERE hostname='node02'",
        "LOAD MYSQL SERVERS TO RUNTIME",
        "SAVE MYSQL SERVERS TO DISK",
    ] {
        proxy.query(sql).unwrap();
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let between = listener.local_addr().unwrap();
    let turns = Arc::new(Mutex::new(Vec::new()));
    let (kept, behind) = (turns.clone(), proxy.address());
    std::thread::spawn(move || {
        let (mut client, mut server) = (listener.accept().unwrap().0, TcpStream::connect(behind).unwrap());
        server.set_read_timeout(Some(Duration::from_millis(30))).unwrap();
        let mut buffer = vec![0; 65_536];
        loop {
            let mut said = Vec::new();
            while let Ok(size @ 1..) = server.read(&mut buffer) {
                said.extend(&buffer[..size]);
            }
            if said.is_empty() || client.write_all(&said).is_err() {
                return;
            }
            kept.lock().unwrap().push(said);
            let Ok(size @ 1..) = client.read(&mut buffer) else { return };
            server.write_all(&buffer[..size]).unwrap();
        }
    });
    let view = runtime.block_on(converse(between, Duration::from_secs(5))).unwrap();
    assert!(view.runtime.len() == 2 && view.pairs.len() == 1, "{view:?}");
    let turns = turns.lock().unwrap().clone();
    assert!(turns.len() >= 12, "{} turns", turns.len());
    turns
}

/// One turn's packets, without their heads.
fn payloads(mut turn: &[u8]) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    while let [a, b, c, _, rest @ ..] = turn {
        let (payload, after) = rest.split_at(u32::from_le_bytes([*a, *b, *c, 0]) as usize);
        found.push(payload.to_vec());
        turn = after;
    }
    found
}

/// A changed turn: its bytes as they are, or one packet's payload with a right head, so that it is read.
fn mutated(mutator: &mut Mutator, turn: &[u8]) -> Vec<u8> {
    if mutator.0.u8(0..3) == 0 {
        return mutator.mutated(&[turn.to_vec()]);
    }
    let mut payloads = payloads(turn);
    let at = mutator.0.usize(0..payloads.len());
    payloads[at] = mutator.mutated(&[payloads[at].clone()]);
    let mut bytes = Vec::new();
    for (number, payload) in payloads.iter().enumerate() {
        bytes.extend(&u32::try_from(payload.len()).unwrap().to_le_bytes()[..3]);
        bytes.push(turn[3].wrapping_add(u8::try_from(number % 256).unwrap()));
        bytes.extend(payload);
    }
    bytes
}

/// A server that says these turns, whatever it hears.
struct Player {
    server: Server,
    runtime: tokio::runtime::Runtime,
}

impl Player {
    fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { server: Server::start(), runtime }
    }

    fn play(&self, turns: Vec<Vec<u8>>, close: bool, timeout: Duration) -> Result<ProxyView, ObserveError> {
        let (first, last) = (std::cell::Cell::new(None), turns.len() - 1);
        self.server.script(move |number, turn, _| {
            let ours = *first.get().get_or_insert(number);
            first.set(Some(ours));
            // A connection of an earlier run gets nothing.
            let bytes = turns.get(turn).filter(|_| number == ours)?.clone();
            Some(if close && turn == last { Said::Last(bytes) } else { Said::Bytes(bytes) })
        });
        let began = Instant::now();
        let view = self.runtime.block_on(converse(self.server.address, timeout));
        assert!(began.elapsed() < LONGEST, "it hung for {:?}", began.elapsed());
        view
    }
}

#[test]
fn a_conversation_that_nobody_touched_is_understood_and_one_gone_mad_is_an_error() {
    let (turns, player) = (recorded(), Player::start());
    assert_eq!(player.play(turns.clone(), false, LONGEST).unwrap().runtime.len(), 2);
    // The driver panics on each of these.
    let empty = [0, 0, 0, 1].to_vec();
    let columns = [&[9, 0, 0, 1, 0xfe][..], &[0xff; 8]].concat();
    for packet in [empty, columns] {
        for at in 2..turns.len() {
            let mut changed = turns.clone();
            changed[at] = packet.clone();
            let error = player.play(changed, true, LONGEST).expect_err("it makes no sense");
            assert!(matches!(error, ObserveError::Admin(AdminError::Lost { .. })), "turn {at}: {error}");
        }
    }
}

#[test]
fn any_packets_are_an_answer_or_an_error() {
    let (turns, player) = (recorded(), Player::start());
    let (mut understood, mut refused) = (0, 0);
    fuzz("packets", 150, |mutator| {
        let at = mutator.0.usize(0..turns.len());
        let mut changed = turns.clone();
        changed[at] = mutated(mutator, &turns[at]);
        match player.play(changed, mutator.0.bool(), TIMEOUT) {
            Ok(_) => understood += 1,
            Err(error) => {
                assert!(!error.to_string().is_empty());
                refused += 1;
            }
        }
    });
    assert!(std::env::var("FUZZ_RUNS").is_ok() || (understood > 15 && refused > 15), "{understood} {refused}");
}
