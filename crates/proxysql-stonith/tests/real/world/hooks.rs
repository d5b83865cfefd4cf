//! Our hooks in Orchestrator's config: scripts that say when each run of the hook before a promotion began and ended.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::process::free_port;
use super::raft::Access;
use super::{Proxy, World};

/// The token of the agents.
const TOKEN: &str = "sesame-token";

/// What Orchestrator runs around a failover. At first it does nothing but tell the time.
pub struct Hooks {
    dir: tempfile::TempDir,
    /// The port of each agent's HTTP, on its proxy's address.
    port: u16,
}

/// One run of the hook before a promotion, in seconds since 1970. Orchestrator promotes after its end.
#[derive(Debug, Clone, Copy)]
pub struct Ran {
    pub began: f64,
    pub ended: f64,
    pub code: i32,
}

impl Hooks {
    /// Hooks that do nothing.
    pub fn new() -> Self {
        let hooks = Self { dir: tempfile::tempdir().expect("a directory"), port: free_port() };
        write(&hooks.file("token"), TOKEN);
        hooks.without();
        hooks
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// An Orchestrator that runs them.
    pub fn orchestrator(&self) -> Access {
        let hook = |name: &str| [format!("bash {}", self.file(name).display())];
        let config = json!({
            "PreFailoverProcesses": hook("pre-failover"),
            "PostFailoverProcesses": hook("post-failover"),
            "PostUnsuccessfulFailoverProcesses": hook("post-unsuccessful-failover"),
        });
        Access { config, ..Access::plain() }
    }

    /// Lets each agent take the hooks' wake-ups, from its next start on.
    pub fn wake(&self, world: &World) {
        for proxy in world.proxies() {
            let listen = self.agent(proxy);
            let token = self.file("token");
            proxy.set_config(&format!(
                "[http]\nlisten = \"{listen}\"\ntoken_file = {token:?}\nregister_as = \"http://{listen}\"\n"
            ));
        }
    }

    fn agent(&self, proxy: &Proxy) -> String {
        format!("{}:{}", proxy.address(), self.port)
    }

    /// From now on they are ours, with this of `[barrier]` beside the agents.
    pub fn with(&self, world: &World, barrier: &str) {
        let agents: Vec<String> = world.proxies().map(|proxy| format!("http://{}", self.agent(proxy))).collect();
        self.ours(world, &format!("agents = {agents:?}\n{barrier}"));
    }

    /// The same, and the hooks have to find the agents by their registrations.
    pub fn with_registered(&self, world: &World, barrier: &str) {
        self.ours(world, &format!("forget_after = \"1h\"\n{barrier}"));
    }

    /// Whether each agent has registered at a node, by what a raft node tells.
    pub fn are_registered(&self, world: &World, raft: usize, node: usize) -> bool {
        let (status, tags) =
            world.raft.get(raft, &format!("/api/tags/{}/{}", world.nodes.address(node), world.nodes.port));
        let has = |proxy: &Proxy| tags.contains(&format!("\"proxysql-stonith:{}=", self.agent(proxy)));
        status == 200 && world.proxies().all(has)
    }

    fn ours(&self, world: &World, barrier: &str) {
        let config = self.file("hook.toml");
        let text = format!(
            "orchestrator.endpoints = {:?}\nrun.state_dir = {:?}\n[barrier]\ntoken_file = {:?}\n{barrier}\n",
            world.raft.endpoints(),
            self.file("state"),
            self.file("token"),
        );
        write(&config, &text);
        let program = env!("CARGO_BIN_EXE_proxysql-stonith");
        self.run(|hook| format!("{program} hook {hook} --config={}", config.display()));
    }

    /// From now on they do nothing.
    pub fn without(&self) {
        self.run(|_| "true".to_owned());
    }

    fn run(&self, command: impl Fn(&str) -> String) {
        let (times, log) = (self.file("times"), self.file("hook.log"));
        for hook in ["pre-failover", "post-failover", "post-unsuccessful-failover"] {
            let (command, times, log) = (command(hook), times.display(), log.display());
            write(
                &self.file(hook),
                &format!(
                    "echo {hook} begin $(date +%s.%N) >>{times}\n{command} >>{log} 2>&1\ncode=$?\n\
                     echo {hook} end $(date +%s.%N) $code >>{times}\nexit $code\n"
                ),
            );
        }
    }

    /// When the hook before a promotion began first since this moment.
    pub fn began_since(&self, moment: f64) -> Option<f64> {
        self.times("begin").map(|(at, _)| at).find(|at| *at > moment)
    }

    /// The first run since this moment that let Orchestrator promote, or the first one if none did.
    pub fn ran_since(&self, moment: f64) -> Option<Ran> {
        let began = self.began_since(moment)?;
        let ends: Vec<_> = self.times("end").filter(|(at, _)| *at > moment).collect();
        let (ended, code) = *ends.iter().find(|(_, code)| *code == 0).or(ends.first())?;
        Some(Ran { began, ended, code })
    }

    fn times(&self, what: &str) -> impl Iterator<Item = (f64, i32)> + use<> {
        let text = fs::read_to_string(self.file("times")).unwrap_or_default();
        let start = format!("pre-failover {what} ");
        let of = move |line: &str| {
            let mut words = line.strip_prefix(&start)?.split(' ');
            let at = words.next()?.parse().ok()?;
            Some((at, words.next().and_then(|code| code.parse().ok()).unwrap_or(0)))
        };
        text.lines().filter_map(of).collect::<Vec<_>>().into_iter()
    }

    /// What our hooks said.
    pub fn log(&self) -> String {
        fs::read_to_string(self.file("hook.log")).unwrap_or_default()
    }
}

fn write(file: &Path, text: &str) {
    fs::write(file, text).expect("a file");
    fs::set_permissions(file, fs::Permissions::from_mode(0o600)).expect("its mode");
}
