//! What needs attention is said: what is not protected, not armed, held, or can't be told yet.

use std::collections::BTreeSet;

use stonith_core::condition::{Condition, Severity, UnarmedReason, Untold, conditions};
use stonith_core::decide::decide;
use stonith_core::evidence::EvidenceKind::SecondWriter;
use stonith_core::policy::IsolationScope;
use stonith_core::table::{CheckType, Status};

use crate::world::{Decided, Lab, Raft, node, pair, row};

impl Lab {
    /// One tick, and what it says.
    pub fn says(&mut self) -> Vec<Condition> {
        let decision = self.next();
        conditions(&self.observed(), &decision, &self.policy)
    }

    /// The rows get other names than Orchestrator has.
    fn rename_rows(&mut self, rename: impl Fn(&str) -> String) {
        for rows in [&mut self.proxy.runtime, &mut self.proxy.memory, &mut self.proxy.disk] {
            rows.iter_mut().for_each(|row| row.key.hostname = rename(&row.key.hostname).into());
        }
    }

    /// Why a look of this moment can't tell; nothing is kept of it.
    fn untold(&self) -> Option<Untold> {
        let observed = self.observed();
        decide(&observed, &self.memory, &self.policy, self.now_ms).untold(&observed)
    }
}

fn labels(conditions: &[Condition]) -> Vec<&'static str> {
    conditions.iter().map(Condition::label).collect()
}

#[test]
fn a_healthy_armed_proxysql_needs_no_attention() {
    assert_eq!(Lab::new().says(), [], "the first tick with a leader arms it");
    assert_eq!(Lab::healthy().says(), []);
}

#[test]
fn rows_by_address_where_orchestrator_has_names_are_said_to_be_unprotected_in_the_first_tick() {
    let mut lab = Lab::new();
    lab.rename_rows(|name| name.replace("node0", "10.0.0."));
    let said = lab.says();
    assert_eq!(labels(&said), ["nothing-protected"]);
    let text = said[0].to_string();
    assert!(text.contains("nothing is protected here") && text.contains("none of ProxySQL's 3 nodes"), "{text}");
    assert!(text.contains("10.0.0.1:3306") && text.contains("it lists node01:3306"), "{text}");
    assert!(text.contains("mysql_servers"), "the way out: {text}");
    lab.failover("node01", "node02").run_s(10);
    assert_eq!((lab.says(), lab.writes), (said, 0), "the same text, so that it is logged once");
}

#[test]
fn without_an_answer_nobody_is_said_to_be_unknown() {
    let mut lab = Lab::new();
    let said = lab.leader_gone().says();
    assert_eq!(labels(&said), ["leader-unreached", "unarmed"]);
    assert_eq!(said[1], Condition::Unarmed(UnarmedReason::NoLeader));
}

#[test]
fn however_many_nodes_are_unknown_they_are_one_bounded_line() {
    let mut lab = Lab::healthy();
    for n in 0..250 {
        lab.put(row(20, &format!("unknown{n:03}"), Status::Online));
    }
    let said = lab.says();
    assert_eq!(labels(&said), ["unknown-nodes"]);
    let text = said[0].to_string();
    assert!(text.starts_with("250 of 253 nodes cannot be fenced"), "{text}");
    assert!(text.contains("unknown000:3306, ") && text.ends_with(", ... and 245 more"), "{text}");
    assert_eq!(lab.says(), said);
}

#[test]
fn however_many_nodes_are_held_the_lines_are_bounded() {
    let mut lab = Lab::healthy();
    for n in 0..30 {
        lab.put(row(20, &format!("odd{n:02}"), Status::Unknown(format!("ODD{n:02}"))));
    }
    for n in 0..30 {
        lab.put(row(20, &format!("same{n:02}"), Status::Unknown("SAME".to_owned())));
    }
    let said = lab.says();
    let held: Vec<_> = said.iter().filter(|condition| condition.label() == "held").collect();
    assert_eq!(held.len(), 10);
    assert_eq!(said.last(), Some(&Condition::HeldMore(50)));
    let keys: BTreeSet<String> = said.iter().map(Condition::key).collect();
    assert_eq!(keys.len(), said.len(), "each is logged once");
}

#[test]
fn writers_that_orchestrator_does_not_know_leave_isolation_unarmed_there_and_that_is_said_while_led() {
    let mut lab = Lab::new();
    lab.proxy.pairs.push(pair(30, 40));
    lab.put(row(30, "gone", Status::Online));
    let said = lab.says();
    assert_eq!(labels(&said), ["unknown-nodes", "unarmed"]);
    let text = said[1].to_string();
    assert!(text.contains("not armed for writer hostgroup 30") && text.contains("gone:3306"), "{text}");
    lab.policy.isolation_scope = IsolationScope::Off;
    assert_eq!(labels(&lab.says()), ["unknown-nodes"], "isolation is not wanted");
    lab.proxy.pairs.pop();
    assert_eq!(lab.says(), [], "outside pairs it may be none of Orchestrator's business");
}

#[test]
fn a_proxysql_without_rows_and_one_without_writer_hostgroups_is_said() {
    let mut lab = Lab::new();
    lab.proxy.pairs.clear();
    let said = lab.says();
    assert_eq!((labels(&said), said[0].severity()), (vec!["no-writer-hostgroup"], Severity::Warning));
    (lab.proxy.runtime, lab.proxy.memory, lab.proxy.disk) = Default::default();
    let said = lab.says();
    assert_eq!((said[0].label(), said[0].severity()), ("nothing-managed", Severity::Unprotected));
}

#[test]
fn a_check_type_that_orchestrator_does_not_report_needs_a_hand_and_that_is_said_before_any_failover() {
    let mut lab = Lab::new();
    lab.proxy.pairs[0].check_type = CheckType::Other("super_read_only".to_owned());
    let said = lab.says();
    assert_eq!((labels(&said), said[0].severity()), (vec!["returns-by-hand"], Severity::Warning));
    assert!(
        said[0].to_string().contains("super_read_only") && said[0].to_string().contains("`unfence --as`"),
        "{}",
        said[0]
    );
}

#[test]
fn isolation_suspension_and_a_leader_that_is_none_are_said() {
    let mut lab = Lab::healthy();
    lab.leader_gone().run_s(60);
    assert_eq!(labels(&lab.says()), ["leader-unreached", "isolated"]);
    lab.orders.suspended = Some("upgrade".to_owned());
    let said = lab.says();
    assert!(said.contains(&Condition::Suspended("upgrade".to_owned())), "{said:?}");
    for (raft, label) in
        [(Raft::Leaderless, "leaderless"), (Raft::Blind, "leader-unusable"), (Raft::Conflict, "leader-conflict")]
    {
        assert_eq!(labels(&Lab::healthy().asked(raft).says()), [label]);
    }
}

#[test]
fn a_look_tells_only_what_a_confirmed_leader_and_a_second_look_would_not_change() {
    let mut lab = Lab::new();
    lab.put(row(10, "node02", Status::Online));
    lab.monitor = false;
    assert_eq!(lab.untold(), Some(Untold::LeaderUnconfirmed));
    let mut steady = Lab::healthy();
    assert_eq!(steady.untold(), None, "quiet");
    // Two writers: the first look sees them, the next check of both decides.
    steady.put(row(10, "node02", Status::Online));
    steady.monitor = false;
    steady.rows_go_stale();
    assert!(matches!(steady.untold(), Some(Untold::SecondWriters(nodes)) if nodes.named() == [node("node02")]));
    steady.stale = None;
    assert_eq!(steady.run_s(3).kinds("node02"), [SecondWriter]);
    assert_eq!(Lab::healthy().leader_gone().untold(), Some(Untold::NoLeader));
}
