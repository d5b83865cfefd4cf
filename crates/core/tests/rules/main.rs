//! The rules of the decision, told as stories in a small world.

mod any;
mod barrier;
mod beside_pairs;
mod clusters;
mod co_primaries;
mod condition;
mod discharge;
mod first_start;
mod guards;
mod history;
mod hooks;
mod invariants;
mod isolation;
mod leader_query;
mod memory;
mod names;
mod orders;
mod paused;
mod properties;
mod round_trips;
mod second_writer;
mod superseded;
mod two_agents;
mod unreadable;
mod unwatched;
mod world;
