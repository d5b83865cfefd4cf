//! Whether ProxySQL's scheduler starts another script that does this work, or starts this program otherwise than its
//! config says.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{Area, Check, Facts, Finding, Fix, Level, Need, ProxyFacts};
use crate::config::duration;
use crate::proxysql::{Scheduled, reschedule_for_people, unschedule_for_people};
use crate::untrusted_text::one_line;

pub const CHECK: Check = Check {
    name: "scheduler",
    area: Area::ProxySql,
    needs: Need::Survey,
    labels: &["another-script", "scheduler-interval", "scheduled-daemon", "scheduled-twice"],
    run,
};

const ANOTHER: &str = "Two programs that change the same rows undo each other. Measured for the shell script of 2019: an empty \
                       answer unfences everything, an election takes the whole proxy out, and it overwrites comments and \
                       LOADs in each tick (facts §11)";

const INTERVAL: &str = "The lease is counted by run.scheduler_interval. Where the scheduler starts the program more rarely, one \
                        lost answer isolates the proxy";

const DAEMON: &str = "The scheduler starts the program again and again, and waits for none of them (facts §7)";

/// The command that makes the entry as the config says.
const INSTALL: &str = "proxysql-stonith install scheduler";

const TWICE: &str = "One of them works, and the other leaves at once";

/// The words in a script that does this program's work.
const TRACES: [&str; 8] = [
    "raft-leader",
    "leader-check",
    "downtimed",
    "orchestrator-client",
    "ORCHESTRATOR_API",
    "OFFLINE_SOFT",
    "runtime_mysql_servers",
    "MYSQL SERVERS TO RUN",
];

/// The traces in a script's text.
pub fn traces(script: &str) -> BTreeSet<&'static str> {
    TRACES.into_iter().filter(|trace| script.contains(trace)).collect()
}

/// Whether traces are those of a script that fences by what Orchestrator says: it asks one, and changes the other.
fn fences(traces: &BTreeSet<&'static str>) -> bool {
    let has = |of: &[&str]| of.iter().any(|trace| traces.contains(trace));
    has(&TRACES[..5]) && has(&TRACES[5..])
}

fn run(facts: &Facts) -> Vec<Finding> {
    let mut found = Vec::new();
    for proxy in &facts.proxies {
        let Some(survey) = &proxy.survey else { continue };
        let is_ours = |entry: &&Scheduled| entry.words.contains("proxysql-stonith");
        let (ours, others): (Vec<_>, Vec<_>) = survey.scheduled.iter().partition(is_ours);
        found.extend(others.into_iter().filter_map(|entry| another(proxy, entry)).map(|finding| finding.at(proxy)));
        found.extend(ours.iter().filter_map(|entry| otherwise(proxy, entry)).map(|finding| finding.at(proxy)));
        if let [_, second, ..] = &ours[..] {
            let what = format!("the scheduler starts this program {} times", ours.len());
            let fix = Fix::Admin(unschedule_for_people(&second.id));
            found.push(Finding::new(Level::Note, "scheduled-twice", what).why(TWICE).fix(fix).at(proxy));
        }
    }
    found
}

/// Another script that does this work: by its name and arguments, or by what stands in its file.
fn another(proxy: &ProxyFacts, entry: &Scheduled) -> Option<Finding> {
    let in_file = proxy.traces.get(&entry.id).filter(|traces| fences(traces));
    let seen = match in_file {
        Some(traces) => format!("its file has {}", traces.iter().copied().collect::<Vec<_>>().join(", ")),
        None if !entry.words.is_empty() => {
            format!("its name or arguments have {}", entry.words.iter().copied().collect::<Vec<_>>().join(", "))
        }
        None => return None,
    };
    // What only names Orchestrator may do something else.
    let level = if in_file.is_some() { Level::Error } else { Level::Warning };
    let file = entry.files.iter().find(|file| !is_shell(file)).unwrap_or(&entry.filename);
    let what =
        format!("the scheduler starts {} (id {}), which may do this program's work: {seen}", one_line(file), entry.id);
    let fix = Fix::Admin(unschedule_for_people(&entry.id));
    Some(Finding::new(level, "another-script", what).why(ANOTHER).fix(fix))
}

fn is_shell(file: &str) -> bool {
    ["sh", "bash", "env", "python3", "perl"].iter().any(|shell| file.ends_with(&format!("/{shell}")))
}

/// How the scheduler starts this program otherwise than its config says.
fn otherwise(proxy: &ProxyFacts, entry: &Scheduled) -> Option<Finding> {
    let configured = proxy.program.scheduler_interval;
    let interval = Duration::from_millis(entry.interval_ms);
    if !entry.words.contains("--once") {
        let what = format!("the scheduler starts the daemon (id {}), and not run --once", entry.id);
        // What was made by hand is replaced by hand: an install keeps it.
        let fix = match entry.is_installed {
            true => Fix::Shell(INSTALL.to_owned()),
            false => Fix::Admin(format!("{}; then in the shell: {INSTALL}", unschedule_for_people(&entry.id))),
        };
        return Some(Finding::new(Level::Error, "scheduled-daemon", what).why(DAEMON).fix(fix));
    }
    if interval == configured {
        return None;
    }
    let what = format!(
        "the scheduler starts this program each {}, and run.scheduler_interval is {}",
        duration::show(interval),
        duration::show(configured)
    );
    let level = if interval > configured { Level::Error } else { Level::Warning };
    let fix = match entry.is_installed {
        true => Fix::Shell(INSTALL.to_owned()),
        false => Fix::Admin(reschedule_for_people(&entry.id, duration::millis(configured))),
    };
    Some(Finding::new(level, "scheduler-interval", what).why(INTERVAL).fix(fix))
}

#[cfg(test)]
mod tests {
    use super::super::facts::healthy;
    use super::*;

    fn with(entries: &[Scheduled]) -> Facts {
        let mut facts = healthy();
        facts.proxies[0].survey.as_mut().unwrap().scheduled = entries.to_vec();
        facts
    }

    fn entry(id: &str, interval_ms: u64, words: &[&'static str]) -> Scheduled {
        Scheduled {
            id: id.to_owned(),
            interval_ms,
            filename: "/bin/bash".to_owned(),
            files: vec!["/bin/bash".to_owned(), "/opt/failover.sh".to_owned()],
            words: words.iter().copied().collect(),
            is_installed: false,
        }
    }

    fn found(facts: &Facts) -> Vec<(Level, &'static str)> {
        run(facts).into_iter().map(|finding| (finding.level, finding.label)).collect()
    }

    const OURS: [&str; 2] = ["proxysql-stonith", "--once"];

    #[test]
    fn an_empty_scheduler_this_program_and_what_does_other_work_are_well() {
        assert_eq!(found(&with(&[])), []);
        assert_eq!(found(&with(&[entry("1", 5_000, &OURS), entry("2", 60_000, &[])])), []);
    }

    #[test]
    fn another_script_is_found_by_its_arguments_and_surely_by_its_file() {
        let mut facts = with(&[entry("7", 1_000, &["orchestrator"])]);
        assert_eq!(found(&facts), [(Level::Warning, "another-script")]);
        facts = with(&[entry("7", 1_000, &[])]);
        let script =
            "leader=$(curl -s $orc/api/raft-leader)\nmysql -e \"UPDATE mysql_servers SET status='OFFLINE_SOFT'\"";
        facts.proxies[0].traces.insert("7".to_owned(), traces(script));
        let [one] = &run(&facts)[..] else { panic!() };
        assert_eq!((one.level, one.label), (Level::Error, "another-script"));
        assert!(one.what.contains("starts /opt/failover.sh (id 7)"), "{one:?}");
        facts.proxies[0].traces.insert("7".to_owned(), traces("curl -s $orc/api/raft-leader > /var/tmp/leader"));
        assert_eq!(found(&facts), [], "it changes nothing in ProxySQL");
    }

    #[test]
    fn this_program_is_started_as_its_config_says() {
        assert_eq!(found(&with(&[entry("1", 10_000, &OURS)])), [(Level::Error, "scheduler-interval")]);
        assert_eq!(found(&with(&[entry("1", 1_000, &OURS)])), [(Level::Warning, "scheduler-interval")]);
        assert_eq!(found(&with(&[entry("1", 5_000, &OURS[..1])])), [(Level::Error, "scheduled-daemon")]);
        let installed = Scheduled { is_installed: true, ..entry("1", 10_000, &OURS) };
        let fix = |entry: Scheduled| run(&with(&[entry]))[0].fix.clone().unwrap();
        assert_eq!(fix(installed.clone()), Fix::Shell(INSTALL.to_owned()));
        assert_eq!(fix(Scheduled { words: ["proxysql-stonith"].into(), ..installed }), Fix::Shell(INSTALL.to_owned()));
        assert!(matches!(fix(entry("1", 10_000, &OURS)), Fix::Admin(_)), "an install keeps what was made by hand");
        let twice = with(&[entry("1", 5_000, &OURS), entry("2", 5_000, &OURS)]);
        assert_eq!(found(&twice), [(Level::Note, "scheduled-twice")]);
    }
}
