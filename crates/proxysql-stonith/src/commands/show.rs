//! `plan` and `status`: the current state, and what the next ticks would do. Nothing is written.

use stonith_core::condition::Severity;
use tokio::time::Instant;

use super::{DONE, Ended, FAILED, Failure, UNPROTECTED, answer, complain, of_configured};
use crate::agent::look;
use crate::cli::PlanArgs;
use crate::config::{Config, Enforcement, duration};
use crate::report;

/// `plan`'s exit code if the next tick would change something.
const CHANGES: u8 = 10;

/// `plan`'s exit code if it found no change so far but the answer is incomplete.
const INCOMPLETE: u8 = 11;

/// Prints what the next ticks would do, and why.
pub async fn plan(config: &Config, args: &PlanArgs) -> Ended {
    let until = Instant::now() + args.wait;
    let (mut reached, mut code) = (0, DONE);
    let observes_all = config.proxies.iter().all(|proxy| proxy.policy.mode == Enforcement::Observe);
    for (proxy, planned) in
        config.proxies.iter().zip(look::plan_of_all(config, until).await.map_err(Failure::bad_input)?)
    {
        let snapshot = planned.snapshot;
        if !snapshot.reached {
            snapshot.conditions.iter().for_each(|condition| complain(&condition.text));
            continue;
        }
        reached += 1;
        answer(&report::text::plan(&snapshot));
        for condition in &snapshot.conditions {
            answer(&format!("  ! {}", condition.text));
        }
        if let Some(why) = planned.untold {
            let waited = duration::show(args.wait);
            answer(&format!("  ! this plan may be incomplete: {why} (--wait {waited})"));
            code = code.max(INCOMPLETE);
        }
        if !snapshot.plan.empty {
            code = CHANGES;
        }
        if proxy.policy.mode == Enforcement::Observe && !observes_all {
            answer("  mode = \"observe\" here: `run` reports this and changes nothing");
        }
    }
    if observes_all {
        answer("mode = \"observe\": `run` reports this and changes nothing");
    }
    answer(&format!("looked at {} ProxySQLs; nothing was changed", of_configured(reached, config)));
    Ok(if reached < config.proxies.len() { FAILED } else { code })
}

/// Prints leader, lease, what needs attention, and the nodes.
pub async fn status(config: &Config, as_json: bool) -> Ended {
    let snapshots = look::look_at_all(config).await.map_err(Failure::bad_input)?;
    if as_json {
        answer(&report::json::status(&snapshots.iter().collect::<Vec<_>>()));
    } else {
        for snapshot in &snapshots {
            match snapshot.reached {
                true => answer(&report::text::status(snapshot)),
                false => snapshot.conditions.iter().for_each(|condition| complain(&condition.text)),
            }
        }
        let reached = snapshots.iter().filter(|snapshot| snapshot.reached).count();
        answer(&format!("{} ProxySQLs answered", of_configured(reached, config)));
    }
    let worst = snapshots.iter().map(|snapshot| snapshot.worst).max().unwrap_or(Severity::Info);
    Ok(exit_code(worst))
}

/// The exit code of `status`, for a monitoring check.
pub fn exit_code(worst: Severity) -> u8 {
    match worst {
        Severity::Info | Severity::Warning => DONE,
        Severity::Failure => FAILED,
        Severity::Unprotected => UNPROTECTED,
    }
}
