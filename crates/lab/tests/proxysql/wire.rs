//! What a connection goes through (facts §1). The bytes themselves are compared with the recorded ones in `conformance`.

use super::client::{Client, Said};
use super::{quick, start};

#[tokio::test]
async fn a_caching_sha2_client_is_switched_to_native() {
    let (_nodes, proxy) = start(quick()).await;
    let mut client = Client::connect(proxy.address()).await;
    let flags = super::client::PROTOCOL_41 | super::client::SECURE_CONNECTION | super::client::PLUGIN_AUTH;
    let (_, switch) = client.say_hello(flags, 33, "admin", "wrong", "caching_sha2_password").await;
    assert!(switch.starts_with(b"\xfemysql_native_password\0"), "{switch:?}");
    assert_eq!(client.switch(&switch, "admin").await.1[0], 0);
    assert_eq!(
        client.query("SELECT USER()").await,
        Said::Rows(vec!["user()".into()], vec![vec![Some("admin@127.0.0.1".into())]])
    );
}

#[tokio::test]
async fn prepared_statements_are_refused_and_the_connection_lives_on() {
    let (_nodes, proxy) = start(quick()).await;
    let mut client = Client::log_in(proxy.address(), "radmin", "radmin").await;
    assert_eq!(client.ask(b"\x16SELECT 1").await[0].1[0], 0xff);
    assert_eq!(
        client.query("SELECT USER()").await,
        Said::Rows(vec!["user()".into()], vec![vec![Some("radmin@127.0.0.1".into())]])
    );
}

#[tokio::test]
async fn pipelined_statements_all_run_in_order() {
    let (_nodes, proxy) = start(quick()).await;
    let mut client = Client::log_in(proxy.address(), "admin", "admin").await;
    for sql in ["\x03UPDATE mysql_servers SET weight=2", "\x03SELECT DISTINCT weight FROM mysql_servers"] {
        client.send(0, sql.as_bytes()).await;
    }
    assert_eq!(client.receive().await.unwrap().1[..2], [0, 3], "3 records matched");
    let mut records = Vec::new();
    for _ in 0..5 {
        records.push(client.receive().await.unwrap().1);
    }
    assert_eq!(records[3], b"\x012");
    assert_eq!(proxy.statements().len(), 2);
    assert_eq!(proxy.writes(), 1);
}
