//! The recorded statements once more, to the real ProxySQL where there is one: it must answer as it was recorded, and
//! the lab as it does, byte by byte.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::admin_client::{Client, Packet, Said};
use crate::program::{Running, eventually, find, free_port, skipped};
use crate::recordings::{Kind, NotCompared, of};
use crate::statements::{self, Recorded, SET_UP, is_same};

/// A real ProxySQL with what it had when the statements were recorded, its monitor off.
struct Real {
    _process: Running,
    _dir: tempfile::TempDir,
    address: SocketAddr,
}

impl Real {
    async fn start(program: &std::path::Path) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (admin, client) = (free_port(), free_port());
        let config = dir.path().join("proxysql.cnf");
        let text = format!(
            "datadir={:?}\nadmin_variables={{ admin_credentials=\"admin:admin;radmin:radmin\" mysql_ifaces=\"127.0.0.1:{admin}\" }}\n\
             mysql_variables={{ threads=1 interfaces=\"127.0.0.1:{client}\" monitor_enabled=false \
             monitor_read_only_interval=1000 monitor_read_only_timeout=500 }}\n",
            dir.path()
        );
        fs::write(&config, text).unwrap();
        let log = |name: &str| fs::File::create(dir.path().join(name)).unwrap();
        let process = Command::new(program)
            .args(["-f", "--no-version-check", "-D"])
            .arg(dir.path())
            .arg("-c")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(log("out"))
            .stderr(log("err"))
            .spawn()
            .unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], admin));
        let real = Self { _process: Running(process), _dir: dir, address };
        eventually("ProxySQL's admin up", Duration::from_secs(20), || TcpStream::connect(address).is_ok());
        // Right after its start ProxySQL 2.7.1 was seen to refuse a good password once in a while.
        let mut admin = match Client::try_log_in(address, "admin", "admin").await {
            Ok(admin) => admin,
            Err(_) => Client::log_in(address, "admin", "admin").await,
        };
        // The lab begins with a pair.
        let pair = "INSERT INTO mysql_replication_hostgroups (writer_hostgroup,reader_hostgroup) VALUES (10,20)";
        for sql in [pair].iter().chain(&SET_UP) {
            let said = admin.query(sql).await;
            assert!(statements::in_words(&said).starts_with("done "), "{sql}: {said:?}");
        }
        real
    }
}

/// Compared in words only: the plan of another SQLite, of which the beginning is recorded, and the one column that
/// ProxySQL sends as a number.
const NOT_TO_THE_BYTE: [&str; 2] = ["EXPLAIN ", "SELECT @@global.read_only"];

/// Where two answers differ, byte by byte.
fn bytes(real: &[Packet], lab: &[Packet]) -> String {
    let differs = real.iter().zip(lab).find(|(real, lab)| real != lab);
    match differs {
        _ if real.len() != lab.len() => format!("{} packets, lab {}", real.len(), lab.len()),
        Some((real, lab)) => format!("{real:?}\n    , lab {lab:?}"),
        None => String::new(),
    }
}

#[tokio::test]
async fn the_real_one_answers_as_recorded_and_the_lab_as_the_real_one() {
    let Some(program) = find("proxysql", "PROXYSQL_BIN") else {
        skipped("needs a real proxysql on PATH (or PROXYSQL_BIN): build it from github:sysown/proxysql");
        return;
    };
    let (mut compared, mut wrong, mut not_compared) = (0, String::new(), NotCompared::of(Kind::Statements));
    for path in of(Kind::Statements) {
        let session = statements::session(&path, |_| {});
        let real = Real::start(&program).await;
        let mut real_client = Client::log_in(real.address, session.user, session.user).await;
        let Said::Rows(_, version) = real_client.query("SELECT @@version").await else { panic!() };
        let version = version[0][0].clone().unwrap();
        let lab = statements::lab(&version).await;
        let mut lab_client = Client::log_in(lab.address(), session.user, session.user).await;
        for Recorded { sql, real: recorded } in session.statements {
            let command = [b"\x03", sql.as_bytes()].concat();
            let (real, lab) = (real_client.ask(&command).await, lab_client.ask(&command).await);
            compared += 1;
            let now = statements::with_version(Said::by(&real), &version, session.version);
            let in_words = NOT_TO_THE_BYTE.iter().any(|start| sql.starts_with(start));
            let differs = if in_words { String::new() } else { bytes(&real, &lab) };
            if (!is_same(&recorded, &now) || !differs.is_empty()) && !not_compared.lists(&path, &sql) {
                wrong += &format!(
                    "{path}: {sql}\n  recorded {}\n  real     {}\n  {differs}\n",
                    statements::in_words(&recorded),
                    statements::in_words(&now)
                );
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    println!("{compared} statements sent to the real ProxySQL: answered as recorded, and by the lab to the byte");
}
