//! Everything that reads the outside, against inputs that are nearly right: no panic, no hang, and errors are errors.
//!
//! `FUZZ_SEED=<n> FUZZ_RUNS=1 cargo test --test fuzz <target>` replays what a failure names; without them each target
//! takes the same few seconds' worth every time.

#[cfg(feature = "demo")]
mod admin;
mod http;
mod mutation;
mod server;
mod texts;
