//! `config check`: prints the config in force with each value's origin. `--connect` also tries it.

use stonith_core::condition::Severity;

use super::{DONE, Ended, FAILED, Failure, answer};
use crate::agent::look::{self, Checked};
use crate::cli::{CheckArgs, ReferenceArgs};
use crate::config::{self, Config};
use crate::fence_agent;
use crate::handed::Readiness;
use crate::metrics;
use crate::node_fence::readiness;

/// Prints the config in force; with `--connect`, also connects to every server in it.
pub async fn check(config: &Config, args: &CheckArgs) -> Ended {
    // A config is valid if it fits one way to run at least: the daemon, or `run --once` at the scheduler's interval.
    let refused = look::refused_modes(config).map_err(Failure::bad_input)?;
    let unverified = look::unverified(config).map_err(Failure::bad_input)?;
    answer(&config.to_toml());
    for why in unverified {
        answer(&format!("# {why}"));
    }
    for (name, why) in refused {
        answer(&format!("# `{name}` refuses this config: {why}"));
    }
    if !args.connect {
        return Ok(DONE);
    }
    let mut worst = endpoints(config).await?;
    for checked in look::check_all(config).await.map_err(Failure::bad_input)? {
        worst = worst.max(tell(&checked));
        worst = worst.max(nodes(config, &checked).await?);
        worst = worst.max(agents(config, &checked).await);
    }
    Ok(if worst < Severity::Failure { DONE } else { FAILED })
}

/// Prints docs/config.md, or docs/metrics.md; reads no config.
pub fn reference(args: &ReferenceArgs) -> Ended {
    answer(&if args.metrics { metrics::reference() } else { config::reference() });
    Ok(DONE)
}

/// Asks every endpoint of every Orchestrator whether it leads, and prints the answers.
async fn endpoints(config: &Config) -> Result<Severity, Failure> {
    let mut worst = Severity::Info;
    for (name, answers) in look::endpoints_answer(config).await.map_err(Failure::bad_input)? {
        let name = name.map_or(String::new(), |name| format!("{name} "));
        for (endpoint, said) in answers {
            answer(&match said {
                Ok(true) => format!("Orchestrator {name}{endpoint}: answers, is the leader"),
                Ok(false) => format!("Orchestrator {name}{endpoint}: answers, is not the leader"),
                Err(why) => {
                    worst = Severity::Failure;
                    format!("Orchestrator {name}{endpoint}: {why}")
                }
            });
        }
    }
    Ok(worst)
}

/// Asks each node of one ProxySQL whether it could be made read-only, and prints the answers. Nothing is changed there.
async fn nodes(config: &Config, checked: &Checked) -> Result<Severity, Failure> {
    let Some(chosen) = &config.node_fence else { return Ok(Severity::Info) };
    let nodes = checked.snapshot.nodes.iter().map(|report| report.node.clone());
    let mut worst = Severity::Info;
    for (node, readiness) in readiness(chosen, nodes).await.map_err(Failure::bad_input)? {
        answer(&match readiness {
            Readiness::Ready => format!("  node {node}: could be made read-only"),
            Readiness::Unready(why) | Readiness::Unreached(why) => {
                worst = Severity::Failure;
                format!("  ! node {node} could not be made read-only: {why}")
            }
        });
    }
    Ok(worst)
}

/// Asks the fence agents of each node whether they could power it off, and prints the answers. No `off` is given.
async fn agents(config: &Config, checked: &Checked) -> Severity {
    let mut worst = Severity::Info;
    let nodes = checked.snapshot.nodes.iter().map(|report| report.node.clone());
    for (node, readiness) in fence_agent::readiness(&config.fence_agents, nodes).await {
        answer(&match readiness {
            Readiness::Ready => {
                format!("  node {node}: could be powered off; its fence agents answer, and say whether it is on")
            }
            Readiness::Unready(why) | Readiness::Unreached(why) => {
                worst = Severity::Failure;
                format!("  ! node {node} could not be powered off: {why}")
            }
        });
    }
    worst
}

/// Prints what was observed at one ProxySQL, and what prevents protection.
fn tell(checked: &Checked) -> Severity {
    let snapshot = &checked.snapshot;
    answer(&match snapshot.reached {
        true => summary(checked),
        false => format!("ProxySQL {}:", snapshot.proxysql),
    });
    if let Some(found) = &checked.found {
        answer(&format!("  {found}"));
    }
    for condition in &snapshot.conditions {
        answer(&format!("  ! {}", condition.text));
    }
    snapshot.worst
}

/// One line: version, leader, how many nodes Orchestrator knows, and whether isolation is armed.
fn summary(checked: &Checked) -> String {
    let Checked { snapshot, served, known, .. } = checked;
    let version = snapshot.version.as_deref().unwrap_or_default();
    let leader = snapshot.leader.as_ref().map_or("no leader".to_owned(), |leader| format!("leader {}", leader.name));
    let armed = if snapshot.armed { "isolation armed" } else { "isolation not armed" };
    format!(
        "ProxySQL {}: version {version}; {leader}; Orchestrator knows {known} of {served} nodes; {armed}",
        snapshot.proxysql
    )
}
