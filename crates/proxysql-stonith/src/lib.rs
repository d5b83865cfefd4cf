//! proxysql-stonith: fences superseded MySQL primaries at ProxySQL, as Orchestrator's failovers require.

#![warn(clippy::too_many_lines, clippy::mod_module_files)]

pub mod agent;
pub mod board;
pub mod bytes;
pub mod certificate;
pub mod cli;
pub mod clock;
pub mod commands;
pub mod config;
pub mod doctor;
pub mod fence_agent;
pub mod files;
pub mod handed;
pub mod hook;
pub mod http;
pub mod logging;
pub mod loopback;
pub mod metrics;
pub mod mysql;
pub mod node_fence;
pub mod orchestrator;
pub mod pool;
pub mod proxysql;
pub mod registration;
pub mod report;
#[cfg(feature = "demo")]
pub mod scenario;
pub mod secret;
pub mod service;
pub mod snapshot;
pub mod state;
pub mod tls;
pub mod unit;
pub mod untrusted_text;
pub mod wire;

pub use commands::run;
