//! The rules of the decision, told as stories in a small world.

mod any;
mod clusters;
mod discharge;
mod first_start;
mod guards;
mod history;
mod invariants;
mod isolation;
mod memory;
mod orders;
mod properties;
mod round_trips;
mod second_writer;
mod superseded;
mod two_agents;
mod unreadable;
mod wants;
mod world;
