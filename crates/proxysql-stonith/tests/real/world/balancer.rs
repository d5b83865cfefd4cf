//! What people put between an agent and Orchestrator: HAProxy, and nginx. Each is started by hand on loopback.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::process::{Running, eventually, find, free_port, skipped};

/// How HAProxy forwards, and which members it takes for alive.
#[derive(Clone, Copy)]
pub enum Haproxy {
    /// By the request, to all that reach their database, in turn.
    HttpToAll,
    /// By the connection, to the one that leads.
    TcpToLeader,
}

impl Haproxy {
    fn mode_and_check(self) -> (&'static str, &'static str) {
        match self {
            Self::HttpToAll => ("http", "/api/health"),
            Self::TcpToLeader => ("tcp", "/api/leader-check"),
        }
    }
}

/// A server block of nginx: TLS for all that show a certificate of the CA and know the password, in front of one member.
pub struct Front<'a> {
    /// Its own certificate, its key, and the CA's: PEM files.
    pub certificate: &'a Path,
    pub key: &'a Path,
    pub ca: &'a Path,
    /// What a request must begin with.
    pub prefix: &'a str,
    /// Who may pass. The member gets the name as `X-Forwarded-User`.
    pub user: &'a str,
    pub password: &'a str,
}

/// A running HAProxy or nginx.
pub struct Balancer {
    ports: Vec<u16>,
    dir: tempfile::TempDir,
    _running: Running,
}

/// Where they listen.
const ADDRESS: &str = "127.0.3.2";

impl Balancer {
    /// HAProxy in front of these members; says in one line that it is not installed.
    pub fn haproxy(how: Haproxy, members: &[String]) -> Option<Self> {
        let haproxy = installed("haproxy")?;
        let (port, (mode, check)) = (free_port(), how.mode_and_check());
        let servers = (1..).zip(members).map(|(n, member)| format!("    server orc{n} {member} check\n"));
        let text = format!(
            "defaults\n    mode {mode}\n    timeout connect 1s\n    timeout client 30s\n    timeout server 30s\n\
             frontend front\n    bind {ADDRESS}:{port}\n    default_backend orchestrator\n\
             backend orchestrator\n    balance roundrobin\n    option httpchk GET {check}\n    http-check expect status 200\n    \
             timeout check 1s\n    default-server inter 500 fall 2 rise 1 on-marked-down shutdown-sessions\n{}",
            servers.collect::<String>()
        );
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("haproxy.cfg");
        fs::write(&file, text).expect("a config");
        let mut command = Command::new(haproxy);
        command.arg("-db").arg("-f").arg(file);
        Some(Self::run(command, vec![port], dir))
    }

    /// nginx in front of each member by itself; says in one line that it is not installed.
    pub fn nginx(front: &Front<'_>, members: &[String]) -> Option<Self> {
        let nginx = installed("nginx")?;
        let dir = tempfile::tempdir().expect("a directory");
        let ports: Vec<u16> = members.iter().map(|_| free_port()).collect();
        let at = |name: &str| dir.path().join(name).display().to_string();
        fs::write(at("users"), format!("{}:{{PLAIN}}{}\n", front.user, front.password)).expect("a file");
        let Front { certificate, key, ca, prefix, .. } = front;
        let servers = ports.iter().zip(members).map(|(port, member)| {
            format!(
                "server {{ listen {ADDRESS}:{port} ssl; ssl_certificate {}; ssl_certificate_key {};\n\
                 ssl_client_certificate {}; ssl_verify_client on;\n\
                 location {prefix}/ {{ auth_basic orchestrator; auth_basic_user_file {};\n\
                 proxy_set_header X-Forwarded-User $remote_user; proxy_pass http://{member}; }} }}\n",
                certificate.display(),
                key.display(),
                ca.display(),
                at("users"),
            )
        });
        let folders = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
        let folders = folders.map(|name| format!("{name}_temp_path {};\n", at(name))).concat();
        let text = format!(
            "daemon off; master_process off; pid {}; error_log {};\nevents {{}}\nhttp {{ access_log {};\n{folders}{}}}\n",
            at("pid"),
            at("error.log"),
            at("access.log"),
            servers.collect::<String>()
        );
        fs::write(at("nginx.conf"), text).expect("a config");
        let mut command = Command::new(nginx);
        command.args(["-p", &at(""), "-c", &at("nginx.conf"), "-e", &at("error.log")]);
        Some(Self::run(command, ports, dir))
    }

    fn run(command: Command, ports: Vec<u16>, dir: tempfile::TempDir) -> Self {
        let running = Running::start(command, &dir.path().join("log"));
        let listens = |port: &u16| std::net::TcpStream::connect((ADDRESS, *port)).is_ok();
        eventually("the balancer listens", Duration::from_secs(20), || ports.iter().all(listens));
        Self { ports, dir, _running: running }
    }

    /// Where it listens, `host:port` for each front.
    pub fn addresses(&self) -> Vec<String> {
        self.ports.iter().map(|port| format!("{ADDRESS}:{port}")).collect()
    }

    /// The requests that nginx let pass, a line each.
    pub fn passed(&self) -> usize {
        let log = fs::read_to_string(self.dir.path().join("access.log")).unwrap_or_default();
        log.lines().filter(|line| line.contains("\" 200 ")).count()
    }
}

/// Debian has both in a folder that not every PATH has.
fn installed(name: &str) -> Option<PathBuf> {
    let sbin = Path::new("/usr/sbin").join(name);
    let found = find(name, &format!("{}_BIN", name.to_uppercase())).or_else(|| sbin.is_file().then_some(sbin));
    if found.is_none() {
        skipped(format!("needs {name}: apt-get install {name}"));
    }
    found
}
