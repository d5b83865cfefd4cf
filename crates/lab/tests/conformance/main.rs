//! The lab against everything that was recorded from the real programs (tests/recordings), in both directions: what is
//! recorded is replayed and compared, and what the lab knows is recorded. What is not compared is in
//! recordings/not-compared.txt, with the reason.

#[path = "../proxysql/client.rs"]
#[allow(dead_code, reason = "the tests of the lab's ProxySQL use more of it")]
mod admin_client;
mod answers;
mod bytes;
#[path = "../orchestrator/client.rs"]
#[allow(dead_code, reason = "the tests of the lab's Orchestrator use more of it")]
mod client;
mod compare;
#[path = "../real/program.rs"]
mod program;
mod python;
mod real;
mod recordings;
mod requests;
mod routes;
mod sessions;
mod statements;
mod tables;
mod timeline;
