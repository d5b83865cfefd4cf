//! `hook`: what Orchestrator runs around a failover.

use stonith_core::barrier::OnUnconfirmed;

use super::{DONE, Ended, FAILED, Failure, answer};
use crate::cli::HookCommand;
use crate::config::Config;
use crate::hook::{self, Failover, FailoverArgs, Outcome};

/// Runs one hook.
pub async fn hook(config: &Config, command: &HookCommand) -> Ended {
    let args = match command {
        HookCommand::PreFailover(args) => return pre_failover(config, &read(args)?).await,
        HookCommand::PreGracefulTakeover(args) => return drain(config, &read(args)?, true).await,
        HookCommand::PostFailover(args) | HookCommand::PostUnsuccessfulFailover(args) => args,
    };
    let failover = read(args)?;
    watch(config, FAILED)?;
    if failover.is_of_a_primary {
        match command {
            HookCommand::PostFailover(_) => hook::post_failover(config, &failover).await?,
            _ => hook::post_unsuccessful_failover(config, &failover).await?,
        }
    }
    Ok(DONE)
}

/// Drains before a planned takeover. `waits`: running transactions may finish.
async fn drain(config: &Config, failover: &Failover, waits: bool) -> Ended {
    let unconfirmed = match config.barrier.on_unconfirmed {
        OnUnconfirmed::Proceed => DONE,
        OnUnconfirmed::Abort => FAILED,
    };
    watch(config, unconfirmed)?;
    let Failover { failed, cluster, .. } = failover;
    let takeover = match hook::drain(config, failover, waits).await {
        Ok(takeover) => takeover,
        Err(error) => {
            tracing::error!(node = %failed, cluster, "nothing is drained: {error}");
            return Ok(unconfirmed);
        }
    };
    match (takeover.open.is_empty(), takeover.goes_on) {
        (true, _) => tracing::info!(node = %failed, cluster, "{takeover}"),
        (false, true) => tracing::warn!(node = %failed, cluster, "{takeover}"),
        (false, false) => tracing::error!(node = %failed, cluster, "{takeover}"),
    }
    Ok(if takeover.goes_on { DONE } else { FAILED })
}

async fn pre_failover(config: &Config, failover: &Failover) -> Ended {
    if failover.is_planned {
        return drain(config, failover, false).await;
    }
    let unconfirmed = match config.barrier.on_unconfirmed {
        OnUnconfirmed::Proceed => DONE,
        OnUnconfirmed::Abort => FAILED,
    };
    watch(config, unconfirmed)?;
    let Failover { failed, cluster, recovery, .. } = failover;
    let outcome = match hook::pre_failover(config, failover).await {
        Ok(outcome) => outcome,
        Err(error) => {
            tracing::error!(node = %failed, cluster, recovery, "the barrier cannot begin: {error}");
            return Ok(unconfirmed);
        }
    };
    match &outcome {
        Outcome::Proceed(open) if !open.is_empty() => tracing::warn!(node = %failed, cluster, recovery, "{outcome}"),
        Outcome::Proceed(_) | Outcome::NotNeeded(_) => tracing::info!(node = %failed, cluster, recovery, "{outcome}"),
        Outcome::Abort(_) => tracing::error!(node = %failed, cluster, recovery, "{outcome}"),
    }
    Ok(if outcome.goes_on() { DONE } else { FAILED })
}

/// Prints the lines for orchestrator.conf.json.
pub fn lines() -> u8 {
    let program = std::env::current_exe().ok().and_then(|path| path.to_str().map(str::to_owned));
    answer(&hook::orchestrator_lines(program.as_deref().unwrap_or("proxysql-stonith")));
    DONE
}

fn watch(config: &Config, code: u8) -> Result<(), Failure> {
    Ok(hook::watchdog(config.barrier.deadline, code)?)
}

fn read(args: &FailoverArgs) -> Result<Failover, Failure> {
    args.read().map_err(Failure::bad_input)
}
