//! `demo`: plays scenarios on the lab and prints what happens, for people to read.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use super::{DONE, Ended, FAILED, Failure, answer};
use crate::cli::DemoArgs;
use crate::scenario::{Line, Scenario, play};

/// The scenarios, in the order in which the demo plays them.
const SCENARIOS: [(&str, &str); 5] = [
    ("without", include_str!("../../scenarios/without.txt")),
    ("with", include_str!("../../scenarios/with.txt")),
    ("repair", include_str!("../../scenarios/repair.txt")),
    ("leader", include_str!("../../scenarios/leader.txt")),
    ("cut-off", include_str!("../../scenarios/cut-off.txt")),
];

/// The pause after each line, for reading.
const READING: Duration = Duration::from_millis(450);

/// Plays one scenario, or the whole story.
pub fn demo(args: &DemoArgs) -> Ended {
    let mut chosen = Vec::new();
    for (name, text) in SCENARIOS {
        let scenario = Scenario::read(text).map_err(|error| anyhow::anyhow!("{name}: {error}"))?;
        if args.list {
            answer(&format!("{name:8}  {}", scenario.title));
        } else if args.name.as_ref().is_none_or(|wanted| wanted == name) {
            chosen.push(scenario);
        }
    }
    if args.list {
        return Ok(DONE);
    }
    if chosen.is_empty() {
        let names: Vec<&str> = SCENARIOS.iter().map(|(name, _)| *name).collect();
        let name = args.name.as_deref().unwrap_or_default();
        return Err(Failure::BadInput(format!(
            "no scenario is called {name:?}; expected one of: {}",
            names.join(", ")
        )));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let paint = Paint::for_stdout();
    let all_held = tokio::task::LocalSet::new().block_on(&runtime, async {
        let mut all_held = true;
        for scenario in &chosen {
            all_held &= play(scenario, |line| show(&line, paint, args.fast)).await?;
        }
        anyhow::Ok(all_held)
    })?;
    if all_held {
        answer(&paint.good("\nEvery expectation held. On your own cluster: proxysql-stonith plan --help"));
        return Ok(DONE);
    }
    answer(&paint.bad("\nAn expectation did not hold."));
    Ok(FAILED)
}

fn show(line: &Line, paint: Paint, fast: bool) {
    let text = match line {
        Line::Title(text) => paint.title(&format!("\n== {text}")),
        Line::Said(text) => format!("   {text}"),
        Line::Did(text) => paint.quiet(&format!(" > {text}")),
        Line::Rows(text) => paint.quiet(&format!("   [{text}]")),
        Line::Held(text) => paint.good(&format!(" \u{2713} {text}")),
        Line::Failed(text, instead) => paint.bad(&format!(" \u{2717} {text}, but: {instead}")),
    };
    let _ = writeln!(std::io::stdout().lock(), "{text}");
    if !fast && matches!(line, Line::Title(_) | Line::Said(_)) {
        std::thread::sleep(READING);
    }
}

/// Colours, if stdout is a terminal and `NO_COLOR` is not set.
#[derive(Debug, Clone, Copy)]
struct Paint(bool);

impl Paint {
    fn for_stdout() -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self(wanted && std::io::stdout().is_terminal())
    }

    fn with(self, code: &str, text: &str) -> String {
        if self.0 { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    fn title(self, text: &str) -> String {
        self.with("1", text)
    }

    fn quiet(self, text: &str) -> String {
        self.with("2", text)
    }

    fn good(self, text: &str) -> String {
        self.with("32", text)
    }

    fn bad(self, text: &str) -> String {
        self.with("1;31", text)
    }
}
