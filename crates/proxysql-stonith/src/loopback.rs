//! The address of `localhost`, and which addresses are on this host.

use std::net::{IpAddr, UdpSocket};

/// The host to connect to: 127.0.0.1 for `localhost`, otherwise unchanged.
///
/// The resolver may return `::1` first. If ProxySQL listens on 127.0.0.1 only, any user may listen on `::1`. The
/// comparison of two spellings of one ProxySQL uses the same address.
pub fn numeric(host: &str) -> &str {
    if host == "localhost" { "127.0.0.1" } else { host }
}

/// Whether only this host's own users are on the path to it.
pub fn is_here(host: &str) -> bool {
    numeric(host).parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// This host's name.
pub fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Whether a host is this one: by its name, or by an address that can be bound here. No name is resolved.
pub fn is_this_host(host: &str) -> bool {
    match numeric(host).parse::<IpAddr>() {
        Ok(address) => UdpSocket::bind((address, 0)).is_ok(),
        Err(_) => host.eq_ignore_ascii_case(&host_name()),
    }
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
