//! The admin interface byte by byte, as recorded: greeting, logins, commands and their answers.

use lab::proxysql::ProxySql;

use crate::admin_client::{Client, LONG_PASSWORD, PLUGIN_AUTH, PROTOCOL_41, Packet, SECURE_CONNECTION};
use crate::compare::form;
use crate::python::Value;
use crate::recordings::{Kind, of, read};
use crate::statements;

const LONG_FLAG: u32 = 0x0000_0004;
const CONNECT_WITH_DB: u32 = 0x0000_0008;
const TRANSACTIONS: u32 = 0x0000_2000;
const DEPRECATE_EOF: u32 = 0x0100_0000;
const MULTI_STATEMENTS: u32 = 0x0001_0000;
const FLAGS: u32 = LONG_PASSWORD | PROTOCOL_41 | SECURE_CONNECTION | PLUGIN_AUTH;

/// What ProxySQL had when the bytes were recorded: a row more than when the statements were.
async fn lab() -> ProxySql {
    let proxy = statements::lab("2.7.1").await;
    proxy.query("INSERT INTO mysql_servers (hostgroup_id,hostname) VALUES (10,'x4')").unwrap();
    proxy
}

fn bytes(value: &Value) -> Vec<u8> {
    if let Value::Bytes(bytes) = value { bytes.clone() } else { panic!("no bytes: {value:?}") }
}

/// `(SEQUENCE, BYTES)`.
fn packet(value: &Value) -> Packet {
    let [sequence, payload] = value.list() else { panic!("no packet: {value:?}") };
    (sequence.text().unwrap().parse().unwrap(), bytes(payload))
}

fn packets(text: &str) -> Vec<Packet> {
    Value::parse(text).unwrap_or_else(|| panic!("{text}")).list().iter().map(packet).collect()
}

/// A salt is another one each time.
fn without_salt(mut packet: Packet) -> Packet {
    if packet.1.first() == Some(&0xfe) && packet.1.len() > 40 {
        let at = packet.1.len() - 21;
        packet.1[at..at + 20].fill(b'?');
    }
    packet
}

/// Logs in as a line of the recording says.
async fn log_in(proxy: &ProxySql, how: &str) -> (Client, Packet) {
    let mut client = Client::connect(proxy.address()).await;
    let (mut flags, mut charset, mut password, mut plugin) = (FLAGS, 33, "radmin", "mysql_native_password");
    match how {
        "login" => {}
        "caching_sha2 plugin name with native scramble" => plugin = "caching_sha2_password",
        "unknown plugin" => plugin = "nosuch",
        "wrong pw" => password = "wrong",
        "empty auth response" => password = "",
        "without PLUGIN_AUTH cap" => flags &= !PLUGIN_AUTH,
        "DEPRECATE_EOF cap" => flags |= DEPRECATE_EOF,
        "MULTI_STATEMENTS then 2 stmts" => flags |= MULTI_STATEMENTS,
        // 999 as far as it fits into the one byte that it has.
        "charset 999?" => charset = (999_u16 & 0xff) as u8,
        _ => {
            let number = how.strip_prefix("charset ").unwrap_or_else(|| panic!("{how}"));
            charset = number.split(' ').next().unwrap().parse().unwrap();
        }
    }
    let answer = client.say_hello(flags, charset, "radmin", password, plugin).await;
    (client, answer)
}

#[tokio::test]
async fn the_recorded_bytes_are_the_labs() {
    let mut exchanges = 0;
    for path in of(Kind::Bytes) {
        let proxy = lab().await;
        let mut client = None;
        for line in read(&path).lines() {
            exchanges += 1;
            let (real, said) =
                if let Some((command, answer)) = line.strip_prefix('b').and_then(|_| line.split_once(" -> ")) {
                    let command = bytes(&Value::parse(command).unwrap());
                    let client: &mut Client = client.as_mut().unwrap();
                    (packets(answer), client.ask(&command).await)
                } else if line.starts_with('[') {
                    // After the login of the line before.
                    (packets(line), client.as_mut().unwrap().ask(b"\x03SELECT 1").await)
                } else if let Some((how, answer)) = line.split_once(": [") {
                    let (mut client, _) = log_in(&proxy, how).await;
                    (packets(&format!("[{answer}")), client.ask(b"\x03SELECT 1; SELECT 2").await)
                } else {
                    let (how, answer) = line.split_once(": (").or_else(|| line.split_once(" (")).unwrap();
                    let (now, said) = log_in(&proxy, how).await;
                    client = Some(now);
                    (vec![packet(&Value::parse(&format!("({answer}")).unwrap())], vec![said])
                };
            let same = |packets: Vec<Packet>| packets.into_iter().map(without_salt).collect::<Vec<_>>();
            assert_eq!(same(real), same(said), "{line}");
        }
    }
    println!("{exchanges} exchanges with the admin interface compared byte by byte");
}

#[tokio::test]
async fn the_recorded_commands_are_answered_as_the_real_one_did() {
    let proxy = lab().await;
    let text = read("5-admin/protocol.txt");
    let commands = text.lines().filter(|line| line.starts_with("COM_")).filter_map(|line| line.split_once("=> "));
    let mut compared = 0;
    for (name, answer) in commands {
        let command: &[u8] = match name.trim() {
            "COM_PING" => b"\x0e",
            "COM_INIT_DB main" => b"\x02main",
            "COM_STMT_PREPARE SELECT 1" => b"\x16SELECT 1",
            "COM_STMT_PREPARE SELECT ?" => b"\x16SELECT ?",
            "COM_STMT_PREPARE then SELECT 9" => continue, // raw.txt has it
            "COM_RESET_CONNECTION (0x1f)" => b"\x1f",
            "COM_STATISTICS" => b"\x09",
            "COM_SET_OPTION multi on" => b"\x1b\0\0",
            "COM_FIELD_LIST" => b"\x04mysql_servers\0",
            "COM_PROCESS_KILL" => b"\x0c\x01\0\0\0",
            other => panic!("{other}"),
        };
        let mut client = Client::log_in(proxy.address(), "radmin", "radmin").await;
        let said = client.ask(command).await.remove(0);
        let answer = answer.rsplit_once("   [").unwrap().0;
        if let Some((_, error)) = answer.split_once("EXC OperationalError ") {
            let error = Value::parse(error).unwrap();
            let [code, words] = error.list() else { panic!("{answer}") };
            let code = code.text().unwrap().parse::<u16>().unwrap().to_le_bytes();
            let words = words.text().unwrap().as_bytes();
            assert_eq!(said, (1, [b"\xff", &code[..], b"#28000", words].concat()), "{name}");
        } else if answer.contains("Packet sequence number wrong - got 2") {
            assert_eq!(said.0, 2, "{name}");
        } else {
            // Statistics count seconds.
            let shown = |bytes: &[u8]| form(&String::from_utf8_lossy(bytes));
            assert_eq!(shown(&said.1), shown(&bytes(&Value::parse(answer).unwrap())), "{name}");
        }
        compared += 1;
    }
    println!("{compared} commands of the protocol compared");
}

/// All but the salt, the number of the connection, and what the lab does not offer: TLS and compression among it.
#[tokio::test]
async fn the_greeting_is_the_recorded_one() {
    let text = read("5-admin/protocol.txt");
    let hex = text.lines().next().unwrap().strip_prefix("greeting bytes ").unwrap();
    let real: Vec<u8> = (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
    let real = &real[4..];
    let lab = Client::connect(lab().await.address()).await.greeting;
    let flags = |greeting: &[u8]| u32::from_le_bytes([greeting[21], greeting[22], greeting[26], greeting[27]]);
    assert_eq!(flags(&lab) & !flags(real), 0, "the lab offers nothing that the real one does not");
    assert_eq!(flags(&lab), FLAGS | LONG_FLAG | CONNECT_WITH_DB | TRANSACTIONS);
    let without = |greeting: &[u8]| {
        let mut greeting = greeting.to_vec();
        [8..12, 12..20, 21..23, 26..28, 39..51].into_iter().for_each(|part| greeting[part].fill(0));
        greeting
    };
    assert_eq!(without(&lab), without(real));
}
