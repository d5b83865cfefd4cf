//! Drives applies through a [`World`], statement by statement, and stops them where a test wants.

use stonith_core::apply::{Apply, Outcome, Reply, Statement, Step};
use stonith_core::plan::Plan;

use super::World;

/// An apply under way. Cloned with its world, it is a point in time.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Running {
    pub owner: String,
    apply: Apply,
    /// What it asks next, or how it ended.
    pub step: Step,
}

impl Running {
    pub fn new(plan: Plan, owner: &str) -> Self {
        let mut apply = Apply::new(plan, owner.to_owned());
        let step = apply.next(None);
        Self { owner: owner.to_owned(), apply, step }
    }

    pub fn asks(&self) -> Option<&Statement> {
        match &self.step {
            Step::Ask(statement) => Some(statement),
            Step::Done(_) => None,
        }
    }

    pub fn outcome(&self) -> Option<&Outcome> {
        match &self.step {
            Step::Ask(_) => None,
            Step::Done(outcome) => Some(outcome),
        }
    }

    /// Carries out what it asks.
    pub fn go(&mut self, world: &mut World) {
        if let Step::Ask(statement) = &self.step {
            let reply = world.ask(&self.owner, statement);
            self.answer(reply);
        }
    }

    pub fn answer(&mut self, reply: Reply) {
        self.step = self.apply.next(Some(reply));
    }

    pub fn refuse(&mut self, error: &str) {
        self.answer(Reply::Refused(error.to_owned()));
    }

    pub fn finish(&mut self, world: &mut World) -> Outcome {
        for _ in 0..2_000 {
            if let Some(outcome) = self.outcome() {
                return outcome.clone();
            }
            self.go(world);
        }
        panic!("the apply does not end: {:?}", self.step)
    }
}

/// A point in time: `before` the statement it asks was carried out.
#[derive(Debug, Clone)]
pub struct Point {
    pub k: usize,
    pub world: World,
    pub running: Running,
}

/// Every point of an uninterrupted run, the end among them.
pub fn points(world: &World, plan: Plan, owner: &str) -> Vec<Point> {
    let mut now = Point { k: 0, world: world.clone(), running: Running::new(plan, owner) };
    let mut points = Vec::new();
    while now.running.outcome().is_none() {
        points.push(now.clone());
        now.running.go(&mut now.world);
        now.k += 1;
        assert!(now.k < 2_000, "the apply does not end");
    }
    points.push(now);
    points
}
