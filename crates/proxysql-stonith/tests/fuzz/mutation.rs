//! A small mutation engine: seeds out of recordings, changed a little, the same for the same number.
//!
//! `FUZZ_RUNS` is the number of inputs per target, `FUZZ_SEED` the first of them: what a failure says is what to set.

use std::cell::Cell;
use std::path::Path;
use std::sync::Once;

use fastrand::Rng;

/// What parsers trip over: ends of ranges, half letters, deep nesting, other people's syntax.
#[rustfmt::skip]
const TOKENS: [&[u8]; 32] = [
    b"0", b"-1", b"1e999", b"18446744073709551616", b"-9223372036854775809", b"65536", b"\0", b"\r\n", b"\n", b"\"", b"'",
    b"\\", b"\\ud800", b"\\u0000", b"[", b"]", b"{", b"}", b"[[[[[[[[[[[[[[[[", b"null", b"true", b"\xff", b"\xc3",
    b"\xf0\x9f", b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff", b"\xfc\xff\xff", b"\xfb", b" [stonith:1 ", b" was=ONLINE]",
    b"=", b":", b"99999999999s",
];

thread_local! {
    /// Panics of this thread, those in a task of its runtime too, which nobody else would see.
    static PANICS: Cell<usize> = const { Cell::new(0) };
}

/// Every file below a folder, as bytes.
pub fn recordings(folder: &str) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { found.push(std::fs::read(path).unwrap()) }
        }
    }
    found.sort();
    assert!(!found.is_empty());
    found
}

/// Runs a target on so many inputs. A panic anywhere, in a task too, fails with the seed that replays it.
pub fn fuzz(target: &str, runs: u64, mut one: impl FnMut(&mut Mutator)) {
    let number = |name: &str| {
        std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap_or_else(|_| panic!("{name}={text}")))
    };
    let (first, runs) = (number("FUZZ_SEED").unwrap_or(1), number("FUZZ_RUNS").unwrap_or(runs));
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            // The driver's own are caught by `proxysql::Admin`; one that gets out of there ends the target all the same.
            if !panic.location().is_some_and(|at| at.file().contains("/mysql_")) {
                PANICS.with(|panics| panics.set(panics.get() + 1));
                before(panic);
            }
        }));
    });
    for seed in first..first.saturating_add(runs) {
        let mut mutator = Mutator(Rng::with_seed(seed));
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| one(&mut mutator)));
        assert!(ended.is_ok() && PANICS.get() == 0, "{target}: replay with FUZZ_SEED={seed} FUZZ_RUNS=1");
    }
}

/// Changes inputs, by a seed.
pub struct Mutator(pub Rng);

impl Mutator {
    /// One of these, changed in a few places.
    pub fn mutated(&mut self, seeds: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = self.0.choice(seeds).cloned().unwrap_or_default();
        for _ in 0..self.0.usize(0..=4) {
            let other = self.0.choice(seeds).cloned().unwrap_or_default();
            self.change(&mut bytes, &other);
        }
        bytes
    }

    /// The same as a text; what is no UTF-8 is replaced.
    pub fn text(&mut self, seeds: &[&str]) -> String {
        let seeds: Vec<Vec<u8>> = seeds.iter().map(|seed| seed.as_bytes().to_vec()).collect();
        String::from_utf8_lossy(&self.mutated(&seeds)).into_owned()
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

    /// A piece, short mostly.
    fn range(&mut self, len: usize) -> (usize, usize) {
        let at = self.0.usize(0..=len);
        let most = if self.0.u8(0..4) == 0 { len - at } else { (len - at).min(8) };
        (at, at + self.0.usize(0..=most))
    }
}
