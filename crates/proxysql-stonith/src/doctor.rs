//! `doctor`: what is set up so that a failover would not be fenced, or so that something else would hurt.
//!
//! ```text
//! gather   config -> Facts of each Orchestrator and its ProxySQLs: one look at each. The only part with I/O
//! CHECKS   Facts -> findings: a file for each check, pure
//! ```
//!
//! **Invariant:** nothing is written anywhere, and no finding contains a secret (I11).
//!
//! What [`conditions`](stonith_core::condition) say is said by one check, which adds why and the fix. The other checks
//! look at what no tick looks at.

mod authentication;
mod backstop;
mod barrier;
mod blocked_recoveries;
mod certificates;
mod clock;
mod cluster;
mod comments;
mod conditions;
mod endpoints;
mod facts;
mod gather;
mod ghosts;
mod hostgroups;
mod members;
mod monitor;
mod names;
mod node_account;
mod processlist;
mod recovery_filters;
mod recovery_settings;
pub mod report;
mod scheduler;
mod staged;
mod timing;
mod two_names;
mod writable;

use std::fmt;

use serde::Serialize;
use stonith_core::node::Node;

use crate::orchestrator::EndpointSeen;

pub use facts::{Facts, ModeFacts, Program, ProxyFacts};
pub use gather::gather;

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Good to know. Nothing has to be done.
    Note,
    /// Protection works, with a gap or a cost.
    Warning,
    /// A failover is not fenced, or traffic is at risk.
    Error,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

/// Where a fix goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "where", content = "do", rename_all = "kebab-case")]
pub enum Fix {
    /// Statements for ProxySQL's admin interface, by the mariadb or mysql client.
    Admin(String),
    /// Statements for a MySQL node.
    Mysql(String),
    /// A line of this program's config file.
    Config(String),
    /// A line of Orchestrator's config file.
    Orchestrator(String),
    /// A command for the shell.
    Shell(String),
}

impl fmt::Display for Fix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (place, text) = match self {
            Self::Admin(text) => ("ProxySQL's admin interface", text),
            Self::Mysql(text) => ("MySQL", text),
            Self::Config(text) => ("this program's config", text),
            Self::Orchestrator(text) => ("Orchestrator's config", text),
            Self::Shell(text) => ("shell", text),
        };
        write!(f, "{place}: {text}")
    }
}

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How much it matters.
    pub level: Level,
    /// A stable name for programs.
    pub label: &'static str,
    /// The name of the Orchestrator, where the config has several.
    pub orchestrator: Option<String>,
    /// The ProxySQL that it is about; `None` if it is about Orchestrator.
    pub proxysql: Option<Node>,
    /// What was seen.
    pub what: String,
    /// Why it matters, with the measured effect where there is one.
    pub why: String,
    /// What to do.
    pub fix: Option<Fix>,
}

impl Finding {
    fn new(level: Level, label: &'static str, what: impl Into<String>) -> Self {
        Self { level, label, orchestrator: None, proxysql: None, what: what.into(), why: String::new(), fix: None }
    }

    fn at(mut self, proxy: &ProxyFacts) -> Self {
        self.proxysql = Some(proxy.snapshot.proxysql.clone());
        self
    }

    fn why(mut self, why: impl Into<String>) -> Self {
        self.why = why.into();
        self
    }

    fn fix(mut self, fix: Fix) -> Self {
        self.fix = Some(fix);
        self
    }
}

/// What a check is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Area {
    /// Orchestrator.
    Orchestrator,
    /// ProxySQL, and the MySQL nodes as it sees them.
    ProxySql,
    /// This program's own config.
    Program,
}

impl fmt::Display for Area {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Orchestrator => "Orchestrator",
            Self::ProxySql => "ProxySQL",
            Self::Program => "This program",
        })
    }
}

/// One check.
pub struct Check {
    /// Its name, as that of its file.
    pub name: &'static str,
    /// What it is about.
    pub area: Area,
    /// What it judges.
    needs: Need,
    /// The labels of all findings that it can make.
    pub labels: &'static [&'static str],
    run: fn(&Facts) -> Vec<Finding>,
}

/// What has to be seen for a check to tell anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    /// Nothing but the config.
    Config,
    /// The answer of an Orchestrator node.
    Endpoint,
    /// The certificate of every `https` endpoint.
    Certificates,
    /// What Orchestrator's leader shows.
    Leader,
    /// The tables of every ProxySQL.
    Tables,
    /// What is read of every ProxySQL besides.
    Survey,
    /// What is read of every ProxySQL besides, and what Orchestrator's leader shows.
    LeaderAndSurvey,
}

impl Need {
    fn is_met(self, facts: &Facts) -> bool {
        let leads = facts.orchestrator.recovery.is_some();
        let has_survey = facts.proxies.iter().all(|proxy| proxy.survey.is_some());
        match self {
            Self::Config => true,
            Self::Endpoint => facts.orchestrator.endpoints.iter().any(|seen| seen.leads.is_ok()),
            Self::Certificates => {
                let is_seen = |seen: &EndpointSeen| !seen.url.starts_with("https:") || seen.certificate.is_some();
                facts.orchestrator.endpoints.iter().all(is_seen)
            }
            Self::Leader => leads,
            Self::Tables => facts.proxies.iter().all(|proxy| proxy.view.is_some()),
            Self::Survey => has_survey,
            Self::LeaderAndSurvey => leads && has_survey,
        }
    }
}

/// What all checks found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnosis {
    /// The findings, in the order of the checks.
    pub findings: Vec<Finding>,
    /// The names of the checks that could not tell, since what they judge was not seen. They may have findings.
    pub unseen: Vec<&'static str>,
}

/// Every check, in the order in which it is shown.
pub const CHECKS: [&Check; 24] = [
    &endpoints::CHECK,
    &authentication::CHECK,
    &members::CHECK,
    &certificates::CHECK,
    &clock::CHECK,
    &recovery_filters::CHECK,
    &blocked_recoveries::CHECK,
    &recovery_settings::CHECK,
    &conditions::CHECK,
    &names::CHECK,
    &two_names::CHECK,
    &hostgroups::CHECK,
    &monitor::CHECK,
    &writable::CHECK,
    &cluster::CHECK,
    &staged::CHECK,
    &ghosts::CHECK,
    &comments::CHECK,
    &processlist::CHECK,
    &backstop::CHECK,
    &scheduler::CHECK,
    &timing::CHECK,
    &barrier::CHECK,
    &node_account::CHECK,
];

/// Runs every check, on each Orchestrator with its ProxySQLs.
pub fn examine(facts: &[Facts]) -> Diagnosis {
    let is_seen = |check: &Check| facts.iter().all(|facts| check.needs.is_met(facts));
    Diagnosis {
        findings: CHECKS.iter().flat_map(|check| facts.iter().flat_map(|facts| check.findings(facts))).collect(),
        unseen: CHECKS.iter().filter(|check| !is_seen(check)).map(|check| check.name).collect(),
    }
}

impl Check {
    fn findings(&self, facts: &Facts) -> Vec<Finding> {
        let mut found = (self.run)(facts);
        debug_assert!(found.iter().all(|finding| self.labels.contains(&finding.label)), "{}: {found:?}", self.name);
        found.truncate(FINDINGS_MAX);
        found.iter_mut().for_each(|finding| finding.orchestrator.clone_from(&facts.name));
        found
    }
}

/// The most findings of one check. A set-up with more of them has one cause.
const FINDINGS_MAX: usize = 50;

/// The check that makes findings with this label.
pub fn check_of(label: &str) -> Option<&'static Check> {
    CHECKS.into_iter().find(|check| check.labels.contains(&label))
}

/// The first few of a list, and how many more there are.
fn few<T: fmt::Display>(items: &[T]) -> String {
    stonith_core::list::first_few(items, items.len(), 5)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::doctor::facts::healthy;

    #[test]
    fn a_healthy_set_up_has_nothing_to_mend_and_all_of_it_is_seen() {
        let Diagnosis { findings, unseen } = examine(&[healthy()]);
        assert!(findings.iter().all(|finding| finding.level == Level::Note), "{findings:?}");
        assert_eq!(unseen, [""; 0]);
    }

    #[test]
    fn a_check_is_not_well_if_what_it_judges_was_not_seen() {
        let mut facts = healthy();
        facts.orchestrator.recovery = None;
        let unseen = ["recovery filters", "blocked recoveries", "recovery settings", "names", "writable nodes"];
        assert_eq!(examine(&[facts.clone()]).unseen, unseen);
        facts.orchestrator.endpoints[0].url = "https://orc1:3000".to_owned();
        assert_eq!(examine(&[facts.clone()]).unseen[0], "certificates");
        let mut facts = healthy();
        facts.proxies[0].survey = None;
        assert!(examine(&[facts.clone()]).unseen.contains(&"scheduler"));
        facts.proxies[0].view = None;
        assert!(examine(&[facts.clone()]).unseen.contains(&"ghosts"));
    }

    #[test]
    fn each_of_several_orchestrators_is_judged_with_its_own_proxysqls() {
        let one = Facts { name: Some("one".to_owned()), ..healthy() };
        let mut other = Facts { name: Some("other".to_owned()), ..healthy() };
        other.orchestrator.recovery.as_mut().unwrap().is_enabled = Some(false);
        let found = examine(&[one, other]).findings;
        let of = |label: &str| {
            let of_label = found.iter().filter(|finding| finding.label == label);
            of_label.map(|finding| finding.orchestrator.as_deref().unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(of("recoveries-disabled"), ["other"]);
        assert_eq!(of("recovery-settings-unseen"), ["one", "other"]);
    }

    #[test]
    fn every_label_is_of_one_check() {
        let labels: Vec<&str> = CHECKS.iter().flat_map(|check| check.labels).copied().collect();
        assert_eq!(labels.iter().collect::<BTreeSet<_>>().len(), labels.len());
        assert!(labels.iter().all(|label| check_of(label).is_some()) && check_of("none").is_none());
    }
}
