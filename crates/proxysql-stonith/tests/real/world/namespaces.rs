//! A network namespace for each part, and one in the middle, the hub, that routes between them.
//!
//! ```text
//! part: eth0 --- hub: <part>      198.18.x.y/32
//! this machine: stn... --- hub: tests      198.18.x.254, for the tests and their clients
//! ```
//!
//! A cut is a routing rule of the hub: what goes from one address to another is dropped without a word, so that
//! connections hang as on a dead line instead of being refused. The tests' own link is never cut: they see everything,
//! and stand in for clients at each site.
//!
//! 198.18.0.0/15 is set aside for benchmarks (RFC 2544), nobody lives there. The names carry the process id, and the
//! subnet is one whose route could be made: what a killed run leaves is in nobody's way.

use std::cell::RefCell;
use std::ffi::OsStr;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use super::network::Part;
use super::process::{find, skipped};

/// The hub's address and the tests' in each subnet.
const HUB: usize = 253;
const TESTS: usize = 254;

/// The namespaces of one world; they go with it.
pub struct Namespaces {
    ip: PathBuf,
    name: String,
    /// This machine's end of the tests' link. A name has 15 letters at most.
    link: String,
    subnet: String,
    parts: Vec<Part>,
    /// The rules that cut, as they were added.
    cuts: RefCell<Vec<String>>,
}

impl Namespaces {
    /// One for each of these parts; says in one line why there are none.
    pub fn of(parts: &[Part]) -> Option<Self> {
        static WORLDS: AtomicU32 = AtomicU32::new(0);
        let Some(ip) = find("ip", "IP_BIN") else {
            skipped("needs network namespaces, and there is no `ip` on PATH: apt-get install iproute2");
            return None;
        };
        let (id, nth) = (std::process::id(), WORLDS.fetch_add(1, Ordering::Relaxed));
        let mut namespaces = Self {
            ip,
            name: format!("stonith-{id}-{nth}"),
            link: format!("stn{id}.{nth}"),
            subnet: String::new(),
            parts: Vec::new(),
            cuts: RefCell::default(),
        };
        if let Err(error) = namespaces.ip(&["netns", "add", &namespaces.hub()], "") {
            skipped(format!("needs network namespaces, for root only: {error}"));
            return None;
        }
        namespaces.link_the_tests();
        for part in parts {
            namespaces.parts.push(*part);
            namespaces.link(*part);
        }
        Some(namespaces)
    }

    fn hub(&self) -> String {
        format!("{}-hub", self.name)
    }

    fn of_part(&self, part: Part) -> String {
        format!("{}-{part}", self.name)
    }

    /// An address in this world's subnet.
    pub fn address(&self, host: usize) -> String {
        format!("{}.{host}", self.subnet)
    }

    /// A program that runs in a part's namespace. The process keeps its id: `ip` becomes the program.
    pub fn command(&self, part: Part, program: &OsStr) -> Command {
        let mut command = Command::new(&self.ip);
        command.args(["netns", "exec", &self.of_part(part)]).arg(program);
        command
    }

    /// Drops all packets from the first to the second of each pair.
    pub fn drop_between(&self, pairs: Vec<(String, String)>) {
        let rules = rules(&pairs);
        self.change("add", &rules);
        self.cuts.borrow_mut().extend(rules);
    }

    /// The end of what [`Self::drop_between`] began for these pairs.
    pub fn drop_no_more(&self, pairs: Vec<(String, String)>) {
        let rules = rules(&pairs);
        self.change("del", &rules);
        self.cuts.borrow_mut().retain(|cut| !rules.contains(cut));
    }

    /// The end of all drops.
    pub fn heal(&self) {
        self.change("del", &self.cuts.take());
    }

    fn change(&self, how: &str, rules: &[String]) {
        let lines: String = rules.iter().map(|rule| format!("rule {how} {rule}\n")).collect();
        self.in_namespace(&self.hub(), &lines);
    }

    /// Gives this machine an address on the hub. The subnet's route is its lock: no two worlds have the same.
    fn link_the_tests(&mut self) {
        let (hub, link) = (self.hub(), self.link.clone());
        let made = self.ip(&["link", "add", &link, "type", "veth", "peer", "name", "tests", "netns", &hub], "");
        made.and_then(|()| self.ip(&["link", "set", &link, "up"], "")).expect("the tests' link");
        let is_ours = |subnet: &String| {
            let [all, gateway, ours] =
                ["0/24".to_owned(), HUB.to_string(), TESTS.to_string()].map(|host| format!("{subnet}.{host}"));
            let address = ["addr", "add", &ours, "dev", &link];
            let route = ["route", "add", &all, "via", &gateway, "dev", &link, "onlink", "src", &ours];
            let taken = self.ip(&address, "").and_then(|()| self.ip(&route, ""));
            if taken.is_err() {
                let _ = self.ip(&["addr", "del", &ours, "dev", &link], "");
            }
            taken.is_ok()
        };
        let mut subnets = (0..256).map(|x| format!("198.18.{x}"));
        self.subnet = subnets.find(is_ours).expect("a subnet of 198.18.0.0/16 that has no route yet");
        let (gateway, tests) = (self.address(HUB), self.address(TESTS));
        self.in_namespace(
            &hub,
            &format!(
                "link set lo up\naddr add {gateway}/32 dev lo\nlink set tests up\nroute add {tests}/32 dev tests\n"
            ),
        );
        let mut forward = Command::new(&self.ip);
        forward.args(["netns", "exec", &hub, "sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward"]);
        assert!(forward.status().expect("ip").success(), "the hub forwards");
    }

    /// Makes a part's namespace, and the link to the hub.
    fn link(&self, part: Part) {
        let (hub, own) = (self.hub(), self.of_part(part));
        let (port, address, gateway) = (part.to_string(), self.address(part.host()), self.address(HUB));
        self.ip(&["netns", "add", &own], "").expect("a namespace");
        let ends = ["link", "add", &port, "netns", &hub, "type", "veth", "peer", "name", "eth0", "netns", &own];
        self.ip(&ends, "").expect("a link");
        self.in_namespace(&hub, &format!("link set {port} up\nroute add {address}/32 dev {port}\n"));
        let own_end = format!(
            "link set lo up\nlink set eth0 up\naddr add {address}/32 dev eth0\n\
             route add default via {gateway} dev eth0 onlink\n"
        );
        self.in_namespace(&own, &own_end);
    }

    /// Commands of `ip`, a line each, in a namespace.
    fn in_namespace(&self, name: &str, lines: &str) {
        self.ip(&["-n", name, "-batch", "-"], lines).unwrap_or_else(|error| panic!("{name}: {error}\n{lines}"));
    }

    fn ip(&self, args: &[&str], stdin: &str) -> Result<(), String> {
        let mut command = Command::new(&self.ip);
        command.args(args).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| error.to_string())?;
        child.stdin.take().expect("a pipe").write_all(stdin.as_bytes()).map_err(|error| error.to_string())?;
        let done = child.wait_with_output().map_err(|error| error.to_string())?;
        let said = String::from_utf8_lossy(&done.stderr).trim().replace('\n', "; ");
        if done.status.success() { Ok(()) } else { Err(format!("ip {}: {said}", args.join(" "))) }
    }
}

fn rules(pairs: &[(String, String)]) -> Vec<String> {
    pairs.iter().map(|(from, to)| format!("from {from} to {to} blackhole")).collect()
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        let _ = self.ip(&["link", "del", &self.link], "");
        let parts = self.parts.iter().map(|part| self.of_part(*part));
        for name in parts.chain([self.hub()]) {
            let _ = self.ip(&["netns", "del", &name], "");
        }
    }
}
