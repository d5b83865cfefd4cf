//! `run`: ticks as a daemon, or once.

use super::{DONE, Ended, FAILED, Failure};
use crate::agent::{self, RunError};
use crate::config::Config;

/// Runs one tick per ProxySQL.
pub async fn once(config: &Config) -> Ended {
    Ok(if agent::once(config).await.map_err(failure)? { DONE } else { FAILED })
}

/// Runs ticks until SIGTERM or SIGINT.
pub async fn daemon(config: &Config) -> Ended {
    agent::daemon(config).await.map_err(failure)?;
    Ok(DONE)
}

fn failure(error: RunError) -> Failure {
    match error {
        RunError::Build(error) => Failure::bad_input(error),
        error => Failure::Error(error.into()),
    }
}
