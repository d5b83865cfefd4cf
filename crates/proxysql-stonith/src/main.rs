//! The binary: everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    proxysql_stonith::run(std::env::args_os())
}
