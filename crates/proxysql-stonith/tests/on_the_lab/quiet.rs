//! A quiet tick: tables are read only when something can have changed, and no change can hide (A6).

use std::time::Duration;

use lab::proxysql::Verdict;
use proxysql_stonith::proxysql::{Admin, Probed, ReadStamp, SeenProxy, Settings, observe, probe};
use stonith_core::node::Node;
use stonith_core::observed::ProxyView;
use stonith_core::policy::Policy;
use stonith_core::table::{Row, Status};

use crate::stage::{Stage, eventually, radmin, tick};

struct Reader {
    admin: Admin,
    probed: Probed,
    known: Option<(ReadStamp, ProxyView)>,
}

impl Reader {
    async fn of(stage: &Stage) -> Self {
        let settings = Settings {
            address: Node::new("127.0.0.1", stage.proxysql.address().port()).unwrap(),
            socket: None,
            credential: radmin("radmin"),
            tls: None,
            timeout: Duration::from_secs(5),
        };
        let mut admin = Admin::connect(&settings).await.unwrap();
        let probed = probe(&mut admin, false).await.unwrap();
        Self { admin, probed, known: None }
    }

    /// Looks as a tick does; whether it read the tables.
    async fn look(&mut self, now_ms: u64) -> (ProxyView, bool) {
        let known = self.known.take().map(|(reading, view)| reading.of(view));
        let SeenProxy { view, reading } =
            observe(&mut self.admin, &self.probed, &Policy::default(), "us", known, now_ms).await.unwrap();
        let fresh = reading.fresh;
        self.known = Some((reading, view.clone()));
        (view, fresh)
    }

    /// Looks until nothing has changed since the last look.
    async fn settle(&mut self) {
        for _ in 0..50 {
            if !self.look(0).await.1 {
                return;
            }
        }
        panic!("it never settles");
    }
}

/// Everything as one who never looked before sees it; what is shunned at the moment counts as ONLINE.
async fn as_it_is(stage: &Stage) -> ProxyView {
    let (view, fresh) = Reader::of(stage).await.look(0).await;
    assert!(fresh);
    as_good_as(view)
}

fn as_good_as(mut view: ProxyView) -> ProxyView {
    for row in view.runtime.iter_mut().filter(|row| row.status == Status::Shunned) {
        row.status = Status::Online;
    }
    view
}

/// What anybody may do to ProxySQL, each from a quiet state.
const CHANGES: [&str; 17] = [
    "UPDATE mysql_servers SET weight=7 WHERE hostname='node03'",
    "UPDATE mysql_servers SET status='OFFLINE_SOFT' WHERE hostname='node03'",
    "UPDATE mysql_servers SET comment='x [stonith:1 manual was=ONLINE]' WHERE hostname='node03'",
    "INSERT INTO mysql_servers (hostgroup_id,hostname) VALUES (20,'node09')",
    "DELETE FROM mysql_servers WHERE hostname='node03'",
    "LOAD MYSQL SERVERS TO RUNTIME",
    "SAVE MYSQL SERVERS TO DISK",
    "UPDATE disk.mysql_servers SET comment='y' WHERE hostname='node02'",
    "DELETE FROM disk.mysql_servers WHERE hostname='node02'",
    "LOAD MYSQL SERVERS FROM DISK",
    "SAVE MYSQL SERVERS FROM RUNTIME",
    "INSERT INTO mysql_galera_hostgroups (writer_hostgroup,backup_writer_hostgroup,reader_hostgroup,offline_hostgroup) VALUES (110,111,112,113)",
    "LOAD MYSQL SERVERS TO RUNTIME",
    "INSERT INTO proxysql_servers (hostname) VALUES ('peer')",
    "LOAD PROXYSQL SERVERS TO RUNTIME",
    "CREATE TABLE main.stonith_lock AS SELECT 'another' AS owner, 1 AS expires",
    "DROP TABLE main.stonith_lock",
];

#[tokio::test(flavor = "multi_thread")]
async fn i1_no_change_to_proxysqls_tables_hides_from_a_tick_that_reads_only_what_changed() {
    let stage = Stage::set().await;
    let mut reader = Reader::of(&stage).await;
    for change in CHANGES {
        reader.settle().await;
        stage.sql(change);
        let (seen, _) = reader.look(0).await;
        assert_eq!(as_good_as(seen), as_it_is(&stage).await, "{change}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn i1_nor_does_a_move_of_the_monitor_a_shunned_row_or_a_restart() {
    let stage = Stage::set().await;
    let mut reader = Reader::of(&stage).await;
    reader.settle().await;
    stage.nodes.kill("node01");
    stage.orchestrator.fail_over("node01", Some("node02"));
    eventually("the monitor has moved node02", || stage.runtime().contains("10/node02:ONLINE")).await;
    assert_eq!(as_good_as(reader.look(0).await.0), as_it_is(&stage).await);
    reader.settle().await;
    // Shunned on traffic, which no checksum shows: ONLINE and SHUNNED lead to the same.
    eventually("node01 is shunned", || {
        stage.proxysql.touch(10);
        stage.select("SELECT status FROM runtime_mysql_servers WHERE hostname='node01'") == "SHUNNED"
    })
    .await;
    assert_eq!(as_good_as(reader.look(0).await.0), as_it_is(&stage).await);
    stage.sql("UPDATE disk.mysql_servers SET weight=3");
    stage.proxysql.restart().await.unwrap();
    eventually("the monitor has moved node02 again", || stage.runtime().contains("10/node02:ONLINE")).await;
    let mut again = Reader::of(&stage).await;
    again.known = reader.known.take();
    assert_eq!(as_good_as(again.look(0).await.0), as_it_is(&stage).await, "another connection");
}

/// A ghost row shows in nothing: it is seen half a minute later at most.
#[tokio::test(flavor = "multi_thread")]
async fn i1_what_leaves_no_trace_is_read_again_after_half_a_minute() {
    let stage = Stage::set().await;
    let mut reader = Reader::of(&stage).await;
    reader.settle().await;
    assert!(!reader.look(29_999).await.1);
    assert!(reader.look(30_000).await.1);
    assert!(!reader.look(30_001).await.1);
}

/// A row that is shunned is as good as ONLINE to a quiet tick, so what is fenced is decided of what is read anew.
#[tokio::test(flavor = "multi_thread")]
async fn i7_a_quiet_tick_asks_two_questions_and_a_change_is_acted_on_at_once() {
    let stage = Stage::set().await;
    let mut agent = stage.agent();
    let give_back = |agent: &mut proxysql_stonith::agent::Agent, ticked: proxysql_stonith::agent::Tick| {
        assert!(ticked.outcome.is_none(), "{:?}", ticked.outcome);
        agent.give_back(ticked.observed.proxy);
    };
    for _ in 0..3 {
        let ticked = tick(&mut agent).await.unwrap();
        give_back(&mut agent, ticked);
    }
    let before = stage.proxysql.statements().len();
    let ticked = tick(&mut agent).await.unwrap();
    give_back(&mut agent, ticked);
    assert_eq!(stage.proxysql.statements().len() - before, 2, "{:?}", &stage.proxysql.statements()[before..]);
    stage.fail_over().await;
    tick(&mut agent).await.unwrap();
    assert!(stage.is_fenced("node01"), "{}", stage.everything());
}

/// An agent may drop its table between the list of tables and the read.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_of_the_agents_that_is_gone_is_empty_and_one_that_can_not_be_read_is_an_error() {
    for (cause, is_read) in [("no such table: main.stonith_lease", true), ("database disk image is malformed", false)] {
        let stage = Stage::set().await;
        stage.sql("CREATE TABLE main.stonith_lease AS SELECT 'another' AS owner, 1 AS noted, 2 AS until, 1 AS wanted");
        let mut reader = Reader::of(&stage).await;
        stage.proxysql.before_statement(move |sql| {
            if sql.contains("FROM main.stonith_lease") { Verdict::Refuse(cause) } else { Verdict::Go }
        });
        let seen = observe(&mut reader.admin, &reader.probed, &Policy::default(), "us", None, 0).await;
        assert_eq!(seen.as_ref().map(|seen| seen.view.lease.clone()).ok(), is_read.then_some(None), "{seen:?}");
    }
}

/// Its count of changed records is another one (facts §1).
#[tokio::test(flavor = "multi_thread")]
async fn what_an_earlier_connection_read_is_read_again() {
    let stage = Stage::set().await;
    let mut reader = Reader::of(&stage).await;
    reader.settle().await;
    assert!(!reader.look(0).await.1, "control: on the same connection it is not");
    reader.admin = Reader::of(&stage).await.admin;
    assert!(reader.look(0).await.1);
}

/// The monitor may undo a change until its next check has ended. The wait is 5 s at most.
#[tokio::test(flavor = "multi_thread")]
async fn a_round_of_the_monitor_is_as_long_as_its_interval_and_timeout() {
    let stage = Stage::set().await;
    let mut agent = stage.agent();
    tick(&mut agent).await.unwrap();
    for (interval_ms, timeout_ms, round_ms) in [(700, 200, 900), (60_000, 200, 5_000)] {
        stage.sql(&format!("SET mysql-monitor_read_only_interval='{interval_ms}'"));
        stage.sql(&format!("SET mysql-monitor_read_only_timeout='{timeout_ms}'"));
        assert_eq!(agent.monitor_round().await.unwrap(), Duration::from_millis(round_ms));
    }
}

/// Runtime of before a LOAD and memory of after it would look like an apply that was cut off.
#[tokio::test(flavor = "multi_thread")]
async fn i10_what_was_loaded_between_two_reads_is_read_again_three_times_at_most_and_never_kept() {
    for (at, loads, reads) in [
        ("SELECT * FROM main.mysql_servers", 0, 1),
        ("SELECT * FROM main.mysql_servers", 1, 2),
        ("SELECT * FROM main.mysql_servers", 9, 3),
        ("SELECT hostname, port FROM runtime_proxysql_servers", 1, 2),
        ("SELECT hostname, port FROM runtime_proxysql_servers", 9, 3),
    ] {
        let stage = Stage::set().await;
        let (operator, mut left) = (stage.proxysql.clone(), loads);
        stage.proxysql.before_statement(move |sql| {
            if sql == at && left > 0 {
                left -= 1;
                let operator = operator.clone();
                let load = move || {
                    for sql in [
                        &format!("UPDATE mysql_servers SET weight={} WHERE hostname='node03'", 100 + left),
                        "LOAD MYSQL SERVERS TO RUNTIME",
                        "SAVE MYSQL SERVERS TO DISK",
                    ] {
                        operator.query(sql).unwrap();
                    }
                };
                std::thread::spawn(load).join().unwrap();
            }
            lab::proxysql::Verdict::Go
        });
        let mut reader = Reader::of(&stage).await;
        let (seen, _) = reader.look(0).await;
        let of_runtime = |sql: &String| sql == "SELECT * FROM runtime_mysql_servers";
        let what = format!("{loads} LOADs at {at}");
        assert_eq!(stage.proxysql.statements().into_iter().filter(of_runtime).count(), reads, "{what}");
        stage.proxysql.before_statement(|_| lab::proxysql::Verdict::Go);
        let is_mixed = loads > 3;
        assert_eq!(as_good_as(seen) != as_it_is(&stage).await, is_mixed, "{what}");
        let (seen, fresh) = reader.look(0).await;
        assert!(fresh || !is_mixed, "{what}: what was read in between is kept");
        assert_eq!(as_good_as(seen), as_it_is(&stage).await, "{what}");
    }
}

/// Another agent lets a node back while we look: runtime has it, memory and disk still have its marker, and the note of the
/// return tells that from a fence that was cut off. A look without the note would fence the node again.
#[tokio::test(flavor = "multi_thread")]
async fn i10_a_return_that_goes_live_during_a_look_is_seen_with_its_note() {
    let is_at = |sql: &str, at: &str| sql.contains(at);
    for at in ["FROM runtime_checksums_values", "FROM runtime_mysql_servers", "FROM main.mysql_servers"] {
        let stage = Stage::set().await;
        let mark = "UPDATE mysql_servers SET status='OFFLINE_SOFT', comment=' [stonith:1 manual was=ONLINE]' \
                    WHERE hostname='node01'";
        for sql in [mark, "LOAD MYSQL SERVERS TO RUNTIME", "SAVE MYSQL SERVERS TO DISK"] {
            stage.proxysql.query(sql).unwrap();
        }
        let (other, mut is_done) = (stage.proxysql.clone(), false);
        stage.proxysql.before_statement(move |sql| {
            if is_at(sql, at) && !is_done {
                is_done = true;
                let other = other.clone();
                let let_back = move || {
                    for sql in [
                        "CREATE TABLE main.stonith_returns AS SELECT DISTINCT hostname, port, 'primary' AS role \
                         FROM main.mysql_servers WHERE hostname='node01'",
                        "UPDATE mysql_servers SET status='ONLINE', comment='' WHERE hostname='node01'",
                        "LOAD MYSQL SERVERS TO RUNTIME",
                        mark,
                    ] {
                        other.query(sql).unwrap();
                    }
                };
                std::thread::spawn(let_back).join().unwrap();
            }
            lab::proxysql::Verdict::Go
        });
        let (seen, _) = Reader::of(&stage).await.look(0).await;
        let of_node01 = |rows: &[Row]| rows.iter().find(|row| row.key.hostname == "node01").unwrap().status.clone();
        assert_eq!((of_node01(&seen.runtime), of_node01(&seen.disk)), (Status::Online, Status::OfflineSoft), "{at}");
        assert!(seen.returned.iter().any(|node| node.host.as_str() == "node01"), "{at}: {:?}", seen.returned);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quiet_tick_counts_the_connections_to_a_fenced_node_anew_while_there_are_some() {
    let stage = Stage::set().await;
    let session = stage.proxysql.connect();
    session.begin();
    while session.read() != Ok("node03".to_owned()) {
        session.commit().unwrap();
        session.begin();
    }
    let marked = "status='OFFLINE_SOFT',comment=' [stonith:1 manual was=ONLINE]'";
    stage.sql(&format!("UPDATE mysql_servers SET {marked} WHERE hostname='node03'"));
    stage.sql("LOAD MYSQL SERVERS TO RUNTIME");
    stage.checks(4).await;
    let mut reader = Reader::of(&stage).await;
    reader.settle().await;
    let used = |view: &ProxyView| view.conn_used.get(&Node::new("node03", 3306).unwrap()).copied().unwrap_or(0);
    // To count them counts as a change: every other look reads the tables.
    assert_eq!(used(&reader.look(0).await.0), 1);
    session.commit().unwrap();
    let (view, fresh) = reader.look(0).await;
    assert_eq!((used(&view), fresh), (0, false));
}
