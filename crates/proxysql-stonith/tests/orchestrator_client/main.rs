//! The Orchestrator client against servers that answer well, badly, or not at all.
//!
//! Bodies are Orchestrator's own, from the lab's recordings; how it answers otherwise is facts §8 and §9.

mod asking;
mod client;
mod closing;
mod history;
mod https;
#[path = "../pki/mod.rs"]
mod pki;
mod raft;
mod relayed;
mod scripted_http;
mod secrets;
mod unusable;
mod without_raft;
