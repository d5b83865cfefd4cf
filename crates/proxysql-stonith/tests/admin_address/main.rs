//! Whoever answers on the admin address: what it gets of the password, and what it can make this program do.
//!
//! Each test does what an attacker did, or would do: a fake admin server that says something else than ProxySQL at one
//! point. `server` is that fake.

mod answers;
mod localhost;
mod login;
#[path = "../pki/mod.rs"]
mod pki;
mod server;
mod socket;
mod tls;

use std::time::Duration;

use proxysql_stonith::proxysql::Settings;
use proxysql_stonith::secret::{Credential, Secret};
use stonith_core::node::Node;

/// What nobody may hear.
const PASSWORD: &str = "hunter2-and-more";

/// How to connect to a fake.
fn settings(host: &str, port: u16) -> Settings {
    let credential = Credential { user: "radmin".to_owned(), password: Secret::new(PASSWORD) };
    Settings {
        address: Node::new(host, port).unwrap(),
        socket: None,
        credential,
        tls: None,
        timeout: Duration::from_secs(20),
    }
}
