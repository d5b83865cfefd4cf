//! What our driver of the admin interface costs beside a stock one: a login with one statement, and a large table.
//!
//! `cargo bench --bench admin_client`: on the lab, and on a real ProxySQL where it is found.

#[allow(dead_code, unused_imports)] // the tests use the rest
#[path = "../tests/real/world/mod.rs"]
mod world;

use std::time::{Duration, Instant};

use lab::nodes::Nodes;
use lab::proxysql::ProxySql;
use mysql_async::prelude::Queryable;
use proxysql_stonith::proxysql::{Admin, ServerCheck, Settings, Tls};
use proxysql_stonith::secret::{Credential, Secret};
use stonith_core::node::Node;

/// Rows beside the three nodes.
const ROWS: usize = 5_000;

const TABLE: &str = "SELECT * FROM runtime_mysql_servers";

fn main() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let rows = |n: std::ops::Range<usize>| {
        let row = |n| format!("(40,'db-{n:05}.example.com','a comment as operators write them')");
        let rows: Vec<String> = n.map(row).collect();
        format!("INSERT INTO mysql_servers (hostgroup_id,hostname,comment) VALUES {}", rows.join(","))
    };
    // The lab's monitor takes seconds for so many rows, and it is not what is measured.
    let settings = lab::proxysql::Settings { monitor_interval: Duration::from_secs(3_600), ..Default::default() };
    let proxysql = runtime.block_on(ProxySql::start(Nodes::new(&["node01"]), settings)).expect("the lab");
    for n in (0..ROWS).step_by(500) {
        proxysql.query(&rows(n..n + 500)).expect("rows");
    }
    proxysql.query("LOAD MYSQL SERVERS TO RUNTIME").expect("a LOAD");
    let address = proxysql.address();
    runtime.block_on(compare("the lab", &address.ip().to_string(), address.port(), None));

    let Some(binaries) = world::Binaries::find() else { return };
    let world = world::World::start(binaries);
    for n in (0..ROWS).step_by(500) {
        world.proxy.admin(&rows(n..n + 500));
    }
    world.proxy.admin("LOAD MYSQL SERVERS TO RUNTIME");
    let ca = world.proxy.file("data").join("proxysql-ca.pem");
    let tls = Tls::new(ServerCheck::Ca, Some(&ca), "ProxySQL").expect("its CA");
    runtime.block_on(compare("real ProxySQL", &world.proxy.address(), world.proxy.admin_port, Some(tls)));
}

async fn compare(place: &str, host: &str, port: u16, tls: Option<Tls>) {
    let credential = Credential { user: "radmin".into(), password: Secret::new("radmin") };
    let timeout = Duration::from_secs(20);
    let plain =
        Settings { address: Node::new(host, port).expect("an address"), socket: None, credential, tls: None, timeout };
    let opts = mysql_async::OptsBuilder::default()
        .ip_or_hostname(host)
        .tcp_port(port)
        .user(Some("radmin"))
        .pass(Some("radmin"))
        .prefer_socket(false)
        .max_allowed_packet(Some(64 << 20))
        .wait_timeout(Some(28_800))
        .stmt_cache_size(0);

    let stock = async || {
        let mut admin = mysql_async::Conn::new(opts.clone()).await.expect("a login");
        let _rows: Vec<mysql_async::Row> = admin.query("SELECT 1").await.expect("an answer");
        admin.disconnect().await.expect("a goodbye");
    };
    let ours = async |settings: &Settings| {
        let mut admin = Admin::connect(settings).await.expect("a login");
        admin.query("SELECT 1").await.expect("an answer");
        admin.close().await;
    };
    say(place, "login, one statement, goodbye", "stock", 200, stock).await;
    say(place, "login, one statement, goodbye", "ours", 200, async || ours(&plain).await).await;
    if tls.is_some() {
        let over_tls = Settings { tls, ..plain.clone() };
        say(place, "login, one statement, goodbye", "ours over TLS", 200, async || ours(&over_tls).await).await;
    }
    let mut stock = mysql_async::Conn::new(opts).await.expect("a login");
    let mut ours = Admin::connect(&plain).await.expect("a login");
    // What a stock driver's rows are made into, as before there was our own.
    say(place, "5,000 rows", "stock", 30, async || {
        let rows: Vec<mysql_async::Row> = stock.query(TABLE).await.expect("rows");
        let text = |value| match value {
            mysql_async::Value::Bytes(bytes) => Some(proxysql_stonith::bytes::to_text(bytes)),
            _ => None,
        };
        let rows: Vec<Vec<_>> = rows.into_iter().map(|row| row.unwrap().into_iter().map(text).collect()).collect();
        assert!(rows.len() >= ROWS);
    })
    .await;
    say(place, "5,000 rows", "ours", 30, async || {
        assert!(ours.query(TABLE).await.expect("rows").records.len() >= ROWS);
    })
    .await;
}

async fn say(place: &str, what: &str, who: &str, runs: usize, mut once: impl AsyncFnMut()) {
    let mut took = Vec::new();
    for _ in 0..runs {
        let began = Instant::now();
        once().await;
        took.push(began.elapsed());
    }
    took.sort();
    println!("{place}: {what}: {who} {:.2?} (fastest {:.2?})", took[runs / 2], took[0]);
}
