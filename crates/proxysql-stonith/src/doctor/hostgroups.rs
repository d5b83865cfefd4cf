//! Whether a hostgroup that clients reach is one that nobody manages.

use std::collections::BTreeSet;

use stonith_core::managed::Managed;
use stonith_core::table::Hostgroup;

use super::{Area, Check, Facts, Finding, Fix, Level, Need, few};

pub const CHECK: Check = Check {
    name: "hostgroups",
    area: Area::ProxySql,
    needs: Need::Survey,
    labels: &["hostgroup-without-pair", "hostgroup-untouched"],
    run,
};

const WITHOUT_PAIR: &str = "ProxySQL's monitor moves no row of a hostgroup without a pair, and a second writer there is not \
                            seen. A node that returns to it must be proven first, and an isolation of scope \"writers\" \
                            leaves it in service";

const UNTOUCHED: &str = "The program never changes rows of these hostgroups. A failover fences nothing there: they are those of \
                         group replication, Galera, Aurora or blue/green, or policy.exclude_hostgroups names them";

fn run(facts: &Facts) -> Vec<Finding> {
    let mut found = Vec::new();
    for proxy in &facts.proxies {
        let (Some(view), Some(survey)) = (&proxy.view, &proxy.survey) else { continue };
        let managed = Managed::of(view, &proxy.policy);
        let in_use: BTreeSet<Hostgroup> = proxy.rows().map(|row| row.key.hostgroup).collect();
        let defaults = survey.default_hostgroups.intersection(&in_use);
        let lone: Vec<Hostgroup> = defaults
            .copied()
            .filter(|hostgroup| managed.contains(*hostgroup) && managed.writer_beside(*hostgroup).is_none())
            .collect();
        if !lone.is_empty() {
            let what = format!("users write to hostgroups that are in no pair: {}", few(&lone));
            let all: BTreeSet<Hostgroup> = proxy.policy.writer_hostgroups.iter().chain(&lone).copied().collect();
            let all: Vec<String> = all.iter().map(ToString::to_string).collect();
            let fix = Fix::Config(format!("policy.writer_hostgroups = [{}]", all.join(", ")));
            let finding = Finding::new(Level::Warning, "hostgroup-without-pair", what);
            found.push(finding.why(WITHOUT_PAIR).fix(fix).at(proxy));
        }
        let untouched: Vec<Hostgroup> = in_use.into_iter().filter(|hostgroup| !managed.contains(*hostgroup)).collect();
        if !untouched.is_empty() {
            let what = format!("rows of these hostgroups are never touched: {}", few(&untouched));
            let fix = Fix::Config("policy.exclude_hostgroups = []   # if Orchestrator manages them".to_owned());
            let finding = Finding::new(Level::Note, "hostgroup-untouched", what);
            found.push(finding.why(UNTOUCHED).fix(fix).at(proxy));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::facts::{healthy, row};
    use super::*;

    #[test]
    fn a_default_hostgroup_that_is_in_a_pair_is_well() {
        assert_eq!(run(&healthy()), []);
    }

    #[test]
    fn a_default_hostgroup_without_a_pair_is_found_unless_the_config_names_it() {
        let mut facts = healthy();
        let proxy = &mut facts.proxies[0];
        proxy.view.as_mut().unwrap().runtime.push(row(30, "node01"));
        assert_eq!(run(&facts), [], "nobody writes there");
        facts.proxies[0].survey.as_mut().unwrap().default_hostgroups.insert(Hostgroup(30));
        let [found] = &run(&facts)[..] else { panic!() };
        assert_eq!(found.label, "hostgroup-without-pair");
        assert_eq!(found.fix, Some(Fix::Config("policy.writer_hostgroups = [30]".to_owned())));
        facts.proxies[0].policy.writer_hostgroups.insert(Hostgroup(30));
        assert_eq!(run(&facts), []);
    }

    #[test]
    fn hostgroups_that_are_never_touched_are_noted() {
        let mut facts = healthy();
        facts.proxies[0].policy.excluded_hostgroups.insert(Hostgroup(20));
        let [found] = &run(&facts)[..] else { panic!() };
        assert_eq!((found.level, found.label), (Level::Note, "hostgroup-untouched"));
    }
}
