//! Writes the man pages and the shell completions of the packages into a directory: `manual DIR`.
//!
//! It is an example, so the program itself carries neither of the libraries.

use std::error::Error;
use std::path::PathBuf;

use clap::CommandFactory;
use clap_complete::Shell;
use proxysql_stonith::cli::Cli;

const NAME: &str = "proxysql-stonith";

fn main() -> Result<(), Box<dyn Error>> {
    let folder = PathBuf::from(std::env::args_os().nth(1).ok_or("usage: manual DIR")?);
    let [man, completions] = ["man", "completions"].map(|name| folder.join(name));
    std::fs::create_dir_all(&man)?;
    std::fs::create_dir_all(&completions)?;
    // `proxysql-stonith help run` is `proxysql-stonith run --help`: it needs no page of its own.
    clap_mangen::generate_to(Cli::command().disable_help_subcommand(true), man)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut Cli::command(), NAME, &completions)?;
    }
    Ok(())
}
