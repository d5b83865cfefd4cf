//! The Orchestrator client against servers that answer well, badly, or not at all.

mod scripted_http;
use scripted_http::{Reply, Request, Server};

#[test]
fn placeholder() {
    let s = Server::start(|_: &Request| Reply::ok("\"OK\""));
    assert!(s.url().starts_with("http://"));
}
