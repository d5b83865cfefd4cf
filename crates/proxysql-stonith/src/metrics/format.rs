//! The two formats: OpenMetrics for who asks for it, and Prometheus' text format, which `curl` and `promtool` get.

use std::collections::BTreeSet;

/// A format of metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// Prometheus' text format 0.0.4.
    Text,
}

impl Format {
    /// The format that an `Accept` header asks for.
    pub fn accepted(accept: &str) -> Self {
        if accept.contains("application/openmetrics-text") { Self::OpenMetrics } else { Self::Text }
    }

    /// The content type of an answer.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
        }
    }

    /// An OpenMetrics text in this format. The text format names a counter with `_total`, and has neither units nor an
    /// end.
    pub(super) fn of_open_metrics(self, text: String) -> String {
        if self == Self::OpenMetrics {
            return text;
        }
        let counter = |line: &'_ str| line.strip_prefix("# TYPE ")?.strip_suffix(" counter").map(str::to_owned);
        let counters: BTreeSet<String> = text.lines().filter_map(counter).collect();
        let mut classic = String::with_capacity(text.len());
        for line in text.lines() {
            if line.starts_with("# UNIT ") || line == "# EOF" {
                continue;
            }
            let described = line.strip_prefix("# HELP ").or(line.strip_prefix("# TYPE "));
            match described.and_then(|rest| rest.split_once(' ')) {
                Some((name, rest)) if counters.contains(name) => {
                    classic.push_str(&format!("{}{name}_total {rest}\n", &line[.."# HELP ".len()]));
                }
                _ => {
                    classic.push_str(line);
                    classic.push('\n');
                }
            }
        }
        classic
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_format_names_counters_in_full_and_has_no_units() {
        let open = "# HELP a_b B.\n# TYPE a_b counter\na_b_total 1\n# HELP c_seconds C.\n# TYPE c_seconds gauge\n\
                    # UNIT c_seconds seconds\nc_seconds 2.0\n# EOF\n";
        let classic = "# HELP a_b_total B.\n# TYPE a_b_total counter\na_b_total 1\n# HELP c_seconds C.\n\
                       # TYPE c_seconds gauge\nc_seconds 2.0\n";
        assert_eq!(Format::Text.of_open_metrics(open.to_owned()), classic);
        assert_eq!(Format::OpenMetrics.of_open_metrics(open.to_owned()), open);
    }

    #[test]
    fn who_accepts_openmetrics_gets_it() {
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1";
        assert_eq!(Format::accepted(prometheus), Format::OpenMetrics);
        assert_eq!((Format::accepted("*/*"), Format::accepted("")), (Format::Text, Format::Text));
    }
}
