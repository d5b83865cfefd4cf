//! The protocol byte by byte (FACTS §1, [5-admin]).

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use lab::proxysql::ProxySql;

use super::{quick, start};

const PLUGIN_AUTH: u32 = 0x0008_0000;
const PROTOCOL_41: u32 = 0x0000_0200;
const SECURE_CONNECTION: u32 = 0x0000_8000;

struct Client(TcpStream);

impl Client {
    async fn send(&mut self, sequence: u8, packet: &[u8]) {
        let mut bytes = (packet.len() as u32).to_le_bytes()[..3].to_vec();
        bytes.push(sequence);
        bytes.extend(packet);
        self.0.write_all(&bytes).await.unwrap();
    }

    /// Sequence number and payload.
    async fn receive(&mut self) -> (u8, Vec<u8>) {
        let mut head = [0; 4];
        self.0.read_exact(&mut head).await.unwrap();
        let mut packet = vec![0; u32::from_le_bytes([head[0], head[1], head[2], 0]) as usize];
        self.0.read_exact(&mut packet).await.unwrap();
        (head[3], packet)
    }

    /// Logs a user without a password in; what came after the greeting.
    async fn log_in(proxy: &ProxySql, plugin: &str) -> (Self, Vec<u8>) {
        proxy.set_users(vec![("nobody".to_owned(), String::new())]);
        let mut client = Self(TcpStream::connect(proxy.address()).await.unwrap());
        let (sequence, greeting) = client.receive().await;
        assert_eq!((sequence, &greeting[..8]), (0, b"\x0a8.0.30\0".as_slice()));
        let mut hello = (PLUGIN_AUTH | PROTOCOL_41 | SECURE_CONNECTION).to_le_bytes().to_vec();
        hello.extend([0; 28]);
        hello.extend(b"nobody\0\0");
        hello.extend(plugin.as_bytes());
        hello.push(0);
        client.send(1, &hello).await;
        let (sequence, answer) = client.receive().await;
        assert_eq!(sequence, 2);
        (client, answer)
    }

    async fn ask(&mut self, packet: &[u8]) -> (u8, Vec<u8>) {
        self.send(0, packet).await;
        self.receive().await
    }
}

#[tokio::test]
async fn a_caching_sha2_client_is_switched_to_native() {
    let (_nodes, proxy) = start(quick()).await;
    let (mut client, switch) = Client::log_in(&proxy, "caching_sha2_password").await;
    assert!(switch.starts_with(b"\xfemysql_native_password\0"), "{switch:?}");
    assert_eq!(switch.len(), 1 + 22 + 20 + 1);
    client.send(3, b"").await;
    assert_eq!(client.receive().await, (4, b"\0\0\0\x02\0\0\0".to_vec()));
    assert_eq!(client.ask(b"\x0e").await.1[0], 0, "COM_PING");
}

#[tokio::test]
async fn prepared_statements_are_refused_and_the_connection_lives_on() {
    let (_nodes, proxy) = start(quick()).await;
    let (mut client, ok) = Client::log_in(&proxy, "mysql_native_password").await;
    assert_eq!(ok[0], 0);
    assert_eq!(client.ask(b"\x16SELECT 1").await, (1, b"\xff\x15\x04#28000Command not supported".to_vec()));
    assert_eq!(client.ask(b"\x02main").await, (1, b"\0\0\0\x02\0\0\0".to_vec()), "COM_INIT_DB");
    assert_eq!(client.ask(b"\x03SET nosuch=1").await.1[7..], *b"\x29ERROR: Unknown global variable: 'nosuch'.");
}

#[tokio::test]
async fn a_reset_connection_is_answered_with_a_wrong_sequence_number() {
    let (_nodes, proxy) = start(quick()).await;
    let (mut client, _) = Client::log_in(&proxy, "mysql_native_password").await;
    assert_eq!(client.ask(b"\x1f").await.0, 2);
}

#[tokio::test]
async fn every_column_is_text_and_pipelined_statements_all_run_in_order() {
    let (_nodes, proxy) = start(quick()).await;
    let (mut client, _) = Client::log_in(&proxy, "mysql_native_password").await;
    for sql in ["\x03UPDATE mysql_servers SET weight=2", "\x03SELECT DISTINCT weight FROM mysql_servers"] {
        client.send(0, sql.as_bytes()).await;
    }
    assert_eq!(client.receive().await, (1, b"\0\x03\0\x02\0\0\0".to_vec()), "3 records matched");
    assert_eq!(client.receive().await, (1, vec![1]));
    let (_, column) = client.receive().await;
    let named = column.windows(6).position(|text| text == b"weight").unwrap();
    assert_eq!(column[named + 6 + 8], 0xfd, "VAR_STRING");
    assert_eq!(client.receive().await.1[0], 0xfe);
    assert_eq!(client.receive().await, (4, b"\x012".to_vec()));
    assert_eq!(client.receive().await.1[0], 0xfe);
    assert_eq!(proxy.statements().len(), 2);
    assert_eq!(proxy.writes(), 1);
}
