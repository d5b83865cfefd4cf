//! Which address `localhost` is, and what is on this host.

use std::net::IpAddr;

/// The host as it is connected to. `localhost` is 127.0.0.1, as where two spellings of one ProxySQL are compared: by the
/// resolver it may be `::1` first, where on a machine whose ProxySQL listens on 127.0.0.1 anybody may listen.
pub fn numeric(host: &str) -> &str {
    if host == "localhost" { "127.0.0.1" } else { host }
}

/// Whether nobody but this host's own users is on the path to it.
pub fn is_here(host: &str) -> bool {
    numeric(host).parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_addresses_are_here() {
        for (host, here) in
            [("localhost", true), ("127.0.0.9", true), ("::1", true), ("10.0.0.5", false), ("orc1", false), ("", false)]
        {
            assert_eq!(is_here(host), here, "{host}");
        }
    }
}
