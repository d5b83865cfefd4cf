//! `suspend` and `resume`: the break-glass. They need only the state directory.
//!
//! They work while everything else is down or wrong, including the config file.

use std::path::Path;

use stonith_core::node::Node;

use super::{DONE, Ended, FAILED, Failure, answer, complain};
use crate::cli::SuspendArgs;
use crate::clock::Now;
use crate::config::{Config, Environment, Flags, duration};
use crate::state::{StateDir, StateError};

/// An agent without a tick for this long may keep its state in another directory, s.
const SILENT_MAX_S: u64 = 120;

/// Pauses all fencing and unfencing for a while.
pub fn suspend(flags: &Flags, env: &Environment, args: &SuspendArgs) -> Ended {
    let user = |name| std::env::var(name).ok().filter(|user| !user.is_empty());
    let by = user("SUDO_USER").or_else(|| user("USER")).unwrap_or_else(|| "unknown".to_owned());
    let now = Now::read();
    let (done, failed) = for_each(flags, env, |dir| dir.suspend(&args.reason, &by, args.duration, &now).map(drop))?;
    if !done.is_empty() {
        let time = duration::show(args.duration);
        answer(&format!(
            "suspended for {time}: {}. Nothing is fenced or let back until that time is over or `resume` is run",
            list(&done)
        ));
    }
    Ok(if failed { FAILED } else { DONE })
}

/// Ends a suspension.
pub fn resume(flags: &Flags, env: &Environment) -> Ended {
    let now = Now::read();
    let mut held = Vec::new();
    let (done, failed) = for_each(flags, env, |dir| {
        held.extend(dir.resume(&now)?.map(|_| dir.proxy().to_string()));
        Ok(())
    })?;
    if !done.is_empty() {
        let held = if held.is_empty() { "none".to_owned() } else { held.join(", ") };
        answer(&format!("resumed: {}; suspended before: {held}", list(&done)));
    }
    Ok(if failed { FAILED } else { DONE })
}

/// Runs `order` for every ProxySQL that has agent state here, or only for those that `--proxysql` names.
fn for_each(
    flags: &Flags,
    env: &Environment,
    mut order: impl FnMut(&StateDir) -> Result<(), StateError>,
) -> Result<(Vec<Node>, bool), Failure> {
    let bad = |error: crate::config::ConfigError| Failure::BadInput(error.to_string());
    let (dir, problem) = Config::state_dir(flags, env).map_err(bad)?;
    if let Some(problem) = problem {
        complain(&format!("the config file is not used: {problem}; the state directory is {}", dir.display()));
    }
    let mut kept = StateDir::all_in(&dir).map_err(|error| no_state(&dir, &error.to_string()))?;
    let named = Config::proxies_of(flags).map_err(bad)?;
    if !named.is_empty() {
        if let Some(absent) = named.iter().find(|node| !kept.iter().any(|dir| dir.proxy() == *node)) {
            return Err(no_state(&dir, &format!("it has no state of {absent}")));
        }
        kept.retain(|dir| named.contains(dir.proxy()));
    }
    if kept.is_empty() {
        return Err(no_state(&dir, "it is empty"));
    }
    let now = Now::read();
    let (mut done, mut failed) = (Vec::new(), false);
    for state in &kept {
        if let Some(silent_s) = silent_s(state, &now).filter(|silent_s| *silent_s > SILENT_MAX_S) {
            complain(&format!(
                "ProxySQL {}: no agent has ticked here for {silent_s} s; make sure that the agent keeps its state in {}",
                state.proxy(),
                dir.display()
            ));
        }
        match order(state) {
            Ok(()) => done.push(state.proxy().clone()),
            Err(error) => {
                complain(&format!("ProxySQL {}: {error}", state.proxy()));
                failed = true;
            }
        }
    }
    Ok((done, failed))
}

/// Time since the last tick by the agent's state, s; `None` if unknown.
fn silent_s(state: &StateDir, now: &Now) -> Option<u64> {
    Some(now.boot_ms.saturating_sub(state.last_alive_ms(&now.boot_id)?) / 1_000)
}

fn no_state(dir: &Path, why: &str) -> Failure {
    Failure::BadInput(format!(
        "no agent keeps its state in {}: {why}. Nothing was changed; name the agent's directory with --state-dir",
        dir.display()
    ))
}

fn list(nodes: &[Node]) -> String {
    nodes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
