//! The agent and the commands against the lab: real sockets, every failure in reach.

#![cfg(feature = "demo")]

mod barrier;
mod bytes;
mod clusters;
mod commands;
mod crash;
mod crash_returns;
mod doctor;
mod documented;
mod faults;
mod first_start;
mod hooks;
mod http;
mod https;
mod install;
mod layers;
mod many;
mod names;
mod operators;
mod orders;
mod outside;
mod paused;
#[path = "../pki/mod.rs"]
mod pki;
mod quiet;
mod recorded;
mod registration;
mod service;
mod settings;
mod side_by_side;
mod sigkill;
mod soak;
mod stage;
mod takeover;
mod two_agents;
mod versions;
mod ways_to_orchestrator;
