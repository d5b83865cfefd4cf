//! The scheduler's table: one record goes live alone, at every point of a crash, of an edit, and of somebody's LOAD or SAVE.

use std::collections::{BTreeMap, HashSet, VecDeque};

use stonith_core::apply::{Place, Reply, Statement, Step};
use stonith_core::lending::{Lending, LendingOutcome, Lent, OwnRecord};
use stonith_core::table::{Content, Record, SCHEDULER};

use crate::apply_world::drive::Running;
use crate::apply_world::scene::*;
use crate::apply_world::{LAYERS, LOCK_TTL_MS, World};

const COLUMNS: [&str; 4] = ["id", "active", "filename", "comment"];

fn record(values: [&str; 4]) -> Record {
    values.map(|value| Some(value.to_owned())).to_vec()
}

fn content(records: &[[&str; 4]]) -> Content {
    Content::new(SCHEDULER, COLUMNS.map(str::to_owned).to_vec(), records.iter().map(|values| record(*values)))
}

const OURS: [&str; 4] = ["9", "1", "/bin/stonith", "ours"];

fn install() -> OwnRecord {
    OwnRecord { column: "comment", note: "ours", record: Some(record(OURS)) }
}

fn remove() -> OwnRecord {
    OwnRecord { record: None, ..install() }
}

/// Two entries are in force. Somebody staged an edit of one, a removal of the other, and a new one; nothing of it is
/// saved.
fn world() -> World {
    let mut world = SCENES[0].world().small();
    let live = content(&[["1", "1", "/bin/a", ""], ["2", "1", "/bin/b", ""]]);
    let staged = content(&[["1", "0", "/bin/a", ""], ["3", "1", "/bin/new", "staged"]]);
    for (place, content) in LAYERS.into_iter().zip([live.clone(), staged, live]) {
        world.tables.insert((place, SCHEDULER), content);
    }
    world
}

fn layers(world: &World) -> [Content; 3] {
    LAYERS.map(|place| world.content(place, SCHEDULER).clone())
}

/// The layers with the change carried out on each.
fn changed(world: &World, change: &OwnRecord) -> [Content; 3] {
    layers(world).map(|content| change.carry_out(&content).expect("the key is free"))
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Run {
    owner: &'static str,
    lending: Lending,
    step: Step<LendingOutcome>,
}

impl Run {
    fn new(change: OwnRecord, owner: &'static str) -> Self {
        let mut lending = Lending::new(change, owner.to_owned());
        let step = lending.next(None);
        Self { owner, lending, step }
    }

    fn asks(&self) -> Option<&Statement> {
        if let Step::Ask(statement) = &self.step { Some(statement) } else { None }
    }

    fn outcome(&self) -> Option<&LendingOutcome> {
        if let Step::Done(outcome) = &self.step { Some(outcome) } else { None }
    }

    fn go(&mut self, world: &mut World) {
        if let Some(statement) = self.asks().cloned() {
            let reply = world.ask(self.owner, &statement);
            self.step = self.lending.next(Some(reply));
        }
    }

    /// To the end. Others act before each statement, which is given by its number.
    fn finish(
        &mut self,
        world: &mut World,
        mut others: impl FnMut(&mut World, usize),
    ) -> (Vec<Statement>, LendingOutcome) {
        let mut asked = Vec::new();
        while let Some(statement) = self.asks().cloned() {
            assert!(asked.len() < 500, "it does not end: {statement:?}");
            others(world, asked.len());
            self.go(world);
            asked.push(statement);
        }
        (asked, self.outcome().expect("it ended").clone())
    }
}

/// As `install` does: again while it is put off.
fn installed(world: &mut World, change: &OwnRecord, owner: &'static str) -> Lent {
    for _ in 0..3 {
        if let (_, LendingOutcome::Applied(lent)) = Run::new(change.clone(), owner).finish(world, |_, _| {}) {
            return lent;
        }
    }
    panic!("it does not come to an end");
}

/// Every point of an undisturbed run: the world, and the run that asks its next statement.
fn points(world: &World, change: &OwnRecord) -> Vec<(World, Run)> {
    let (mut world, mut run) = (world.clone(), Run::new(change.clone(), "a"));
    let mut points = Vec::new();
    while run.outcome().is_none() {
        points.push((world.clone(), run.clone()));
        run.go(&mut world);
    }
    points
}

fn assert_clean(world: &World, at: &str) {
    assert_eq!((world.broken.clone(), world.unfinished()), (vec![], false), "{at}");
}

#[test]
fn i6_the_record_goes_live_alone_and_what_is_staged_stays_staged() {
    let before = world();
    let mut world = before.clone();
    let (asked, outcome) = Run::new(install(), "a").finish(&mut world, |_, _| {});
    assert_eq!(outcome, LendingOutcome::Applied(Lent::default()));
    assert_eq!(layers(&world), changed(&before, &install()));
    assert_eq!(asked.iter().filter(|asked| **asked == Statement::LoadScheduler).count(), 1);
    assert_clean(&world, "installed");
    let installed = world.clone();
    let (asked, _) = Run::new(install(), "a").finish(&mut world, |_, _| {});
    assert!(!asked.contains(&Statement::LoadScheduler), "the second one loads nothing");
    assert_eq!(world, installed);
    Run::new(remove(), "a").finish(&mut world, |_, _| {});
    assert_eq!(layers(&world), layers(&before), "and it is taken back to the byte");
    assert_clean(&world, "removed");
}

#[test]
fn i10_cut_off_at_every_statement_the_next_install_or_tick_finishes_and_nothing_staged_is_lost_or_live() {
    for (before, change) in [(world(), install()), (with_ours(), remove())] {
        let wanted = changed(&before, &change);
        let points = points(&before, &change);
        assert!(points.len() > 20);
        for (k, (cut, run)) in points.iter().enumerate() {
            for (other_owner, by_tick, restart) in (0..8).map(|bits| (bits & 1 > 0, bits & 2 > 0, bits & 4 > 0)) {
                let at = format!("before {k}: {:?}, {other_owner} {by_tick} {restart}", run.asks());
                let mut world = cut.clone();
                if restart {
                    world.restart();
                }
                world.now_ms += if other_owner { LOCK_TTL_MS + 1 } else { 0 };
                let owner = if other_owner { "b" } else { "a" };
                if by_tick && world.unfinished() {
                    let plan = plan(&world, &BTreeMap::new());
                    assert!(!plan.is_empty(), "{at}");
                    Running::new(plan, owner).finish(&mut world);
                    assert_clean(&world, &at);
                }
                installed(&mut world, &change, owner);
                assert_clean(&world, &at);
                // A restart loads what disk has, and drops what was staged. That is ProxySQL's own doing.
                let on_disk = [&wanted[2]; 3].map(Content::clone);
                assert_eq!(layers(&world), if restart { on_disk } else { wanted.clone() }, "{at}");
            }
        }
    }
}

fn with_ours() -> World {
    let mut world = world();
    installed(&mut world, &install(), "a");
    world
}

#[derive(Debug, Clone, Copy)]
enum Edit {
    Change,
    Add,
    Delete,
    Revive,
}

const EDITS: [Edit; 4] = [Edit::Change, Edit::Add, Edit::Delete, Edit::Revive];

/// An operator edits memory, whatever it has at that moment.
fn edit(world: &mut World, edit: Edit) {
    let records = &mut world.content_mut(Place::Memory, SCHEDULER).records;
    let key = |id: &str| vec![Some(id.to_owned())];
    match edit {
        Edit::Change => {
            records.entry(key("1")).and_modify(|record| record[2] = Some("/bin/edited".to_owned()));
        }
        Edit::Add => drop(records.insert(key("4"), record(["4", "1", "/bin/added", ""]))),
        Edit::Delete => drop(records.remove(&key("1"))),
        Edit::Revive => drop(records.insert(key("2"), record(["2", "0", "/bin/again", ""]))),
    }
}

#[test]
fn i6_an_edit_of_the_scheduler_between_any_two_statements_stays_staged_and_does_not_stay_live() {
    let before = world();
    let wanted = changed(&before, &install());
    let count = points(&before, &install()).len();
    let mut loaded_out = 0;
    for what in EDITS {
        for k in 0..count {
            let at = format!("{what:?} before {k}");
            let mut world = before.clone();
            let at_k = |world: &mut World, now: usize| {
                if now == k {
                    edit(world, what)
                }
            };
            let (_, outcome) = Run::new(install(), "a").finish(&mut world, at_k);
            let LendingOutcome::Applied(lent) = outcome else { panic!("{at}: {outcome:?}") };
            loaded_out += lent.loaded_out.len();
            let mut edited = before.clone();
            edit(&mut edited, what);
            let staged = changed(&edited, &install())[1].clone();
            assert_eq!(layers(&world), [wanted[0].clone(), staged, wanted[2].clone()], "{at}");
            assert_clean(&world, &at);
        }
    }
    assert_eq!(loaded_out, EDITS.len(), "each once: between the last look and the LOAD");
}

#[test]
fn i6_an_edit_at_every_statement_puts_the_change_off_and_memory_is_theirs() {
    let before = world();
    let mut world = before.clone();
    let nth = |world: &mut World, now: usize| {
        if let Some(record) = world.content_mut(Place::Memory, SCHEDULER).records.get_mut(&vec![Some("1".to_owned())]) {
            record[2] = Some(format!("/bin/{now}"));
        }
    };
    let (asked, outcome) = Run::new(install(), "a").finish(&mut world, nth);
    assert!(matches!(outcome, LendingOutcome::PutOff(_)), "{outcome:?}");
    assert!(!asked.contains(&Statement::LoadScheduler));
    assert_eq!(layers(&world)[0], layers(&before)[0], "nothing went live");
    let shown = world.content(Place::Memory, SCHEDULER).records.clone();
    assert_eq!(shown.keys().collect::<Vec<_>>(), layers(&before)[1].records.keys().collect::<Vec<_>>());
    assert_eq!(shown[&vec![Some("1".to_owned())]][2], Some(format!("/bin/{}", asked.len() - 1)));
    assert_clean(&world, "put off");
}

/// The LOAD of an operator who has staged what `world` has. Nothing counts the scheduler's LOADs, so those between the
/// program's last look at runtime and the first record put back are not seen: their edits stay staged.
#[test]
fn i6_an_operators_load_of_the_scheduler_is_made_up_for_unless_it_meets_the_programs_own() {
    let before = world();
    let [_, staged, disk] = changed(&before, &install());
    let points = points(&before, &install());
    let load = points.iter().position(|(_, run)| run.asks() == Some(&Statement::LoadScheduler)).expect("it loads");
    let is_lent = |(world, _): &&(World, Run)| layers(world)[1] == layers(world)[0];
    let unseen = load - 1..load + points[load + 1..].iter().take_while(is_lent).count() + 1;
    let mut made_up = 0;
    for k in 0..points.len() {
        let mut world = before.clone();
        let at_k = |world: &mut World, now: usize| {
            if now == k {
                world.copy_scheduler(Place::Memory, Place::Runtime);
            }
        };
        let (_, outcome) = Run::new(install(), "a").finish(&mut world, at_k);
        if let LendingOutcome::PutOff(lent) | LendingOutcome::Applied(lent) = &outcome {
            made_up += usize::from(lent.load_made_up == Some(true));
        }
        installed(&mut world, &install(), "a");
        let live = if unseen.contains(&k) { changed(&before, &install())[0].clone() } else { staged.clone() };
        assert_eq!(layers(&world), [live, staged.clone(), disk.clone()], "before {k}: {outcome:?}");
        assert_clean(&world, &format!("before {k}"));
    }
    assert!(made_up > 5 && unseen.len() < 12, "{made_up} {unseen:?}");
}

#[test]
fn i6_an_operators_save_of_the_scheduler_at_any_moment_saves_what_they_had_staged() {
    let before = world();
    let staged = changed(&before, &install())[1].clone();
    let mut made_up = 0;
    for k in 0..points(&before, &install()).len() {
        let mut world = before.clone();
        let at_k = |world: &mut World, now: usize| {
            if now == k {
                world.copy_scheduler(Place::Memory, Place::Disk);
            }
        };
        let (_, outcome) = Run::new(install(), "a").finish(&mut world, at_k);
        let LendingOutcome::Applied(lent) = outcome else { panic!("before {k}: {outcome:?}") };
        made_up += usize::from(lent.save_made_up == Some(true));
        assert_eq!(
            layers(&world),
            [changed(&before, &install())[0].clone(), staged.clone(), staged.clone()],
            "before {k}"
        );
        assert_clean(&world, &format!("before {k}"));
    }
    assert!(made_up > 5, "{made_up}");
}

#[test]
fn a_key_that_somebody_took_since_it_was_chosen_is_left_to_them() {
    let mut world = world();
    let theirs = record(["9", "1", "/bin/theirs", ""]);
    world.content_mut(Place::Memory, SCHEDULER).records.insert(vec![Some("9".to_owned())], theirs);
    let before = world.clone();
    let (_, outcome) = Run::new(install(), "a").finish(&mut world, |_, _| {});
    assert!(matches!(outcome, LendingOutcome::PutOff(_)), "{outcome:?}");
    assert_eq!(world, before);
}

#[test]
fn whatever_statement_is_refused_memory_is_put_back_and_nothing_is_left_behind() {
    let before = world();
    let wanted = changed(&before, &install());
    for (k, (_, run)) in points(&before, &install()).iter().enumerate() {
        let at = format!("{k}: {:?}", run.asks());
        let (mut world, mut run) = (before.clone(), Run::new(install(), "a"));
        let mut asked = 0;
        while run.outcome().is_none() {
            if asked == k {
                run.step = run.lending.next(Some(Reply::Refused("disk is full".to_owned())));
            } else {
                run.go(&mut world);
            }
            asked += 1;
        }
        let [runtime, memory, _] = layers(&world);
        assert!([&wanted[1], &layers(&before)[1]].contains(&&memory), "{at}: {memory:?}");
        assert!([&wanted[0], &layers(&before)[0]].contains(&&runtime), "{at}: {runtime:?}");
        let told = match run.outcome() {
            Some(LendingOutcome::Failed { error, .. }) => Some(error),
            Some(LendingOutcome::Applied(lent)) => lent.disk_error.as_ref(),
            _ => None,
        };
        assert!(told.is_some_and(|error| error == "disk is full"), "{at}: {:?}", run.outcome());
        world.now_ms += LOCK_TTL_MS + 1; // a lock whose DROP was refused
        installed(&mut world, &install(), "b");
        assert_eq!(layers(&world), wanted, "{at}: the next one finishes");
        assert_clean(&world, &at);
    }
}

#[test]
fn i12_of_two_installs_in_any_interleaving_one_works_and_the_other_leaves() {
    let before = world();
    let wanted = changed(&before, &install());
    let mut todo = VecDeque::from([(before, Run::new(install(), "a"), Run::new(install(), "b"))]);
    let mut seen = HashSet::new();
    let (mut ends, mut left) = (0, 0);
    while let Some((world, a, b)) = todo.pop_back() {
        if !seen.insert((world.clone(), a.clone(), b.clone())) {
            continue;
        }
        assert_eq!(world.broken, Vec::<String>::new(), "{:?} {:?}", a.asks(), b.asks());
        if let (Some(of_a), Some(of_b)) = (a.outcome(), b.outcome()) {
            assert_eq!((layers(&world), world.unfinished()), (wanted.clone(), false));
            ends += 1;
            left += usize::from([of_a, of_b].iter().any(|outcome| matches!(outcome, LendingOutcome::Busy { .. })));
        }
        for (one, other, is_a) in [(&a, &b, true), (&b, &a, false)] {
            if one.outcome().is_none() {
                let (mut world, mut one) = (world.clone(), one.clone());
                one.go(&mut world);
                let other = other.clone();
                todo.push_back(if is_a { (world, one, other) } else { (world, other, one) });
            }
        }
    }
    assert!(ends > 0 && left > 0 && seen.len() > 100, "{ends} {left} {}", seen.len());
}

#[test]
fn i12_an_install_and_a_tick_with_a_fence_never_work_at_the_same_time() {
    let before = world();
    for (k, (found, _)) in points(&before, &install()).iter().enumerate() {
        let mut world = found.clone();
        let mut tick = Running::new(plan(&world, &fence()), "b");
        tick.finish(&mut world);
        let is_locked = found.lock.is_some();
        assert_eq!(in_service(&world, Place::Runtime).is_empty(), !is_locked, "before {k}");
        assert_eq!(layers(&world), layers(found), "before {k}: the scheduler is left alone");
    }
}
