//! `install scheduler`: this program's entry in the scheduler of each configured ProxySQL.
//!
//! ProxySQL starts the program as its own user on its own host. So the ProxySQL has to be on this host.

mod entry;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use stonith_core::lending::{Layers, LendingOutcome, Lent, OwnRecord};
use stonith_core::node::Node;
use stonith_core::orders::Orders;
use stonith_core::table::SCHEDULER;
use tokio::time::Instant;

use super::build::{BuildError, looking_agent};
use super::look::LOOK_AGAIN;
use super::order::BUSY_MAX;
use super::{Agent, TickError};
use crate::config::{Config, DEFAULT_FILE, Enforcement, Flags, ProxyConfig, keys};
use crate::loopback::is_this_host;
use crate::proxysql::{TableError, read_layers};
use entry::{Entry, EntryError, Wanted};

/// What is asked for.
#[derive(Debug, Clone)]
pub struct SchedulerOrder {
    /// The id of the entry.
    pub id: Option<u32>,
    /// The entry is taken away.
    pub remove: bool,
    /// Nothing is changed.
    pub dry_run: bool,
}

/// Why nothing was installed.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// No agent can be built from the config.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// ProxySQL is on another host.
    #[error(
        "ProxySQL {0} is not on this host, and its scheduler starts programs on its own. Install the program there, and run \
         there: proxysql-stonith install scheduler. Nothing was changed"
    )]
    Elsewhere(Node),
    /// The scheduler's programs have no environment.
    #[error("ProxySQL starts programs with an empty environment, and {} gave a value: write it into the config file", .0.join(", "))]
    Environment(Vec<&'static str>),
    /// A flag may hold a password.
    #[error("{0} has a password in it, which every user of ProxySQL's admin interface would see: use a password_file")]
    Secret(&'static str),
    /// ProxySQL's user can't start this program.
    #[error("{0} cannot be started by every user ({1}): install it with mode 0755, such as to /usr/local/bin")]
    NotExecutable(String, String),
}

/// Why one ProxySQL's scheduler was not changed.
#[derive(Debug, thiserror::Error)]
pub enum EntryFailure {
    /// ProxySQL was not read.
    #[error(transparent)]
    Tick(#[from] TickError),
    /// ProxySQL was not read or changed.
    #[error(transparent)]
    Table(#[from] TableError),
    /// There is no such entry.
    #[error("{0}. Nothing was changed")]
    Entry(#[from] EntryError),
    /// Another applier works on this ProxySQL.
    #[error("another applier ({0}) works on this ProxySQL. Nothing was changed: try again")]
    Busy(String),
    /// Somebody edits the table.
    #[error("somebody edits the scheduler's table at this moment. Their edits are kept and staged: try again")]
    Edited,
    /// ProxySQL refused a statement.
    #[error("ProxySQL refused a step ({0}): {1}")]
    Refused(String, String),
    /// ProxySQL does not show the entry as it was written.
    #[error("the scheduler's table is not as it was written: somebody else changes it too. Try again")]
    NotAsWritten,
}

/// What was done on one ProxySQL.
#[derive(Debug, PartialEq, Eq)]
pub enum SchedulerResult {
    /// The entry is there. The line that it runs, and the mode if the entry says it.
    Installed {
        /// The line.
        line: String,
        /// The mode.
        mode: Option<Enforcement>,
        /// Whether anything was, or would be, changed.
        changed: bool,
    },
    /// Somebody made an entry by hand, which stays.
    ByHand {
        /// Its id.
        id: String,
        /// What it starts.
        line: String,
    },
    /// The entry is not there.
    Removed {
        /// Whether anything was, or would be, changed.
        changed: bool,
        /// The ids of entries that were made by hand, and stay.
        by_hand: Vec<String>,
    },
}

/// The result of one ProxySQL, with remarks for the operator.
pub type OnScheduler = (Node, Vec<String>, Result<SchedulerResult, EntryFailure>);

/// Installs or removes the entry on every configured ProxySQL. `written_mode` is the config file's mode for all of them.
///
/// # Errors
/// Nothing was changed anywhere.
pub async fn scheduler(
    config: &Config,
    written_mode: Option<Enforcement>,
    flags: &Flags,
    program: &Path,
    order: &SchedulerOrder,
) -> Result<Vec<OnScheduler>, InstallError> {
    let is_here = |proxy: &&ProxyConfig| proxy.socket.is_some() || is_this_host(proxy.address.host.as_str());
    if let Some(proxy) = config.proxies.iter().find(|proxy| !is_here(proxy)) {
        return Err(InstallError::Elsewhere(proxy.address.clone()));
    }
    let mut arguments = vec!["run".to_owned(), "--once".to_owned()];
    if !order.remove {
        check_executable(program)?;
        arguments.extend(passed_on(config, flags)?);
    }
    let mode = keys::MODE.about.flag_name();
    let is_typed = flags.typed().iter().any(|(name, _)| Some(*name) == mode);
    let mut results = Vec::new();
    for proxy in &config.proxies {
        let wanted = Wanted {
            program: program.to_string_lossy().into_owned(),
            arguments: arguments.clone(),
            interval: config.run.scheduler_interval,
            id: order.id,
            typed_mode: is_typed.then_some(proxy.policy.mode),
            written_mode,
        };
        let mut agent = looking_agent(config, proxy)?;
        let mut remarks = Vec::new();
        let done = on_one(&mut agent, &wanted, order, &mut remarks).await;
        agent.close().await;
        results.push((proxy.address.clone(), remarks, done));
    }
    Ok(results)
}

/// The typed flags that the scheduler's start needs too.
fn passed_on(config: &Config, flags: &Flags) -> Result<Vec<String>, InstallError> {
    let variables = config.variables();
    if !variables.is_empty() {
        return Err(InstallError::Environment(variables.into_iter().collect()));
    }
    let mut passed = Vec::new();
    for (name, argument) in flags.typed() {
        if has_password(&argument) {
            return Err(InstallError::Secret(name));
        }
        if Some(name) != keys::MODE.about.flag_name() {
            passed.push(argument);
        }
    }
    let is_named = passed.iter().any(|argument| argument.starts_with("--config="));
    if let Some(file) = config.file.as_ref().filter(|file| !is_named && *file != Path::new(DEFAULT_FILE)) {
        let file = std::path::absolute(file).unwrap_or_else(|_| file.clone());
        passed.push(format!("--config={}", file.display()));
    }
    Ok(passed)
}

/// Whether a URL has a user, and perhaps a password.
fn has_password(argument: &str) -> bool {
    argument.split("://").skip(1).any(|rest| rest.split(['/', ',']).next().is_some_and(|host| host.contains('@')))
}

fn check_executable(program: &Path) -> Result<(), InstallError> {
    let refused = |why: String| Err(InstallError::NotExecutable(program.display().to_string(), why));
    match std::fs::metadata(program) {
        Ok(found) if found.is_file() && found.permissions().mode() & 0o001 != 0 => Ok(()),
        Ok(found) => refused(format!("its mode is {:o}", found.permissions().mode() & 0o7777)),
        Err(error) => refused(error.to_string()),
    }
}

async fn on_one(
    agent: &mut Agent,
    wanted: &Wanted,
    order: &SchedulerOrder,
    remarks: &mut Vec<String>,
) -> Result<SchedulerResult, EntryFailure> {
    agent.look_once(Orders::default()).await?;
    let layers = scheduler_layers(agent).await?;
    let (change, mut result) = if order.remove {
        let (change, by_hand) = entry::remove(&layers);
        (change, SchedulerResult::Removed { changed: false, by_hand })
    } else {
        match entry::install(&layers, wanted)? {
            Entry::ByHand { id, line } => return Ok(SchedulerResult::ByHand { id, line }),
            Entry::Ours { line, mode, change } => (change, SchedulerResult::Installed { line, mode, changed: false }),
        }
    };
    let is_change = !change.is_carried_out(&layers);
    if let SchedulerResult::Installed { changed, .. } | SchedulerResult::Removed { changed, .. } = &mut result {
        *changed = is_change;
    }
    if is_change && !order.dry_run {
        carry_out(agent, &change, remarks).await?;
        if !change.is_carried_out(&scheduler_layers(agent).await?) {
            return Err(EntryFailure::NotAsWritten);
        }
    }
    Ok(result)
}

async fn scheduler_layers(agent: &mut Agent) -> Result<Layers, EntryFailure> {
    Ok(read_layers(agent.connected()?, SCHEDULER).await?)
}

/// Tries again while another applier is busy, or somebody edits the table.
async fn carry_out(agent: &mut Agent, change: &OwnRecord, remarks: &mut Vec<String>) -> Result<(), EntryFailure> {
    let until = Instant::now() + BUSY_MAX;
    loop {
        let why = match agent.lend_scheduler(change).await? {
            LendingOutcome::Applied(lent) => {
                remarks.extend(told(&lent));
                return Ok(());
            }
            LendingOutcome::PutOff(lent) => {
                remarks.extend(told(&lent));
                EntryFailure::Edited
            }
            LendingOutcome::Busy { owner } => EntryFailure::Busy(owner),
            LendingOutcome::Failed { statement, error } => return Err(EntryFailure::Refused(statement, error)),
        };
        if Instant::now() >= until {
            return Err(why);
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// What others did to the table meanwhile, and what became of it.
fn told(lent: &Lent) -> Vec<String> {
    let mut told = Vec::new();
    if !lent.loaded_out.is_empty() {
        told.push(format!(
            "somebody edited the scheduler's entries {} at the moment of the LOAD. The edit was live for a moment, and is \
             staged again: if it is to be live, LOAD SCHEDULER TO RUNTIME",
            lent.loaded_out.join(", ")
        ));
    }
    told.extend(lent.load_made_up.map(|made_up| {
        match made_up {
            true => "somebody ran LOAD SCHEDULER TO RUNTIME meanwhile, which was repeated with what they had staged"
                .to_owned(),
            false => "somebody ran LOAD SCHEDULER TO RUNTIME meanwhile. What they had staged may not be live: compare \
                  runtime_scheduler with scheduler"
                .to_owned(),
        }
    }));
    told.extend(lent.save_made_up.map(|made_up| match made_up {
        true => {
            "somebody ran SAVE SCHEDULER TO DISK meanwhile, which was repeated with what they had staged".to_owned()
        }
        false => {
            "somebody changed the scheduler's table on disk meanwhile: compare disk.scheduler with scheduler".to_owned()
        }
    }));
    told.extend(lent.disk_error.as_ref().map(|error| format!("ProxySQL refused to write to disk: {error}")));
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i11_no_password_gets_into_the_schedulers_arguments() {
        let typed = |text: &str| Flags::default().with(&keys::ENDPOINTS, text).typed();
        let [(name, argument)] = &typed("http://orc1:3000,http://u:hunter2@orc2:3000")[..] else { panic!() };
        assert!(*name == "--orchestrator" && has_password(argument), "{argument}");
        assert!(!has_password(&typed("http://orc1:3000/a@b,http://orc2:3000")[0].1));
        assert!(!InstallError::Secret(name).to_string().contains("hunter2"));
    }
}
