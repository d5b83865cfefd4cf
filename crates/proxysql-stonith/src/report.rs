//! One [`Snapshot`](crate::snapshot::Snapshot) for people and for programs: as log lines, as text, as JSON.
//!
//! Nothing is decided here, and nothing is looked up.

pub mod json;
pub mod log;
pub mod text;
