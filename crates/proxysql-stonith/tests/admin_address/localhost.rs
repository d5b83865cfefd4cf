//! `localhost` is 127.0.0.1, as where two spellings of one ProxySQL are compared.

use std::io::{ErrorKind, Write};
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use proxysql_stonith::proxysql::{Admin, AdminError};

use crate::settings;

/// Two listeners on one port: on 127.0.0.1, and on `::1`.
fn both() -> (TcpListener, TcpListener) {
    loop {
        let on_v4 = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        match TcpListener::bind((Ipv6Addr::LOCALHOST, on_v4.local_addr().unwrap().port())) {
            Err(error) if error.kind() == ErrorKind::AddrInUse => {}
            on_v6 => return (on_v4, on_v6.unwrap()),
        }
    }
}

fn nobody_came(squatter: &TcpListener) {
    squatter.set_nonblocking(true).unwrap();
    assert_eq!(squatter.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
}

#[tokio::test(flavor = "multi_thread")]
async fn d1_localhost_is_not_the_one_who_listens_on_the_other_loopback_address() {
    let (proxysql, squatter) = both();
    let port = squatter.local_addr().unwrap().port();
    let connecting = tokio::spawn(async move { Admin::connect(&settings("localhost", port)).await });
    drop(proxysql.accept().unwrap());
    assert!(matches!(connecting.await.unwrap(), Err(AdminError::Connect { .. })), "it was hung up on");
    nobody_came(&squatter);
}

#[tokio::test(flavor = "multi_thread")]
async fn d1_localhost_is_not_the_squatter_while_proxysql_is_down_either() {
    let (proxysql, squatter) = both();
    drop(proxysql);
    let port = squatter.local_addr().unwrap().port();
    let error = Admin::connect(&settings("localhost", port)).await.unwrap_err();
    assert!(matches!(error, AdminError::Connect { .. }), "{error}");
    nobody_came(&squatter);
    // The control: it is there, for whoever names it.
    let connecting = tokio::spawn(async move { Admin::connect(&settings("::1", port)).await });
    squatter.set_nonblocking(false).unwrap();
    drop(squatter.accept().unwrap());
    assert!(connecting.await.unwrap().is_err());
}

/// Runs it where `/etc/hosts` is this file.
#[must_use = "it may have failed"]
fn where_hosts_is(hosts: &Path, program: &str, args: &[&str]) -> Output {
    let script = "mount --bind \"$0\" /etc/hosts && exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["-rm", "sh", "-c", script]).arg(hosts).arg(program).args(args).output().expect("util-linux")
}

#[test]
fn d1_localhost_is_127_0_0_1_where_the_resolver_says_otherwise() {
    let dir = tempfile::tempdir().unwrap();
    let (hosts, config) = (dir.path().join("hosts"), dir.path().join("stonith.toml"));
    std::fs::write(&hosts, "::1 localhost\n").unwrap();
    let control = where_hosts_is(&hosts, "getent", &["ahosts", "localhost"]);
    if !control.status.success() {
        // Past the capture of the test harness.
        let why = String::from_utf8_lossy(&control.stderr);
        writeln!(std::io::stderr(), "SKIPPED: localhost by another resolver: {}", why.trim()).unwrap();
        return;
    }
    let resolved = String::from_utf8(control.stdout).unwrap();
    assert!(resolved.starts_with("::1 ") && !resolved.contains("127.0.0.1"), "{resolved}");

    let (proxysql, squatter) = both();
    let port = squatter.local_addr().unwrap().port();
    let text = format!(
        "[orchestrator]\nendpoints = [\"http://127.0.0.1:9\"]\n[run]\nstate_dir = \"state\"\n\
         [[proxysql]]\naddress = \"localhost:{port}\"\nuser = \"radmin\"\npassword = \"{}\"\n",
        crate::PASSWORD
    );
    std::fs::write(&config, text).unwrap();
    std::fs::set_permissions(&config, std::fs::Permissions::from_mode(0o600)).unwrap();
    let plan = std::thread::spawn(move || {
        let config = config.to_str().unwrap();
        where_hosts_is(&hosts, env!("CARGO_BIN_EXE_proxysql-stonith"), &["plan", "--config", config])
    });
    proxysql.set_nonblocking(true).unwrap();
    while !plan.is_finished() {
        match proxysql.accept() {
            Ok((stream, _)) => drop(stream),
            Err(_) => std::thread::sleep(std::time::Duration::from_millis(10)),
        }
    }
    let ran = plan.join().unwrap();
    let said = String::from_utf8([ran.stdout, ran.stderr].concat()).unwrap();
    assert_eq!(ran.status.code(), Some(1), "{said}");
    assert!(said.contains("the connection was closed"), "127.0.0.1 hung up on it: {said}");
    nobody_came(&squatter);
}
