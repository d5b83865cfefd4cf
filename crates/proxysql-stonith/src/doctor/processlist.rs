//! Whether ProxySQL shows which sessions hold a node behind another server.

use super::{Area, Check, Facts, Finding, Fix, Level, Need};

pub const CHECK: Check = Check {
    name: "processlist",
    area: Area::ProxySql,
    needs: Need::Survey,
    labels: &["processlist-plain", "processlist-hidden"],
    run,
};

const PLAIN: &str = "The program switches it on for one look when it ends the sessions of a fenced node, and off again (facts \
                     §4). Where it is on already, that takes no LOAD of variables";

const HIDDEN: &str = "While a MySQL variable is staged, the program does not switch it on. A session that is pinned to the old \
                      primary and reads elsewhere is then not named, and goes on writing (facts §4)";

fn run(facts: &Facts) -> Vec<Finding> {
    let mut found = Vec::new();
    for proxy in &facts.proxies {
        let Some(survey) = &proxy.survey else { continue };
        if proxy.variable("mysql-show_processlist_extended") != Some("0") {
            continue;
        }
        let is_staged = survey.staged_variables.iter().any(|name| name.starts_with("mysql-"));
        let (level, label, why) = match is_staged {
            true => (Level::Warning, "processlist-hidden", HIDDEN),
            false => (Level::Note, "processlist-plain", PLAIN),
        };
        let what = "mysql-show_processlist_extended is off, so a session shows its current server only";
        let fix =
            "SET mysql-show_processlist_extended=1; LOAD MYSQL VARIABLES TO RUNTIME; SAVE MYSQL VARIABLES TO DISK";
        found.push(Finding::new(level, label, what).why(why).fix(Fix::Admin(fix.to_owned())).at(proxy));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::facts::healthy;
    use super::*;

    fn found(value: &str, staged: &[&str]) -> Vec<(Level, &'static str)> {
        let mut facts = healthy();
        let survey = facts.proxies[0].survey.as_mut().unwrap();
        survey.variables.insert("mysql-show_processlist_extended".to_owned(), value.to_owned());
        survey.staged_variables = staged.iter().map(|name| (*name).to_owned()).collect();
        run(&facts).into_iter().map(|finding| (finding.level, finding.label)).collect()
    }

    #[test]
    fn an_extended_processlist_is_well() {
        assert_eq!(found("1", &["mysql-threads"]), []);
    }

    #[test]
    fn a_plain_one_is_noted_and_is_a_warning_while_a_variable_is_staged() {
        assert_eq!(found("0", &["admin-version"]), [(Level::Note, "processlist-plain")]);
        assert_eq!(found("0", &["mysql-threads"]), [(Level::Warning, "processlist-hidden")]);
    }
}
