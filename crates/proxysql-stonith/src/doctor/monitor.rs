//! Whether ProxySQL's monitor runs, gets in, and looks often enough.

use stonith_core::node::Node;
use stonith_core::table::Row;

use super::{Area, Check, Facts, Finding, Fix, Level, Need, ProxyFacts, few};
use crate::proxysql::{Checked, Survey};

pub const CHECK: Check = Check {
    name: "monitor",
    area: Area::ProxySql,
    needs: Need::Survey,
    labels: &["monitor-off", "monitor-login", "monitor-fails", "monitor-silent", "monitor-slow"],
    run,
};

/// The longest interval and timeout of the read_only checks together, ms.
const ROUND_MAX_MS: u64 = 5_000;

const OFF: &str = "The monitor moves the promoted node to the writers. Without it there is no writer after a failover";

const LOGIN: &str = "A check that fails moves no row: the promoted node does not become a writer, and a repaired one does not \
                     become a reader";

const SILENT: &str = "A node that is not checked is not moved when its read_only changes";

const SLOW: &str = "Writes wait for the monitor after a promotion, and a statement that an operator's LOAD put back stays wrong \
                    as long. Measured with 1 s: writes stall 0.2 to 0.9 s (facts §2)";

fn run(facts: &Facts) -> Vec<Finding> {
    let mut found = Vec::new();
    for proxy in &facts.proxies {
        let (Some(view), Some(survey)) = (&proxy.view, &proxy.survey) else { continue };
        if view.pairs.is_empty() {
            continue;
        }
        if proxy.variable("mysql-monitor_enabled") == Some("false") {
            let fix = set("mysql-monitor_enabled", "true");
            let finding = Finding::new(Level::Error, "monitor-off", "ProxySQL's monitor is switched off");
            found.push(finding.why(OFF).fix(fix).at(proxy));
            continue;
        }
        found.extend(of_checks(proxy, survey).into_iter().map(|finding| finding.at(proxy)));
        let [interval, timeout] =
            ["interval", "timeout"].map(|name| proxy.number(&format!("mysql-monitor_read_only_{name}")).unwrap_or(0));
        if interval + timeout > ROUND_MAX_MS {
            let what = format!("read_only is checked each {interval} ms with a timeout of {timeout} ms");
            let fix = set("mysql-monitor_read_only_interval", "1000");
            found.push(Finding::new(Level::Warning, "monitor-slow", what).why(SLOW).fix(fix).at(proxy));
        }
    }
    found
}

fn set(variable: &str, value: &str) -> Fix {
    Fix::Admin(format!("SET {variable}='{value}'; LOAD MYSQL VARIABLES TO RUNTIME; SAVE MYSQL VARIABLES TO DISK"))
}

/// The checks of the nodes that are in service in a pair.
fn of_checks(proxy: &ProxyFacts, survey: &Survey) -> Vec<Finding> {
    let Some(checks) = &survey.read_only_checks else { return Vec::new() };
    let paired: Vec<_> =
        proxy.view.iter().flat_map(|view| &view.pairs).flat_map(|pair| [pair.writer, pair.reader]).collect();
    let is_served = |row: &&Row| row.status.in_service() && paired.contains(&row.key.hostgroup);
    let mut nodes: Vec<Node> = proxy.rows().filter(is_served).filter_map(Row::node).collect();
    nodes.sort();
    nodes.dedup();
    let refused = |checked: &Checked| checked.error.as_ref().is_some_and(|error| error.contains("Access denied"));
    let (mut login, mut fails, mut silent) = (Vec::new(), Vec::new(), Vec::new());
    for node in nodes {
        let connect = survey.connects.as_ref().and_then(|connects| connects.get(&node));
        match checks.get(&node) {
            _ if connect.is_some_and(refused) => login.push((node, connect)),
            Some(checked) if refused(checked) => login.push((node, Some(checked))),
            Some(checked) if checked.error.is_some() => fails.push((node, Some(checked))),
            Some(checked) if checked.age_s <= age_max_s(proxy) => {}
            _ => silent.push((node, None)),
        }
    }
    let user = proxy.variable("mysql-monitor_username").unwrap_or("monitor");
    let grant = format!("CREATE USER '{user}'@'%' IDENTIFIED BY '...'   -- and mysql-monitor_password in ProxySQL");
    let look =
        "SHOW VARIABLES LIKE 'mysql-monitor_read_only%'; -- and read monitor.mysql_server_read_only_log".to_owned();
    [
        (login, Level::Error, "monitor-login", "refuses ProxySQL's monitor", LOGIN, Fix::Mysql(grant)),
        (
            fails,
            Level::Warning,
            "monitor-fails",
            "is in service, and its last check failed",
            LOGIN,
            Fix::Admin(look.clone()),
        ),
        (
            silent,
            Level::Warning,
            "monitor-silent",
            "is in service, and was not checked lately",
            SILENT,
            Fix::Admin(look),
        ),
    ]
    .into_iter()
    .filter(|(nodes, ..)| !nodes.is_empty())
    .map(|(nodes, level, label, words, why, fix)| {
        let shown = |(node, checked): &(Node, Option<&Checked>)| {
            let error = checked.and_then(|checked| checked.error.as_ref());
            format!("{node} {words}{}", error.map(|error| format!(" ({error})")).unwrap_or_default())
        };
        let what: Vec<String> = nodes.iter().map(shown).collect();
        Finding::new(level, label, few(&what)).why(why).fix(fix)
    })
    .collect()
}

/// The age of a check after which the next one is overdue, s. ProxySQL writes its log with a delay.
fn age_max_s(proxy: &ProxyFacts) -> i64 {
    let interval_ms = proxy.number("mysql-monitor_read_only_interval").unwrap_or(1_500);
    i64::try_from(interval_ms.saturating_mul(3) / 1_000).unwrap_or(i64::MAX).saturating_add(10)
}

#[cfg(test)]
mod tests {
    use super::super::facts::{healthy, node};
    use super::*;

    fn found(change: impl FnOnce(&mut Survey)) -> Vec<Finding> {
        let mut facts = healthy();
        change(facts.proxies[0].survey.as_mut().unwrap());
        run(&facts)
    }

    fn variable(name: &'static str, value: &'static str) -> impl FnOnce(&mut Survey) {
        move |survey| drop(survey.variables.insert(name.to_owned(), value.to_owned()))
    }

    fn check(name: &'static str, change: impl FnOnce(&mut Checked)) -> impl FnOnce(&mut Survey) {
        move |survey| change(survey.read_only_checks.as_mut().unwrap().get_mut(&node(name)).unwrap())
    }

    #[test]
    fn a_monitor_that_checks_every_node_is_well() {
        assert_eq!(found(|_| ()), []);
    }

    #[test]
    fn a_monitor_that_is_off_or_slow_is_found() {
        let off = found(variable("mysql-monitor_enabled", "false"));
        assert_eq!((off.len(), off[0].level, off[0].label), (1, Level::Error, "monitor-off"));
        let slow = found(variable("mysql-monitor_read_only_interval", "60000"));
        assert_eq!(slow.iter().map(|finding| finding.label).collect::<Vec<_>>(), ["monitor-slow"]);
    }

    #[test]
    fn a_monitor_that_does_not_get_in_is_an_error_and_another_failure_a_warning() {
        let denied = "Access denied for user 'monitor'@'10.0.0.9' (using password: YES)";
        let [one] = &found(check("node02", |checked| checked.error = Some(denied.to_owned())))[..] else { panic!() };
        assert_eq!((one.level, one.label), (Level::Error, "monitor-login"));
        assert!(one.what.contains("node02:3306 refuses ProxySQL's monitor (Access denied"), "{one:?}");
        let [one] = &found(check("node02", |checked| checked.error = Some("timeout".to_owned())))[..] else { panic!() };
        assert_eq!((one.level, one.label), (Level::Warning, "monitor-fails"));
    }

    #[test]
    fn a_node_that_is_not_checked_is_found_if_it_is_in_service() {
        let [one] = &found(check("node03", |checked| checked.age_s = 15))[..] else { panic!() };
        assert_eq!(one.label, "monitor-silent");
        let mut facts = healthy();
        let proxy = &mut facts.proxies[0];
        proxy.survey.as_mut().unwrap().read_only_checks.as_mut().unwrap().remove(&node("node03"));
        assert_eq!(run(&facts).len(), 1);
        facts.proxies[0].view.as_mut().unwrap().runtime[2].status = stonith_core::table::Status::OfflineSoft;
        assert_eq!(run(&facts), [], "a fenced node is not checked");
    }
}
