//! Each metric: its name, its text, its labels, and where it is read.

use std::collections::BTreeMap;
use std::time::Instant;

use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Unit;
use stonith_core::lease::LeaseState;
use stonith_core::node_fence::STATES as NODE_FENCE_STATES;
use stonith_core::node_fence::power::STATES as POWER_STATES;
use stonith_core::orchestrator::Backing;

use super::PREFIX;
use crate::board::Seen;
use crate::config::Enforcement;
use crate::snapshot::Snapshot;

/// Labels besides `proxysql`.
pub(super) type Labels = Vec<(&'static str, String)>;

/// Samples of one ProxySQL.
type Samples<V> = Vec<(Labels, V)>;

/// Where a metric is read.
#[derive(Clone, Copy)]
pub(super) enum Read {
    /// A sum since the start.
    Counter(fn(&Seen) -> Samples<u64>),
    /// A value of the last tick.
    Gauge(fn(&Seen, Instant) -> Samples<f64>),
    /// Durations.
    Histogram(fn(&Seen) -> &Histogram),
    /// What does not depend on a ProxySQL.
    Build(fn() -> Labels),
}

/// One metric.
pub struct Metric {
    /// The name, without prefix and unit.
    pub(super) name: &'static str,
    pub(super) unit: Option<Unit>,
    /// What it says, without a full stop.
    pub(super) help: &'static str,
    /// The labels besides `proxysql`.
    pub(super) labels: &'static [&'static str],
    pub(super) read: Read,
}

/// Every metric, in the order in which they are shown.
pub static METRICS: &[Metric] = &[
    Metric {
        name: "build_info",
        unit: None,
        help: "The program that runs; always 1",
        labels: &["version", "commit"],
        read: Read::Build(|| {
            vec![
                ("version", env!("CARGO_PKG_VERSION").to_owned()),
                ("commit", env!("PROXYSQL_STONITH_COMMIT").to_owned()),
            ]
        }),
    },
    Metric {
        name: "proxysql_info",
        unit: None,
        help: "The ProxySQL that is guarded, with its version; always 1, and absent until it was reached",
        labels: &["version"],
        read: Read::Gauge(|seen, _| {
            let version = shown(seen).and_then(|snapshot| snapshot.version.clone());
            version.map(|version| (vec![("version", version)], 1.0)).into_iter().collect()
        }),
    },
    Metric {
        name: "proxysql_up",
        unit: None,
        help: "Whether the last tick could read ProxySQL",
        labels: &[],
        read: Read::Gauge(|seen, _| flag(seen, |snapshot| snapshot.reached)),
    },
    Metric {
        name: "ticks",
        unit: None,
        help: "Ticks by result: well, or not_well if no leader answered or the plan was not applied as a whole",
        labels: &["result"],
        read: Read::Counter(|seen| {
            let totals = &seen.totals;
            by("result", [("well", totals.ticks_well), ("not_well", totals.ticks_not_well)])
        }),
    },
    Metric {
        name: "tick_duration",
        unit: Some(Unit::Seconds),
        help: "How long ticks take, with their apply",
        labels: &[],
        read: Read::Histogram(|seen| &seen.tick_s),
    },
    Metric {
        name: "last_tick_age",
        unit: Some(Unit::Seconds),
        help: "Time since the last tick ended",
        labels: &[],
        read: Read::Gauge(|seen, now| one(seen.ended.map(|at| now.saturating_duration_since(at).as_secs_f64()))),
    },
    Metric {
        name: "last_verified_age",
        unit: Some(Unit::Seconds),
        help: "Time since a tick last read ProxySQL and found it as decided",
        labels: &[],
        read: Read::Gauge(|seen, now| one(seen.verified.map(|at| now.saturating_duration_since(at).as_secs_f64()))),
    },
    Metric {
        name: "registered",
        unit: None,
        help: "Whether each node has this daemon's registration at Orchestrator; absent without http.register_as, and until the first try",
        labels: &[],
        read: Read::Gauge(|seen, _| one(seen.registered.map(|registered| f64::from(u8::from(registered))))),
    },
    Metric {
        name: "applies",
        unit: None,
        help: "Applies by result: applied, or not_applied if refused, put off, cut off or left to another applier",
        labels: &["result"],
        read: Read::Counter(|seen| {
            let totals = &seen.totals;
            by("result", [("applied", totals.applied), ("not_applied", totals.not_applied)])
        }),
    },
    Metric {
        name: "apply_duration",
        unit: Some(Unit::Seconds),
        help: "How long applies take",
        labels: &[],
        read: Read::Histogram(|seen| &seen.apply_s),
    },
    Metric {
        name: "lease_state",
        unit: None,
        help: "The state of the lease from Orchestrator's leader: 1 for the state in force, 0 for the others",
        labels: &["state"],
        read: Read::Gauge(|seen, _| {
            let Some(now) = shown(seen).and_then(|snapshot| snapshot.lease_state) else { return Vec::new() };
            one_of("state", LeaseState::ALL.map(LeaseState::label), Some(now.label()))
        }),
    },
    Metric {
        name: "lease_age",
        unit: Some(Unit::Seconds),
        help: "Time since the leader's last answer was asked for",
        labels: &[],
        read: Read::Gauge(|seen, now| aged(seen, now, |snapshot| snapshot.lease_age_ms, 1.0)),
    },
    Metric {
        name: "isolation_in",
        unit: Some(Unit::Seconds),
        help: "Time until an armed agent isolates if no leader answers; absent if it is not armed",
        labels: &[],
        read: Read::Gauge(|seen, now| aged(seen, now, |snapshot| snapshot.isolates_in_ms, -1.0)),
    },
    Metric {
        name: "armed",
        unit: None,
        help: "Whether the agent isolates this writer hostgroup and its readers once it has no lease",
        labels: &["hostgroup"],
        read: Read::Gauge(|seen, _| {
            let writers = shown(seen).into_iter().flat_map(|snapshot| &snapshot.writers);
            let sample =
                |hostgroup: u32, armed: bool| (vec![("hostgroup", hostgroup.to_string())], f64::from(u8::from(armed)));
            writers.map(|writer| sample(writer.hostgroup, writer.armed)).collect()
        }),
    },
    Metric {
        name: "isolated",
        unit: None,
        help: "Whether the agent has taken this ProxySQL out of service for want of a lease",
        labels: &[],
        read: Read::Gauge(|seen, _| flag(seen, |snapshot| snapshot.isolated)),
    },
    Metric {
        name: "leader_standing",
        unit: None,
        help: "How the leader that answered is backed by other Orchestrator nodes: 1 for the standing that it has",
        labels: &["backing"],
        read: Read::Gauge(|seen, _| {
            let backing = shown(seen).and_then(|snapshot| snapshot.leader.as_ref()).map(|leader| leader.backing);
            one_of("backing", Backing::ALL.map(Backing::label), backing)
        }),
    },
    Metric {
        name: "leader_changes",
        unit: None,
        help: "Changes from one leader of Orchestrator to another",
        labels: &[],
        read: Read::Counter(|seen| vec![(Labels::new(), seen.totals.leader_changes)]),
    },
    Metric {
        name: "nodes",
        unit: None,
        help: "Nodes with managed rows, by verdict",
        labels: &["verdict"],
        read: Read::Gauge(|seen, _| {
            let verdicts = shown(seen).into_iter().flat_map(|snapshot| &snapshot.nodes).map(|node| node.verdict);
            counted("verdict", verdicts, &["keep", "fence", "hold", "unfence", "ignore"])
        }),
    },
    Metric {
        name: "fenced_nodes",
        unit: None,
        help: "Fenced nodes, by the kind of their highest evidence",
        labels: &["kind"],
        read: Read::Gauge(|seen, _| {
            let fenced = shown(seen).into_iter().flat_map(|s| &s.nodes).filter(|node| node.verdict == "fence");
            counted("kind", fenced.filter_map(|node| Some(node.evidence.first()?.kind.as_str())), &[])
        }),
    },
    Metric {
        name: "held_nodes",
        unit: None,
        help: "Nodes that stay as they are though something is unclear or speaks against them, by reason",
        labels: &["reason"],
        read: Read::Gauge(|seen, _| {
            let held = shown(seen).into_iter().flat_map(|s| &s.nodes).filter(|node| node.verdict == "hold");
            counted("reason", held.filter_map(|node| Some(node.reason.as_ref()?.label)), &[])
        }),
    },
    Metric {
        name: "matched_nodes",
        unit: None,
        help: "Nodes with managed rows, by how each was matched with its instance in Orchestrator; none has no instance",
        labels: &["by"],
        read: Read::Gauge(|seen, _| {
            let nodes = shown(seen).into_iter().flat_map(|snapshot| &snapshot.nodes);
            counted("by", nodes.map(|node| node.matched.unwrap_or("none")), &["name", "alias", "address", "none"])
        }),
    },
    Metric {
        name: "conditions",
        unit: None,
        help: "What needs attention, by label and severity; docs/operating.md says what to do about each",
        labels: &["condition", "severity"],
        read: Read::Gauge(|seen, _| {
            let mut counts: BTreeMap<(&str, &str), u32> = BTreeMap::new();
            for condition in shown(seen).into_iter().flat_map(|snapshot| &snapshot.conditions) {
                *counts.entry((condition.label, condition.severity.label())).or_default() += 1;
            }
            let sample = |(label, severity): (&str, &str), count: u32| {
                (vec![("condition", label.to_owned()), ("severity", severity.to_owned())], f64::from(count))
            };
            counts.into_iter().map(|(key, count)| sample(key, count)).collect()
        }),
    },
    Metric {
        name: "errors",
        unit: None,
        help: "Ticks in which something was not reached or failed, by the condition's label",
        labels: &["kind"],
        read: Read::Counter(|seen| by("kind", seen.totals.errors.iter().map(|(kind, count)| (*kind, *count)))),
    },
    Metric {
        name: "refences",
        unit: None,
        help: "Fences that were applied again because another writer had undone them",
        labels: &[],
        read: Read::Counter(|seen| vec![(Labels::new(), seen.totals.refences)]),
    },
    Metric {
        name: "foreign_loads",
        unit: None,
        help: "Applies during which somebody else loaded ProxySQL's server tables",
        labels: &[],
        read: Read::Counter(|seen| vec![(Labels::new(), seen.totals.foreign_loads)]),
    },
    Metric {
        name: "sessions_ended",
        unit: None,
        help: "Sessions that were ended on fenced nodes",
        labels: &[],
        read: Read::Counter(|seen| vec![(Labels::new(), seen.totals.sessions_ended)]),
    },
    Metric {
        name: "node_fences",
        unit: None,
        help: "Nodes that were fenced at the node itself, by state, once for each level; docs/status-json.md says what each means",
        labels: &["state"],
        read: Read::Gauge(|seen, _| {
            let states = shown(seen).into_iter().flat_map(|s| &s.node_fences).map(|fence| fence.state);
            counted("state", states, &[&NODE_FENCE_STATES[..], &POWER_STATES].concat())
        }),
    },
    Metric {
        name: "suspended",
        unit: None,
        help: "Whether an operator has suspended this ProxySQL, so that nothing is fenced or let back",
        labels: &[],
        read: Read::Gauge(|seen, _| flag(seen, |snapshot| snapshot.suspended.is_some())),
    },
    Metric {
        name: "suspension_left",
        unit: Some(Unit::Seconds),
        help: "Time until the suspension ends; absent without one",
        labels: &[],
        read: Read::Gauge(|seen, now| {
            aged(seen, now, |snapshot| snapshot.suspended_for_s.map(|s| s.saturating_mul(1_000)), -1.0)
        }),
    },
    Metric {
        name: "observe_only",
        unit: None,
        help: "Whether mode = \"observe\" is set, so that nothing is written and nothing is protected",
        labels: &[],
        read: Read::Gauge(|seen, _| flag(seen, |snapshot| snapshot.mode == Enforcement::Observe)),
    },
];

fn shown(seen: &Seen) -> Option<&Snapshot> {
    seen.last.as_deref().map(|ticked| &ticked.snapshot)
}

fn one(value: Option<f64>) -> Samples<f64> {
    value.map(|value| (Labels::new(), value)).into_iter().collect()
}

fn flag(seen: &Seen, is_set: impl Fn(&Snapshot) -> bool) -> Samples<f64> {
    one(shown(seen).map(|snapshot| f64::from(u8::from(is_set(snapshot)))))
}

/// A time in ms of the last snapshot as s, which has grown (`1.0`) or shrunk (`-1.0`) since.
fn aged(seen: &Seen, now: Instant, read: impl Fn(&Snapshot) -> Option<u64>, grows: f64) -> Samples<f64> {
    let since_s = seen.ended.map_or(0.0, |at| now.saturating_duration_since(at).as_secs_f64());
    let ms = shown(seen).and_then(read);
    one(ms.map(|ms| (std::time::Duration::from_millis(ms).as_secs_f64() + grows * since_s).max(0.0)))
}

fn by<V>(label: &'static str, values: impl IntoIterator<Item = (&'static str, V)>) -> Samples<V> {
    values.into_iter().map(|(word, value)| (vec![(label, word.to_owned())], value)).collect()
}

/// 1 for the word in force, and 0 for the others.
fn one_of(label: &'static str, words: impl IntoIterator<Item = &'static str>, in_force: Option<&str>) -> Samples<f64> {
    by(label, words.into_iter().map(|word| (word, f64::from(u8::from(in_force == Some(word))))))
}

/// How often each word occurs. Those of `always` are shown if they do not occur, too.
fn counted<'w>(label: &'static str, words: impl Iterator<Item = &'w str>, always: &[&'w str]) -> Samples<f64> {
    let mut counts: BTreeMap<&str, u32> = always.iter().map(|word| (*word, 0)).collect();
    words.for_each(|word| *counts.entry(word).or_default() += 1);
    counts.into_iter().map(|(word, count)| (vec![(label, word.to_owned())], f64::from(count))).collect()
}

impl Metric {
    /// The full name, as queries have it.
    pub fn full_name(&self) -> String {
        let unit = self.unit.as_ref().map(|unit| format!("_{}", unit.as_str())).unwrap_or_default();
        let total = if matches!(self.read, Read::Counter(_)) { "_total" } else { "" };
        format!("{PREFIX}_{}{unit}{total}", self.name)
    }

    fn kind(&self) -> &'static str {
        match self.read {
            Read::Counter(_) => "counter",
            Read::Gauge(_) | Read::Build(_) => "gauge",
            Read::Histogram(_) => "histogram",
        }
    }
}

/// docs/metrics.md.
pub fn reference() -> String {
    let mut text = String::from(
        "# Metrics\n\nThe daemon answers `GET /metrics` on `http.listen` ([config.md](config.md)). It has OpenMetrics for who asks \
         for it, as Prometheus\ndoes, and Prometheus' text format otherwise. No label names a node. This page is made by the program; a \
         test compares them.\n\n| metric | kind | labels | what it says |\n| --- | --- | --- | --- |\n",
    );
    for metric in METRICS {
        let own = (!matches!(metric.read, Read::Build(_))).then_some("proxysql");
        let labels: Vec<String> = own.iter().chain(metric.labels).map(|label| format!("`{label}`")).collect();
        text +=
            &format!("| `{}` | {} | {} | {} |\n", metric.full_name(), metric.kind(), labels.join(", "), metric.help);
    }
    text
}
