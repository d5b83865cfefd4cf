//! The apply: undisturbed, cut off, edited into, refused and raced, at every statement.

#[path = "../apply_world/mod.rs"]
mod apply_world;
mod backstop;
mod crash;
mod drain;
mod edits;
mod lending;
mod limits;
mod locks;
mod odd_rows;
mod pause;
mod refused;
mod sessions;
mod whole;
