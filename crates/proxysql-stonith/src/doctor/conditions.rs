//! What a look at ProxySQL and Orchestrator found by itself: the conditions that `status` shows, with why and the fix.

use std::collections::BTreeSet;

use super::{Area, Check, Facts, Finding, Fix, Level, Need, ProxyFacts};
use crate::snapshot::ConditionReport;

pub const CHECK: Check = Check { name: "conditions", area: Area::ProxySql, needs: Need::Config, labels: &LABELS, run };

/// The conditions that a look can find. The others are of an apply, or of an agent that runs.
const LABELS: [&str; 29] = [
    "leaderless",
    "leader-unusable",
    "leader-conflict",
    "leader-unreached",
    "answer-skipped",
    "orchestrator-unverified",
    "proxysql-unverified",
    "proxysql-unread",
    "proxysql-unfit",
    "proxysql-ahead",
    "loads-uncounted",
    "nothing-managed",
    "no-writer-hostgroup",
    "two-writers",
    "unmatched-nodes",
    "nothing-protected",
    "unknown-nodes",
    "orchestrator-hooks",
    "without-writer",
    "unarmed",
    "paused",
    "pause-is-slow",
    "resume-may-hang",
    "returns-by-hand",
    "isolated",
    "answered-for",
    "held",
    "held-more",
    "errant-transactions",
];

/// The conditions that no look finds: they are of an apply, of an agent's state, or of an order that `status` shows.
#[cfg(test)]
const NOT_OF_A_LOOK: [&str; 19] = [
    "suspended",
    "observing",
    "state-unkept",
    "orders-unread",
    "no-agent",
    "applier-busy",
    "applier-replaced",
    "return-put-off",
    "apply-failed",
    "sessions-left",
    "clients-left",
    "not-as-planned",
    "disk-refused",
    "node-fence-failed",
    "fence-agent-failed",
    "node-fence-unready",
    "node-fence-undone",
    "node-fence-sessions-left",
    "node-fence-needs-daemon",
];

const UNREAD: &str = "Nothing is fenced on a ProxySQL that cannot be read";

/// The conditions that are Orchestrator's, so that they are said once however many ProxySQLs there are.
const OF_ORCHESTRATOR: [&str; 5] =
    ["leaderless", "leader-unusable", "leader-conflict", "leader-unreached", "orchestrator-unverified"];

fn run(facts: &Facts) -> Vec<Finding> {
    let mut said = BTreeSet::new();
    let mut found = Vec::new();
    for proxy in &facts.proxies {
        if proxy.view.is_some() && proxy.survey.is_none() {
            let what = "ProxySQL's connection broke while its settings were read, so they were not checked";
            let fix = Fix::Shell("proxysql-stonith doctor   # again".to_owned());
            found.push(Finding::new(Level::Error, "proxysql-unread", what).why(UNREAD).fix(fix).at(proxy));
        }
        for condition in proxy.snapshot.conditions.iter().filter(|condition| LABELS.contains(&condition.label)) {
            if !OF_ORCHESTRATOR.contains(&condition.label) {
                found.push(finding(proxy, condition).at(proxy));
            } else if said.insert(condition.label) {
                found.push(finding(proxy, condition));
            }
        }
    }
    found
}

fn finding(proxy: &ProxyFacts, condition: &ConditionReport) -> Finding {
    use stonith_core::condition::Severity;
    let level = match condition.severity {
        Severity::Info => Level::Note,
        Severity::Warning => Level::Warning,
        Severity::Failure | Severity::Unprotected => Level::Error,
    };
    let (why, fix) = advice(proxy, condition);
    Finding::new(level, condition.label, &condition.text).why(why).fix(fix)
}

/// Why a condition matters, and the fix. The text of the condition may say more of it.
fn advice(proxy: &ProxyFacts, condition: &ConditionReport) -> (&'static str, Fix) {
    on_ways(proxy, condition.label).unwrap_or_else(|| on_rows(condition))
}

fn stonith(command: &str) -> Fix {
    Fix::Shell(format!("proxysql-stonith {command}"))
}

fn config(line: &str) -> Fix {
    Fix::Config(line.to_owned())
}

/// Advice on the ways to Orchestrator and to ProxySQL, and on the lease.
fn on_ways(proxy: &ProxyFacts, label: &str) -> Option<(&'static str, Fix)> {
    let address = &proxy.snapshot.proxysql;
    Some(match label {
        "leaderless" | "leader-conflict" => (
            "Nothing is changed without one leader: no new fence, no return",
            Fix::Shell("systemctl status orchestrator   # on each of its nodes".to_owned()),
        ),
        "leader-unusable" | "leader-unreached" => (
            "No new failover is fenced. After isolation.after without an answer the proxy goes out of service",
            stonith("config check --connect"),
        ),
        "answer-skipped" => (
            "A node that such an entry names is held: no failover fences it",
            Fix::Shell("orchestrator-client -c forget -i BROKEN_INSTANCE   # then discover it again".to_owned()),
        ),
        "orchestrator-unverified" => (
            "Whoever is on the path can fence and unfence nodes",
            config("orchestrator.endpoints = [\"https://orc1:3000\"], ca_file = \"/etc/ssl/orchestrator-ca.pem\""),
        ),
        "proxysql-unverified" => (
            "Whoever is on the path can run admin commands in ProxySQL",
            config("[[proxysql]] tls = \"verify-ca\", ca_file = \"/etc/ssl/proxysql-ca.pem\""),
        ),
        "proxysql-unread" => (
            UNREAD,
            Fix::Shell(format!(
                "mariadb -h {} -P {} -u radmin -p   # the same login by hand",
                address.host, address.port
            )),
        ),
        "unarmed" => (
            "A proxy that is cut off from Orchestrator keeps writing to a primary that the other side may have replaced. \
             Measured: the other side promotes 5.4 s after a cut",
            stonith("status"),
        ),
        "isolated" | "answered-for" => ("The way to Orchestrator's leader is lost", stonith("config check --connect")),
        _ => return None,
    })
}

/// Advice on ProxySQL's version, settings and rows.
fn on_rows(condition: &ConditionReport) -> (&'static str, Fix) {
    let node = condition.nodes.first().map_or_else(|| "NODE".to_owned(), ToString::to_string);
    let admin = |statements: &str| Fix::Admin(statements.to_owned());
    match condition.label {
        "proxysql-unfit" | "resume-may-hang" => (
            "Measured: 2.5.2 and 2.5.3 crash at a failover, monitors before 2.5.2 lose staged edits (facts §12), and RESUME \
             hangs up to 2.7.1 (facts §6)",
            Fix::Shell("apt-get install proxysql   # a version of docs/compatibility.md".to_owned()),
        ),
        "proxysql-ahead" => ("It was not tried, and has what is needed", stonith("plan")),
        "loads-uncounted" => (
            "Measured: a LOAD takes staged rows live and drops the new primary's sessions (facts §2)",
            admin(
                "SET admin-checksum_mysql_servers='true'; LOAD ADMIN VARIABLES TO RUNTIME; SAVE ADMIN VARIABLES TO DISK",
            ),
        ),
        "no-writer-hostgroup" => (
            "Measured without a fence: 9 of 20 inserts went to the old primary after its return (facts §3)",
            config("policy.writer_hostgroups = [10]"),
        ),
        "nothing-managed" => ("A failover fences nothing", config("policy.exclude_hostgroups = []")),
        "nothing-protected" | "unknown-nodes" | "unmatched-nodes" => (
            "A failover of such a node is not fenced. Measured: 9 of 20 inserts went to the old primary after its return \
             (facts §3)",
            Fix::Config(format!("[aliases] \"{node}\" = \"NAME_IN_ORCHESTRATOR:3306\"")),
        ),
        "held" if condition.cause == Some("unsure-name") => {
            ("No failover fences it until it is clear", Fix::Config(format!("[aliases] \"{node}\" = \"NAME:3306\"")))
        }
        "held" if condition.cause == Some("unreadable-marker") => (
            "A row with a broken marker is neither fenced nor let back",
            stonith("status   # then correct the row's comment in mysql_servers"),
        ),
        "held" | "held-more" => (
            "Its rows stay as they are: no failover fences it",
            Fix::Shell(format!("proxysql-stonith fence {node}   # or: unfence {node}")),
        ),
        "two-writers" => (
            "Both take writes, and their data diverge. Measured without a fence: 9 of 20 inserts went to the wrong one (facts \
             §3)",
            Fix::Shell(format!("proxysql-stonith fence {node}   # if it is not the primary")),
        ),
        "orchestrator-hooks" => (
            "Orchestrator changes rows too, and the program takes over what it leaves behind (facts §14)",
            stonith("status"),
        ),
        "without-writer" => ("No node takes writes", stonith("status   # its text has the statements")),
        "pause-is-slow" => (
            "Measured: 3.0 stops PostgreSQL's listeners too when it is paused (facts §6)",
            config("isolation.after = \"14s\""),
        ),
        "paused" => ("It takes no clients", admin("PROXYSQL RESUME")),
        "returns-by-hand" => (
            "A repaired node stays out until an operator lets it back",
            stonith("unfence NODE --as=replica   # after a repair, once the node was checked"),
        ),
        _ => ("Transactions that only this node has are lost or clash later", stonith("status")),
    }
}

#[cfg(test)]
mod tests {
    use stonith_core::condition::Severity;

    use super::super::facts::{healthy, node};
    use super::*;

    fn report(label: &'static str, severity: Severity) -> ConditionReport {
        ConditionReport { label, cause: None, severity, text: "text".to_owned(), nodes: vec![node("node01")] }
    }

    #[test]
    fn every_condition_is_of_a_look_or_is_said_to_be_none() {
        let code = include_str!("../../../core/src/condition.rs");
        let labels = code.split_once("fn label").unwrap().1.split_once("impl Condition {").unwrap().1;
        let labels = labels.split_once("fn label").unwrap().1.split_once("\n    }").unwrap().0;
        let labels: BTreeSet<&str> = labels.split('"').skip(1).step_by(2).collect();
        assert_eq!(labels, LABELS.into_iter().chain(NOT_OF_A_LOOK).collect());
    }

    #[test]
    fn no_condition_is_well() {
        assert_eq!(run(&healthy()), []);
    }

    #[test]
    fn every_condition_of_a_look_has_its_reason_and_its_fix() {
        let mut facts = healthy();
        facts.proxies[0].snapshot.conditions = LABELS.map(|label| report(label, Severity::Unprotected)).into();
        let found = run(&facts);
        assert_eq!(found.iter().map(|finding| finding.label).collect::<Vec<_>>(), LABELS);
        assert!(found.iter().all(|finding| !finding.why.is_empty() && finding.fix.is_some()));
    }

    #[test]
    fn a_proxysql_that_was_read_in_part_is_an_error() {
        let mut facts = healthy();
        facts.proxies[0].survey = None;
        let [found] = &run(&facts)[..] else { panic!() };
        assert_eq!((found.level, found.label), (Level::Error, "proxysql-unread"));
    }

    #[test]
    fn the_level_is_that_of_the_condition_and_other_conditions_are_left_out() {
        let mut facts = healthy();
        for (severity, level) in
            [(Severity::Info, Level::Note), (Severity::Warning, Level::Warning), (Severity::Failure, Level::Error)]
        {
            facts.proxies[0].snapshot.conditions = vec![report("held", severity), report("no-agent", severity)];
            let found = run(&facts);
            assert_eq!((found.len(), found[0].level), (1, level));
        }
    }

    #[test]
    fn what_is_orchestrators_is_said_once() {
        let mut facts = healthy();
        facts.proxies[0].snapshot.conditions =
            vec![report("leaderless", Severity::Unprotected), report("unarmed", Severity::Unprotected)];
        facts.proxies.push(facts.proxies[0].clone());
        let labels: Vec<_> = run(&facts).into_iter().map(|finding| finding.label).collect();
        assert_eq!(labels, ["leaderless", "unarmed", "unarmed"]);
    }
}
