//! Two clusters with an Orchestrator each, one process for both: what one sees counts for its own ProxySQLs only.
//!
//! The nodes have the same names in both, so that a mix-up would show.

use std::net::Ipv6Addr;
use std::process::Command;
use std::sync::atomic::Ordering;

use lab::nodes::Nodes;
use lab::{orchestrator, proxysql};

use crate::side_by_side::count_statements;
use crate::stage::{Daemon, Stage, eventually, eventually_in};

struct Clusters {
    east: Stage,
    west: Stage,
}

impl Clusters {
    async fn set() -> Self {
        Self { east: Stage::set().await, west: Stage::set().await }
    }

    /// The program with a config file for both clusters, and what it says of the ProxySQL of the west alone.
    fn command(&self, line: &str, of_west: &str) -> Command {
        let mut text = "run.interval = \"100ms\"\n".to_owned();
        for (name, stage) in [("east", &self.east), ("west", &self.west)] {
            text += &format!("[[orchestrator]]\nname = \"{name}\"\nendpoints = {:?}\n", stage.orchestrator.endpoints());
        }
        for (name, stage) in [("east", &self.east), ("west", &self.west)] {
            let address = stage.proxysql.address();
            text += &format!(
                "[[proxysql]]\naddress = \"{address}\"\norchestrator = \"{name}\"\nuser = \"radmin\"\npassword = \"radmin\"\n"
            );
        }
        let mut command = Command::new(env!("CARGO_BIN_EXE_proxysql-stonith"));
        let config = self.east.config(&format!("{text}{of_west}"));
        command.env_clear().args(line.split_whitespace()).arg(config);
        command
    }

    /// What the program says, and its exit code.
    async fn stonith(&self, line: &str, of_west: &str) -> (String, i32) {
        let mut command = self.command(line, of_west);
        let done = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        let text = [done.stdout, done.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
        (text, done.status.code().unwrap_or(-1))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_failover_that_one_orchestrator_saw_fences_at_its_proxysql_alone() {
    let clusters = Clusters::set().await;
    let Clusters { east, west } = &clusters;
    let served = count_statements(&west.proxysql, None);
    let _daemon = Daemon::start(clusters.command("run", ""));
    let asked = |stage: &Stage| stage.orchestrator.requests().iter().any(|path| path.ends_with("downtimed"));
    eventually("both tick", || asked(east) && asked(west)).await;
    let before = (west.everything(), west.proxysql.writes());
    east.fail_over().await;
    eventually("the east fences", || east.is_fenced("node01")).await;
    let at = served.load(Ordering::SeqCst);
    eventually("the west ticks on", || served.load(Ordering::SeqCst) > at + 20).await;
    assert_eq!((west.everything(), west.proxysql.writes()), before);
    west.fail_over().await;
    eventually("the west fences after its own failover", || west.is_fenced("node01")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_orchestrator_that_is_cut_off_isolates_its_own_proxysql_alone_and_delays_no_other() {
    let clusters = Clusters::set().await;
    let Clusters { east, west } = &clusters;
    let served = count_statements(&east.proxysql, None);
    let _daemon = Daemon::start(clusters.command("run", "[proxysql.isolation]\nafter = \"7s\"\nscope = \"writers\"\n"));
    let is_armed = || east.dir.path().join("state").read_dir().is_ok_and(|files| files.count() >= 4);
    eventually("both have kept their state", is_armed).await;
    let before = (east.everything(), east.proxysql.writes());
    // It takes connections and answers nothing: each tick of the west waits for that as long as it may.
    (0..3).for_each(|member| west.orchestrator.hang(member));
    let at = served.load(Ordering::SeqCst);
    eventually("the east ticks on", || served.load(Ordering::SeqCst) > at + 20).await;
    eventually_in(30, "the west is isolated", || west.is_fenced("node01")).await;
    assert!(!west.is_fenced("node02"), "by its own scope: {}", west.runtime());
    assert_eq!((east.everything(), east.proxysql.writes()), before);
    east.fail_over().await;
    eventually("the east fences meanwhile", || east.is_fenced("node01")).await;
    (0..3).for_each(|member| west.orchestrator.resume(member));
    eventually_in(30, "the west is back", || west.runtime().contains("10/node01:ONLINE[rack 7]")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn commands_ask_each_orchestrator_for_its_own_proxysql() {
    let clusters = Clusters::set().await;
    let Clusters { east, west } = &clusters;
    let (text, code) = clusters.stonith("run --once", "").await;
    assert_eq!(code, 0, "{text}");
    east.fail_over().await;
    let (text, code) = clusters.stonith("plan", "").await;
    let (of_east, of_west) = text.split_once(&format!("ProxySQL {}", west.proxysql.address())).unwrap();
    assert!(code == 10 && of_east.contains("superseded by=node02:3306"), "{text}");
    assert!(!of_west.contains("superseded"), "{text}");
    let (text, code) = clusters.stonith("status", "").await;
    assert!(text.contains("2 of 2 configured ProxySQLs answered"), "{code}: {text}");

    west.orchestrator.cut_off();
    let (text, code) = clusters.stonith("config check --connect", "").await;
    for (name, stage, does_answer) in [("east", east, true), ("west", west, false)] {
        for endpoint in stage.orchestrator.endpoints() {
            let start = format!("Orchestrator {name} {endpoint}: ");
            let line = text.lines().find(|line| line.starts_with(&start)).unwrap_or_else(|| panic!("{text}"));
            assert_eq!(line.contains(": answers, is"), does_answer, "{text}");
        }
    }
    assert_eq!(code, 1, "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_order_about_a_name_that_both_clusters_have_needs_the_proxysqls_of_one() {
    let clusters = Clusters::set().await;
    let Clusters { east, west } = &clusters;
    let [at_east, at_west] = [east, west].map(|stage| format!("--proxysql={}", stage.proxysql.address()));
    let (text, code) = clusters.stonith("fence node03", "").await;
    assert!(text.contains(&format!("choose one with {at_east} (east) or {at_west} (west)")), "{text}");
    assert_eq!((code, east.proxysql.writes(), west.proxysql.writes()), (2, 0, 0));
    let (text, code) = clusters.stonith(&format!("fence node03 {at_west}"), "").await;
    assert!(code == 0 && text.contains("node03:3306 fenced(soft) on 1 of 1"), "{text}");
    assert!(west.is_fenced("node03") && !east.is_fenced("node03"));

    // A name that only one of them has needs no choice.
    let _ = east.nodes.clone().and(&["node04"]);
    east.nodes.make_replica("node04", "node01");
    east.orchestrator.poll();
    east.sql("INSERT INTO mysql_servers (hostgroup_id,hostname) VALUES (20,'node04')");
    east.sql("LOAD MYSQL SERVERS TO RUNTIME");
    east.sql("SAVE MYSQL SERVERS TO DISK");
    let (text, code) = clusters.stonith("fence node04", "").await;
    assert!(code == 0 && text.contains("node04:3306 fenced(soft) on 1 of 2"), "{text}");
    assert!(east.is_fenced("node04"));
    let (text, code) = clusters.stonith(&format!("unfence node03 --without-lease {at_west}"), "").await;
    assert!(code == 0 && west.runtime().contains("20/node03:ONLINE"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_proxysql_is_only_observed_while_the_other_is_protected() {
    let clusters = Clusters::set().await;
    let Clusters { east, west } = &clusters;
    let observed = "[proxysql.policy]\nmode = \"observe\"\n";
    let (text, code) = clusters.stonith("run --once", observed).await;
    assert_eq!(code, 0, "{text}");
    for stage in [east, west] {
        stage.fail_over().await;
    }
    let (text, _) = clusters.stonith("run --once", observed).await;
    assert!(east.is_fenced("node01"), "{text}");
    assert_eq!((west.is_fenced_in_runtime("node01"), west.proxysql.writes()), (false, 0), "{text}");
    let (text, code) = clusters.stonith("plan", observed).await;
    assert!(code == 10 && text.matches("mode = \"observe\" here").count() == 1, "{text}");
    let (text, code) = clusters.stonith("fence node03", observed).await;
    let observes = format!("ProxySQL {} has mode = \"observe\"", west.proxysql.address());
    assert!(code == 2 && text.contains(&observes), "{text}");
    let (text, code) = clusters.stonith("run --once", "").await;
    assert!(code == 0 && west.is_fenced("node01"), "the control: {text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn orchestrator_and_proxysql_are_reached_at_ipv6_addresses() {
    let loopback = Ipv6Addr::LOCALHOST.into();
    if tokio::net::TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).await.is_err() {
        println!("skipped: this machine has no IPv6");
        return;
    }
    let proxysql = proxysql::Settings { listen: loopback, ..proxysql::Settings::default() };
    let orchestrator = orchestrator::Settings { listen: loopback, ..orchestrator::Settings::default() };
    let stage = Stage::with(proxysql, orchestrator, Nodes::new(&["node01", "node02", "node03"])).await;
    let endpoints = stage.orchestrator.endpoints();
    assert!(endpoints.iter().all(|url| url.starts_with("http://[::1]:")), "{endpoints:?}");
    let address = stage.proxysql.address();
    assert!(address.to_string().starts_with("[::1]:"), "{address}");
    // By flags, and then by the config file.
    stage.succeeds("run --once").await;
    stage.fail_over().await;
    stage.succeeds("run --once").await;
    assert!(stage.is_fenced("node01"), "{}", stage.runtime());
    let text = format!(
        "[orchestrator]\nendpoints = {endpoints:?}\n[[proxysql]]\naddress = \"{address}\"\nuser = \"radmin\"\n\
         password = \"radmin\"\n"
    );
    let config = stage.config(&text);
    let mut command = Command::new(env!("CARGO_BIN_EXE_proxysql-stonith"));
    command.env_clear().args(["config", "check", "--connect", &config]);
    let done = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let text = String::from_utf8(done.stdout).unwrap();
    assert!(done.status.success() && text.contains(&format!("ProxySQL {address}: version ")), "{text}");
    assert!(text.contains(&format!("Orchestrator {}: answers, is the leader", endpoints[0])), "{text}");
}
