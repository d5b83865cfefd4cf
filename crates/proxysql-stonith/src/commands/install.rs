//! `install`: the scheduler's entry, the systemd unit, and the backstop. Each shows what it will do, and can be taken back.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use tokio::time::Instant;

use super::{DONE, Ended, FAILED, Failure, answer, complain, show};
use crate::agent::install::{EntryFailure, SchedulerOrder, SchedulerResult, scheduler as order_scheduler};
use crate::agent::look::{self, Past};
use crate::agent::order::{BackstopOrder, OrderError, Targets};
use crate::cli::{InstallArgs, InstallCommand, PlanArgs};
use crate::config::{Config, DEFAULT_FILE, EXIT_BAD_INPUT, Enforcement, Environment, Flags, keys, mode_to_pass};
use crate::doctor;
use crate::unit::{self, Host};

/// How long the plan that is shown may wait for a confirmed leader.
const PLAN_WAIT: Duration = Duration::from_secs(8);

/// The most recoveries of the past that are shown.
const PAST_SHOWN: usize = 20;

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
    let all = (0..config.proxies.len()).map(|index| written.written_mode(index)).collect::<Vec<_>>();
    let mut written_mode = None;
    if !order.remove {
        written_mode = one_written_mode(typed_mode(config, flags), &all).map_err(|mixed| mixed.of(config))?;
        warn_of_others(config).await?;
        show_plan(config).await?;
    }
    let results = order_scheduler(config, written_mode, flags, &program, order).await.map_err(Failure::bad_input)?;
    let would = if order.dry_run { "would be " } else { "" };
    let (mut failed, mut is_bad_input) = (false, !results.is_empty());
    for (index, (proxy, remarks, result)) in results.into_iter().enumerate() {
        remarks.iter().for_each(|remark| complain(&format!("ProxySQL {proxy}: {remark}")));
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
                let mode = told_mode(mode, all[index], "install scheduler");
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
        let mut others = flags.typed().into_iter().filter(|(name, _)| Some(*name) != keys::MODE.about.flag_name());
        let is_default = |argument: &str| argument == format!("--config={DEFAULT_FILE}");
        if let Some((name, _)) = others.find(|(_, argument)| !is_default(argument)) {
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
        let typed = typed_mode(config, flags);
        let all: Vec<_> = (0..config.proxies.len()).map(|index| written.written_mode(index)).collect();
        let written_mode = one_written_mode(typed, &all).map_err(|mixed| mixed.of(config))?;
        let kept = unit::is_installed(&seen).then(|| unit::mode_of(&seen)).filter(|kept| kept.is_some());
        let mode = mode_to_pass(typed, written_mode, kept);
        let program = std::env::current_exe()?;
        let steps = unit::install(&seen, &program, mode).map_err(Failure::bad_input)?;
        host.check_user(&program).map_err(Failure::bad_input)?;
        warn_of_others(config).await?;
        show_plan(config).await?;
        for (proxy, written) in config.proxies.iter().zip(&all) {
            answer(&format!("ProxySQL {}: {}", proxy.address, told_mode(mode, *written, "install systemd")));
        }
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

/// Some ProxySQLs have a mode in the config file, and these, by their number, have none.
#[derive(Debug, PartialEq, Eq)]
struct MixedModes(Vec<usize>);

impl MixedModes {
    fn of(self, config: &Config) -> Failure {
        let without: Vec<String> = self.0.iter().map(|index| config.proxies[*index].address.to_string()).collect();
        Failure::bad_input(format!(
            "the config file has a mode for some ProxySQLs and none for {}, and one start runs all of them. Write a mode for \
             each, or give --mode for all. Nothing was changed",
            without.join(", ")
        ))
    }
}

/// The mode that was typed. A typed one is every ProxySQL's.
fn typed_mode(config: &Config, flags: &Flags) -> Option<Enforcement> {
    let is_typed = flags.typed().iter().any(|(name, _)| Some(*name) == keys::MODE.about.flag_name());
    config.proxies.first().filter(|_| is_typed).map(|proxy| proxy.policy.mode)
}

/// The written mode that decides what is passed, since what is passed counts for every ProxySQL: one that differs from
/// the typed mode, if there is one.
fn one_written_mode(
    typed: Option<Enforcement>,
    written: &[Option<Enforcement>],
) -> Result<Option<Enforcement>, MixedModes> {
    let first = written.first().copied().flatten();
    if let Some(typed) = typed {
        let differs = written.iter().find(|mode| mode.unwrap_or(Enforcement::Enforce) != typed);
        return Ok(differs.copied().unwrap_or(first));
    }
    let without: Vec<usize> = (0..written.len()).filter(|index| written[*index].is_none()).collect();
    if without.is_empty() || without.len() == written.len() { Ok(first) } else { Err(MixedModes(without)) }
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

/// What the first tick would do, and what earlier ones would have done.
async fn show_plan(config: &Config) -> Result<(), Failure> {
    answer("what it would do now:");
    show::plan(config, &PlanArgs { wait: PLAN_WAIT }).await?;
    let past = look::past_of_all(config, Instant::now() + PLAN_WAIT).await.map_err(Failure::bad_input)?;
    for (proxy, past) in past {
        match past {
            Ok(past) => answer(&format!("ProxySQL {proxy}: what it would have fenced{}", told_past(&past))),
            Err(error) => complain(&error.to_string()),
        }
    }
    Ok(())
}

fn told_past(past: &Past) -> String {
    let mut told = String::from(", by Orchestrator's recovery history:");
    for fence in past.fences.iter().take(PAST_SHOWN) {
        let at = jiff::Timestamp::from_second(fence.at_s).unwrap_or_default();
        let served = if fence.is_served { "" } else { ". It has no managed row in this ProxySQL" };
        let _ = write!(told, "\n  {at} {}, when {} was promoted{served}", fence.node, fence.by);
    }
    match past.fences.len().checked_sub(PAST_SHOWN) {
        Some(more @ 1..) => {
            let _ = write!(told, "\n  ... and {more} older ones");
        }
        _ if past.fences.is_empty() => told.push_str(" no node"),
        _ => {}
    }
    if !past.is_whole {
        told.push_str("\n  ! the history was not read to its end");
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Word;

    #[test]
    fn of_several_proxysqls_all_have_a_mode_in_the_file_or_none_has_unless_one_is_typed() {
        use Enforcement::{Enforce, Observe};
        for (typed, written, one) in [
            (None, vec![None, None], Ok(None)),
            (None, vec![Some(Observe), Some(Enforce)], Ok(Some(Observe))),
            (None, vec![Some(Enforce), None, None], Err(MixedModes(vec![1, 2]))),
            (Some(Enforce), vec![None, Some(Observe)], Ok(Some(Observe))),
            (Some(Observe), vec![Some(Observe), None], Ok(None)),
            (Some(Observe), vec![Some(Observe), Some(Observe)], Ok(Some(Observe))),
        ] {
            assert_eq!(one_written_mode(typed, &written), one, "{typed:?} {written:?}");
        }
    }

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
