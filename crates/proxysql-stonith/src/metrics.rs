//! Metrics, rendered from the board when they are asked for. No label names a node, so their number stays bounded
//! however many nodes there are.
//!
//! [`METRICS`] is the only definition of each: docs/metrics.md comes from it.

mod definition;
mod format;

use std::fmt;
use std::time::Instant;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use stonith_core::node::Node;

use crate::board::{Board, Seen};

use definition::{Labels, Read};
pub use definition::{METRICS, Metric, reference};
pub use format::Format;

/// What every metric's name begins with.
const PREFIX: &str = "proxysql_stonith";

/// Renders the metrics of all ProxySQLs on the board.
pub fn render(board: &Board, format: Format) -> String {
    let all = board.entries().into_iter().map(|(proxy, entry)| (proxy, entry.seen())).collect();
    let mut registry = Registry::with_prefix(PREFIX);
    registry.register_collector(Box::new(Seens { all, now: Instant::now() }));
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = prometheus_client::encoding::text::encode(&mut text, &registry);
    format.of_open_metrics(text)
}

/// What is rendered.
#[derive(Debug)]
struct Seens {
    all: Vec<(Node, Seen)>,
    now: Instant,
}

impl Collector for Seens {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for metric in METRICS {
            let kind = match metric.read {
                Read::Counter(_) => MetricType::Counter,
                Read::Build(_) | Read::Gauge(_) => MetricType::Gauge,
                Read::Histogram(_) => MetricType::Histogram,
            };
            let mut family = encoder.encode_descriptor(metric.name, metric.help, metric.unit.as_ref(), kind)?;
            if let Read::Build(labels) = metric.read {
                ConstGauge::new(1u64).encode(family.encode_family(&labels())?)?;
                continue;
            }
            for (proxy, seen) in &self.all {
                let with = |labels: Labels| -> Labels {
                    [("proxysql", proxy.to_string())].into_iter().chain(labels).collect()
                };
                match metric.read {
                    Read::Counter(read) => {
                        for (labels, value) in read(seen) {
                            ConstCounter::new(value).encode(family.encode_family(&with(labels))?)?;
                        }
                    }
                    Read::Gauge(read) => {
                        for (labels, value) in read(seen, self.now) {
                            ConstGauge::new(value).encode(family.encode_family(&with(labels))?)?;
                        }
                    }
                    Read::Histogram(read) => read(seen).encode(family.encode_family(&with(Labels::new()))?)?,
                    Read::Build(_) => {}
                }
            }
        }
        Ok(())
    }
}
