//! `install`: the scheduler's entry, the systemd unit, and the backstop. Each shows what it will do, and can be taken back.

use std::path::Path;
use std::time::Duration;

use super::{DONE, Ended, FAILED, Failure, answer, complain, show};
use crate::agent::install::{EntryFailure, SchedulerOrder, SchedulerResult, scheduler as order_scheduler};
use crate::agent::order::{BackstopOrder, OrderError, Targets};
use crate::cli::{InstallArgs, InstallCommand, PlanArgs};
use crate::config::{Config, DEFAULT_FILE, EXIT_BAD_INPUT, Enforcement, Environment, Flags, keys, mode_to_pass};
use crate::doctor;
use crate::unit::{self, Host};

/// How long the plan that is shown may wait for a confirmed leader.
const PLAN_WAIT: Duration = Duration::from_secs(8);

/// Installs or removes.
pub async fn install(config: &Config, flags: &Flags, env: &Environment, args: &InstallArgs) -> Ended {
    let written = Config::load(&flags.clone().without(&keys::MODE), env).map_err(Failure::bad_input)?;
    match &args.command {
        InstallCommand::Scheduler(one) => {
            let order = SchedulerOrder { id: one.id, remove: one.how.remove, dry_run: one.how.dry_run };
            scheduler(config, &written, flags, &order).await
        }
        InstallCommand::Systemd(how) => {
            systemd(config, &written, flags, &Host::default(), how.remove, how.dry_run).await
        }
        InstallCommand::Backstop(how) => {
            backstop(config, BackstopOrder { remove: how.remove, dry_run: how.dry_run }).await
        }
        InstallCommand::Hooks => Ok(super::hook::lines()),
    }
}

async fn scheduler(config: &Config, written: &Config, flags: &Flags, order: &SchedulerOrder) -> Ended {
    let program = std::env::current_exe()?;
    if !order.remove {
        warn_of_others(config).await?;
        show_plan(config).await?;
    }
    let results = order_scheduler(config, written, flags, &program, order).await.map_err(Failure::bad_input)?;
    let would = if order.dry_run { "would be " } else { "" };
    let (mut failed, mut is_bad_input) = (false, !results.is_empty());
    for (index, (proxy, result)) in results.into_iter().enumerate() {
        let text = match result {
            Err(error) => {
                complain(&format!("ProxySQL {proxy}: {error}"));
                failed = true;
                is_bad_input &= matches!(error, EntryFailure::Entry(_));
                continue;
            }
            Ok(SchedulerResult::ByHand { id, line }) => format!(
                "the scheduler starts this program by an entry that was made by hand ({line}). It is kept. To replace it, \
                 delete id {id} first"
            ),
            Ok(SchedulerResult::Installed { line, mode, changed }) => {
                let what = if changed { format!("{would}installed") } else { "already installed".to_owned() };
                let mode = told_mode(mode, written.written_mode(index), "install scheduler");
                format!("scheduler entry {what}, {line}\n  {mode}")
            }
            Ok(SchedulerResult::Removed { changed, by_hand }) => {
                let what = if changed { format!("{would}removed") } else { "there was none".to_owned() };
                let stay: String = by_hand.iter().map(|id| format!("\n  id {id} was made by hand and stays")).collect();
                format!("scheduler entry: {what}. Fences stay{stay}")
            }
        };
        answer(&format!("ProxySQL {proxy}: {text}"));
        is_bad_input = false;
    }
    Ok(match failed {
        true if is_bad_input => EXIT_BAD_INPUT,
        true => FAILED,
        false => DONE,
    })
}

async fn systemd(config: &Config, written: &Config, flags: &Flags, host: &Host, remove: bool, dry_run: bool) -> Ended {
    let seen = host.seen();
    let steps = if remove {
        unit::remove(&seen).map_err(Failure::bad_input)?
    } else {
        let mode = keys::MODE.about.flag_name();
        let (modes, others): (Vec<_>, Vec<_>) = flags.typed().into_iter().partition(|(name, _)| Some(*name) == mode);
        let is_default = |argument: &str| argument == format!("--config={DEFAULT_FILE}");
        if let Some((name, _)) = others.into_iter().find(|(_, argument)| !is_default(argument)) {
            let why =
                format!("the unit reads {DEFAULT_FILE} and takes no flags: write {name} there. Nothing was changed");
            return Err(Failure::bad_input(why));
        }
        let variables: Vec<_> = config.variables().into_iter().collect();
        if !variables.is_empty() || config.file.as_deref() != Some(Path::new(DEFAULT_FILE)) {
            let why = match variables.is_empty() {
                true => "is another one".to_owned(),
                false => format!("does not have what {} say", variables.join(", ")),
            };
            return Err(Failure::bad_input(format!("the unit reads {DEFAULT_FILE}, which {why}. Nothing was changed")));
        }
        let typed = modes.first().and_then(|_| config.proxies.first()).map(|proxy| proxy.policy.mode);
        let kept = unit::is_installed(&seen).then(|| unit::mode_of(&seen)).filter(|kept| kept.is_some());
        let mode = mode_to_pass(typed, written.written_mode(0), kept);
        let program = std::env::current_exe()?;
        let steps = unit::install(&seen, &program, mode).map_err(Failure::bad_input)?;
        warn_of_others(config).await?;
        show_plan(config).await?;
        answer(&told_mode(mode, written.written_mode(0), "install systemd"));
        steps
    };
    for step in &steps {
        answer(&step.to_string());
        if !dry_run {
            host.carry_out(step)?;
        }
    }
    match (dry_run, remove) {
        (true, _) => answer("nothing was changed"),
        (false, true) if steps.is_empty() => answer("no unit is installed: nothing to do"),
        (false, true) => answer("the daemon is stopped. State and fences stay"),
        (false, false) if host.is_active() => answer("the daemon runs: `systemctl status proxysql-stonith`"),
        (false, false) => {
            complain("the unit is installed, but systemd does not say that the daemon runs");
            return Ok(FAILED);
        }
    }
    Ok(DONE)
}

async fn backstop(config: &Config, order: BackstopOrder) -> Ended {
    let reached = if order.dry_run { Targets::reach_to_read(config).await } else { Targets::reach(config).await };
    let mut targets = reached.map_err(failure)?;
    let mut failed = !targets.unreached().is_empty();
    targets.unreached().iter().for_each(|error| complain(&error.to_string()));
    for on in targets.backstop(order).await {
        on.remarks.iter().for_each(|remark| complain(&format!("ProxySQL {}: {remark}", on.proxy)));
        let result = match on.result {
            Ok(result) => result,
            Err(why) => {
                complain(&format!("ProxySQL {}: {why}", on.proxy));
                failed = true;
                continue;
            }
        };
        let would = if order.dry_run { "would be " } else { "" };
        let done = if order.remove { "restored" } else { "set to 1" };
        for hostgroup in &result.changed {
            answer(&format!("ProxySQL {}: hostgroup {hostgroup}: max_num_online_servers {would}{done}", on.proxy));
        }
        for hostgroup in &result.unchanged {
            answer(&format!("ProxySQL {}: hostgroup {hostgroup}: max_num_online_servers is 1 already", on.proxy));
        }
        for (hostgroup, why) in &result.left {
            answer(&format!("ProxySQL {}: hostgroup {hostgroup} is left as it is: {why}", on.proxy));
        }
        if result == Default::default() {
            answer(&format!("ProxySQL {}: no hostgroup has a backstop of this program", on.proxy));
        }
    }
    targets.close().await;
    Ok(if failed { FAILED } else { DONE })
}

fn failure(error: OrderError) -> Failure {
    match error {
        OrderError::NoneReached => Failure::Error(error.into()),
        error => Failure::bad_input(error),
    }
}

/// In which mode it will run, and how to change that.
fn told_mode(passed: Option<Enforcement>, written: Option<Enforcement>, command: &str) -> String {
    match (passed, written) {
        (Some(Enforcement::Observe), _) => format!(
            "it only observes: it decides and logs, and writes nothing. To let it write: proxysql-stonith {command} \
             --mode=enforce"
        ),
        (Some(Enforcement::Enforce), _) => {
            "it writes (mode enforce), whatever the config file says. To change that, install it again with --mode".to_owned()
        }
        (None, Some(Enforcement::Observe)) => {
            "it only observes, as the config file says: it decides and logs, and writes nothing. To let it write, change \
             mode there"
                .to_owned()
        }
        (None, written) => {
            let source = if written.is_some() { "as the config file says" } else { "which is the default" };
            format!("it writes (mode enforce), {source}. To stop that, set mode = \"observe\" in [policy]")
        }
    }
}

/// Another script in the scheduler that does this work.
async fn warn_of_others(config: &Config) -> Result<(), Failure> {
    let facts = doctor::gather(config).await.map_err(Failure::bad_input)?;
    for finding in doctor::examine(&facts).findings.iter().filter(|finding| finding.label == "another-script") {
        let fix = finding.fix.as_ref().map(|fix| format!(". {fix}")).unwrap_or_default();
        complain(&format!("warning: {}. {}{fix}", finding.what, finding.why));
    }
    Ok(())
}

/// What the first tick would do.
async fn show_plan(config: &Config) -> Result<(), Failure> {
    answer("what it would do now:");
    show::plan(config, &PlanArgs { wait: PLAN_WAIT }).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Word;

    #[test]
    fn the_mode_is_said_with_the_way_to_change_it() {
        use Enforcement::{Enforce, Observe};
        for (passed, written, says) in [
            (Some(Observe), None, "install scheduler --mode=enforce"),
            (Some(Enforce), Some(Observe), "whatever the config file says"),
            (None, Some(Observe), "as the config file says: it decides"),
            (None, Some(Enforce), "it writes (mode enforce), as the config file says"),
            (None, None, "which is the default"),
        ] {
            let told = told_mode(passed, written, "install scheduler");
            assert!(told.contains(says), "{told}");
        }
        assert_eq!((Observe.word(), Enforce.word()), ("observe", "enforce"));
    }
}
