//! The decision and the apply of proxysql-stonith, as pure functions and state machines.
//!
//! ```text
//! Observed --decide--> Decision { verdicts, plan, memory }      plan --Apply--> Statement <-> Reply
//! ```
//!
//! **Invariant:** no clock, socket, async, randomness, logging or foreign format in this crate. Time comes in as
//! milliseconds; what was read comes in as plain data. Every mode of the program runs these same two.

pub mod apply;
pub mod condition;
pub mod decide;
pub mod evidence;
pub mod lease;
pub mod managed;
pub mod memory;
pub mod node;
pub mod observed;
pub mod orchestrator;
pub mod orders;
pub mod plan;
pub mod policy;
pub mod role;
pub mod table;
