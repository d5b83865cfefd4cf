//! `config check`: the config in force, with each value's origin.

use super::{DONE, Ended, Failure, answer};
use crate::config::{Config, Mode};

/// Prints the effective config; connects to nothing.
pub fn check(config: &Config) -> Ended {
    // Valid for how it is said to run: a daemon, or, with --once's interval, the scheduler.
    let fits = |mode| config.policy(mode).map_err(|error| Failure::BadInput(error.to_string()));
    let daemon = fits(Mode::Daemon);
    let once = fits(Mode::Once);
    if let (Err(error), Err(_)) = (&daemon, &once) {
        let Failure::BadInput(text) = error else { return Ok(DONE) };
        return Err(Failure::BadInput(text.clone()));
    }
    super::proxies::endpoints(config)?;
    answer(&config.to_toml());
    for (mode, name) in [(daemon, "run"), (once, "run --once")] {
        if let Err(Failure::BadInput(text)) = mode {
            answer(&format!("# `{name}` refuses this config: {text}"));
        }
    }
    Ok(DONE)
}
