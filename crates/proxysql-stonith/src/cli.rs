//! The command line as it was typed. `config` resolves it to values.

use std::ffi::OsString;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use stonith_core::evidence::Level;
use stonith_core::role::Role;

use crate::config::{Flags, Word, duration, keys, word};
use crate::hook::FailoverArgs;

/// The longest duration of one `suspend`: every pause ends (design §7).
pub const SUSPEND_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

/// The default of `plan --wait`. A leader behind a single endpoint is confirmed after 5 s (I8).
const PLAN_WAIT_DEFAULT: &str = "8s";

/// The default of `suspend --for`.
const SUSPEND_DEFAULT: &str = "1h";

impl Word for Role {
    const WORDS: &'static [(&'static str, Self)] = &[("replica", Self::Replica), ("primary", Self::Primary)];
}

impl Word for Level {
    const WORDS: &'static [(&'static str, Self)] = &[("soft", Self::Soft), ("sessions", Self::Sessions)];
}

/// Fences superseded MySQL primaries at ProxySQL, as Orchestrator's failovers require.
#[derive(Debug, Clone, Parser)]
#[command(
    name = "proxysql-stonith",
    version = env!("PROXYSQL_STONITH_VERSION"),
    max_term_width = 100,
    subcommand_required = true,
    after_help = "Exit codes: 0 done, 1 error, 2 bad input (flags, environment, config file). plan also has 10 and 11, \
                  status also 3, doctor 3 and 4: see their --help.\n\
                  Start with `plan`: it only reads."
)]
pub struct Cli {
    /// Flags that every command takes.
    #[command(flatten)]
    pub flags: Flags,
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// The command.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Watch and act, as a daemon or once for ProxySQL's scheduler
    #[command(after_help = "From ProxySQL's scheduler, in its five arguments:\n  \
        run --once --orchestrator=http://orc1:3000,http://orc2:3000 --proxysql=127.0.0.1:6032 \
        --defaults-file=/etc/proxysql-stonith.cnf\n  run --once --config=/etc/proxysql-stonith.toml")]
    Run(RunArgs),
    /// Show what the next tick would do, and why; changes nothing
    #[command(after_help = "Exit codes: 0 nothing to do, 10 changes to make, 11 no change so far but the answer is \
        incomplete, 1 error, 2 bad input.")]
    Plan(PlanArgs),
    /// Show the leader, the lease, what needs attention, and every node with its verdict and evidence
    #[command(
        after_help = "Exit codes, for a monitoring check: 0 all well and armed, 3 something is isolated, unarmed, \
        suspended, held or not protected, 1 something was not reached or failed, 2 bad input. A fenced node is not a \
        failure."
    )]
    Status(StatusArgs),
    /// Look for what would keep a failover from being fenced: each finding with its reason and its fix; changes nothing
    ///
    /// docs/doctor.md lists every finding.
    #[command(after_help = "Exit codes, by the worst finding: 0 none, or notes only, 4 a warning, 3 an error, 1 the \
        command failed, 2 bad input.")]
    Doctor(DoctorArgs),
    /// Take a node out of traffic by hand
    #[command(
        after_help = "Exit codes: 0 the node is fenced on every configured ProxySQL that has it (with --wait: and \
        its connections have drained), 1 error or timeout, 2 bad input."
    )]
    Fence(FenceArgs),
    /// Let a node back into traffic; evidence known so far no longer fences it
    #[command(
        after_help = "Exit codes: 0 the node is let back (with --wait: and in service) or was not fenced, 1 error \
        or timeout, 2 bad input.\nTo end an isolation while Orchestrator is down: suspend --reason TEXT, then unfence \
        --all --without-lease --yes."
    )]
    Unfence(UnfenceArgs),
    /// Pause all fencing and unfencing for a while; works even if Orchestrator and the daemon are down
    ///
    /// Needs only the state directory. Acts on every ProxySQL that has agent state there, or only on those that
    /// --proxysql names.
    #[command(after_help = "Exit codes: 0 suspended, 1 error, 2 bad input or no agent state there.")]
    Suspend(SuspendArgs),
    /// End a suspension
    #[command(after_help = "Exit codes: 0 resumed, 1 error, 2 bad input or no agent state there.")]
    Resume,
    /// Have ProxySQL's scheduler or systemd run this program, or set the backstop in ProxySQL
    ///
    /// Nobody's staged edits go live or get lost. A second install has nothing to do, and --remove takes it back.
    Install(InstallArgs),
    /// What Orchestrator runs around a failover: fence before it promotes
    Hook(HookArgs),
    /// Check the config, or print every config key
    Config(ConfigArgs),
    /// See a failover with and without this program, on embedded servers; touches nothing else
    #[cfg(feature = "demo")]
    #[command(after_help = "Exit codes: 0 every expectation held, 1 one did not.")]
    Demo(DemoArgs),
}

/// Arguments of `run`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct RunArgs {
    /// Run one tick and exit; exit at once if another agent works on the same ProxySQL
    #[arg(long)]
    pub once: bool,
    /// Sets `run.interval`, or `run.scheduler_interval` with `--once`.
    #[arg(long, value_name = "DURATION", value_parser = duration::parse, help = interval_help())]
    pub interval: Option<Duration>,
}

/// Arguments of `plan`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct PlanArgs {
    /// Wait up to this long for a complete answer: a leader must be confirmed, a proof must be seen twice
    #[arg(long, value_name = "DURATION", value_parser = duration::parse, default_value = PLAN_WAIT_DEFAULT)]
    pub wait: Duration,
}

/// Arguments of `status`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct StatusArgs {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `doctor`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct DoctorArgs {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `fence`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct FenceArgs {
    /// Node to fence: host:port as in mysql_servers, or host if only one node has it
    #[arg(value_name = "NODE")]
    pub node: String,
    /// Fence level: soft stops new traffic, sessions also ends the sessions on the node
    #[arg(long, value_parser = word::<Level>(), default_value = "soft")]
    pub level: Level,
    /// Reason for the log
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    pub reason: Option<String>,
    /// Wait up to this long for its connections to drain
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    pub wait: Option<Duration>,
    /// Fence even the last ONLINE writer
    #[arg(long)]
    pub yes: bool,
}

/// Arguments of `unfence`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct UnfenceArgs {
    /// Node to let back: host:port as in mysql_servers, or host if only one node has it
    #[arg(value_name = "NODE", required_unless_present = "all")]
    pub node: Option<String>,
    /// Wait up to this long for the node to be in service
    #[arg(long, value_name = "DURATION", value_parser = duration::parse, conflicts_with = "all")]
    pub wait: Option<Duration>,
    /// Vouch for the node's role where Orchestrator cannot prove it, as with check_type super_read_only
    #[arg(long = "as", value_name = "ROLE", value_parser = word::<Role>(), conflicts_with_all = ["without_lease", "all"])]
    pub role: Option<Role>,
    /// Skip the role check and restore the rows as they were. Make sure the node is not a second primary
    #[arg(long)]
    pub without_lease: bool,
    /// Let back every node that only an isolation took out; `suspend` must come first
    #[arg(long, conflicts_with = "node", requires = "without_lease")]
    pub all: bool,
    /// With --all: make the changes instead of only printing them
    #[arg(long, requires = "all")]
    pub yes: bool,
}

/// Arguments of `suspend`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct SuspendArgs {
    /// Pause for this long, at most 7days
    #[arg(long = "for", value_name = "DURATION", value_parser = suspension, default_value = SUSPEND_DEFAULT)]
    pub duration: Duration,
    /// Reason for status and log
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    pub reason: String,
}

/// Arguments of `install`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct InstallArgs {
    /// The subcommand of `install`.
    #[command(subcommand)]
    pub command: InstallCommand,
}

/// The subcommands of `install`.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum InstallCommand {
    /// Have ProxySQL's scheduler start `run --once`; flags that are typed here are passed on
    ///
    /// ProxySQL must be on this host. Begins in mode observe unless --mode or the config file says otherwise.
    #[command(after_help = INSTALL_EXIT)]
    Scheduler(SchedulerArgs),
    /// Have systemd run the daemon
    ///
    /// The daemon reads the config file. Begins in mode observe unless --mode or the config file says otherwise. A
    /// unit of a package is enabled as it is. --remove keeps state and fences.
    #[command(after_help = INSTALL_EXIT)]
    Systemd(HowArgs),
    /// Let ProxySQL use no writer while a writer hostgroup with one primary has two
    ///
    /// Sets max_num_online_servers = 1. A hostgroup that has, or may have, several primaries is left as it is.
    #[command(after_help = INSTALL_EXIT)]
    Backstop(HowArgs),
    /// Print the lines of the hooks for orchestrator.conf.json; changes nothing
    ///
    /// docs/barrier.md says what else the barrier needs.
    Hooks,
}

/// The exit codes of `install`.
const INSTALL_EXIT: &str = "Exit codes: 0 done, or nothing to do, 1 error, 2 bad input: nothing was changed.";

/// How to install.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Args)]
pub struct HowArgs {
    /// Take back what was installed
    #[arg(long)]
    pub remove: bool,
    /// Print what would be done, and change nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// Arguments of `install scheduler`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Args)]
pub struct SchedulerArgs {
    /// Id of the scheduler's entry; a free one if none is given
    #[arg(long, value_name = "ID", value_parser = clap::value_parser!(u32).range(1..))]
    pub id: Option<u32>,
    /// How to install.
    #[command(flatten)]
    pub how: HowArgs,
}

/// Arguments of `config`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct ConfigArgs {
    /// The subcommand of `config`.
    #[command(subcommand)]
    pub command: ConfigCommand,
}

/// The subcommands of `config`.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum ConfigCommand {
    /// Print the config in force with each value's origin, secrets hidden
    #[command(
        after_help = "Exit codes: 0 valid, 2 invalid; with --connect also 1: something was not reached or is not \
        protected."
    )]
    Check(CheckArgs),
    /// Print every config key with its flag, variable and default, as Markdown
    Reference(ReferenceArgs),
}

/// Arguments of `config reference`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct ReferenceArgs {
    /// Print every metric instead
    #[arg(long)]
    pub metrics: bool,
}

/// Arguments of `config check`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct CheckArgs {
    /// Also connect to every ProxySQL and Orchestrator node, and report what prevents protection; changes nothing
    #[arg(long)]
    pub connect: bool,
}

/// Arguments of `hook`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct HookArgs {
    /// The hook.
    #[command(subcommand)]
    pub command: HookCommand,
}

/// The hooks.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum HookCommand {
    /// For PreFailoverProcesses, as the last one: fence the failed primary everywhere before another is promoted
    ///
    /// docs/barrier.md has which promise holds with which setting, and what it costs.
    #[command(after_help = "Exit codes: 0 Orchestrator may promote, 1 the recovery is aborted, 2 bad input, which \
        aborts too.")]
    PreFailover(FailoverArgs),
    /// For PreGracefulTakeoverProcesses, as the last one: drain the old primary before a planned takeover
    ///
    /// Running transactions finish, and new ones wait inside ProxySQL for the new primary.
    #[command(after_help = "Exit codes: 0 the takeover goes on, 1 it is aborted, 2 bad input, which aborts too.")]
    PreGracefulTakeover(FailoverArgs),
    /// For PostFailoverProcesses: mark the failed primary on every Orchestrator node, and wake the agents
    #[command(after_help = "Exit codes: 0 done, 1 error, 2 bad input.")]
    PostFailover(FailoverArgs),
    /// For PostUnsuccessfulFailoverProcesses: take back what pre-failover left
    #[command(after_help = "Exit codes: 0 done, 1 error, 2 bad input.")]
    PostUnsuccessfulFailover(FailoverArgs),
}

/// Arguments of `demo`.
#[cfg(feature = "demo")]
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct DemoArgs {
    /// Scenario to play; the whole story without a name
    #[arg(value_name = "NAME")]
    pub name: Option<String>,
    /// List the scenarios
    #[arg(long)]
    pub list: bool,
    /// Skip the pauses for reading
    #[arg(long)]
    pub fast: bool,
}

impl Cli {
    /// Parses a command line; `args` begins with the program's name.
    ///
    /// # Errors
    /// clap's errors. Help and version are errors with [`clap::Error::exit_code`] 0; bad input has 2.
    pub fn read(args: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let mut cli = Self::try_parse_from(args)?;
        if let Command::Run(run) = &cli.command {
            let key = if run.once { &keys::SCHEDULER_INTERVAL } else { &keys::INTERVAL };
            if let Some(interval) = run.interval {
                cli.flags = cli.flags.with(key, duration::show(interval));
            }
        }
        Ok(cli)
    }
}

/// The help of `run --interval`, a flag for two keys.
fn interval_help() -> String {
    let [daemon, once] = [&keys::INTERVAL, &keys::SCHEDULER_INTERVAL].map(|key| key.about.help());
    format!("{daemon}. With --once: {once}")
}

/// Parses a reason. It goes into logs, status and the state file, so it is one line of 1 to 200 characters.
fn reason(text: &str) -> Result<String, String> {
    let text = text.trim();
    if text.is_empty() || text.chars().count() > 200 || text.chars().any(char::is_control) {
        return Err("expected one line of 1 to 200 characters".to_owned());
    }
    Ok(text.to_owned())
}

fn suspension(text: &str) -> Result<Duration, String> {
    let duration = duration::parse(text)?;
    if duration > SUSPEND_MAX {
        return Err(format!("{text:?} is too long; expected at most {}", duration::show(SUSPEND_MAX)));
    }
    Ok(duration)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn read(line: &str) -> Result<Cli, clap::Error> {
        Cli::read(std::iter::once("proxysql-stonith").chain(line.split_whitespace()).map(OsString::from))
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_alone_fit_into_the_schedulers_five_arguments() {
        let line = "run --once --orchestrator=http://orc1:3000,http://orc2:3000 --proxysql=127.0.0.1:6032 \
                    --defaults-file=/etc/proxysql-stonith.cnf";
        assert_eq!(line.split_whitespace().count(), 5);
        let cli = read(line).unwrap();
        assert_eq!(cli.command, Command::Run(RunArgs { once: true, interval: None }));
        let typed = Flags::default()
            .with(&keys::ENDPOINTS, "http://orc1:3000,http://orc2:3000")
            .with(&keys::ADDRESS, "127.0.0.1:6032")
            .with(&keys::DEFAULTS_FILE, "/etc/proxysql-stonith.cnf");
        assert_eq!(cli.flags, typed);
    }

    #[test]
    fn the_help_of_a_flag_has_the_first_sentence_the_default_and_the_variables() {
        let help = read("run --help").unwrap_err().to_string();
        let words = help.split_whitespace().collect::<Vec<_>>().join(" ");
        for line in [
            "--interval <DURATION> Time between two ticks of the daemon, spread by up to 20 % [default: 1s]. With --once: \
             Time between two starts of run --once by ProxySQL's scheduler [default: 5s]",
            "--proxysql <HOST:PORT,...> ProxySQL's admin interface, such as 127.0.0.1:6032 \
             [env: PROXYSQL_STONITH_PROXYSQL]",
            "--once Run one tick and exit; exit at once if another agent works on the same ProxySQL --interval",
            "--state-dir <DIR> Directory for the state of every ProxySQL \
             [default: $STATE_DIRECTORY or /var/lib/proxysql-stonith] [env: PROXYSQL_STONITH_STATE_DIR]",
        ] {
            assert!(words.contains(line), "{line}\n{words}");
        }
    }

    #[test]
    fn global_flags_stand_before_or_after_the_command_and_repeat() {
        for line in [
            "--orchestrator http://a --orchestrator http://b plan --isolation-scope off",
            "plan --isolation-scope=off --orchestrator http://a --orchestrator http://b",
        ] {
            let cli = read(line).unwrap();
            let typed =
                Flags::default().with(&keys::ENDPOINTS, "http://a,http://b").with(&keys::ISOLATION_SCOPE, "off");
            assert_eq!(cli.flags, typed, "{line}");
            assert_eq!(cli.command, Command::Plan(PlanArgs { wait: Duration::from_secs(8) }));
        }
    }

    #[test]
    fn every_command_reads_its_arguments() {
        let seconds = Duration::from_secs;
        let unfence =
            || UnfenceArgs { node: None, wait: None, role: None, without_lease: false, all: false, yes: false };
        for (line, command) in [
            ("run --interval 2s", Command::Run(RunArgs { once: false, interval: Some(seconds(2)) })),
            ("status --json", Command::Status(StatusArgs { json: true })),
            ("doctor", Command::Doctor(DoctorArgs { json: false })),
            ("doctor --json", Command::Doctor(DoctorArgs { json: true })),
            ("resume", Command::Resume),
            (
                "config check",
                Command::Config(ConfigArgs { command: ConfigCommand::Check(CheckArgs { connect: false }) }),
            ),
            (
                "fence node01 --level sessions --reason disk --wait 5s --yes",
                Command::Fence(FenceArgs {
                    node: "node01".into(),
                    level: Level::Sessions,
                    reason: Some("disk".into()),
                    wait: Some(seconds(5)),
                    yes: true,
                }),
            ),
            (
                "unfence node01:3306 --wait 1m --without-lease",
                Command::Unfence(UnfenceArgs {
                    node: Some("node01:3306".into()),
                    wait: Some(seconds(60)),
                    without_lease: true,
                    ..unfence()
                }),
            ),
            (
                "unfence node01 --as replica",
                Command::Unfence(UnfenceArgs { node: Some("node01".into()), role: Some(Role::Replica), ..unfence() }),
            ),
            (
                "unfence --all --without-lease --yes",
                Command::Unfence(UnfenceArgs { without_lease: true, all: true, yes: true, ..unfence() }),
            ),
            (
                "suspend --reason upgrade",
                Command::Suspend(SuspendArgs { duration: seconds(3600), reason: "upgrade".into() }),
            ),
            (
                "suspend --for 2h --reason upgrade",
                Command::Suspend(SuspendArgs { duration: seconds(7200), reason: "upgrade".into() }),
            ),
        ] {
            assert_eq!(read(line).unwrap_or_else(|error| panic!("{line}: {error}")).command, command, "{line}");
        }
    }

    #[test]
    fn every_install_reads_its_arguments() {
        let install = |command| Command::Install(InstallArgs { command });
        let how = |remove, dry_run| HowArgs { remove, dry_run };
        for (line, command) in [
            (
                "install scheduler --id 7 --dry-run",
                InstallCommand::Scheduler(SchedulerArgs { id: Some(7), how: how(false, true) }),
            ),
            ("install systemd", InstallCommand::Systemd(how(false, false))),
            ("install backstop --remove", InstallCommand::Backstop(how(true, false))),
            ("install hooks", InstallCommand::Hooks),
        ] {
            assert_eq!(read(line).unwrap().command, install(command), "{line}");
        }
        for line in ["install", "install scheduler --id 0", "install systemd --id 1"] {
            assert_eq!(read(line).unwrap_err().exit_code(), 2, "{line}");
        }
    }

    #[test]
    fn bad_input_is_exit_code_2_and_names_what_was_expected() {
        for (line, says) in [
            ("", "subcommand"),
            ("fly", "fly"),
            ("run --interval 0s", "at least 1ms"),
            ("run --interval 10", "unit"),
            ("fence", "NODE"),
            ("fence node01 --level hard", "soft, sessions"),
            ("unfence", "NODE"),
            ("unfence --all", "--without-lease"),
            ("unfence node01 --all --without-lease", "cannot be used"),
            ("unfence node01 --as boss", "replica, primary"),
            ("unfence node01 --as primary --without-lease", "cannot be used"),
            ("suspend", "--reason"),
            ("suspend --reason x --for 8days", "at most 7days"),
            ("plan --log-level loud", "debug"),
            ("plan --isolation-after -1s", "unexpected"),
            ("plan --password x", "--password"),
        ] {
            let error = read(line).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{line}");
            assert!(error.to_string().contains(says), "{line}: {error}");
        }
        assert!(read("suspend --reason x --for 7days").is_ok());
        for line in ["--help", "--version", "fence --help", "config check --help"] {
            assert_eq!(read(line).unwrap_err().exit_code(), 0, "{line}");
        }
    }

    #[test]
    fn i11_no_flag_takes_a_password() {
        let mut commands = vec![Cli::command()];
        while let Some(command) = commands.pop() {
            for arg in command.get_arguments() {
                let name = arg.get_long().unwrap_or_default();
                assert!(!name.contains("pass") && !name.contains("token") && !name.contains("secret"), "{name}");
            }
            commands.extend(command.get_subcommands().cloned());
        }
    }

    #[test]
    fn a_reason_is_one_short_line() {
        assert_eq!(reason(" disk swap "), Ok("disk swap".to_owned()));
        for bad in ["", "  ", "a\nb", "a\u{1b}[0m", &"x".repeat(201)] {
            assert!(reason(bad).is_err(), "{bad:?}");
        }
    }
}
