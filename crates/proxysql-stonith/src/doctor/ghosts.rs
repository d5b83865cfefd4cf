//! Whether runtime keeps rows that are gone from the config.

use stonith_core::table::{Layer, Row};

use super::{Area, Check, Facts, Finding, Fix, Level, Need, few};

pub const CHECK: Check =
    Check { name: "ghosts", area: Area::ProxySql, needs: Need::Tables, labels: &["ghost-rows"], run };

const WHY: &str = "Runtime keeps a removed row as OFFLINE_HARD until its last connection ends. Measured: SAVE MYSQL SERVERS FROM \
                   RUNTIME makes config of it, and OFFLINE_SOFT put on it revives its sessions (facts §2)";

fn run(facts: &Facts) -> Vec<Finding> {
    let mut found = Vec::new();
    for proxy in &facts.proxies {
        let Some(view) = &proxy.view else { continue };
        let is_config = |row: &Row| view.memory.iter().any(|kept| kept.key == row.key && kept.status == row.status);
        let ghosts = view.runtime.iter().filter(|row| row.is_ghost_in(Layer::Runtime) && !is_config(row));
        let ghosts: Vec<String> = ghosts.map(|row| row.key.to_string()).collect();
        if !ghosts.is_empty() {
            let what = format!("runtime keeps removed rows: {}", few(&ghosts));
            let fix = "SHOW FULL PROCESSLIST; -- and KILL CONNECTION the sessions that hold them";
            let finding = Finding::new(Level::Note, "ghost-rows", what);
            found.push(finding.why(WHY).fix(Fix::Admin(fix.to_owned())).at(proxy));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use stonith_core::table::Status;

    use super::super::facts::{healthy, row};
    use super::*;

    #[test]
    fn no_ghost_is_well_and_a_row_that_is_hard_in_the_config_is_none() {
        assert_eq!(run(&healthy()), []);
        let mut facts = healthy();
        let view = facts.proxies[0].view.as_mut().unwrap();
        for rows in [&mut view.runtime, &mut view.memory] {
            rows.push(Row { status: Status::OfflineHard, ..row(20, "node09") });
        }
        assert_eq!(run(&facts), []);
    }

    #[test]
    fn a_removed_row_that_runtime_keeps_is_noted() {
        let mut facts = healthy();
        let view = facts.proxies[0].view.as_mut().unwrap();
        view.runtime.push(Row { status: Status::OfflineHard, ..row(10, "node02") });
        let [found] = &run(&facts)[..] else { panic!() };
        assert_eq!((found.label, found.what.as_str()), ("ghost-rows", "runtime keeps removed rows: 10/node02:3306"));
    }
}
