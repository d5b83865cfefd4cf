//! The other direction: what the lab's Orchestrator knows is recorded.

use lab::orchestrator::Orchestrator;

use crate::recordings::{Kind, of, read};
use crate::{answers, requests};

/// Whether a pattern stands for a path, and no other pattern does so more exactly.
fn stands_for(pattern: &str, path: &str) -> bool {
    let path = path.split_once('?').map_or(path, |(path, _)| path);
    let (pattern, path): (Vec<&str>, Vec<&str>) = (pattern.split('/').collect(), path.split('/').collect());
    pattern.len() == path.len() && pattern.iter().zip(&path).all(|(name, word)| name.starts_with(':') || name == word)
}

#[test]
fn every_request_that_the_lab_knows_is_recorded() {
    let mut recorded: Vec<String> = of(Kind::Answer).iter().map(|path| answers::request_of(path)).collect();
    for recording in of(Kind::Requests) {
        recorded.extend(requests::paths(&read(&recording)));
    }
    let routes: Vec<&str> = Orchestrator::routes().collect();
    for pattern in &routes {
        let is_of = |path: &&String| routes.iter().find(|pattern| stands_for(pattern, path)) == Some(pattern);
        assert!(recorded.iter().any(|path| is_of(&path)), "{pattern} is not recorded");
    }
    println!("{} routes of the lab's Orchestrator, each recorded", routes.len());
}
