//! What `doctor` found, as text for people and as JSON for programs (docs/doctor.md).

use std::collections::BTreeSet;
use std::fmt::Write;

use serde::Serialize;

use crate::doctor::{Area, CHECKS, Check, Diagnosis, Finding, Level, check_of};

/// The version of the JSON. It grows when a field changes its meaning or is removed.
pub const SCHEMA: u32 = 1;

/// The whole JSON document.
#[derive(Debug, Serialize)]
struct Document<'f> {
    schema: u32,
    worst: Option<Level>,
    errors: usize,
    warnings: usize,
    notes: usize,
    checks: Vec<CheckReport>,
    findings: Vec<Entry<'f>>,
}

/// One check.
#[derive(Debug, Serialize)]
struct CheckReport {
    name: &'static str,
    area: Area,
    seen: bool,
    findings: usize,
}

/// One finding, with the check that made it.
#[derive(Debug, Serialize)]
struct Entry<'f> {
    check: &'static str,
    #[serde(flatten)]
    finding: &'f Finding,
}

fn count(found: &[Finding], level: Level) -> usize {
    found.iter().filter(|finding| finding.level == level).count()
}

/// The name of a finding's check.
fn check(finding: &Finding) -> &'static str {
    check_of(finding.label).map_or("", |check| check.name)
}

/// Renders a diagnosis as JSON.
pub fn json(Diagnosis { findings: found, unseen }: &Diagnosis) -> String {
    let report = |of: &&Check| CheckReport {
        name: of.name,
        area: of.area,
        seen: !unseen.contains(&of.name),
        findings: found.iter().filter(|finding| check(finding) == of.name).count(),
    };
    let document = Document {
        schema: SCHEMA,
        worst: found.iter().map(|finding| finding.level).max(),
        errors: count(found, Level::Error),
        warnings: count(found, Level::Warning),
        notes: count(found, Level::Note),
        checks: CHECKS.iter().map(report).collect(),
        findings: found.iter().map(|finding| Entry { check: check(finding), finding }).collect(),
    };
    // Serialisation fails only for maps with keys that are not text. A finding has no maps.
    serde_json::to_string_pretty(&document).unwrap_or_default()
}

/// Renders the findings by what they are about, the worst first, which checks are well, and a line that sums up.
pub fn text(Diagnosis { findings: found, unseen }: &Diagnosis) -> String {
    let mut text = String::new();
    for of in found.iter().map(heading).collect::<BTreeSet<_>>() {
        let _ = writeln!(text, "{}", named(&of));
        let mut here: Vec<&Finding> = found.iter().filter(|finding| heading(finding) == of).collect();
        here.sort_by_key(|finding| std::cmp::Reverse(finding.level));
        for Finding { level, label, what, why, fix, .. } in here {
            let _ = writeln!(text, "  {level} [{label}] {what}");
            let _ = writeln!(text, "      why: {why}");
            if let Some(fix) = fix {
                let _ = writeln!(text, "      fix: {fix}");
            }
        }
    }
    let has_finding = |of: &Check| found.iter().any(|finding| check(finding) == of.name);
    let well = CHECKS.iter().filter(|of| !has_finding(of) && !unseen.contains(&of.name)).map(|of| of.name);
    for (word, names) in [("ok", well.collect::<Vec<_>>()), ("not seen, so not checked", unseen.clone())] {
        if !names.is_empty() {
            let _ = writeln!(text, "{word}: {}", names.join(", "));
        }
    }
    text + &summary(found)
}

/// What a finding is about. Conditions of Orchestrator are of no single ProxySQL.
fn heading(finding: &Finding) -> (Area, Option<&str>, Option<String>) {
    let area = check_of(finding.label).map_or(Area::Program, |check| check.area);
    match &finding.proxysql {
        None if area == Area::ProxySql => (Area::Orchestrator, finding.orchestrator.as_deref(), None),
        None => (area, finding.orchestrator.as_deref(), None),
        Some(address) => (area, None, Some(address.to_string())),
    }
}

fn named((area, orchestrator, proxysql): &(Area, Option<&str>, Option<String>)) -> String {
    match (area, proxysql) {
        (Area::Program, Some(address)) => format!("{area}, for ProxySQL {address}"),
        (_, Some(address)) => format!("{area} {address}"),
        (_, None) => orchestrator.map_or_else(|| area.to_string(), |name| format!("{area} {name}")),
    }
}

fn summary(found: &[Finding]) -> String {
    let counted = |level, word: &str| match count(found, level) {
        1 => format!("1 {word}"),
        count => format!("{count} {word}s"),
    };
    let of_each = [(Level::Error, "error"), (Level::Warning, "warning"), (Level::Note, "note")]
        .map(|(level, word)| counted(level, word));
    format!("{} checks: {}; nothing was changed\n", CHECKS.len(), of_each.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Fix;

    fn finding(level: Level, label: &'static str, proxysql: Option<&str>) -> Finding {
        Finding {
            level,
            label,
            orchestrator: None,
            proxysql: proxysql.map(|address| address.parse().unwrap()),
            what: "what".to_owned(),
            why: "why".to_owned(),
            fix: Some(Fix::Shell("do it".to_owned())),
        }
    }

    fn three() -> Diagnosis {
        let findings = vec![
            finding(Level::Note, "no-backstop", Some("10.0.0.5:6032")),
            finding(Level::Error, "monitor-off", Some("10.0.0.5:6032")),
            finding(Level::Warning, "leaderless", None),
        ];
        Diagnosis { findings, unseen: vec!["names"] }
    }

    #[test]
    fn the_text_is_by_what_it_is_about_and_the_worst_is_first() {
        let text = text(&three());
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[..8],
            [
                "Orchestrator",
                "  warning [leaderless] what",
                "      why: why",
                "      fix: shell: do it",
                "ProxySQL 10.0.0.5:6032",
                "  error [monitor-off] what",
                "      why: why",
                "      fix: shell: do it",
            ]
        );
        assert!(lines[11].starts_with("ok: endpoints, ") && !lines[11].contains(", names"), "{text}");
        assert_eq!(lines[12], "not seen, so not checked: names");
        assert!(text.ends_with("24 checks: 1 error, 1 warning, 1 note; nothing was changed\n"), "{text}");
    }

    #[test]
    fn the_json_has_the_counts_and_each_finding_with_its_check() {
        let json: serde_json::Value = serde_json::from_str(&json(&three())).unwrap();
        assert_eq!((json["schema"].as_u64(), json["worst"].as_str()), (Some(1), Some("error")));
        assert_eq!((json["errors"].as_u64(), json["checks"].as_array().map(Vec::len)), (Some(1), Some(24)));
        let seen = json["checks"].as_array().unwrap().iter().filter(|check| check["seen"] == true).count();
        assert_eq!(seen, 23);
        let first = &json["findings"][0];
        assert_eq!((first["check"].as_str(), first["label"].as_str()), (Some("backstop"), Some("no-backstop")));
        assert_eq!((first["fix"]["where"].as_str(), first["fix"]["do"].as_str()), (Some("shell"), Some("do it")));
    }
}
