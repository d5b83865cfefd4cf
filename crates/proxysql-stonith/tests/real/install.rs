//! `install` on the real ProxySQL: its scheduler starts what was installed, what is staged stays staged, and the backstop is in
//! no one's way through failover, repair and planned takeover.

use crate::world::{Binaries, World, eventually};
use crate::{fences_a_failover, guarded, one_at_a_time, seconds};

fn scheduler(world: &World) -> String {
    let of = |layer: &str| {
        let columns = "id,active,interval_ms,arg1,arg2,arg3,comment";
        world.proxy.admin(&format!("SELECT {columns} FROM {layer}scheduler ORDER BY id"))
    };
    ["runtime_", "main.", "disk."].map(of).join("--\n")
}

fn succeeds(world: &World, args: &[&str]) -> String {
    let (text, code) = world.proxy.command(args);
    assert_eq!(code, 0, "{args:?}: {text}");
    text
}

#[test]
fn i6_the_scheduler_starts_what_was_installed_and_what_is_staged_stays_staged() {
    let Some(binaries) = Binaries::find() else { return };
    let _one = one_at_a_time();
    let world = World::start(binaries);
    world.proxy.admin("INSERT INTO scheduler(id,interval_ms,filename,comment) VALUES (1,60000,'/bin/true','live')");
    world.proxy.admin("LOAD SCHEDULER TO RUNTIME");
    world.proxy.admin("UPDATE scheduler SET comment='staged' WHERE id=1");
    world.proxy.admin("INSERT INTO scheduler(id,interval_ms,filename) VALUES (2,60000,'/bin/false')");
    let before = scheduler(&world);
    let install = |more: &[&str]| world.proxy.command_by_file(&[&["install", "scheduler"], more].concat());
    let (text, code) = install(&["--mode=enforce"]);
    assert!(code == 0 && text.contains("scheduler entry installed, id 3, every 1s"), "{text}");
    println!("{text}");
    let installed = scheduler(&world);
    assert_eq!(installed.matches("proxysql-stonith").count(), 3, "{installed}");
    let others =
        |text: &str| text.lines().filter(|line| !line.starts_with("3\t")).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(others(&installed), others(&before), "staged edits are staged, and unsaved ones unsaved");
    world.proxy.ticks(3);
    let (text, code) = install(&[]);
    assert!(code == 0 && text.contains("already installed"), "{text}");
    assert_eq!(scheduler(&world), installed);
    let (text, code) = install(&["--remove"]);
    assert!(code == 0 && text.contains("removed"), "{text}");
    assert_eq!(scheduler(&world), before);
    let left = world.proxy.admin("SELECT name FROM main.sqlite_master WHERE name LIKE 'stonith_%scheduler'");
    assert_eq!(left, "", "no copy is left");
}

/// The errors that the clients of one life of the cluster see: a failover, the repair, and a takeover.
fn errors_of_a_life(with_backstop: bool) -> Vec<String> {
    let Some(binaries) = Binaries::find() else { return Vec::new() };
    let (mut world, writers) = guarded(binaries);
    if with_backstop {
        let text = succeeds(&world, &["install", "backstop"]);
        assert!(text.contains("hostgroup 10: max_num_online_servers set to 1"), "{text}");
    }
    let limit = || world.proxy.admin("SELECT max_num_online_servers FROM runtime_mysql_hostgroup_attributes");
    assert_eq!(limit().trim(), if with_backstop { "1" } else { "" });
    let primary = fences_a_failover(&mut world);
    world.nodes.rebuild(1, primary);
    world.downtime("end-downtime", 1, "");
    eventually("the repaired node back", seconds(30), || world.proxy.is_online("20", 1));
    eventually("writes after the repair", seconds(10), || world.proxy.write());
    let before = writers.errors().len();
    world.take_over(primary, 1);
    eventually("the new primary", seconds(30), || world.proxy.writer() == Some(1));
    eventually("writes after the takeover", seconds(10), || world.proxy.write());
    assert!((0..20).all(|_| world.proxy.write()));
    let limit = world.proxy.admin("SELECT max_num_online_servers FROM runtime_mysql_hostgroup_attributes");
    assert_eq!(limit.trim(), if with_backstop { "1" } else { "" }, "it outlives the program's own applies");
    let errors = writers.end();
    println!(
        "--- backstop {with_backstop}: {before} errors until the repair, {} at the takeover",
        errors.len() - before
    );
    errors
}

#[test]
fn the_backstop_costs_clients_no_other_error_through_failover_repair_and_takeover() {
    if Binaries::find().is_none() {
        return;
    }
    let _one = one_at_a_time();
    let kinds = |errors: &[String]| {
        let code =
            |error: &String| error.split(|c: char| !c.is_ascii_digit()).find(|word| word.len() == 4).map(str::to_owned);
        errors.iter().filter_map(code).collect::<std::collections::BTreeSet<_>>()
    };
    let [without, with] = [false, true].map(errors_of_a_life);
    println!("--- without {:?}, with {:?}", kinds(&without), kinds(&with));
    let new: Vec<_> = kinds(&with).difference(&kinds(&without)).cloned().collect();
    assert!(new.iter().all(|code| code == "9001" || code == "2013"), "{new:?}: {with:#?}");
}
