//! `suspend` and `resume`: the break-glass. Files only, so that it works with everything else dead.

use super::proxies::state_dir;
use super::{DONE, Ended, FAILED, answer, complain, of_configured};
use crate::cli::SuspendArgs;
use crate::clock::Now;
use crate::config::{Config, duration};

/// Hands off for a while.
pub fn suspend(config: &Config, args: &SuspendArgs) -> Ended {
    let user = |name| std::env::var(name).ok().filter(|user| !user.is_empty());
    let by = user("SUDO_USER").or_else(|| user("USER")).unwrap_or_else(|| "unknown".to_owned());
    let now = Now::read();
    let mut done = 0;
    for proxy in &config.proxies {
        match state_dir(config, proxy).suspend(&args.reason, &by, args.duration, &now) {
            Ok(_) => done += 1,
            Err(error) => complain(&format!("ProxySQL {}: {error}", proxy.address)),
        }
    }
    let (time, whom) = (duration::show(args.duration), of_configured(done, config));
    answer(&format!("suspended for {time} on {whom} ProxySQLs: nothing is fenced or let back until then, or `resume`"));
    Ok(if done == config.proxies.len() { DONE } else { FAILED })
}

/// And on again.
pub fn resume(config: &Config) -> Ended {
    let now = Now::read();
    let (mut done, mut held) = (0, 0);
    for proxy in &config.proxies {
        match state_dir(config, proxy).resume(&now) {
            Ok(ended) => {
                done += 1;
                held += usize::from(ended.is_some());
            }
            Err(error) => complain(&format!("ProxySQL {}: {error}", proxy.address)),
        }
    }
    answer(&format!("resumed on {} ProxySQLs; {held} had been suspended", of_configured(done, config)));
    Ok(if done == config.proxies.len() { DONE } else { FAILED })
}
