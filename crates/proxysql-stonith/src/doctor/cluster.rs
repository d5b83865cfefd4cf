//! Whether a ProxySQL Cluster spreads a fence in time.

use super::{Area, Check, Facts, Finding, Fix, Level, Need, ProxyFacts};

pub const CHECK: Check = Check {
    name: "cluster",
    area: Area::ProxySql,
    needs: Need::Survey,
    labels: &["cluster-without-login", "cluster-without-sync", "cluster-slow", "cluster-unsaved"],
    run,
};

/// The longest time until a peer notices a change, ms.
const SYNC_MAX_MS: u64 = 5_000;

const ALONE: &str = "Each member then keeps its own rows. A member without an agent of its own never gets a fence";

const SLOW: &str = "A peer without an agent of its own serves a fenced node as long. Measured with the defaults: 2.2 s \
                    (facts §6)";

const UNSAVED: &str = "A peer that restarts serves what its disk has, without the fence, until it has synced. Measured: 1.7 s \
                       (facts §6)";

fn run(facts: &Facts) -> Vec<Finding> {
    let members = facts.proxies.iter().filter(|proxy| proxy.view.as_ref().is_some_and(|view| view.clustered));
    members.flat_map(|proxy| of_member(proxy).into_iter().map(|finding| finding.at(proxy))).collect()
}

fn set(variable: &str, value: &str) -> Fix {
    Fix::Admin(format!("SET {variable}='{value}'; LOAD ADMIN VARIABLES TO RUNTIME; SAVE ADMIN VARIABLES TO DISK"))
}

fn of_member(proxy: &ProxyFacts) -> Vec<Finding> {
    const DIFFS: &str = "admin-cluster_mysql_servers_diffs_before_sync";
    const INTERVAL: &str = "admin-cluster_check_interval_ms";
    const SAVED: &str = "admin-cluster_mysql_servers_save_to_disk";
    let mut found = Vec::new();
    let mut add = |level, label, what: String, why, fix| found.push(Finding::new(level, label, what).why(why).fix(fix));
    if proxy.variable("admin-cluster_username") == Some("") {
        let what = "admin-cluster_username is empty, so the peers are not asked".to_owned();
        add(Level::Warning, "cluster-without-login", what, ALONE, set("admin-cluster_username", "cluster"));
    }
    match (proxy.number(INTERVAL), proxy.number(DIFFS)) {
        (_, Some(0)) => {
            let what = format!("{DIFFS} is 0, so the server tables are not synced");
            add(Level::Warning, "cluster-without-sync", what, ALONE, set(DIFFS, "3"));
        }
        (Some(interval), Some(diffs)) if interval.saturating_mul(diffs) > SYNC_MAX_MS => {
            let what = format!("a peer takes a change over after {diffs} checks, one each {interval} ms");
            add(Level::Warning, "cluster-slow", what, SLOW, set(INTERVAL, "1000"));
        }
        _ => {}
    }
    if proxy.variable(SAVED) == Some("false") {
        let what = "what is synced is not saved to disk".to_owned();
        add(Level::Warning, "cluster-unsaved", what, UNSAVED, set(SAVED, "true"));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::facts::healthy;
    use super::*;

    fn labels(variables: &[(&str, &str)], clustered: bool) -> Vec<&'static str> {
        let mut facts = healthy();
        facts.proxies[0].view.as_mut().unwrap().clustered = clustered;
        let survey = facts.proxies[0].survey.as_mut().unwrap();
        survey.variables.insert("admin-cluster_username".to_owned(), "cluster".to_owned());
        survey
            .variables
            .extend(variables.iter().map(|(name, value)| (format!("admin-cluster_{name}"), (*value).to_owned())));
        run(&facts).into_iter().map(|finding| finding.label).collect()
    }

    #[test]
    fn the_defaults_of_a_cluster_are_well_and_a_lone_proxysql_needs_none() {
        assert_eq!(labels(&[], true), [""; 0]);
        assert_eq!(labels(&[("mysql_servers_diffs_before_sync", "0")], false), [""; 0]);
    }

    #[test]
    fn a_cluster_that_does_not_sync_in_time_is_found() {
        for (name, value, label) in [
            ("username", "", "cluster-without-login"),
            ("mysql_servers_diffs_before_sync", "0", "cluster-without-sync"),
            ("check_interval_ms", "2000", "cluster-slow"),
            ("mysql_servers_save_to_disk", "false", "cluster-unsaved"),
        ] {
            assert_eq!(labels(&[(name, value)], true), [label]);
        }
    }
}
