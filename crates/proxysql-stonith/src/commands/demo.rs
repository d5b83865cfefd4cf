//! `demo`.
use super::{Ended, FAILED};
use crate::cli::DemoArgs;

pub fn demo(_args: &DemoArgs) -> Ended {
    Ok(FAILED)
}
