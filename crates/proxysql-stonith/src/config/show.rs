//! The effective config as a file that [`super::RawFile`] reads back, with the origin of each value.

use std::fmt::Display;
use std::path::Path;

use super::duration::show;
use super::secrets::{CredentialSource, SecretSource};
use super::words::Word;
use super::{Config, Mode, Origin};

/// Writes it.
pub(super) fn to_toml(config: &Config) -> String {
    let mut page = Page { config, text: String::new() };
    let orchestrator = &config.orchestrator;
    page.text.push_str("[orchestrator]\n");
    let endpoints: Vec<_> = orchestrator.endpoints.iter().map(|url| quoted(url)).collect();
    page.line("orchestrator", "endpoints", format!("[{}]", endpoints.join(", ")));
    if let Some(credential) = &orchestrator.credential {
        page.credential("orchestrator", credential);
    }
    page.line("orchestrator", "tls_verify", orchestrator.tls.verify);
    if let Some(path) = &orchestrator.tls.ca_file {
        page.line("orchestrator", "ca_file", path_text(path));
    }
    if let Some(client) = &orchestrator.tls.client {
        page.line("orchestrator", "client_cert", path_text(&client.cert));
        page.line("orchestrator", "client_key", path_text(&client.key));
    }
    page.line("orchestrator", "connect_timeout", quoted(&show(orchestrator.connect_timeout)));
    page.line("orchestrator", "read_timeout", quoted(&show(orchestrator.read_timeout)));
    page.line("orchestrator", "tick_timeout", quoted(&show(orchestrator.tick_timeout)));

    for (index, proxy) in config.proxies.iter().enumerate() {
        let name = format!("proxysql[{index}]");
        page.text.push_str("\n[[proxysql]]\n");
        page.line(&name, "address", quoted(&proxy.address.to_string()));
        page.credential(&name, &proxy.credential);
        page.line(&name, "tls", quoted(proxy.tls.word()));
        if let Some(path) = &proxy.ca_file {
            page.line(&name, "ca_file", path_text(path));
        }
        page.line(&name, "allow_untested_version", proxy.allow_untested_version);
    }

    let policy = &config.policy;
    page.text.push_str("\n[policy]\n");
    page.line("policy", "mode", quoted(policy.mode.word()));
    page.line("policy", "fence_on", quoted(policy.fence_on.word()));
    page.line("policy", "max_downtime_fences", policy.max_downtime_fences);
    for (key, list) in
        [("exclude_hostgroups", &policy.exclude_hostgroups), ("writer_hostgroups", &policy.writer_hostgroups)]
    {
        let list: Vec<_> = list.iter().map(ToString::to_string).collect();
        page.line("policy", key, format!("[{}]", list.join(", ")));
    }
    page.line("policy", "errant_gtid", quoted(policy.errant_gtid.word()));
    page.line("policy", "on_blind", quoted(policy.on_blind.word()));
    page.line("policy", "end_possible_holders", policy.end_possible_holders);

    page.text.push_str("\n[isolation]\n");
    match config.isolation.after {
        Some(after) => page.line("isolation", "after", quoted(&show(after))),
        None => page.default_isolation_after(),
    }
    page.line("isolation", "scope", quoted(config.isolation.scope.word()));

    page.text.push_str("\n[run]\n");
    page.line("run", "interval", quoted(&show(config.run.interval)));
    page.line("run", "scheduler_interval", quoted(&show(config.run.scheduler_interval)));
    page.line("run", "state_dir", path_text(&config.run.state_dir));

    page.text.push_str("\n[log]\n");
    page.line("log", "format", quoted(config.log.format.word()));
    page.line("log", "level", quoted(config.log.level.word()));
    page.text
}

struct Page<'c> {
    config: &'c Config,
    text: String,
}

impl Page<'_> {
    fn line(&mut self, section: &str, key: &str, value: impl Display) {
        self.line_from(key, value, &self.config.origin(&format!("{section}.{key}")));
    }

    fn line_from(&mut self, key: &str, value: impl Display, origin: &Origin) {
        // A path may hold a line break; a comment may not.
        let origin = origin.to_string().replace(char::is_control, "?");
        self.text.push_str(&format!("{key} = {value} # {origin}\n"));
    }

    fn credential(&mut self, section: &str, credential: &CredentialSource) {
        if let Some(user) = credential.user.as_ref().or(credential.fallback_user.as_ref()) {
            self.line(section, "user", quoted(user));
        }
        let origin = self.config.origin(&format!("{section}.password"));
        match &credential.password {
            SecretSource::Given(_) | SecretSource::ConfigFile { .. } => {
                self.line_from("password", quoted("***"), &origin);
            }
            SecretSource::File(path) => self.line_from("password_file", path_text(path), &origin),
            // Orchestrator's section has no such key: there it is only told.
            SecretSource::OptionFile { path, group } if *group != "client" => {
                self.line_from("# password in", format!("[{group}] of {}", path_text(path)), &origin);
            }
            SecretSource::OptionFile { path, .. } => self.line_from("defaults_file", path_text(path), &origin),
        }
    }

    /// The default depends on the mode, and a value here would fix it.
    fn default_isolation_after(&mut self) {
        let daemon = show(self.config.isolation_after(Mode::Daemon));
        let once = show(self.config.isolation_after(Mode::Once));
        self.line_from("# after", format!("{daemon:?}, with run --once {once:?}"), &Origin::Default);
    }
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn path_text(path: &Path) -> String {
    quoted(&path.to_string_lossy())
}
