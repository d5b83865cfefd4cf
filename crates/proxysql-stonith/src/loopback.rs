//! Which address `localhost` is.

/// The host as it is connected to. `localhost` is 127.0.0.1, as where two spellings of one ProxySQL are compared: by the
/// resolver it may be `::1` first, where on a machine whose ProxySQL listens on 127.0.0.1 anybody may listen.
pub fn numeric(host: &str) -> &str {
    if host == "localhost" { "127.0.0.1" } else { host }
}
