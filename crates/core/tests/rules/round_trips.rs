//! Rules that hold for every input: what is written reads back, what is done twice is done once, and neither the order
//! of things nor what is no evidence changes a decision.

use std::collections::BTreeMap;

use proptest::option;
use proptest::prelude::*;
use proptest::sample::Index;
use stonith_core::decide::{Decision, decide};
use stonith_core::evidence::EvidenceKind;
use stonith_core::managed::Managed;
use stonith_core::memory::Memory;
use stonith_core::node::{Host, Node};
use stonith_core::observed::{Observed, ProxyView};
use stonith_core::orchestrator::{Analysis, LeaderView, Recovery};
use stonith_core::plan::{Directive, Plan};
use stonith_core::policy::Policy;
use stonith_core::role::Role;
use stonith_core::shared::Shared;
use stonith_core::table::{Comment, Hostgroup, Layer, Row, Status, mark, unmarked};

use crate::any::{self, comment, marker, named_row, node, observed, policy, role, rows};
use crate::world;

const NOW_MS: u64 = 5_000_000;

/// A proxy whose three layers are these.
fn proxy(layers: [Vec<Row>; 3]) -> ProxyView {
    let [runtime, memory, disk] = layers.map(Shared::from);
    ProxyView { runtime, memory, disk, pairs: vec![world::pair(10, 20), world::pair(30, 40)], ..ProxyView::default() }
}

fn carried_out(plan: &Plan, proxy: &ProxyView) -> ProxyView {
    let layers = Layer::ALL;
    let [runtime, memory, disk] = layers.map(|layer| Shared::from(plan.carry_out(proxy.layer(layer))));
    ProxyView { runtime, memory, disk, ..proxy.clone() }
}

fn directive() -> impl Strategy<Value = Directive> {
    let fence =
        |marker: stonith_core::table::Marker| Directive::Fence { kind: marker.kind, by: marker.by, sessions: true };
    prop_oneof![marker().prop_map(fence), role().prop_map(Directive::Unfence)]
}

/// The same things in another order.
fn shuffled<T: Clone>(items: &[T], order: &[Index]) -> Vec<T> {
    let mut items = items.to_vec();
    for (at, index) in order.iter().enumerate() {
        if !items.is_empty() {
            let (a, b) = (at % items.len(), index.index(items.len()));
            items.swap(a, b);
        }
    }
    items
}

/// Decides as an agent that knows every node, and once more, 3 s later, from what it remembers.
fn decided(observed: &Observed, policy: &Policy) -> [Decision; 2] {
    let mut memory = Memory::first_start("boot", NOW_MS - 60_000);
    memory.watching_since_s = Some(world::WALL_S);
    memory.nodes.known = any::NAMES.iter().map(|name| world::node(name)).collect();
    memory.lease.armed = true;
    let first = decide(observed, &memory, policy, NOW_MS);
    let again = decide(observed, &first.memory, policy, NOW_MS + 3_000);
    [first, again]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn i3_an_operators_comment_survives_any_marker_byte_for_byte(
        (head, rest) in (comment(), option::of(comment())), marker in marker()
    ) {
        let comment = rest.map_or(head.clone(), |rest| format!("{head}\0{rest}"));
        prop_assume!(Comment::parse(&comment) == Comment::Plain);
        let marked = mark(&comment, &marker);
        prop_assert_eq!(Comment::parse(&marked), Comment::Marked(&head, marker.clone()));
        prop_assert_eq!(unmarked(&marked), comment);
        prop_assert_eq!(mark(&marked, &marker), marked);
    }

    #[test]
    fn one_marker_takes_the_place_of_another(comment in comment(), one in marker(), other in marker()) {
        prop_assume!(Comment::parse(&comment) == Comment::Plain);
        prop_assert_eq!(mark(&mark(&comment, &one), &other), mark(&comment, &other));
    }

    #[test]
    fn i1_a_comment_with_two_markers_is_held(comment in comment(), one in marker(), other in marker()) {
        let (head, rest) = comment.split_at(comment.find('\0').unwrap_or(comment.len()));
        let twice = format!("{head}{one}{other}{rest}");
        prop_assert!(matches!(Comment::parse(&twice), Comment::Unreadable(_)), "{:?}", twice);
    }

    #[test]
    fn what_parses_as_ours_are_bytes_that_we_would_write(comment in comment(), marker in marker(), cut in any::<Index>()) {
        let mut text = mark(&comment, &marker);
        let at = text.char_indices().map(|(at, _)| at).nth(cut.index(text.chars().count())).unwrap_or(0);
        text.remove(at);
        if let Comment::Marked(before, marker) = Comment::parse(&text) {
            prop_assert_eq!(format!("{before}{marker}"), text.clone());
        }
    }

    #[test]
    fn a_host_and_a_node_read_back_from_what_they_show(text in "\\PC{0,12}|[a-zA-Z0-9.:_-]{1,12}", port: u16) {
        if let Ok(host) = text.parse::<Host>() {
            prop_assert_eq!(host.to_string().parse::<Host>(), Ok(host.clone()));
            let node = Node { host, port };
            prop_assert_eq!(node.to_string().parse::<Node>(), Ok(node.clone()));
            prop_assert_eq!(Node::new(&text, port), Ok(node));
        }
        if let Ok(node) = text.parse::<Node>() {
            prop_assert_eq!(node.to_string().parse::<Node>(), Ok(node));
        }
    }

    #[test]
    fn i7_a_plan_carried_out_leaves_nothing_to_do(
        layers in [rows(), rows(), rows()],
        directives in prop::collection::btree_map(node(), directive(), 0..3),
        writers in prop::collection::btree_set(prop::sample::select(vec![10, 20, 50, 60]).prop_map(Hostgroup), 0..3),
        excluded in prop::collection::btree_set(prop::sample::select(vec![10, 20, 50, 60]).prop_map(Hostgroup), 0..3),
    ) {
        let proxy = proxy(layers);
        let (writer_hostgroups, excluded_hostgroups) = (writers, excluded);
        let managed = Managed::of(&proxy, &Policy { writer_hostgroups, excluded_hostgroups, ..Policy::default() });
        let plan = Plan::new(managed.clone(), directives.clone(), &proxy);
        let after = carried_out(&plan, &proxy);
        let again = Plan::new(managed, directives, &after);
        prop_assert!(again.is_empty(), "{:#?}", again.changes);
        prop_assert_eq!(carried_out(&again, &after), after);
    }

    #[test]
    fn i3_fenced_and_let_back_as_before_every_row_is_what_it_was(
        layers in [rows(), rows(), rows()],
        target in node(),
        marker in marker(),
    ) {
        // A row that is marked before is let back to what it was before that.
        let plain = |rows: Vec<Row>| {
            rows.into_iter().filter(|row| !matches!(Comment::parse(&row.comment), Comment::Marked(..))).collect()
        };
        let before = proxy(layers.map(plain));
        let managed = Managed::of(&before, &Policy::default());
        let plan = |directive: Directive, proxy: &ProxyView| {
            Plan::new(managed.clone(), BTreeMap::from([(target.clone(), directive)]), proxy)
        };
        let fence = Directive::Fence { kind: marker.kind, by: marker.by, sessions: false };
        let fenced = carried_out(&plan(fence, &before), &before);
        let back = carried_out(&plan(Directive::Unfence(Role::AsBefore), &fenced), &fenced);
        for layer in Layer::ALL {
            let mut expected = before.layer(layer).to_vec();
            expected.sort();
            for row in &mut expected {
                let ours = managed.contains(row.key.hostgroup) && row.node().as_ref() == Some(&target);
                if ours && row.status == Status::Shunned && Comment::parse(&row.comment) == Comment::Plain {
                    row.status = Status::Online; // ProxySQL's own doing: it comes back by itself
                }
            }
            prop_assert_eq!(back.layer(layer), expected);
        }
    }

    #[test]
    fn the_order_of_rows_and_answers_decides_nothing(
        observed in observed(),
        policy in policy(),
        order in prop::collection::vec(any::<Index>(), 12),
    ) {
        let mut other = observed.clone();
        for rows in [&mut other.proxy.runtime, &mut other.proxy.memory, &mut other.proxy.disk] {
            *rows = shuffled(rows, &order).into();
        }
        other.proxy.pairs = shuffled(&other.proxy.pairs, &order);
        if let LeaderView::Led(answer) = &mut other.leader {
            answer.downtimes = shuffled(&answer.downtimes, &order);
            answer.instances = answer.instances.as_ref().map(|instances| shuffled(instances, &order));
            answer.history.iter_mut().for_each(|history| history.records = shuffled(&history.records, &order));
        }
        for (one, other) in decided(&observed, &policy).into_iter().zip(decided(&other, &policy)) {
            prop_assert_eq!(&one.verdicts, &other.verdicts);
            prop_assert_eq!(&one.plan.directives, &other.plan.directives);
            prop_assert_eq!(&one.plan.changes, &other.plan.changes);
            prop_assert_eq!(&one.memory, &other.memory);
        }
    }

    #[test]
    fn what_is_no_evidence_changes_no_decision(
        observed in observed(),
        policy in policy(),
        more in prop::collection::vec((any::record(), 0..3), 1..4),
    ) {
        let LeaderView::Led(answer) = &observed.leader else { return Ok(()) };
        prop_assume!(answer.history.is_some());
        let mut other = observed.clone();
        let elsewhere = |node: &Node| -> Node { format!("other-{node}").parse().unwrap() };
        let LeaderView::Led(answer) = &mut other.leader else { unreachable!() };
        for (at, (record, why)) in more.into_iter().enumerate() {
            // Newer than all that counts, so that it would count if anything did.
            let record = Recovery { at_ns: u64::MAX - at as u64, uid: format!("{}:n", u64::MAX - at as u64), ..record };
            let record = match why {
                0 => Recovery { analysis: Analysis::Other, ..record },
                // Not over yet: a recovery that ended in vain does say something.
                1 => Recovery { successful: false, end_s: None, ..record },
                _ => Recovery {
                    failed: elsewhere(&record.failed),
                    successor: record.successor.as_ref().map(elsewhere),
                    ..record
                },
            };
            answer.history.iter_mut().for_each(|history| history.records.insert(0, record.clone()));
        }
        // Another cluster's nodes, one of them downtimed.
        let mut strangers: Vec<_> = answer.instances.iter().flatten().cloned().collect();
        for stranger in &mut strangers {
            stranger.node = elsewhere(&stranger.node);
            stranger.primary = stranger.primary.as_ref().map(elsewhere);
            stranger.cluster = format!("other-{}", stranger.cluster);
            stranger.alias = format!("other-{}", stranger.alias);
        }
        answer.instances.iter_mut().for_each(|instances| instances.extend(strangers.clone()));
        for (one, other) in decided(&observed, &policy).into_iter().zip(decided(&other, &policy)) {
            prop_assert_eq!(&one.verdicts, &other.verdicts);
            prop_assert_eq!(&one.plan, &other.plan);
            prop_assert_eq!(&one.memory, &other.memory);
        }
    }

    #[test]
    fn i1_a_row_that_cannot_be_understood_is_never_fenced(
        row in named_row(),
        damage in prop::option::of(comment()),
        target in node(),
        marker in marker(),
    ) {
        let row = match damage {
            None => Row { status: Status::Unknown("DRAINING".to_owned()), ..row },
            Some(before) => Row { comment: format!("{before}{marker} "), ..row },
        };
        let proxy = proxy([vec![row.clone()], vec![], vec![]]);
        let managed = Managed::of(&proxy, &Policy::default());
        let fence = Directive::Fence { kind: marker.kind, by: marker.by, sessions: true };
        let plan = Plan::new(managed, BTreeMap::from([(target, fence)]), &proxy);
        prop_assert_eq!(plan.carry_out(std::slice::from_ref(&row)), vec![row]);
    }
}

#[test]
fn the_generators_reach_what_the_rules_speak_of() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let (mut fences, mut unfences, mut kinds) = (0, 0, std::collections::BTreeSet::<EvidenceKind>::new());
    for _ in 0..300 {
        let (observed, policy) = (observed(), policy()).new_tree(&mut runner).unwrap().current();
        for decision in decided(&observed, &policy) {
            for directive in decision.plan.directives.values() {
                match directive {
                    Directive::Fence { kind, .. } => {
                        fences += 1;
                        kinds.insert(*kind);
                    }
                    Directive::Unfence(_) => unfences += 1,
                }
            }
        }
    }
    assert!(fences > 100 && unfences > 10 && kinds.len() >= 5, "{fences} fences {kinds:?}, {unfences} returns");
}
