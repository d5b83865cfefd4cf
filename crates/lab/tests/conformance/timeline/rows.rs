//! How rows went from one state to the next, and whether the lab's went the same way.

/// A state lasts at least so long, in ms, to count: the recorder looked every 12 ms and wrote every 20 ms, so what was
/// shorter was seen or not by luck.
const LASTS: u64 = 50;

/// States of rows and since when.
#[derive(Debug, Default, Clone)]
pub struct States(Vec<(u64, String)>);

impl States {
    /// Takes a state in, if it is another one.
    pub fn see(&mut self, at: u64, state: &str) {
        if self.last() != Some(state) {
            self.0.push((at, state.to_owned()));
        }
    }

    pub fn last(&self) -> Option<&str> {
        self.0.last().map(|(_, state)| state.as_str())
    }

    /// The last state, if it has lasted by then.
    pub fn settled(&self, at: u64) -> Option<&str> {
        self.0.last().filter(|(since, _)| since + LASTS <= at).map(|(_, state)| state.as_str())
    }

    /// One state after the other, without those that passed at once. When a dead node's row is SHUNNED is luck too: upon
    /// traffic, by pings, and back for a moment; so it counts as ONLINE here.
    pub fn way(&self) -> Vec<String> {
        let mut way: Vec<String> = Vec::new();
        for (at, (since, state)) in self.0.iter().enumerate() {
            let state = state.replace(":SHUNNED", ":ONLINE");
            let lasts = self.0.get(at + 1).is_none_or(|(until, _)| since + LASTS <= *until);
            if lasts && way.last() != Some(&state) {
                way.push(state);
            }
        }
        way
    }
}
