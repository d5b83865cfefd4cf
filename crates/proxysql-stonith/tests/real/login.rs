//! The login at the real admin interface: one driver of our own speaks to it.

use std::time::Duration;

use proxysql_stonith::proxysql::{Admin, AdminError, ServerCheck, Settings, Tls};
use proxysql_stonith::secret::{Credential, Secret};
use stonith_core::node::Node;

use crate::one_at_a_time;
use crate::world::{Binaries, World};

/// How `SHA1(SHA1('radmin'))` is stored.
const RADMIN: &str = "*E1D34E8F2444413E29263921BBE9C733BF69C0BA";

fn log_in(world: &World, user: &str, check: Option<ServerCheck>) -> Result<(), AdminError> {
    // It makes its own CA at its first start.
    let ca = world.proxy.file("data").join("proxysql-ca.pem");
    let settings = Settings {
        address: Node::new(&world.proxy.address(), world.proxy.admin_port).unwrap(),
        socket: None,
        credential: Credential { user: user.to_owned(), password: Secret::new("radmin") },
        tls: check.map(|check| Tls::new(check, Some(&ca)).unwrap()),
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

#[test]
fn the_real_proxysql_takes_the_one_proof_whatever_its_default_plugin_with_tls_and_without() {
    let Some(binaries) = Binaries::find() else { return };
    let _one = one_at_a_time();
    let world = World::start(binaries);
    world.proxy.admin(&format!("SET admin-admin_credentials='admin:admin;radmin:radmin;hashed:{RADMIN}'"));
    world.proxy.admin("LOAD ADMIN VARIABLES TO RUNTIME");
    for plugin in ["mysql_native_password", "caching_sha2_password"] {
        world.proxy.admin(&format!("SET mysql-default_authentication_plugin='{plugin}'"));
        world.proxy.admin("LOAD MYSQL VARIABLES TO RUNTIME");
        for user in ["radmin", "hashed"] {
            for check in [None, Some(ServerCheck::Ca)] {
                // Twice: once in a while 2.7.1 was seen to refuse a good password.
                let done = log_in(&world, user, check).or_else(|_| log_in(&world, user, check));
                done.unwrap_or_else(|error| panic!("{user}, {plugin}, {check:?}: {error}"));
            }
        }
        // The certificate that it makes for itself carries no name.
        let error = log_in(&world, "radmin", Some(ServerCheck::Identity)).unwrap_err();
        assert!(matches!(&error, AdminError::Tls { advice, .. } if advice.contains("verify-ca")), "{error}");
        let error = log_in(&world, "nobody", None).unwrap_err();
        assert!(matches!(error, AdminError::AccessDenied { .. }), "{error}");
    }
}
