//! `doctor`: gathers, checks, prints.

use super::{DONE, Ended, Failure, UNPROTECTED, answer};
use crate::config::Config;
use crate::doctor::{self, Level};

/// The exit code if the worst finding is a warning.
const WARNED: u8 = 4;

/// Prints what was found. The exit code is that of the worst finding.
pub async fn doctor(config: &Config, as_json: bool) -> Ended {
    let facts = doctor::gather(config).await.map_err(Failure::bad_input)?;
    let found = doctor::examine(&facts);
    answer(&if as_json { doctor::report::json(&found) } else { doctor::report::text(&found) });
    Ok(match found.findings.iter().map(|finding| finding.level).max() {
        None | Some(Level::Note) => DONE,
        Some(Level::Warning) => WARNED,
        Some(Level::Error) => UNPROTECTED,
    })
}
