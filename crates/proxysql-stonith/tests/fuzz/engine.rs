//! A small mutation engine: seeds out of recordings, changed a little, the same for the same number.
//!
//! `FUZZ_RUNS` is the number of inputs per target, `FUZZ_SEED` the first of them: what a failure says is what to set. Each run
//! begins with another one, which it prints.
//! `FUZZ_CORPUS=<folder>` leaves the seeds and the tokens there for libFuzzer.
//!
//! Libraries were tried: bolero changes no seeds on stable, its inputs are random bytes; mutatis knows no tokens and puts
//! no two inputs together. Of 5,000 inputs libFuzzer counted 2,473 edges with mutatis and 2,924 with this (config), 2,640
//! and 2,903 (audit_recovery), 2,547 and 2,687 (admin_rows), 263 and 304 (marker), 7,668 and 7,666 (packets).

use std::cell::Cell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::path::{Path, PathBuf};
use std::sync::Once;

use fastrand::Rng;

use crate::targets::Target;

/// What parsers trip over: ends of ranges, half letters, deep nesting, other people's syntax.
#[rustfmt::skip]
const TOKENS: [&[u8]; 35] = [
    b"0", b"-1", b"1e999", b"18446744073709551615", b"18446744073709551616", b"9223372036854775807",
    b"-9223372036854775808", b"-9223372036854775809", b"65536", b"\0", b"\r\n", b"\n", b"\"", b"'",
    b"\\", b"\\ud800", b"\\u0000", b"[", b"]", b"{", b"}", b"[[[[[[[[[[[[[[[[", b"null", b"true", b"\xff", b"\xc3",
    b"\xf0\x9f", b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff", b"\xfc\xff\xff", b"\xfb", b" [stonith:1 ", b" was=ONLINE]",
    b"=", b":", b"99999999999s",
];

thread_local! {
    /// Panics of this thread, those in a task of its runtime too, which nobody else would see.
    static PANICS: Cell<usize> = const { Cell::new(0) };
}

/// Runs a target on what was found before, on its seeds, and on so many changed ones. A panic anywhere, in a task too,
/// fails with what replays it.
pub fn fuzz(target: &Target, runs: u64) {
    hear_every_panic();
    let found = findings(target);
    for (path, bytes) in &found {
        assert!(holds(target, bytes).is_some(), "{}: it was found before: {}", target.name, path.display());
    }
    let mut seeds = (target.seeds)();
    let understood = |seed: &&Vec<u8>| holds(target, seed).unwrap_or_else(|| panic!("{}: a seed", target.name));
    assert!(seeds.iter().filter(understood).count() > 0, "{}: none of its seeds is understood", target.name);
    seeds.extend(found.into_values());
    leave_for_libfuzzer(target, &seeds);
    let runs = number("FUZZ_RUNS").unwrap_or(runs);
    let first = number("FUZZ_SEED").unwrap_or_else(|| fastrand::u64(..=u64::from(u32::MAX)));
    let understood = mutate(target, &seeds, first, runs);
    println!("{}: {runs} inputs from FUZZ_SEED={first} on, {understood} of them understood", target.name);
    let some = runs / 100;
    assert!(runs < 100 || (some..runs - some).contains(&understood), "{}: the mutations miss", target.name);
}

/// How many of the inputs were understood.
fn mutate(target: &Target, seeds: &[Vec<u8>], first: u64, runs: u64) -> u64 {
    let mut understood = 0;
    for seed in first..first.saturating_add(runs) {
        let bytes = Mutator(Rng::with_seed(seed)).mutated(seeds);
        match holds(target, &bytes) {
            Some(one) => understood += u64::from(one),
            None => panic!("{}: replay with FUZZ_SEED={seed} FUZZ_RUNS=1; {}", target.name, kept(target, seed, &bytes)),
        }
    }
    understood
}

/// Whether it understood the bytes; none if a rule is broken.
fn holds(target: &Target, bytes: &[u8]) -> Option<bool> {
    catch_unwind(AssertUnwindSafe(|| (target.run)(bytes))).ok().filter(|_| PANICS.get() == 0)
}

/// Counts the panics of each thread.
pub fn hear_every_panic() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = take_hook();
        set_hook(Box::new(move |panic| {
            PANICS.with(|panics| panics.set(panics.get() + 1));
            before(panic);
        }));
    });
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text}")))
}

/// What either engine found once, and was mended.
fn findings(target: &Target) -> BTreeMap<PathBuf, Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/findings").join(target.name);
    let Ok(entries) = std::fs::read_dir(folder) else { return BTreeMap::new() };
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

/// Keeps an input that breaks a rule, and says where.
fn kept(target: &Target, seed: u64, bytes: &[u8]) -> String {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{seed}", target.name));
    match std::fs::write(&path, bytes) {
        Ok(()) => format!("the input is {}: it belongs to tests/fuzz/findings/{}", path.display(), target.name),
        Err(error) => format!("the input could not be kept: {error}"),
    }
}

/// Seeds as files, and the tokens as a dictionary.
fn leave_for_libfuzzer(target: &Target, seeds: &[Vec<u8>]) {
    let Some(folder) = std::env::var_os("FUZZ_CORPUS").map(PathBuf::from) else { return };
    let folder = folder.join(target.name);
    std::fs::create_dir_all(&folder).unwrap();
    for (number, seed) in seeds.iter().enumerate() {
        std::fs::write(folder.join(format!("seed-{number}")), seed).unwrap();
    }
    let quoted =
        |token: &&[u8]| format!("\"{}\"\n", token.iter().map(|byte| format!("\\x{byte:02x}")).collect::<String>());
    std::fs::write(folder.with_extension("dict"), TOKENS.iter().map(quoted).collect::<String>()).unwrap();
}

/// Changes inputs, by a seed.
struct Mutator(Rng);

impl Mutator {
    /// One of these, changed in a few places.
    fn mutated(&mut self, seeds: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = self.0.choice(seeds).cloned().unwrap_or_default();
        for _ in 0..self.0.usize(0..=4) {
            let other = self.0.choice(seeds).cloned().unwrap_or_default();
            self.change(&mut bytes, &other);
        }
        bytes
    }

    fn change(&mut self, bytes: &mut Vec<u8>, other: &[u8]) {
        let (at, to) = self.range(bytes.len());
        let token = *self.0.choice(&TOKENS).unwrap_or(&TOKENS[0]);
        match self.0.u8(0..9) {
            0 if at < bytes.len() => bytes[at] ^= 1 << self.0.u8(0..8),
            1 if at < bytes.len() => bytes[at] = self.0.u8(..),
            2 => drop(bytes.drain(at..to)),
            3 => bytes.truncate(at),
            4 => drop(bytes.splice(at..to, bytes[at..to].repeat(2))),
            5 => drop(bytes.splice(at..at, token.iter().copied())),
            6 => drop(bytes.splice(at..to, token.iter().copied())),
            7 => {
                let (from, until) = self.range(other.len());
                bytes.splice(at..to, other[from..until].iter().copied());
            }
            // A number that is there becomes another: lengths, counts, ports, times.
            _ => {
                let digits: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at].is_ascii_digit()).collect();
                if let Some(at) = self.0.choice(&digits) {
                    bytes[*at] = self.0.u8(b'0'..=b'9');
                }
            }
        }
    }

    /// A piece, short mostly. The beginning is as likely as all the rest: heads of a long body are there.
    fn range(&mut self, len: usize) -> (usize, usize) {
        let at = if self.0.bool() { self.0.usize(0..=len) } else { self.0.usize(0..=len.min(256)) };
        let most = if self.0.u8(0..4) == 0 { len - at } else { (len - at).min(8) };
        (at, at + self.0.usize(0..=most))
    }
}
