//! Rows that go, come back, are copied and are shunned (facts §2).

use std::time::Duration;

use lab::nodes::Nodes;
use lab::proxysql::{ProxySql, SessionError, Settings};

use super::{TICK, checks, fail_over, quick, rows, start};

const GHOSTS: &str = "SELECT hostgroup_id,hostname FROM runtime_mysql_servers WHERE status='OFFLINE_HARD'";

fn run(proxy: &ProxySql, statements: &[&str]) {
    for sql in statements {
        proxy.query(sql).unwrap();
    }
}

/// No check of the monitor comes in between.
fn still() -> Settings {
    Settings { monitor_interval: Duration::from_secs(3600), ..quick() }
}

#[tokio::test]
async fn a_removed_row_is_a_ghost_for_as_long_as_a_session_holds_it() {
    let (_nodes, proxy) = start(still()).await;
    let pinned = proxy.connect();
    pinned.pin();
    pinned.write().unwrap();
    run(&proxy, &["DELETE FROM mysql_servers WHERE hostname IN ('node01','node03')", "LOAD MYSQL SERVERS TO RUNTIME"]);
    let ghosts = || proxy.query(GHOSTS).unwrap().records.into_iter().flatten().flatten().collect::<Vec<_>>();
    assert_eq!(ghosts(), ["10", "node01"], "node03 had no connection");
    assert_eq!(pinned.write(), Err(SessionError::Lost));
    // It had an idle one as well: ProxySQL's threads close those a moment later.
    let until = std::time::Instant::now() + Duration::from_secs(10);
    while !ghosts().is_empty() {
        assert!(std::time::Instant::now() < until, "{}", rows(&proxy));
        tokio::time::sleep(TICK).await;
    }
}

#[tokio::test]
async fn save_from_runtime_stores_a_ghost_as_config() {
    let (_nodes, proxy) = start(still()).await;
    let pinned = proxy.connect();
    pinned.pin();
    pinned.write().unwrap();
    run(
        &proxy,
        &[
            "DELETE FROM mysql_servers WHERE hostname='node01'",
            "LOAD MYSQL SERVERS TO RUNTIME",
            "SAVE MYSQL SERVERS FROM RUNTIME",
        ],
    );
    let stored = proxy.query("SELECT status FROM mysql_servers WHERE hostname='node01'").unwrap();
    assert_eq!(stored.records, [[Some("OFFLINE_HARD".to_owned())]]);
}

#[tokio::test]
async fn a_row_on_another_port_is_another_server() {
    let (nodes, proxy) = start(still()).await;
    run(
        &proxy,
        &[
            "INSERT INTO mysql_servers (hostgroup_id,hostname,port) VALUES (10,'node01',3307)",
            "LOAD MYSQL SERVERS TO RUNTIME",
            "UPDATE mysql_servers SET status='OFFLINE_SOFT' WHERE hostname='node01' AND port=3306",
            "LOAD MYSQL SERVERS TO RUNTIME",
        ],
    );
    assert!(rows(&proxy).starts_with("10/node01:OFFLINE_SOFT[] 10/node01:3307:ONLINE[]"), "{}", rows(&proxy));
    assert_eq!(proxy.connect().write(), Err(SessionError::NoServer), "nothing listens on 3307");
    assert!(rows(&proxy).contains("10/node01:3307:SHUNNED"), "{}", rows(&proxy));
    assert_eq!(nodes.get("node01").writes, 0);
}

#[tokio::test]
async fn a_dead_writer_is_shunned_upon_traffic_and_moved_out_after_three_refused_checks() {
    let (nodes, proxy) = start(quick()).await;
    checks(&proxy, 2).await;
    nodes.kill("node01");
    assert_eq!(proxy.connect().write(), Err(SessionError::NoServer));
    assert!(rows(&proxy).contains("10/node01:SHUNNED"), "{}", rows(&proxy));
    checks(&proxy, 7).await;
    assert!(!rows(&proxy).contains("10/node01"), "refused counts: {}", rows(&proxy));
    nodes.start("node01");
    checks(&proxy, 3).await;
    assert_eq!(proxy.connect().write(), Ok("node01".to_owned()), "back with the next check");
}

#[tokio::test]
async fn where_pings_are_quicker_than_checks_a_dead_writer_stays_one_and_is_back_upon_traffic() {
    let (nodes, proxy) = start(Settings { ping_interval: TICK / 4, ..quick() }).await;
    checks(&proxy, 2).await;
    nodes.kill("node01");
    checks(&proxy, 8).await;
    assert!(rows(&proxy).contains("10/node01:SHUNNED"), "pings shun it, and it is not checked: {}", rows(&proxy));
    nodes.start("node01");
    checks(&proxy, 5).await;
    assert!(rows(&proxy).contains("10/node01:SHUNNED"), "nobody asked: {}", rows(&proxy));
    assert_eq!(proxy.connect().write(), Ok("node01".to_owned()));
}

#[tokio::test]
async fn a_load_makes_a_shunned_row_online_and_one_that_writes_shunned_then_shuns_for_good() {
    let (nodes, proxy) = start(still()).await;
    nodes.kill("node01");
    proxy.touch(10);
    run(
        &proxy,
        &["UPDATE mysql_servers SET status='SHUNNED' WHERE hostname='node01'", "LOAD MYSQL SERVERS TO RUNTIME"],
    );
    nodes.start("node01");
    tokio::time::sleep(TICK).await;
    assert!(proxy.connect().write().is_ok(), "shunned automatically, and still so: it recovers");
    nodes.kill("node01");
    proxy.touch(10);
    assert!(rows(&proxy).contains("10/node01:SHUNNED"));
    run(&proxy, &["UPDATE mysql_servers SET status='ONLINE'", "LOAD MYSQL SERVERS TO RUNTIME"]);
    assert!(rows(&proxy).contains("10/node01:ONLINE"));
    nodes.start("node01");
    run(
        &proxy,
        &["UPDATE mysql_servers SET status='SHUNNED' WHERE hostname='node01'", "LOAD MYSQL SERVERS TO RUNTIME"],
    );
    // The control is above: what is shunned automatically is back by then.
    tokio::time::sleep(TICK * 6).await;
    assert_eq!(proxy.connect().write(), Err(SessionError::NoServer));
}

#[tokio::test]
async fn a_row_that_the_monitor_moves_takes_status_and_comment_along() {
    for also_reader in [true, false] {
        let (nodes, proxy) = start(Settings { writer_is_also_reader: also_reader, ..quick() }).await;
        run(
            &proxy,
            &["UPDATE mysql_servers SET comment='hers' WHERE hostname='node02'", "LOAD MYSQL SERVERS TO RUNTIME"],
        );
        fail_over(&nodes, &proxy).await;
        assert!(rows(&proxy).contains("10/node02:ONLINE[hers]"), "{}", rows(&proxy));
        assert_eq!(rows(&proxy).contains("20/node02"), also_reader, "{}", rows(&proxy));
    }
}

#[tokio::test]
async fn into_a_hostgroup_with_a_ghost_of_the_node_the_monitor_moves_it_online() {
    let (nodes, proxy) = start(quick()).await;
    run(
        &proxy,
        &["INSERT INTO mysql_servers (hostgroup_id,hostname) VALUES (20,'node01')", "LOAD MYSQL SERVERS TO RUNTIME"],
    );
    let pinned = proxy.connect();
    pinned.pin();
    pinned.write().unwrap();
    nodes.stop("node01");
    checks(&proxy, 6).await;
    assert!(rows(&proxy).contains("10/node01:OFFLINE_HARD"), "{}", rows(&proxy));
    nodes.cont("node01");
    checks(&proxy, 4).await;
    assert!(rows(&proxy).contains("10/node01:ONLINE"), "{}", rows(&proxy));
    assert_eq!(pinned.write(), Ok("node01".to_owned()));
}

#[tokio::test]
async fn only_the_reader_row_soft_keeps_no_write_away_and_only_the_writer_row_soft_does() {
    for (hostgroup, writes) in [(20, true), (10, false)] {
        let (_nodes, proxy) = start(quick()).await;
        let soft = format!(
            "UPDATE mysql_servers SET status='OFFLINE_SOFT' WHERE hostname='node01' AND hostgroup_id={hostgroup}"
        );
        run(
            &proxy,
            &[
                "INSERT INTO mysql_servers (hostgroup_id,hostname) VALUES (20,'node01')",
                &soft,
                "LOAD MYSQL SERVERS TO RUNTIME",
            ],
        );
        checks(&proxy, 4).await;
        assert_eq!(proxy.connect().write().is_ok(), writes, "{}", rows(&proxy));
        let reads = (0..6).any(|_| proxy.connect().read() == Ok("node01".to_owned()));
        assert_eq!(reads, !writes);
    }
}

#[tokio::test]
async fn a_second_writer_that_is_read_only_answers_1290_until_the_next_check() {
    let (nodes, proxy) = start(quick()).await;
    fail_over(&nodes, &proxy).await;
    nodes.start("node01");
    nodes.make_replica("node01", "node02");
    run(
        &proxy,
        &[
            "SAVE MYSQL SERVERS FROM RUNTIME",
            "UPDATE mysql_servers SET status='ONLINE'",
            "LOAD MYSQL SERVERS TO RUNTIME",
        ],
    );
    let said: Vec<_> = (0..4).map(|_| proxy.connect().write().map_err(SessionError::code)).collect();
    assert!(said.contains(&Err(Some(1290))), "{said:?}");
    checks(&proxy, 4).await;
    assert!((0..6).all(|_| proxy.connect().write() == Ok("node02".to_owned())), "{}", rows(&proxy));
}

#[tokio::test]
async fn restarted_it_has_what_its_disk_has_and_no_sessions() {
    let nodes = Nodes::new(&["node01", "node02"]);
    let proxy = ProxySql::start(nodes, still()).await.unwrap();
    let address = proxy.address();
    run(
        &proxy,
        &[
            "INSERT INTO mysql_servers (hostgroup_id,hostname) VALUES (10,'node01')",
            "LOAD MYSQL SERVERS TO RUNTIME",
            "SAVE MYSQL SERVERS TO DISK",
            "INSERT INTO mysql_servers (hostgroup_id,hostname) VALUES (20,'node02')",
            "LOAD MYSQL SERVERS TO RUNTIME",
            "CREATE TABLE main.mine AS SELECT 1",
            "PROXYSQL PAUSE",
            "PROXYSQL READONLY",
        ],
    );
    let old = proxy.connect();
    proxy.kill();
    assert_eq!(proxy.connect().write(), Err(SessionError::NoProxy));
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
    proxy.restart().await.unwrap();
    assert_eq!(proxy.address(), address);
    assert!(tokio::net::TcpStream::connect(address).await.is_ok());
    assert_eq!(rows(&proxy), "10/node01:ONLINE[]");
    assert!(proxy.query("SELECT * FROM main.mine").is_err());
    assert!(old.write().is_err());
    assert_eq!(proxy.connect().write(), Ok("node01".to_owned()), "a pause does not outlive it");
    run(&proxy, &["UPDATE mysql_servers SET comment='x'"]);
}
