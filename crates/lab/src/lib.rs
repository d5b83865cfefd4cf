//! An embedded Orchestrator, ProxySQL and MySQL nodes over real sockets, for the demo and the tests of
//! proxysql-stonith.
//!
//! **Invariant:** it shares no types with the program's clients, and each of its behaviours cites a section of
//! docs/facts.md or a recording. A statement or request that it does not know fails the test that sent it.

pub mod nodes;
pub mod orchestrator;
pub mod proxysql;
