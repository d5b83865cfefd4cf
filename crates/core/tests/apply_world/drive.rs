//! Drives applies through a [`World`], statement by statement, and stops them where a test wants.

use stonith_core::apply::{Apply, Outcome, Reply, Statement, Step};
use stonith_core::plan::Plan;

use super::{World, covered};

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
        let mut apply = Apply::new(plan, owner.to_owned(), covered());
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
        self.finish_among(world, |_, _, _| None).1
    }

    /// To the end, among others: before each statement they see the world and what was asked so far, and may act, or
    /// answer it in the world's place. What was asked, and how it ended.
    pub fn finish_among(
        &mut self,
        world: &mut World,
        mut others: impl FnMut(&mut World, &[Statement], &Statement) -> Option<Reply>,
    ) -> (Vec<Statement>, Outcome) {
        let mut asked = Vec::new();
        while let Some(statement) = self.asks().cloned() {
            assert!(asked.len() < 2_000, "the apply does not end: {statement:?}");
            match others(world, &asked, &statement) {
                Some(reply) => self.answer(reply),
                None => self.go(world),
            }
            asked.push(statement);
        }
        (asked, self.outcome().expect("it ended").clone())
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

/// Where the LOAD is about to be carried out, the first one.
pub fn load_at(points: &[Point]) -> usize {
    points.iter().position(|point| point.running.asks() == Some(&Statement::Load)).expect("it loads")
}
