//! Walks a model, prints what it was, and says what it found.

use std::time::Instant;

use stateright::{Checker, Model as _, Path, Property};

use crate::judge::RULES;
use crate::state::State;
use crate::step::{Action, Model};
use crate::without::Rule;

impl stateright::Model for Model {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![self.start.clone()]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        actions.extend(self.can(state));
    }

    fn next_state(&self, before: &State, action: Action) -> Option<State> {
        let state = self.next(before, action);
        (state != *before).then_some(state)
    }

    /// The walk ends early once each of these was found; so a model without a rule has one only.
    fn properties(&self) -> Vec<Property<Self>> {
        let unbroken = |model: &Self, state: &State| match model.without {
            None => state.seen.broken.is_empty(),
            Some((_, rule)) => !state.seen.broken.contains(rule),
        };
        let happened = |what: &'static str| {
            let condition: fn(&Self, &State) -> bool = match what {
                "fenced" => |_, state| state.seen.done.contains("fenced"),
                "let back" => |_, state| state.seen.done.contains("let back"),
                "two writers" => |_, state| state.seen.done.contains("two writers"),
                "waited for" => |_, state| state.seen.done.contains("waited for"),
                "fenced at the node" => |_, state| state.seen.done.contains("fenced at the node"),
                "powered off" => |_, state| state.seen.done.contains("powered off"),
                "isolated" => |_, state| state.seen.done.contains("isolated"),
                _ => |_, state| state.seen.done.contains("busy"),
            };
            Property::sometimes(what, condition)
        };
        std::iter::once(Property::always(UNBROKEN, unbroken))
            .chain(self.happens.iter().copied().map(happened))
            .collect()
    }
}

const UNBROKEN: &str = "no rule is broken";

/// The path, with what each statement was.
fn told(path: Path<State, Action>) -> String {
    let line = |(state, action): (State, Option<Action>)| match action? {
        Action::Statement(i) => {
            let step = &state.agents[i].running.as_ref()?.step;
            Some(format!("{}: {}", state.agents[i].name, short(&format!("{step:?}"))))
        }
        other => Some(format!("{} s: {other:?}", state.now_s)),
    };
    path.into_vec().into_iter().filter_map(line).collect::<Vec<_>>().join("\n  ")
}

fn short(text: &str) -> String {
    text.chars().filter(|c| !"\"{}[]()".contains(*c)).take(230).collect::<String>().replace("Some", "")
}

/// Every rule holds on every path.
#[track_caller]
pub fn holds(model: Model) {
    let began = Instant::now();
    let (name, happens) = (model.name, model.happens);
    let bounds = format!("{} s, faults {:?}", model.horizon_s - model.start.now_s, model.faults);
    let checker = model.checker().threads(2).spawn_bfs().join();
    eprintln!(
        "model {name}: {} states ({} steps), {:.1} s; bounds: {bounds}",
        checker.unique_state_count(),
        checker.state_count(),
        began.elapsed().as_secs_f32()
    );
    if let Some(path) = checker.discovery(UNBROKEN) {
        let broken = path.last_state().seen.broken.clone();
        panic!("{name}: {broken:?}\n  {}", told(path));
    }
    for what in happens {
        assert!(checker.discovery(what).is_some(), "{name}: nothing was ever {what}: the model shows nothing");
    }
}

/// Without this rule of the design some path breaks that rule of the judge's: it matters.
#[track_caller]
pub fn matters(without: Rule, mut model: Model, broken: &'static str) {
    let began = Instant::now();
    let rule = RULES.into_iter().find(|rule| rule.starts_with(broken)).expect("a rule");
    (model.without, model.happens) = (Some((without, rule)), &[]);
    let name = model.name;
    let checker = model.checker().threads(2).spawn_bfs().join();
    let count = checker.unique_state_count();
    let Some(path) = checker.discovery(UNBROKEN) else {
        panic!("{name} without {without:?}: {rule:?} holds all the same ({count} states): not shown to matter");
    };
    eprintln!(
        "model {name} without {without:?}: {count} states, {:.1} s, breaks {rule:?} by:\n  {}",
        began.elapsed().as_secs_f32(),
        told(path)
    );
}
