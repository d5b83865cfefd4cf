//! The program against real ProxySQL, a real three-node Orchestrator and real MariaDB.

#[path = "real/world.rs"]
mod world;

use std::collections::BTreeMap;
use std::time::Duration;

use proxysql_stonith::proxysql::{Admin, Credential, Settings, drive, observe};
use proxysql_stonith::secret::Secret;
use stonith_core::apply::Outcome;
use stonith_core::evidence::Kind;
use stonith_core::node::Node;
use stonith_core::plan::{Directive, Managed, Plan};
use stonith_core::policy::{FenceOn, IsolationScope, Policy};
use stonith_core::proof::Role;

use world::{Binaries, World, eventually, node};

fn policy() -> Policy {
    Policy {
        fence_on: FenceOn::AnyDowntime,
        max_downtime_fences: 2,
        isolation_scope: IsolationScope::All,
        isolation_after_ms: 10_000,
        tick_ms: 1_200,
        blind_isolates: false,
        hostgroups: [].into(),
    }
}

async fn apply(world: &World, n: usize, directive: Directive) -> Outcome {
    let credential = Credential { user: "radmin".into(), password: Secret::new("radmin") };
    let address = Node::new("127.0.0.1", world.admin_port).unwrap();
    let settings = Settings { address, credential, timeout: Duration::from_secs(5) };
    let mut admin = Admin::connect(&settings).await.unwrap();
    let view = observe(&mut admin, &policy()).await.unwrap();
    let directives = BTreeMap::from([(Node::new(&node(n), world.mysql_port).unwrap(), directive)]);
    let plan = Plan::new(Managed::of(&view, &policy()), directives, &view);
    for change in &plan.changes {
        println!("plan: {change}");
    }
    let mut count = 0;
    let began = std::time::Instant::now();
    let mut log = |statement: &str| {
        count += 1;
        println!("  {statement}");
    };
    let outcome = drive(&mut admin, plan, "test-1".into(), &mut log).await.unwrap();
    println!("{count} statements in {:?}: {outcome:?}", began.elapsed());
    admin.close().await;
    outcome
}

#[tokio::test]
async fn an_apply_on_the_real_proxysql_keeps_staged_edits_and_the_new_primary() {
    let Some(binaries) = Binaries::find() else { return };
    let mut world = World::start(binaries);
    world.admin("INSERT INTO mysql_servers(hostgroup_id,hostname,comment) VALUES (20,'staged','an operator''s')");
    world.admin("UPDATE mysql_servers SET weight=7 WHERE hostname='127.0.1.2'");
    world.admin(
        "INSERT INTO mysql_replication_hostgroups(writer_hostgroup,reader_hostgroup,comment) VALUES (50,60,'staged')",
    );
    let memory = world.admin("SELECT * FROM main.mysql_servers ORDER BY 1,2");
    assert!(world.write());
    world.signal_node(1, "KILL");
    eventually("a new primary", Duration::from_secs(30), || {
        let rows = world.rows("10");
        rows.contains("127.0.1.2 ONLINE") || rows.contains("127.0.1.3 ONLINE")
    });
    let mut pinned = world.client();
    pinned.send("create temporary table x (a int)");
    let fence =
        Directive::Fence { kind: Kind::Superseded, by: Some("127.0.1.2:3306".parse().unwrap()), sessions: true };
    let outcome = apply(&world, 1, fence.clone()).await;
    assert!(matches!(&outcome, Outcome::Applied(done) if done.not_as_planned.is_empty()), "{outcome:?}");
    println!("10:\n{}20:\n{}", world.rows("10"), world.rows("20"));
    assert!(!world.rows("10").contains("127.0.1.1 ONLINE") && !world.rows("20").contains("127.0.1.1 ONLINE"));
    assert!(world.rows("10").contains("[stonith:1 superseded by=127.0.1.2:3306 was=ONLINE]"));
    assert!(world.admin("SELECT weight FROM main.mysql_servers WHERE hostname='127.0.1.2'").contains('7'));
    assert!(world.admin("SELECT weight FROM runtime_mysql_servers WHERE hostname='127.0.1.2'").contains('1'));
    assert!(!world.admin("SELECT hostname FROM runtime_mysql_servers").contains("staged"));
    assert!(world.admin("SELECT hostname FROM main.mysql_servers").contains("staged"));
    assert!(world.admin("SELECT writer_hostgroup FROM main.mysql_replication_hostgroups").contains("50"));
    assert!(!world.admin("SELECT writer_hostgroup FROM runtime_mysql_replication_hostgroups").contains("50"));
    assert_eq!(world.admin("SELECT name FROM main.sqlite_master WHERE name LIKE 'stonith%'"), "");
    // Carried out again, there is nothing to do.
    let again = apply(&world, 1, fence).await;
    assert!(matches!(again, Outcome::Applied(_)));
    // And back, as it was: memory is what it was to the byte.
    apply(&world, 1, Directive::Unfence(Role::AsBefore)).await;
    assert_eq!(world.admin("SELECT * FROM main.mysql_servers ORDER BY 1,2"), memory);
    assert!(world.write());
}
