//! The HTTP address of an agent, `http://10.0.0.7:9632`.

use std::fmt;
use std::str::FromStr;

use stonith_core::node::Node;

use super::value::{Value, quoted};

/// Where an agent answers HTTP.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct AgentUrl(pub Node);

/// Why a text is not an agent's address. The text is not shown, since it may contain a password (I11).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("is no address of an agent: {0}; expected such as \"http://10.0.0.7:9632\"")]
pub struct AgentUrlError(&'static str);

impl FromStr for AgentUrl {
    type Err = AgentUrlError;

    fn from_str(text: &str) -> Result<Self, AgentUrlError> {
        if text.contains('@') {
            return Err(AgentUrlError("a user or a password must not be in it"));
        }
        let rest = text.strip_prefix("http://").ok_or(AgentUrlError("agents answer plain http only"))?;
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if authority.contains(['/', '?', '#']) {
            return Err(AgentUrlError("it has a path"));
        }
        authority.parse().map(Self).map_err(|_| AgentUrlError("no host and port"))
    }
}

impl fmt::Display for AgentUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}", self.0)
    }
}

impl Value for AgentUrl {
    const KIND: &'static str = "URL";
    const EXPECTED: &'static str = "a string";

    fn from_text(text: &str) -> Result<Self, String> {
        text.parse().map_err(|error: AgentUrlError| error.to_string())
    }

    fn to_toml(&self) -> String {
        quoted(&self.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agents_address_is_a_plain_http_url_with_a_port() {
        for good in ["http://10.0.0.7:9632", "http://[::1]:9632/", "http://proxy01:80"] {
            let url: AgentUrl = good.parse().unwrap();
            assert_eq!(url.to_string(), good.trim_end_matches('/'));
        }
        for bad in
            ["10.0.0.7:9632", "https://a:1", "http://a", "http://a:1/x", "http://u:secret@a:1", "http://a:1?x", ""]
        {
            let error = bad.parse::<AgentUrl>().unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
