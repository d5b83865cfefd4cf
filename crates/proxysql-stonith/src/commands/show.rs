//! `plan` and `status`: look and decide as a tick does, and write nothing.

use serde_json::{Value, json};

use super::proxies::{looking_agent, state_dir};
use super::{DONE, Ended, FAILED, answer, complain, of_configured};
use crate::clock::Now;
use crate::config::{Config, Enforcement};
use crate::report;

/// `plan`'s exit code where the next tick would change something.
const CHANGES: u8 = 10;

/// What the next tick would do, and why.
pub async fn plan(config: &Config) -> Ended {
    let (mut reached, mut changes) = (0, false);
    for proxy in &config.proxies {
        let mut agent = looking_agent(config, proxy)?;
        let orders = state_dir(config, proxy).orders(&Now::read()).orders;
        match agent.look(orders).await {
            Ok((observed, decision)) => {
                reached += 1;
                changes |= !decision.plan.is_empty();
                answer(&report::plan_text(&proxy.address, &decision));
                for line in report::attention(&observed, &decision).values() {
                    answer(&format!("  ! {line}"));
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
    Ok(if reached < config.proxies.len() {
        FAILED
    } else if changes {
        CHANGES
    } else {
        DONE
    })
}

/// Leader, lease, nodes.
pub async fn status(config: &Config, as_json: bool) -> Ended {
    let mut reached = 0;
    let mut all: Vec<Value> = Vec::new();
    for proxy in &config.proxies {
        let mut agent = looking_agent(config, proxy)?;
        let now = Now::read();
        let standing = state_dir(config, proxy).orders(&now);
        let left_s = standing.suspension.as_ref().and_then(|s| s.left(&now)).map(|left| left.as_secs());
        match agent.look(standing.orders).await {
            Ok((observed, decision)) => {
                reached += 1;
                let policy = &agent.settings.policy;
                if as_json {
                    let mut value = report::status_json(&proxy.address, &observed, &decision, policy, now.boot_ms);
                    value["suspended_for_s"] = json!(left_s);
                    all.push(value);
                } else {
                    answer(&report::status_text(&proxy.address, &observed, &decision, policy, now.boot_ms));
                }
            }
            Err(error) if as_json => {
                all.push(json!({"proxysql": proxy.address.to_string(), "error": error.to_string()}));
            }
            Err(error) => complain(&error.to_string()),
        }
        agent.close().await;
    }
    if as_json {
        let mode = if config.policy.mode == Enforcement::Observe { "observe" } else { "enforce" };
        let value = json!({"configured": config.proxies.len(), "reached": reached, "mode": mode, "proxies": all});
        answer(&format!("{value:#}"));
    } else {
        answer(&format!("{} ProxySQLs answered", of_configured(reached, config)));
    }
    Ok(if reached < config.proxies.len() { FAILED } else { DONE })
}
