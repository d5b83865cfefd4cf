//! The address of the HTTP service.

use std::net::SocketAddr;

use super::value::Value;

/// An address to listen on, or nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listen(pub Option<SocketAddr>);

impl Listen {
    /// Whether only this host reaches the address.
    pub fn is_local(self) -> bool {
        self.0.is_none_or(|address| address.ip().is_loopback())
    }
}

/// The word for no address.
const OFF: &str = "off";

impl Value for Listen {
    const KIND: &'static str = "address";
    const EXPECTED: &'static str = "an IP address and a port, such as \"127.0.0.1:9632\", or \"off\"";

    fn from_text(text: &str) -> Result<Self, String> {
        if text == OFF {
            return Ok(Self(None));
        }
        let shown: String = text.chars().take(40).collect();
        text.parse().map(|address| Self(Some(address))).map_err(|_| format!("{shown:?} is not {}", Self::EXPECTED))
    }

    fn to_toml(&self) -> String {
        format!("\"{}\"", self.0.map_or(OFF.to_owned(), |address| address.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_as_it_is_read_and_anything_else_is_refused_with_what_is_expected() {
        for text in ["127.0.0.1:9632", "[::1]:9632", "0.0.0.0:1", "off"] {
            assert_eq!(Listen::from_text(text).unwrap().to_toml(), format!("{text:?}"));
        }
        for text in ["", "9632", "localhost:9632", "127.0.0.1", "127.0.0.1:70000"] {
            assert!(Listen::from_text(text).unwrap_err().contains("such as \"127.0.0.1:9632\""), "{text}");
        }
        let is_local = |text| Listen::from_text(text).unwrap().is_local();
        assert!(is_local("127.0.0.1:1") && is_local("[::1]:1") && is_local("off"));
        assert!(!is_local("0.0.0.0:1") && !is_local("10.0.0.1:1"));
    }
}
