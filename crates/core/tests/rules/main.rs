//! The rules of the decision, told as stories in a small world.

mod any;
mod clusters;
mod condition;
mod discharge;
mod first_start;
mod guards;
mod invariants;
mod isolation;
mod memory;
mod orders;
mod properties;
mod round_trips;
mod second_writer;
mod superseded;
mod two_agents;
mod wants;
mod world;
