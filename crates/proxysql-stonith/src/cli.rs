//! The command line, raw: what was typed, apart from what it comes to (`config`).

use std::ffi::OsString;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use stonith_core::evidence::Level;

use crate::config::{Flags, Word, duration, word};

/// The longest that one `suspend` holds: hands off is bounded (DESIGN §7).
pub const SUSPEND_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

/// How long `suspend` holds unless told otherwise.
const SUSPEND_DEFAULT: &str = "1h";

impl Word for Level {
    const WORDS: &'static [(&'static str, Self)] = &[("soft", Self::Soft), ("sessions", Self::Sessions)];
}

/// Fences superseded MySQL primaries at ProxySQL, as Orchestrator's failovers require.
#[derive(Debug, Clone, Parser)]
#[command(
    name = "proxysql-stonith",
    version,
    max_term_width = 100,
    subcommand_required = true,
    after_help = "Exit codes: 0 done, 1 error, 2 bad input (flags, environment, config file); plan: 10 for changes.\n\
                  Start with `plan`: it only reads."
)]
pub struct Cli {
    /// Flags that every command takes.
    #[command(flatten)]
    pub flags: Flags,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Watch and act: as a daemon, or once for ProxySQL's scheduler
    #[command(after_help = "From ProxySQL's scheduler, in its five arguments:\n  \
        run --once --orchestrator=http://orc1:3000,http://orc2:3000 --proxysql=127.0.0.1:6032 \
        --defaults-file=/etc/proxysql-stonith.cnf\n  run --once --config=/etc/proxysql-stonith.toml")]
    Run(RunArgs),
    /// Show what the next tick would do, and why; changes nothing
    #[command(after_help = "Exit codes: 0 nothing to do, 10 changes, 1 error, 2 bad input.")]
    Plan,
    /// Show leader, lease, and each node with its rows, verdict, evidence, and what would let it back
    Status(StatusArgs),
    /// Take a node out of traffic by hand
    #[command(after_help = "Exit codes: 0 fenced (with --wait: and no connection in use), 1 error or not in time, \
        2 bad input.")]
    Fence(FenceArgs),
    /// Let a node back: what fenced it until now no longer counts
    #[command(after_help = "Exit codes: 0 ordered (with --wait: and in service), 1 error or not in time, 2 bad input.")]
    Unfence(UnfenceArgs),
    /// Hands off for a while, whatever happens: works with Orchestrator and daemon dead
    Suspend(SuspendArgs),
    /// End a suspension
    Resume,
    /// Check the config
    Config(ConfigArgs),
    /// See a failover with and without this program, on embedded servers; touches nothing else
    #[cfg(feature = "demo")]
    #[command(after_help = "Exit codes: 0 what it claims happened, 1 it did not.")]
    Demo(DemoArgs),
}

/// `run`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct RunArgs {
    /// One tick, then leave; at once if another is at work on the same ProxySQL
    #[arg(long)]
    pub once: bool,
    /// Time between two ticks [default: 1s]; with --once how often the scheduler starts it [default: 5s]
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    pub interval: Option<Duration>,
}

/// `status`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct StatusArgs {
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

/// `fence`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct FenceArgs {
    /// Which node: host:port, as in ProxySQL's table
    #[arg(value_name = "NODE")]
    pub node: String,
    /// How far: soft takes no new traffic, sessions also ends the sessions on it
    #[arg(long, value_parser = word::<Level>(), default_value = "soft")]
    pub level: Level,
    /// Why, for the log
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    pub reason: Option<String>,
    /// Wait so long at most until no connection to it is in use
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    pub wait: Option<Duration>,
    /// Even the last ONLINE writer
    #[arg(long)]
    pub yes: bool,
}

/// `unfence`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct UnfenceArgs {
    /// Which node: host:port, as in ProxySQL's table
    #[arg(value_name = "NODE")]
    pub node: String,
    /// Wait so long at most until it is in service
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    pub wait: Option<Duration>,
    /// Don't ask Orchestrator for its role: rows go back as they were. Be sure that it is no second primary
    #[arg(long)]
    pub without_lease: bool,
}

/// `suspend`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct SuspendArgs {
    /// For how long, at most 7days
    #[arg(long = "for", value_name = "DURATION", value_parser = suspension, default_value = SUSPEND_DEFAULT)]
    pub duration: Duration,
    /// Why, for status and log
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    pub reason: String,
}

/// `config`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct ConfigArgs {
    /// What to do with it.
    #[command(subcommand)]
    pub command: ConfigCommand,
}

/// What to do with the config.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum ConfigCommand {
    /// Print the config in force with each value's origin, secrets hidden; connects to nothing
    #[command(after_help = "Exit codes: 0 right, 2 wrong.")]
    Check,
}

/// `demo`.
#[cfg(feature = "demo")]
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct DemoArgs {
    /// Which; without a name the whole story
    #[arg(value_name = "NAME")]
    pub name: Option<String>,
    /// List the names
    #[arg(long)]
    pub list: bool,
    /// Without pauses for reading
    #[arg(long)]
    pub fast: bool,
}

impl Cli {
    /// Reads a command line, the program's name first.
    ///
    /// # Errors
    /// clap's: help and version too. [`clap::Error::exit_code`] is 0 for those, and 2 for bad input.
    pub fn read(args: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let mut cli = Self::try_parse_from(args)?;
        if let Command::Run(run) = &cli.command {
            cli.flags.interval = run.interval;
            cli.flags.once = run.once;
        }
        Ok(cli)
    }
}

/// A reason goes into logs, status and the state file: one line, not empty, not endless.
fn reason(text: &str) -> Result<String, String> {
    let text = text.trim();
    if text.is_empty() || text.chars().count() > 200 || text.chars().any(char::is_control) {
        return Err("expected one line of 1 to 200 letters".to_owned());
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
    use stonith_core::policy::IsolationScope;

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
        assert!(cli.flags.once);
        assert_eq!(cli.flags.orchestrator, ["http://orc1:3000,http://orc2:3000"]);
        assert_eq!(cli.flags.proxysql, ["127.0.0.1:6032"]);
    }

    #[test]
    fn global_flags_stand_before_or_after_the_command_and_repeat() {
        for line in [
            "--orchestrator http://a --orchestrator http://b plan --isolation-scope off",
            "plan --isolation-scope=off --orchestrator http://a --orchestrator http://b",
        ] {
            let cli = read(line).unwrap();
            assert_eq!(cli.flags.orchestrator, ["http://a", "http://b"], "{line}");
            assert_eq!(cli.flags.isolation_scope, Some(IsolationScope::Off), "{line}");
            assert_eq!(cli.command, Command::Plan);
        }
    }

    #[test]
    fn every_command_reads_its_arguments() {
        let seconds = Duration::from_secs;
        for (line, command) in [
            ("run --interval 2s", Command::Run(RunArgs { once: false, interval: Some(seconds(2)) })),
            ("status --json", Command::Status(StatusArgs { json: true })),
            ("resume", Command::Resume),
            ("config check", Command::Config(ConfigArgs { command: ConfigCommand::Check })),
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
                    node: "node01:3306".into(),
                    wait: Some(seconds(60)),
                    without_lease: true,
                }),
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
    fn bad_input_is_exit_code_2_and_names_what_was_expected() {
        for (line, says) in [
            ("", "subcommand"),
            ("fly", "fly"),
            ("run --interval 0s", "at least 1ms"),
            ("run --interval 10", "unit"),
            ("fence", "NODE"),
            ("fence node01 --level hard", "soft, sessions"),
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
