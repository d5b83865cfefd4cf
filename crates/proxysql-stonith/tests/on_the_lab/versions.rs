//! ProxySQL's versions: what each can do is found by a probe, and only what no probe can tell goes by version.

use lab::nodes::Nodes;
use lab::proxysql::Verdict;
use lab::{orchestrator, proxysql};
use stonith_core::apply::Outcome;

use crate::names::ticks_until;
use crate::stage::{Daemon, Stage, eventually, tick};

/// The versions that the lab plays, the last one invented.
const PLAYED: [&str; 7] = ["2.4.8", "2.5.5", "2.6.6", "2.7.1", "3.0.1", "3.0.10", "4.0.0"];

async fn stage(version: &str) -> Stage {
    let settings = proxysql::Settings { version: format!("{version}-7-gabc"), ..proxysql::Settings::default() };
    Stage::with(settings, orchestrator::Settings::default(), Nodes::new(&["node01", "node02", "node03"])).await
}

impl Stage {
    /// A config file for this stage, with more lines in its `[[proxysql]]` section.
    fn file(&self, more: &str) -> String {
        let endpoints = format!("{:?}", self.orchestrator.endpoints());
        let secret = self.dir.path().join("admin.cnf");
        drop(self.command("plan")); // makes that file
        let address = self.proxysql.address();
        let text = format!(
            "[orchestrator]\nendpoints = {endpoints}\n[[proxysql]]\naddress = \"{address}\"\ndefaults_file = {secret:?}\n{more}"
        );
        let state_dir = self.dir.path().join("state");
        self.config(&format!("run.state_dir = {state_dir:?}\n{text}"))
    }

    /// What is staged in the tables that a LOAD covers, by somebody else.
    fn stage_in_every_table(&self) -> Vec<String> {
        for sql in [
            "UPDATE mysql_servers SET weight=7 WHERE hostname='node03'",
            "INSERT INTO mysql_replication_hostgroups VALUES (50,60,'read_only','staged')",
            "INSERT INTO mysql_galera_hostgroups (writer_hostgroup,backup_writer_hostgroup,reader_hostgroup,offline_hostgroup) VALUES (110,111,112,113)",
            "INSERT INTO mysql_aws_aurora_hostgroups (writer_hostgroup,reader_hostgroup,domain_name) VALUES (120,121,'.x')",
        ] {
            self.sql(sql);
        }
        let of_some = [
            "INSERT INTO mysql_hostgroup_attributes (hostgroup_id,max_num_online_servers) VALUES (10,3)",
            "INSERT INTO mysql_servers_ssl_params (hostname) VALUES ('node01')",
            "INSERT INTO mysql_aws_rds_bgd_hostgroups (writer_hostgroup,reader_hostgroup,green_writer_hostgroup,green_reader_hostgroup) VALUES (130,131,132,133)",
            "INSERT INTO mysql_next_hostgroups (writer_hostgroup,cell,reader_hostgroup) VALUES (140,'a',141),(140,'b',142)",
        ];
        of_some.iter().for_each(|sql| drop(self.proxysql.query(sql)));
        self.staged()
    }

    /// Memory and disk of each covered table but the server table, and runtime's rows of it.
    fn staged(&self) -> Vec<String> {
        let names = self.select(
            "SELECT m.name FROM main.sqlite_master m JOIN main.sqlite_master r ON r.name='runtime_'||m.name \
             WHERE m.name LIKE 'mysql_%hostgroup%' OR m.name LIKE 'mysql_servers_%'",
        );
        let of = |name: &str| {
            ["main.", "disk.", "runtime_"]
                .map(|layer| format!("{layer}{name}: {}", self.select(&format!("SELECT * FROM {layer}{name}"))))
        };
        names.lines().flat_map(of).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_version_that_the_lab_plays_fences_and_lets_back_and_leaves_every_staged_row_staged() {
    for version in PLAYED {
        let stage = stage(version).await;
        let mut agent = stage.agent();
        agent.settings_mut().accept_lost_edits = version == "2.4.8";
        tick(&mut agent).await.unwrap();
        stage.fail_over().await;
        // Before 2.5.2 the monitor itself loses what is staged before its move (facts §12).
        let staged = stage.stage_in_every_table();
        let ticked = tick(&mut agent).await.unwrap();
        assert!(
            matches!(&ticked.outcome, Some(Outcome::Applied(done)) if done.not_as_planned.is_empty()),
            "{ticked:?}"
        );
        assert!(stage.is_fenced("node01"), "{version}\n{}", stage.everything());
        assert!(stage.runtime().contains("10/node02:ONLINE[]"), "{version}: I5");
        assert_eq!(stage.staged(), staged, "{version}");
        let weights = ["main.", "runtime_"].map(|layer| {
            stage.select(&format!("SELECT DISTINCT weight FROM {layer}mysql_servers WHERE hostname='node03'"))
        });
        assert_eq!(weights, ["7", "1"], "{version}");
        stage.nodes.start("node01");
        stage.nodes.make_replica("node01", "node02");
        stage.orchestrator.end_downtime("node01");
        ticks_until(&mut agent, version, || stage.runtime().contains("20/node01:ONLINE[rack 7]")).await;
        assert_eq!(stage.staged(), staged, "{version}");
        assert_eq!(stage.left_behind(), "", "{version}");
        let tables = if version == "4.0.0" { 9 } else { agent.probed().unwrap().covered.len() };
        assert_eq!(agent.probed().unwrap().covered.len(), tables);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn i3_the_hostgroups_of_a_table_that_nobody_knows_yet_are_not_ours() {
    let stage = stage("4.0.0").await;
    stage.sql("INSERT INTO mysql_next_hostgroups (writer_hostgroup,cell,reader_hostgroup) VALUES (140,'a',141)");
    stage.sql("INSERT INTO mysql_servers (hostgroup_id,hostname) VALUES (140,'node01'),(141,'node02')");
    stage.sql("LOAD MYSQL SERVERS TO RUNTIME");
    let mut agent = stage.agent();
    tick(&mut agent).await.unwrap();
    stage.fail_over().await;
    tick(&mut agent).await.unwrap();
    let runtime = stage.runtime();
    assert!(runtime.contains("10/node01:OFFLINE_SOFT[") && runtime.contains("140/node01:ONLINE[]"), "{runtime}");
}

/// What no probe can tell goes by version. What is refused can be looked at, and nothing is written.
#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_is_refused_is_said_at_start_in_status_and_in_plan_and_is_not_written_to() {
    let crashes = "can crash when its monitor moves a server that still has connections";
    let loses = "has a monitor that writes memory and LOADs";
    for (version, why, way_out) in [
        ("2.5.2", crashes, "Upgrade it to 2.5.5 or later"),
        ("2.5.3", crashes, "Upgrade it to 2.5.5 or later"),
        ("2.4.8", loses, "accept_lost_edits = true"),
        ("2.5.1", loses, "accept_lost_edits = true"),
    ] {
        let stage = stage(version).await;
        let says = |text: &str| {
            text.contains(&format!("ProxySQL {version}-7-gabc {why}"))
                && text.contains(way_out)
                && text.contains("`run` changes nothing here")
        };
        let (text, code) = stage.stonith("run --once").await;
        assert!(code == 1 && says(&text), "at its start, before any failover: {text}");
        assert_eq!(stage.stonith("run --once").await, (String::new(), 1), "once");
        let (text, code) = stage.stonith("status").await;
        assert!(code == 3 && says(&text), "{text}");
        let (text, code) = stage.stonith("config check --connect").await;
        assert!(code == 1 && says(&text), "{text}");
        stage.fail_over().await;
        let (text, code) = stage.stonith("plan").await;
        assert!(code == 10 && says(&text), "{text}");
        let before = stage.everything();
        assert_eq!(stage.stonith("run --once").await.1, 1);
        let (text, code) = stage.stonith("fence node03").await;
        assert!(code == 1 && text.contains(why) && text.contains("Nothing was changed"), "{text}");
        assert_eq!((stage.everything(), stage.proxysql.writes()), (before, 0));
        let accepted = format!("run --once {}", stage.file("accept_lost_edits = true\n"));
        let (text, code) = stage.stonith(&accepted).await;
        if why == loses {
            assert!(code == 0 && stage.is_fenced("node01"), "{text}");
        } else {
            assert!(code == 1 && !stage.is_fenced("node01"), "no acknowledgement helps: {text}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_above_every_tried_one_runs_and_that_is_said_once() {
    let stage = stage("4.0.0").await;
    let text = stage.succeeds("run --once").await;
    assert!(text.contains("ProxySQL 4.0.0-7-gabc is newer than"), "{text}");
    assert_eq!(stage.succeeds("run --once").await, "", "once");
    let (text, code) = stage.stonith("status").await;
    assert!(code == 0 && text.contains("is newer than"), "nobody needs to do anything: {text}");
    stage.fail_over().await;
    let text = stage.succeeds("run --once").await;
    assert!(stage.is_fenced("node01") && !text.contains("is newer than"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_admin_interface_is_said_before_a_failover_with_the_way_out() {
    let stage = stage("2.7.1").await;
    stage.sql("PROXYSQL READONLY");
    let says = |text: &str| text.contains("has a read-only admin interface") && text.contains("Run PROXYSQL READWRITE");
    let (text, code) = stage.stonith("run --once").await;
    assert!(code == 1 && says(&text), "{text}");
    let (text, code) = stage.stonith("config check --connect").await;
    assert!(code == 1 && says(&text), "{text}");
    stage.sql("PROXYSQL READWRITE");
    let text = stage.succeeds("run --once").await;
    assert!(text.contains("recovered: proxysql-unfit read-only"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn loads_that_nobody_counts_are_said_and_fence_all_the_same() {
    let stage = stage("2.7.1").await;
    stage.sql("SET admin-checksum_mysql_servers='false'");
    stage.sql("LOAD ADMIN VARIABLES TO RUNTIME");
    stage.fail_over().await;
    let text = stage.succeeds("run --once").await;
    assert!(text.contains("does not count LOADs") && stage.is_fenced("node01"), "{text}");
}

/// The lock, the scratch table made and dropped, the lock dropped.
const TRIED: [&str; 5] = [
    "CREATE TABLE main.stonith_lock",
    "DROP TABLE IF EXISTS main.stonith_scratch",
    "CREATE TABLE main.stonith_scratch",
    "DROP TABLE IF EXISTS main.stonith_scratch",
    "DROP TABLE IF EXISTS main.stonith_lock",
];

impl Stage {
    fn written(&self) -> Vec<String> {
        let all = self.proxysql.statements();
        all.into_iter().filter(|sql| !sql.starts_with("SELECT") && !sql.starts_with("SHOW")).collect()
    }

    fn tried_writing(&self) -> bool {
        let written = self.written();
        written.len() == TRIED.len() && written.iter().zip(TRIED).all(|(sql, begins)| sql.starts_with(begins))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn config_check_and_the_daemon_make_and_drop_a_scratch_table_and_whoever_observes_writes_nothing() {
    let stage = stage("3.0.10").await;
    let (text, code) = stage.stonith("config check --connect").await;
    assert!(code == 0 && stage.tried_writing(), "{text} {:?}", stage.written());
    let found = "a LOAD covers 8 tables, also mysql_aws_rds_bgd_hostgroups, which this program does not know and leaves as \
                 they are; it counts LOADs; a scratch table was made and dropped";
    assert!(text.contains(found), "{text}");
    assert_eq!(stage.left_behind(), "");
    let again = self::stage("2.5.5").await;
    let text = again.succeeds("config check --connect --mode=observe").await;
    let found = "a LOAD covers 6 tables; it counts LOADs together with the monitor's moves; whether a table can be made in \
                 main was not tried";
    assert!(text.contains(found), "{text}");
    again.succeeds("run --once --mode=observe").await;
    again.succeeds("plan").await;
    again.succeeds("run --once").await;
    assert_eq!(again.written(), Vec::<String>::new());
    let daemon = Daemon::start(again.command("run --interval=200ms"));
    eventually("the daemon has tried", || again.tried_writing()).await;
    let before = again.proxysql.statements().len();
    eventually("it ticks on", || again.proxysql.statements().len() > before + 10).await;
    assert!(again.tried_writing(), "once per connection: {:?}", again.written());
    daemon.signal("-TERM");
    assert_eq!(daemon.ended().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn i12_where_another_applier_has_the_lock_nothing_is_tried_and_it_is_left_alone() {
    let stage = stage("2.7.1").await;
    stage.sql("CREATE TABLE main.stonith_lock AS SELECT 'another' AS owner, CAST(strftime('%s','now') AS INTEGER)+30 AS expires");
    let text = stage.stonith("config check --connect").await.0;
    assert!(text.contains("a scratch table was made and dropped"), "{text}");
    assert_eq!(stage.written().len(), 1, "{:?}", stage.written());
    assert_eq!(stage.select("SELECT owner FROM main.stonith_lock"), "another");
}

/// Cut off before or after each of its statements: the next run leaves nothing behind.
#[tokio::test(flavor = "multi_thread")]
async fn i10_a_try_that_is_cut_off_anywhere_is_cleaned_up_by_the_next_run() {
    for nth in 0..TRIED.len() {
        for cut in [Verdict::CutBefore, Verdict::CutAfter] {
            let stage = stage("2.7.1").await;
            let mut left = nth;
            stage.proxysql.before_statement(move |sql| {
                let is_one = TRIED.iter().any(|begins| sql.starts_with(begins));
                match left {
                    usize::MAX => Verdict::Go,
                    0 if is_one => {
                        left = usize::MAX;
                        cut
                    }
                    _ => {
                        left -= usize::from(is_one);
                        Verdict::Go
                    }
                }
            });
            let (text, code) = stage.stonith("config check --connect").await;
            assert_eq!(code, 1, "{nth} {cut:?}: {text}");
            stage.expire_lock();
            stage.succeeds("run --once").await;
            assert_eq!(stage.left_behind(), "", "{nth} {cut:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scratch_table_that_is_refused_is_said_with_proxysqls_error() {
    let stage = stage("2.7.1").await;
    stage.proxysql.before_statement(|sql| match sql.starts_with("CREATE TABLE main.stonith_scratch") {
        true => Verdict::Refuse("database or disk is full"),
        false => Verdict::Go,
    });
    let (text, code) = stage.stonith("config check --connect").await;
    assert!(code == 1 && text.contains("refuses to make and drop a table in main"), "{text}");
    assert!(text.contains("database or disk is full"), "{text}");
    assert_eq!(stage.left_behind(), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_config_that_still_allows_an_untested_version_says_what_to_do() {
    let stage = stage("2.7.1").await;
    let (text, code) = stage.stonith(&format!("config check {}", stage.file("allow_untested_version = true\n"))).await;
    assert!(code == 2 && text.contains("allow_untested_version") && text.contains("Delete this line"), "{text}");
}

/// What ProxySQL can do is found anew after each connect.
#[tokio::test(flavor = "multi_thread")]
async fn a_proxysql_that_another_version_replaced_is_probed_anew() {
    for (version, is_refused) in [("2.5.3", true), ("4.0.0", false)] {
        let (first, second) = (stage("2.7.1").await, stage(version).await);
        let mut agent = first.agent();
        tick(&mut agent).await.unwrap();
        assert!(!agent.is_refused());
        // It comes back in the place of the first.
        agent.settings_mut().proxy.address = second.proxy_node();
        first.proxysql.kill();
        first.nodes.kill("node01");
        first.orchestrator.fail_over("node01", Some("node02"));
        let seen = tick(&mut agent).await.unwrap();
        assert!(!seen.decision.plan.is_empty(), "the control: there is something to do");
        assert_eq!((agent.is_refused(), second.proxysql.writes() == 0), (is_refused, is_refused), "{version}");
        assert_eq!(agent.version(), Some(format!("{version}-7-gabc").as_str()));
    }
}
