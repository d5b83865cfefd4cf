//! How an agent registers itself, so that a hook knows it without its config: as a tag of each node at Orchestrator.
//!
//! ```text
//! proxysql-stonith:10.0.0.7:9632 = 1764280000.<signature>
//! ```
//!
//! Raft keeps tags on every member, so the next leader has them too (facts §8).
//!
//! **Invariant:** only who has the agents' token can register. Orchestrator takes a tag from anybody, and the hook sends the
//! token to an agent, and waits for it.

mod kept;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ring::hmac;

use crate::config::AgentUrl;
use crate::secret::Secret;
pub use kept::Kept;

/// What the name of each registration's tag begins with.
const PREFIX: &str = "proxysql-stonith:";

/// An agent that runs registers itself again after this time.
pub const AGAIN: Duration = Duration::from_secs(15 * 60);

/// The name of an agent's tag.
pub fn name(agent: &AgentUrl) -> String {
    format!("{PREFIX}{}", agent.0)
}

/// The value of an agent's tag. `now_s`: s since 1970.
pub fn value(agent: &AgentUrl, now_s: i64, token: &Secret) -> String {
    let signature = hmac::sign(&key(token), signed(agent, now_s).as_bytes());
    format!("{now_s}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
}

/// The agents that registered at a node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Registered {
    /// Those that were seen lately.
    pub agents: BTreeSet<AgentUrl>,
    /// The others, each with the time when it says that it was seen, s since 1970.
    pub forgotten: BTreeMap<AgentUrl, i64>,
    /// The tags that are no registration of an agent with this token.
    pub refused: Vec<String>,
}

impl Registered {
    /// Reads a node's tags, `NAME=VALUE` each. Tags of others are left alone. An agent was seen lately if its clock is no
    /// further than `forget_after` from this host's.
    pub fn of(tags: &[String], token: &Secret, now_s: i64, forget_after: Duration) -> Self {
        let mut registered = Self::default();
        for tag in tags {
            let Some((address, value)) = tag.strip_prefix(PREFIX).and_then(|tag| tag.split_once('=')) else { continue };
            match read(address, value, token) {
                None => registered.refused.push(format!("{PREFIX}{address}")),
                Some((agent, seen_s)) if is_within(now_s.saturating_sub(seen_s), forget_after) => {
                    registered.agents.insert(agent);
                }
                Some((agent, seen_s)) => _ = registered.forgotten.insert(agent, seen_s),
            }
        }
        registered
    }
}

fn is_within(age_s: i64, longest: Duration) -> bool {
    age_s.unsigned_abs() <= longest.as_secs()
}

/// The agent and the time of a tag; `None` if it has no signature of ours.
fn read(address: &str, value: &str, token: &Secret) -> Option<(AgentUrl, i64)> {
    let agent = AgentUrl(address.parse().ok()?);
    if agent.0.to_string() != address {
        return None; // another spelling of an address that is signed
    }
    let (at_s, signature) = value.split_once('.')?;
    let at_s = at_s.parse().ok()?;
    let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).ok()?;
    hmac::verify(&key(token), signed(&agent, at_s).as_bytes(), &signature).ok()?;
    Some((agent, at_s))
}

fn key(token: &Secret) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, token.expose().as_bytes())
}

fn signed(agent: &AgentUrl, at_s: i64) -> String {
    format!("{}={at_s}", name(agent))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);
    const NOW_S: i64 = 1_764_280_000;

    fn token() -> Secret {
        Secret::new("the token")
    }

    fn agent(text: &str) -> AgentUrl {
        text.parse().unwrap()
    }

    fn tag(text: &str, at_s: i64, token: &Secret) -> String {
        format!("{}={}", name(&agent(text)), value(&agent(text), at_s, token))
    }

    fn read(tags: &[String]) -> Registered {
        Registered::of(tags, &token(), NOW_S, HOUR)
    }

    #[test]
    fn an_agent_is_known_for_as_long_as_it_was_seen_lately_and_then_named() {
        let ages_s = [
            ("http://a:1", 0),
            ("http://[::1]:2", 3_600),
            ("http://c:3", 3_601),
            ("http://d:4", -60),
            ("http://e:5", -3_601),
        ];
        let tags = ages_s.map(|(url, age_s)| tag(url, NOW_S - age_s, &token()));
        let registered = read(&tags);
        assert_eq!(registered.agents, ["http://a:1", "http://[::1]:2", "http://d:4"].map(agent).into());
        let forgotten = [("http://c:3", NOW_S - 3_601), ("http://e:5", NOW_S + 3_601)];
        assert_eq!(registered.forgotten, forgotten.map(|(url, at_s)| (agent(url), at_s)).into());
        assert!(registered.refused.is_empty());
    }

    #[test]
    fn nobody_registers_without_the_token_nor_another_address_nor_a_later_time() {
        let good = tag("http://a:1", NOW_S - 7_200, &token());
        let (name, value) = good.split_once('=').unwrap();
        let (at_s, signature) = value.split_once('.').unwrap();
        let tags = [
            tag("http://a:1", NOW_S, &Secret::new("another token")),
            format!("{}={value}", super::name(&agent("http://b:1"))),
            format!("{name}={NOW_S}.{signature}"),
            format!("{name}={at_s}."),
            format!("{PREFIX}A:1={value}"),
            format!("{PREFIX}a:01={value}"),
            format!("{PREFIX}a:+1={value}"),
            format!("{PREFIX}a.:1={value}"),
            format!("{name}={at_s}"),
            format!("{name}="),
            format!("{PREFIX}no address={value}"),
        ];
        let registered = read(&tags);
        assert_eq!((registered.refused.len(), registered.agents.len(), registered.forgotten.len()), (11, 0, 0));
    }

    #[test]
    fn tags_of_others_are_no_registrations() {
        assert_eq!(read(&["role=reporting".to_owned(), PREFIX.to_owned(), String::new()]), Registered::default());
    }

    #[test]
    fn a_registration_fits_the_columns_of_orchestrators_database_and_shows_no_token() {
        let agent = agent("http://proxy01.example:9632");
        let value = value(&agent, NOW_S, &token());
        assert!(name(&agent).len() <= 128 && value.len() <= 128 && !value.contains("token"), "{value}");
    }
}
