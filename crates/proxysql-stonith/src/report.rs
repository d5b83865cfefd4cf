//! Renders a [`Snapshot`](crate::snapshot::Snapshot) as log lines, text or JSON.
//!
//! Reports decide nothing and read nothing else.

pub mod json;
pub mod log;
pub mod text;
