//! `plan` and `status`: look and decide as a tick does, and write nothing.

use std::time::Duration;

use serde_json::{Value, json};
use stonith_core::condition::{Condition, Severity};
use stonith_core::decide::Decision;
use stonith_core::observed::Observed;
use stonith_core::orchestrator::LeaderView;
use tokio::time::Instant;

use super::proxies::{looking_agent, silent_agent, state_dir};
use super::{DONE, Ended, FAILED, UNPROTECTED, answer, complain, of_configured};
use crate::agent::{Agent, TickError};
use crate::cli::PlanArgs;
use crate::clock::Now;
use crate::config::{Config, Enforcement, ProxyConfig, duration};
use crate::report::{self, Snapshot};

/// `plan`'s exit code where the next tick would change something.
const CHANGES: u8 = 10;

/// `plan`'s exit code where it can't tell what the next ticks would do.
const UNTOLD: u8 = 11;

/// Between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// What the next ticks would do, and why.
pub async fn plan(config: &Config, args: &PlanArgs) -> Ended {
    let until = Instant::now() + args.wait;
    let (mut reached, mut code) = (0, DONE);
    for proxy in &config.proxies {
        let mut agent = looking_agent(config, proxy)?;
        match look_until_told(config, proxy, &mut agent, until).await {
            Ok((observed, decision)) => {
                reached += 1;
                answer(&report::text::plan(&proxy.address, &decision));
                for condition in agent.conditions(&observed, &decision) {
                    answer(&format!("  ! {condition}"));
                }
                if let Some(why) = decision.untold(&observed) {
                    let waited = duration::show(args.wait);
                    answer(&format!("  ! this plan may not be the whole: {why} (--wait {waited})"));
                    code = code.max(UNTOLD);
                }
                if !decision.plan.is_empty() {
                    code = CHANGES;
                }
            }
            Err(error) => complain(&error.to_string()),
        }
        agent.close().await;
    }
    if config.policy.mode == Enforcement::Observe {
        answer("mode = \"observe\": `run` reports this and changes nothing");
    }
    answer(&format!("looked at {} ProxySQLs; nothing was changed", of_configured(reached, config)));
    Ok(if reached < config.proxies.len() { FAILED } else { code })
}

/// Looks until it is plain what would be done, while an answer of Orchestrator's can still change that.
async fn look_until_told(
    config: &Config,
    proxy: &ProxyConfig,
    agent: &mut Agent,
    until: Instant,
) -> Result<(Observed, Decision), TickError> {
    loop {
        let orders = state_dir(config, proxy).orders(&Now::read()).orders;
        let (observed, decision) = agent.look(orders).await?;
        let answers = matches!(observed.leader, LeaderView::Led(_) | LeaderView::Leaderless | LeaderView::Conflict(_));
        if decision.untold(&observed).is_none() || !answers || Instant::now() >= until {
            return Ok((observed, decision));
        }
        // Only in this process: how long the leader has been the same, and what was seen once.
        agent.memory = decision.memory;
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Leader, lease, what needs attention, nodes.
pub async fn status(config: &Config, as_json: bool) -> Ended {
    let mut reached = 0;
    let mut worst = Severity::Info;
    let mut all: Vec<Value> = Vec::new();
    for proxy in &config.proxies {
        let mut agent = looking_agent(config, proxy)?;
        let now = Now::read();
        let standing = state_dir(config, proxy).orders(&now);
        let mut found = Vec::new();
        found.extend(silent_agent(config, proxy, &now).map(Condition::NoAgent));
        found.extend(standing.problem.as_ref().map(|problem| Condition::OrdersUnread(problem.to_string())));
        let left_s = standing.suspension.as_ref().and_then(|s| s.left(&now)).map(|left| left.as_secs());
        let looked = agent.look(standing.orders).await;
        match &looked {
            Ok((observed, decision)) => found.extend(agent.conditions(observed, decision)),
            Err(error) => found.push(Condition::ProxyUnread(error.to_string())),
        }
        worst = found.iter().map(Condition::severity).fold(worst, Severity::max);
        match &looked {
            Ok((observed, decision)) => {
                reached += 1;
                let snapshot = Snapshot {
                    proxy: &proxy.address,
                    version: agent.version(),
                    observed,
                    decision,
                    policy: &agent.settings.policy,
                    conditions: &found,
                    now_ms: now.boot_ms,
                };
                if as_json {
                    let mut value = report::json::status(&snapshot);
                    value["suspended_for_s"] = json!(left_s);
                    all.push(value);
                } else {
                    answer(&report::text::status(&snapshot));
                }
            }
            Err(_) if as_json => all.push(json!({
                "proxysql": proxy.address.to_string(),
                "conditions": report::json::conditions(&found),
            })),
            Err(error) => complain(&error.to_string()),
        }
        agent.close().await;
    }
    if as_json {
        let mode = if config.policy.mode == Enforcement::Observe { "observe" } else { "enforce" };
        let value = json!({
            "schema": report::json::SCHEMA,
            "configured": config.proxies.len(),
            "reached": reached,
            "mode": mode,
            "worst": worst.label(),
            "proxies": all,
        });
        answer(&format!("{value:#}"));
    } else {
        answer(&format!("{} ProxySQLs answered", of_configured(reached, config)));
    }
    Ok(exit_code(worst))
}

/// What a monitoring check sees.
pub fn exit_code(worst: Severity) -> u8 {
    match worst {
        Severity::Info | Severity::Warning => DONE,
        Severity::Failure => FAILED,
        Severity::Unprotected => UNPROTECTED,
    }
}
