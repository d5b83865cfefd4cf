//! What becomes of a client's session (facts §4).

use std::time::Duration;

use lab::proxysql::{SessionError, Settings};

use super::{quick, start};

fn still() -> Settings {
    Settings { monitor_interval: Duration::from_secs(3600), ..quick() }
}

#[tokio::test]
async fn a_removed_or_offline_hard_row_ends_transactions_and_pinned_sessions_and_moves_plain_ones() {
    for gone in [
        "UPDATE mysql_servers SET status='OFFLINE_HARD' WHERE hostname='node01'",
        "DELETE FROM mysql_servers WHERE hostname='node01'",
    ] {
        let (nodes, proxy) = start(still()).await;
        nodes.make_primary("node02");
        let [plain, transaction, committing, pinned] = [(); 4].map(|()| proxy.connect());
        transaction.begin();
        committing.begin();
        pinned.pin();
        for session in [&plain, &transaction, &committing, &pinned] {
            assert_eq!(session.write(), Ok("node01".to_owned()));
        }
        for sql in [
            gone,
            "INSERT INTO mysql_servers (hostgroup_id,hostname) VALUES (10,'node02')",
            "LOAD MYSQL SERVERS TO RUNTIME",
        ] {
            proxy.query(sql).unwrap();
        }
        assert_eq!(plain.write(), Ok("node02".to_owned()));
        assert_eq!(transaction.write(), Err(SessionError::Lost));
        assert_eq!(committing.commit(), Err(SessionError::Lost), "a COMMIT is a statement like another");
        assert_eq!(pinned.write(), Err(SessionError::Lost));
        assert_eq!(pinned.write(), Err(SessionError::Lost), "and stays ended");
    }
}

#[tokio::test]
async fn a_transaction_reads_where_it_writes() {
    let (_nodes, proxy) = start(still()).await;
    let transaction = proxy.connect();
    transaction.begin();
    assert_eq!(transaction.write(), Ok("node01".to_owned()));
    assert_eq!(transaction.read(), Ok("node01".to_owned()));
    transaction.commit().unwrap();
    assert_ne!(transaction.read(), Ok("node01".to_owned()));
    let used = proxy.query("SELECT sum(ConnUsed),sum(ConnFree) FROM stats_mysql_connection_pool").unwrap();
    assert_eq!(used.records[0][0].as_deref(), Some("0"));
}

#[tokio::test]
async fn a_transaction_on_a_dead_node_is_lost_and_on_a_hung_one_it_hangs() {
    let (nodes, proxy) = start(still()).await;
    let [dead, hung] = [(); 2].map(|()| {
        let session = proxy.connect();
        session.begin();
        session.write().unwrap();
        session
    });
    nodes.stop("node01");
    assert_eq!(hung.write(), Err(SessionError::Hangs));
    assert_eq!(hung.commit(), Err(SessionError::Hangs));
    nodes.kill("node01");
    assert_eq!(dead.commit(), Err(SessionError::Lost));
}

#[tokio::test]
async fn kill_connection_ends_a_session_on_a_hung_node_and_nothing_of_it_lands_when_it_wakes() {
    let (nodes, proxy) = start(still()).await;
    let pinned = proxy.connect();
    pinned.pin();
    pinned.write().unwrap();
    nodes.stop("node01");
    let listed = proxy.query("SELECT SessionID,srv_host,srv_port FROM stats_mysql_processlist").unwrap().records;
    assert_eq!(listed[0][1..], [Some("node01".to_owned()), Some("3306".to_owned())]);
    proxy.query(&format!("KILL CONNECTION {}", listed[0][0].as_deref().unwrap())).unwrap();
    nodes.cont("node01");
    assert_eq!(pinned.write(), Err(SessionError::Lost));
    assert_eq!(nodes.get("node01").writes, 1);
    let used = proxy.query("SELECT sum(ConnUsed) FROM stats_mysql_connection_pool").unwrap();
    assert_eq!(used.records, [[Some("0".to_owned())]]);
}

#[tokio::test]
async fn a_row_for_a_node_that_does_not_exist_refuses_connections() {
    let (_nodes, proxy) = start(still()).await;
    for sql in ["UPDATE mysql_servers SET hostname='nosuch' WHERE hostgroup_id=10", "LOAD MYSQL SERVERS TO RUNTIME"] {
        proxy.query(sql).unwrap();
    }
    assert_eq!(proxy.connect().write(), Err(SessionError::NoServer));
}
