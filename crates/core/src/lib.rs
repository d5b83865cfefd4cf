//! The decision and the apply of proxysql-stonith, as pure functions and state machines.
//!
//! ```text
//!   Observed, Memory, Policy, time ──decide──▶ Decision { verdicts, plan, memory }
//!                                                            │
//!                        ProxySQL ◀──Statement── Apply ◀─────┘
//!                                  ──Reply────▶        ──▶ Outcome
//! ```
//!
//! **Invariant:** this crate has no clock, socket, async, randomness, logging or foreign format. Time comes in as
//! milliseconds, and everything that was read comes in as plain data. The daemon, the one-shot, the commands, the demo
//! and all tests run the same decision and the same apply.
//!
//! # Where to look
//!
//! | question | module |
//! | --- | --- |
//! | What are a node, a role and evidence? What did the operator choose or order? | [`node`], [`role`], [`evidence`], [`policy`], [`orders`] |
//! | What is in ProxySQL's tables, and how does a row show a fence? | [`table`] |
//! | What did Orchestrator's leader say, and who is the primary? | [`orchestrator`] |
//! | What did a tick see? Which rows may the program touch? | [`observed`], [`managed`] |
//! | What is kept from tick to tick? When is a proxy cut off? | [`memory`], [`lease`] |
//! | Which node is fenced or let back, and why? | [`decide`] |
//! | Which rows change? How are they changed without harm? | [`plan`], [`apply`] |
//! | What needs a person's attention? | [`condition`] |
//!
//! `docs/design.md` has the rules. `docs/facts.md` has what the real programs do. Comments cite both by section.
//!
//! # A failover, decided
//!
//! node01 was the primary and failed. Orchestrator has promoted node02. ProxySQL still has node01 ONLINE among the
//! writers.
//!
//! ```
//! use stonith_core::decide::{decide, Verdict};
//! use stonith_core::memory::Memory;
//! use stonith_core::observed::{Observed, ProxyView};
//! use stonith_core::orchestrator::{Addresses, Answer, Analysis, Backing, LeaderView, Recovery, RecoveryHistory};
//! use stonith_core::orders::Orders;
//! use stonith_core::policy::Policy;
//! use stonith_core::shared::Shared;
//! use stonith_core::table::{CheckType, Hostgroup, Pair, Row, RowKey, Status};
//!
//! let (writer, reader) = (Hostgroup(10), Hostgroup(20));
//! let row = |hostname: &str, hostgroup| Row {
//!     key: RowKey { hostgroup, hostname: hostname.into(), port: 3306 },
//!     status: Status::Online,
//!     comment: "rack 7".to_owned(),
//!     settings: Default::default(),
//! };
//! let rows: Shared<Vec<Row>> = vec![row("node01", writer), row("node02", reader)].into();
//! let proxy = ProxyView {
//!     runtime: rows.clone(),
//!     memory: rows.clone(),
//!     disk: rows,
//!     pairs: vec![Pair { writer, reader, check_type: CheckType::ReadOnly }],
//!     ..ProxyView::default()
//! };
//!
//! // The leader's clock says 1,000 s. The agent has watched since 900 s, and the recovery was at 950 s.
//! let recovery = Recovery {
//!     at_ns: 950_000_000_000,
//!     uid: "950000000000:1".to_owned(),
//!     end_s: Some(955),
//!     analysis: Analysis::DeadPrimary,
//!     successful: true,
//!     failed: "node01:3306".parse().unwrap(),
//!     successor: Some("node02:3306".parse().unwrap()),
//!     alias: "main".to_owned(),
//! };
//! let answer = Answer {
//!     leader: "orc1".to_owned(),
//!     asked_ms: 100_000,
//!     date_s: 1_000,
//!     backing: Backing::Majority,
//!     downtimes: vec![],
//!     history: Some(RecoveryHistory::whole("orc1", vec![recovery])),
//!     instances: None,
//!     hooks: None,
//!     skipped: vec![],
//! };
//! let observed = Observed { proxy, leader: LeaderView::Led(answer), orders: Orders::default(), addresses: Addresses::default() };
//! let memory = Memory { watching_since_s: Some(900), ..Memory::first_start("boot", 0) };
//!
//! let decision = decide(&observed, &memory, &Policy::default(), 100_000);
//!
//! let node01 = "node01:3306".parse().unwrap();
//! let Verdict::Fence { evidence, .. } = &decision.verdicts[&node01] else { panic!() };
//! assert_eq!(evidence[0].to_string(), "superseded by=node02:3306 source=audit-recovery id=950000000000:1");
//! let changes: Vec<String> = decision.plan.changes.iter().map(ToString::to_string).collect();
//! assert_eq!(
//!     changes,
//!     [
//!         "disk 10/node01:3306 ONLINE -> OFFLINE_SOFT",
//!         "memory 10/node01:3306 ONLINE -> OFFLINE_SOFT",
//!         "runtime 10/node01:3306 ONLINE -> OFFLINE_SOFT",
//!     ]
//! );
//! let note = &decision.plan.changes[0].change.to().unwrap().comment;
//! assert_eq!(note, "rack 7 [stonith:1 superseded by=node02:3306 was=ONLINE]");
//! ```

#![warn(clippy::too_many_lines, clippy::mod_module_files)]

pub mod apply;
pub mod barrier;
pub mod condition;
pub mod decide;
pub mod evidence;
pub mod lease;
pub mod lending;
pub mod list;
pub mod managed;
pub mod memory;
pub mod node;
pub mod node_fence;
pub mod observed;
pub mod online_limit;
pub mod orchestrator;
pub mod orders;
pub mod plan;
pub mod policy;
pub mod role;
pub mod shared;
pub mod table;
