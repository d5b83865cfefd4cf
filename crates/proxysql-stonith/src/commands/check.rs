//! `config check`: the config in force, with each value's origin; with `--connect` what it comes to.

use stonith_core::condition::{Condition, Severity, in_force};
use stonith_core::decide::{Decision, HoldReason, Verdict};
use stonith_core::node::Node;
use stonith_core::observed::Observed;
use stonith_core::orchestrator::LeaderView;
use stonith_core::orders::Orders;

use super::proxies::{looking_agent, orchestrator_settings};
use super::{DONE, Ended, FAILED, Failure, answer};
use crate::cli::CheckArgs;
use crate::config::{Config, Mode, ProxyConfig, ProxyTls};
use crate::{orchestrator, proxysql};

/// Prints the effective config, and tries it where that is asked for.
pub async fn check(config: &Config, args: &CheckArgs) -> Ended {
    // Valid for how it is said to run: a daemon, or, with --once's interval, the scheduler.
    let fits = |mode| config.policy(mode).map_err(|error| Failure::BadInput(error.to_string()));
    let daemon = fits(Mode::Daemon);
    let once = fits(Mode::Once);
    if let (Err(error), Err(_)) = (&daemon, &once) {
        let Failure::BadInput(text) = error else { return Ok(DONE) };
        return Err(Failure::BadInput(text.clone()));
    }
    let all = super::proxies::endpoints(config)?;
    answer(&config.to_toml());
    let of_orchestrator = &config.orchestrator;
    let has_password = of_orchestrator.credential.is_some();
    let whoever_answers = orchestrator::unverified(&all, !of_orchestrator.tls.verify, has_password);
    let proxies = config.proxies.iter().filter_map(|p| proxysql::unverified(&p.address, p.tls != ProxyTls::Off));
    for why in whoever_answers.into_iter().chain(proxies) {
        answer(&format!("# {why}"));
    }
    for (mode, name) in [(daemon, "run"), (once, "run --once")] {
        if let Err(Failure::BadInput(text)) = mode {
            answer(&format!("# `{name}` refuses this config: {text}"));
        }
    }
    if !args.connect {
        return Ok(DONE);
    }
    let mut worst = endpoints(config).await?;
    for proxy in &config.proxies {
        worst = worst.max(look_at(config, proxy).await?);
    }
    Ok(if worst < Severity::Failure { DONE } else { FAILED })
}

/// Asks every endpoint of Orchestrator.
async fn endpoints(config: &Config) -> Result<Severity, Failure> {
    let said = orchestrator::check(&orchestrator_settings(config)?).await;
    let said = said.map_err(|error| Failure::BadInput(error.to_string()))?;
    let mut worst = Severity::Info;
    for (endpoint, said) in said {
        answer(&match said {
            Ok(true) => format!("Orchestrator {endpoint}: answers and leads"),
            Ok(false) => format!("Orchestrator {endpoint}: answers and does not lead"),
            Err(why) => {
                worst = Severity::Failure;
                format!("Orchestrator {endpoint}: {why}")
            }
        });
    }
    Ok(worst)
}

/// Looks at one ProxySQL as a tick does, and says what can't protect.
async fn look_at(config: &Config, proxy: &ProxyConfig) -> Result<Severity, Failure> {
    let mut agent = looking_agent(config, proxy)?;
    let looked = agent.look(Orders::default()).await;
    let found = match &looked {
        Ok((observed, decision)) => {
            let version = agent.version().unwrap_or_default();
            answer(&format!("ProxySQL {}: version {version}; {}", proxy.address, summary(observed, decision)));
            agent.conditions(observed, decision)
        }
        Err(error) => {
            answer(&format!("ProxySQL {}:", proxy.address));
            vec![Condition::ProxyUnread(error.to_string())]
        }
    };
    agent.close().await;
    for condition in &found {
        answer(&format!("  ! {condition}"));
    }
    Ok(found.iter().map(Condition::severity).max().unwrap_or(Severity::Info))
}

/// How many nodes are known, and whether isolation is armed.
fn summary(observed: &Observed, decision: &Decision) -> String {
    let is_unknown = |node: &Node| matches!(decision.verdicts.get(node), Some(Verdict::Ignore(HoldReason::NotKnown)));
    let nodes: Vec<Node> = in_force(&observed.proxy, |_| true).into_iter().collect();
    let known = nodes.iter().filter(|node| decision.verdicts.contains_key(*node) && !is_unknown(node)).count();
    let leader = match &observed.leader {
        LeaderView::Led(answer) => format!("leader {}", answer.leader),
        _ => "no leader".to_owned(),
    };
    let armed = if decision.memory.lease.armed { "isolation armed" } else { "isolation not armed" };
    format!("{leader}; {known} of {} nodes known to it; {armed}", nodes.len())
}
