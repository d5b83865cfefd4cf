//! The alerts, their runbook and the dashboard fit the metrics that the program has.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use proxysql_stonith::board::Board;
use proxysql_stonith::metrics::{Format, METRICS, render};

fn in_tree(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

fn read(path: &str) -> String {
    std::fs::read_to_string(in_tree(path)).unwrap()
}

/// The metrics that a text names.
fn named(text: &str) -> BTreeSet<String> {
    let is_word = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    text.match_indices("proxysql_stonith_")
        .map(|(at, _)| text[at..].chars().take_while(|letter| is_word(*letter)).collect::<String>())
        .collect()
}

#[test]
fn every_metric_that_alerts_and_dashboard_name_exists() {
    let known: BTreeSet<String> = METRICS.iter().map(|metric| metric.full_name()).collect();
    for path in ["contrib/prometheus/rules.yml", "contrib/prometheus/rules.test.yml", "contrib/grafana/dashboard.json"]
    {
        let named = named(&read(path));
        assert!(named.len() >= 10, "control: {path}: {named:?}");
        for name in named {
            assert!(known.contains(name.trim_end_matches("_bucket")), "{path} names {name}");
        }
    }
    serde_json::from_str::<serde_json::Value>(&read("contrib/grafana/dashboard.json")).unwrap();
}

#[test]
fn every_alert_has_its_runbook_and_its_test() {
    let (rules, tests, runbook) =
        (read("contrib/prometheus/rules.yml"), read("contrib/prometheus/rules.test.yml"), read("docs/alerts.md"));
    let alerts: Vec<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(alerts.len() >= 10, "{alerts:?}");
    for alert in &alerts {
        assert!(rules.contains(&format!("runbook_url: docs/alerts.md#{}\n", alert.to_lowercase())), "{alert}");
        assert!(runbook.contains(&format!("### {alert}\n")), "{alert} has no runbook");
        assert_eq!(tests.matches(&format!("alertname: {alert}\n")).count(), 1, "{alert} fires in no test");
    }
    assert_eq!(runbook.matches("### ").count(), alerts.len());
}

/// `promtool` of Debian's package `prometheus`, if it is here.
fn promtool(args: &[&str], input: Option<&str>) -> Option<(bool, String)> {
    use std::io::Write;
    use std::process::Stdio;
    let mut child = match Command::new("promtool")
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
    {
        Ok(child) => child,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "skipped: promtool {args:?}: {error} (apt-get install prometheus)");
            return None;
        }
    };
    child.stdin.take().unwrap().write_all(input.unwrap_or_default().as_bytes()).unwrap();
    let done = child.wait_with_output().unwrap();
    let text = [done.stdout, done.stderr].concat();
    Some((done.status.success(), String::from_utf8_lossy(&text).into_owned()))
}

#[test]
fn promtool_finds_nothing_wrong_with_the_metrics_and_the_alerts() {
    let rules = in_tree("contrib/prometheus/rules.test.yml");
    if let Some((well, text)) = promtool(&["test", "rules", rules.to_str().unwrap()], None) {
        assert!(well, "{text}");
    }
    let text = render(&Board::default(), Format::Text);
    assert!(text.contains("# HELP proxysql_stonith_ticks_total Ticks by result"), "{text}");
    if let Some((well, said)) = promtool(&["check", "metrics"], Some(&text)) {
        assert!(well && said.trim().is_empty(), "{said}");
    }
}
