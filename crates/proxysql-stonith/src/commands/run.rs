//! `run`: ticks as a daemon, or once.

use super::{DONE, Ended, FAILED, Failure};
use crate::agent::{self, RunError};
use crate::config::{Config, ConfigError};
use crate::service;

/// Runs one tick per ProxySQL.
pub async fn once(config: &Config) -> Ended {
    Ok(if agent::once(config).await.map_err(failure)? { DONE } else { FAILED })
}

/// Runs ticks until SIGTERM or SIGINT. `load` reads the config again.
pub async fn daemon(config: Config, load: impl Fn() -> Result<Config, ConfigError>) -> Ended {
    service::daemon(config, load).await.map_err(failure)?;
    Ok(DONE)
}

fn failure(error: RunError) -> Failure {
    match error {
        RunError::Build(error) => Failure::bad_input(error),
        error => Failure::Error(error.into()),
    }
}
