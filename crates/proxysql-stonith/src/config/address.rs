//! The addresses in the config: Orchestrator's endpoints and ProxySQL's admin interfaces.
//!
//! This module checks their form only. It resolves no name and connects to nothing.

use std::net::IpAddr;

use stonith_core::node::Node;

use crate::loopback;
use crate::orchestrator::Endpoint;

/// The largest number of endpoints, and of proxies: it limits what one tick asks.
pub const ADDRESSES_MAX: usize = 256;

/// Splits a list from a flag or variable at commas and blanks.
pub fn split(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| c == ',' || c.is_whitespace()).filter(|part| !part.is_empty())
}

/// Checks an Orchestrator endpoint: scheme, host, optionally port and prefix, nothing else.
///
/// # Errors
/// What was expected. A password in the URL is refused, and not shown (I11).
pub fn check_endpoint(url: &str) -> Result<(), String> {
    url.parse::<Endpoint>().map(drop).map_err(|error| error.to_string())
}

/// A text that is the same for all spellings of one endpoint: with or without `/api`, in any case.
pub fn endpoint_identity(url: &str) -> String {
    let plain = url.trim_end_matches('/');
    let plain = plain.strip_suffix("/api").unwrap_or(plain).trim_end_matches('/');
    match plain.split_once("://") {
        Some((scheme, rest)) => {
            let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            format!("{}://{}{path}", scheme.to_ascii_lowercase(), authority.to_ascii_lowercase())
        }
        None => plain.to_ascii_lowercase(),
    }
}

/// Parses the address of an admin interface.
///
/// # Errors
/// What was expected. A password in it is refused, and not shown (I11).
pub fn parse_proxy(text: &str) -> Result<Node, String> {
    if text.contains('@') {
        return Err("a user or password must not be in the address, where others can see it; use proxysql.user and \
                    proxysql.password_file; expected the admin interface, such as \"127.0.0.1:6032\""
            .to_owned());
    }
    if text.contains('/') {
        return Err(format!(
            "{text:?} is not host:port; expected a name for the ProxySQL, such as \"127.0.0.1:6032\". A unix socket goes \
             into the key socket of the same [[proxysql]]"
        ));
    }
    match text.parse::<Node>() {
        Ok(node) if node.port != 0 => Ok(node),
        Ok(_) => Err(format!("{text:?} has port 0; expected the admin port, usually 6032")),
        Err(error) => Err(format!("{error}; expected the admin interface, such as \"127.0.0.1:6032\"")),
    }
}

/// A value that is the same for all spellings of one ProxySQL: `localhost`, and IP addresses in any notation.
pub fn proxy_identity(node: &Node) -> (String, u16) {
    let host = loopback::numeric(node.host.as_str());
    let address = host.parse::<IpAddr>().map(|address| address.to_canonical().to_string());
    (address.unwrap_or_else(|_| host.to_owned()), node.port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_have_a_scheme_a_host_and_nothing_secret() {
        for good in [
            "http://orc1:3000",
            "https://orc1",
            "http://orc1:3000/api",
            "http://[::1]:3000/prefix/api/",
            "HTTPS://Orc1:443/",
            "http://[::1]",
        ] {
            assert_eq!(check_endpoint(good), Ok(()), "{good}");
        }
        for (bad, says) in [
            ("orc1:3000", "no scheme"),
            ("ftp://orc1", "neither http"),
            ("http://", "names no host"),
            ("http://:3000", "names no host"),
            ("http://orc1:0", "no port"),
            ("http://orc1:port", "no port"),
            ("http://orc1:99999", "no port"),
            ("http://::1:3000", "names no host"),
            ("http://[::1:3000", "brackets"),
            ("http://orc 1", "blanks"),
            ("http://orc1/?x=1", "query"),
            ("http://orc\"1:3000", "is not a URL"),
            ("http://orc1]:3000", "is not a URL"),
            ("http://orc1:3000/a<b", "is not a URL"),
            ("", "no scheme"),
        ] {
            let problem = check_endpoint(bad).unwrap_err();
            assert!(problem.contains(says), "{bad}: {problem}");
        }
    }

    #[test]
    fn i11_a_password_in_a_url_is_refused_and_not_shown() {
        for url in ["http://admin:hunter2@orc1:3000", "admin:hunter2@orc1"] {
            let problem = check_endpoint(url).unwrap_err();
            assert!(!problem.contains("hunter2") && problem.contains("password_file"), "{problem}");
        }
        for address in ["admin:hunter2@127.0.0.1:6032", "mysql://admin:hunter2@proxy1"] {
            let problem = parse_proxy(address).unwrap_err();
            assert!(!problem.contains("hunter2") && problem.contains("password_file"), "{problem}");
        }
    }

    #[test]
    fn two_spellings_of_one_address_are_one() {
        assert_eq!(endpoint_identity("http://Orc1:3000/api/"), endpoint_identity("HTTP://orc1:3000"));
        assert_ne!(endpoint_identity("http://orc1:3000/A"), endpoint_identity("http://orc1:3000/a"));
        let identity = |text: &str| proxy_identity(&parse_proxy(text).unwrap());
        assert_eq!(identity("localhost:6032"), identity("127.0.0.1:6032"));
        assert_eq!(identity("[0:0:0:0:0:0:0:1]:6032"), identity("[::1]:6032"));
        assert_eq!(identity("Proxy1.:6032"), identity("proxy1:6032"));
        assert_ne!(identity("proxy1:6032"), identity("proxy1:6033"));
    }

    #[test]
    fn a_list_is_split_at_commas_and_blanks() {
        assert_eq!(split(" a,b  c,\td ,").collect::<Vec<_>>(), ["a", "b", "c", "d"]);
    }

    #[test]
    fn a_unix_socket_is_no_address_and_the_key_for_it_is_named() {
        for socket in ["/tmp/proxysql_admin.sock", "127.0.0.1:6032;/tmp/proxysql_admin.sock", "unix:///run/admin.sock"]
        {
            let problem = parse_proxy(socket).unwrap_err();
            let says = |words: &str| problem.contains(words);
            assert!(says("unix socket") && says("key socket") && says("127.0.0.1:6032"), "{problem}");
        }
        assert!(!parse_proxy("127.0.0.1").unwrap_err().contains("unix socket"), "the control");
    }

    #[test]
    fn a_proxy_is_host_and_port() {
        for bad in ["127.0.0.1", "a:0", ":6032", "a:b", "/tmp/admin.sock"] {
            assert!(parse_proxy(bad).unwrap_err().contains("expected"), "{bad}");
        }
    }
}
