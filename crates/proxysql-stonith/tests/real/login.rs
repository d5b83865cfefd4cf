//! The login at the real admin interface: one driver of our own speaks to it.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;

use proxysql_stonith::proxysql::{Admin, AdminError, ServerCheck, Settings, Tls};
use proxysql_stonith::secret::{Credential, Secret};
use stonith_core::node::Node;

use crate::one_at_a_time;
use crate::world::{Binaries, World, eventually, skipped};

/// How `SHA1(SHA1('radmin'))` is stored.
const RADMIN: &str = "*E1D34E8F2444413E29263921BBE9C733BF69C0BA";

fn log_in(world: &World, user: &str, check: Option<ServerCheck>) -> Result<(), AdminError> {
    // It makes its own CA at its first start.
    let ca = world.proxy.file("data").join("proxysql-ca.pem");
    let settings = Settings {
        address: Node::new(&world.proxy.address(), world.proxy.admin_port).unwrap(),
        socket: None,
        credential: Credential { user: user.to_owned(), password: Secret::new("radmin") },
        tls: check.map(|check| Tls::new(check, Some(&ca), "ProxySQL").unwrap()),
        timeout: Duration::from_secs(5),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut admin = Admin::connect(&settings).await?;
        let rows = admin.query("SELECT * FROM runtime_mysql_servers").await?;
        assert!(rows.records.len() >= 3 && rows.columns.len() == 12, "{rows:?}");
        admin.close().await;
        Ok(())
    })
}

/// For each way to store the password: whether a login with and without TLS works, by what ProxySQL greets with.
#[test]
fn the_real_proxysql_takes_each_stored_password_where_docs_security_says_so() {
    let Some(binaries) = Binaries::find() else { return };
    let _one = one_at_a_time();
    let world = World::start(binaries);
    let greets = "SELECT COUNT(*) FROM global_variables WHERE variable_name='mysql-default_authentication_plugin'";
    if world.proxy.admin(greets).trim() == "0" {
        return skipped("ProxySQL 2.6 and later greets with a plugin of choice");
    }
    let sha2 = world.proxy.admin("SELECT CACHING_SHA2_PASSWORD('radmin','ABCDEFGHIJKLMNOPQRST')");
    let sha2 = sha2.trim();
    assert!(sha2.starts_with("$A$005$") && sha2.len() == 70, "{sha2}");
    let users = format!("admin:admin;radmin:radmin;hashed:{RADMIN};sha2:{sha2}");
    for plugin in ["mysql_native_password", "caching_sha2_password"] {
        world.proxy.admin(&format!("SET mysql-default_authentication_plugin='{plugin}'"));
        world.proxy.admin("LOAD MYSQL VARIABLES TO RUNTIME");
        for user in ["radmin", "hashed", "sha2"] {
            for check in [None, Some(ServerCheck::Ca)] {
                // It remembers a password that it was told over TLS, until this.
                world.proxy.admin(&format!("SET admin-admin_credentials='{users}'"));
                world.proxy.admin("LOAD ADMIN VARIABLES TO RUNTIME");
                // Twice: once in a while 2.7.1 was seen to refuse a good password.
                let done = log_in(&world, user, check).or_else(|_| log_in(&world, user, check));
                let works = user != "sha2" || plugin == "caching_sha2_password" && check.is_some();
                match done {
                    Ok(()) => assert!(works, "{user}, {plugin}, {check:?}"),
                    Err(error) => {
                        assert!(
                            !works && matches!(error, AdminError::AccessDenied { .. }),
                            "{user}, {plugin}: {error}"
                        );
                        let advice = ["$A$...", "tls = \"verify-ca\"", "='caching_sha2_password'"];
                        let text = error.to_string();
                        assert!(advice.iter().all(|advice| text.contains(advice)), "{text}");
                    }
                }
            }
        }
        // The certificate that it makes for itself carries no name.
        let error = log_in(&world, "radmin", Some(ServerCheck::Identity)).unwrap_err();
        assert!(matches!(&error, AdminError::Tls { advice, .. } if advice.contains("verify-ca")), "{error}");
        for check in [None, Some(ServerCheck::Ca)] {
            let error = log_in(&world, "nobody", check).unwrap_err();
            assert!(matches!(error, AdminError::AccessDenied { .. }), "{error}");
        }
    }
}

/// Runs the program with a section of its own for this ProxySQL: what it said, and its exit code.
fn run(world: &World, args: &[&str], section: &str) -> (String, i32) {
    let config = world.proxy.file("login.toml");
    let text = format!(
        "[run]\nstate_dir = {:?}\n[[proxysql]]\naccept_lost_edits = true\n{section}",
        world.proxy.file("login-state")
    );
    std::fs::write(&config, text).unwrap();
    std::fs::set_permissions(&config, std::fs::Permissions::from_mode(0o600)).unwrap();
    let mut program = Command::new(env!("CARGO_BIN_EXE_proxysql-stonith"));
    program.env_clear().args(args).arg(world.proxy.orchestrator_flag()).arg(format!("--config={}", config.display()));
    let done = program.output().unwrap();
    let said = [done.stdout, done.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    println!("--- {args:?}: {:?}\n{said}", done.status);
    (said, done.status.code().unwrap())
}

const RADMIN_LOGIN: &str = "user = \"radmin\"\npassword = \"radmin\"\n";

#[test]
fn proxysql_is_reached_by_ipv6_and_by_its_socket_with_tls_and_without() {
    let Some(binaries) = Binaries::find() else { return };
    let _one = one_at_a_time();
    let world = World::start(binaries);
    let (port, socket) = (world.proxy.admin_port, world.proxy.file("admin.sock"));
    // Off by default up to 2.5.
    world.proxy.admin("SET mysql-have_ssl='true'");
    world.proxy.admin("LOAD MYSQL VARIABLES TO RUNTIME");
    let interfaces = format!("{}:{port};[::1]:{port};{}", world.proxy.address(), socket.display());
    world.proxy.admin(&format!("SET admin-mysql_ifaces='{interfaces}'"));
    world.proxy.admin("LOAD ADMIN VARIABLES TO RUNTIME");
    eventually("the socket", Duration::from_secs(10), || socket.exists());
    let by_ipv6 = format!("address = \"[::1]:{port}\"\n{RADMIN_LOGIN}");
    let by_socket = format!("address = \"proxy1:{port}\"\nsocket = {socket:?}\n{RADMIN_LOGIN}");
    let tls = format!("tls = \"verify-ca\"\nca_file = {:?}\n", world.proxy.file("data").join("proxysql-ca.pem"));
    let node = world.nodes.name(3);
    for section in [by_ipv6.clone(), by_socket.clone(), by_ipv6 + &tls, by_socket + &tls] {
        let (said, code) = run(&world, &["config", "check", "--connect"], &section);
        assert_eq!(code, 0, "{said}");
        let (said, code) = run(&world, &["fence", &node], &section);
        assert!(code == 0 && world.proxy.has_fenced(3), "{said}");
        let (said, code) = run(&world, &["unfence", &node], &section);
        assert!(code == 0 && world.proxy.is_online("20", 3), "{said}");
    }
}

#[test]
fn a_user_of_the_statistics_and_a_read_only_interface_are_told_what_to_do() {
    let Some(binaries) = Binaries::find() else { return };
    let _one = one_at_a_time();
    let world = World::start(binaries);
    let address = format!("address = \"{}:{}\"\n", world.proxy.address(), world.proxy.admin_port);
    let node = world.nodes.name(3);
    let rows = world.proxy.layers();

    world.proxy.admin("SET admin-stats_credentials='stats:stats;reader:reader'");
    world.proxy.admin("LOAD ADMIN VARIABLES TO RUNTIME");
    let section = format!("{address}user = \"reader\"\npassword = \"reader\"\n");
    for args in [&["config", "check", "--connect"][..], &["plan"], &["status"], &["fence", &node]] {
        let (said, code) = run(&world, args, &section);
        assert!(code != 0 && said.contains("one of admin-admin_credentials, not of admin-stats_credentials"), "{said}");
    }

    let section = format!("{address}{RADMIN_LOGIN}");
    for (closes, opens) in [
        (&["SET admin-read_only='true'", "LOAD ADMIN VARIABLES TO RUNTIME"][..], "PROXYSQL READWRITE"),
        (&["PROXYSQL READONLY"], "PROXYSQL READWRITE"),
    ] {
        closes.iter().for_each(|statement| drop(world.proxy.admin(statement)));
        for args in [&["config", "check", "--connect"][..], &["fence", &node]] {
            let (said, code) = run(&world, args, &section);
            assert!(code != 0 && said.contains("a read-only admin interface") && said.contains(opens), "{said}");
        }
        assert_eq!(world.proxy.layers(), rows, "nothing is changed");
        world.proxy.admin(opens);
        let (said, code) = run(&world, &["config", "check", "--connect"], &section);
        assert_eq!(code, 0, "the control: {said}");
    }
}
