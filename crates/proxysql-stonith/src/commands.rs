//! The commands: each turns its arguments into an exit code and an answer on stdout.
//!
//! Every command observes and decides through the same agent. No command has rules of its own.

mod check;
#[cfg(feature = "demo")]
mod demo;
mod doctor;
mod fence;
mod hook;
mod install;
mod run;
mod show;
mod suspend;

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};

use crate::cli::{Cli, Command, ConfigArgs, ConfigCommand, InstallArgs, InstallCommand};
use crate::config::{Config, EXIT_BAD_INPUT, Environment};
use crate::logging;
use crate::untrusted_text::plain;

/// A command's exit code, or why it broke off.
pub type Ended = Result<u8, Failure>;

/// Why a command broke off.
#[derive(Debug)]
pub enum Failure {
    /// The arguments or the config are wrong: exit code 2, nothing was changed.
    BadInput(String),
    /// Any other error: exit code 1.
    Error(anyhow::Error),
}

impl Failure {
    /// Makes a [`Failure::BadInput`] with this reason.
    fn bad_input(why: impl std::fmt::Display) -> Self {
        Self::BadInput(why.to_string())
    }
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Error(error.into())
    }
}

/// All went well.
pub const DONE: u8 = 0;

/// Something failed and was printed to stderr.
pub const FAILED: u8 = 1;

/// A ProxySQL, or a node of it, is isolated, held or not protected.
pub const UNPROTECTED: u8 = 3;

/// Runs the program: parses the command line, runs the command, returns the exit code.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    // A core dump would contain passwords. The program also works where the kernel refuses this setting.
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
    let cli = match Cli::read(args) {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(EXIT_BAD_INPUT));
        }
    };
    let code = match carry_out(cli) {
        Ok(code) => code,
        Err(Failure::BadInput(text)) => {
            complain(&text);
            EXIT_BAD_INPUT
        }
        Err(Failure::Error(error)) => {
            complain(&format!("{error:#}"));
            FAILED
        }
    };
    ExitCode::from(code)
}

fn carry_out(cli: Cli) -> Ended {
    #[cfg(feature = "demo")]
    if let Command::Demo(args) = &cli.command {
        return demo::demo(args);
    }
    let env = Environment::of_process();
    match &cli.command {
        Command::Suspend(args) => return suspend::suspend(&cli.flags, &env, args),
        Command::Resume => return suspend::resume(&cli.flags, &env),
        Command::Config(ConfigArgs { command: ConfigCommand::Reference(args) }) => return check::reference(args),
        Command::Install(InstallArgs { command: InstallCommand::Hooks }) => return Ok(hook::lines()),
        _ => {}
    }
    let config = Config::load(&cli.flags, &env).map_err(Failure::bad_input)?;
    if !matches!(cli.command, Command::Hook(_) | Command::Config(_)) {
        config.needs_a_proxy().map_err(Failure::bad_input)?;
    }
    let _logging = logging::init(config.log);
    crate::agent::to_its_end(async {
        // Closing the terminal must not stop a command or a tick halfway.
        let _hangup = signal(SignalKind::hangup())?;
        match cli.command {
            Command::Run(args) if args.once => run::once(&config).await,
            Command::Run(_) => {
                let load = || Config::load(&cli.flags, &env).and_then(|new| new.needs_a_proxy().map(|()| new));
                run::daemon(config, load).await
            }
            Command::Plan(args) => show::plan(&config, &args).await,
            Command::Status(args) => show::status(&config, args.json).await,
            Command::Doctor(args) => doctor::doctor(&config, args.json).await,
            Command::Fence(args) => fence::fence(&config, &args).await,
            Command::Unfence(args) => fence::unfence(&config, &args).await,
            Command::Install(args) => install::install(&config, &cli.flags, &env, &args).await,
            Command::Suspend(args) => suspend::suspend(&cli.flags, &env, &args),
            Command::Resume => suspend::resume(&cli.flags, &env),
            Command::Hook(args) => hook::hook(&config, &args.command).await,
            Command::Config(args) => match args.command {
                ConfigCommand::Check(args) => check::check(&config, &args).await,
                ConfigCommand::Reference(args) => check::reference(&args),
            },
            #[cfg(feature = "demo")]
            Command::Demo(args) => demo::demo(&args),
        }
    })
}

/// Prints a command's answer to stdout. A closed stdout is not an error.
fn answer(text: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{}", plain(text.trim_end()));
}

fn complain(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "proxysql-stonith: {}", plain(text));
}

/// "1 of 2 configured ProxySQLs".
fn of_configured(count: usize, config: &Config) -> String {
    format!("{count} of {} configured", config.proxies.len())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_process_makes_no_core_dump_and_its_memory_is_closed_to_its_user() {
        use rustix::process::{DumpableBehavior, dumpable_behavior};
        assert_eq!(dumpable_behavior().unwrap(), DumpableBehavior::Dumpable, "before");
        super::run(["proxysql-stonith", "--version"].map(Into::into));
        assert_eq!(dumpable_behavior().unwrap(), DumpableBehavior::NotDumpable);
    }
}
