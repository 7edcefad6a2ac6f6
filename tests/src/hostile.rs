//! What a hostile or damaged input may do: nothing, but be refused.
//!
//! Each [`Target`] takes any bytes, hands them to the product the way a peer, an operator or a disk would, and panics
//! when something is wrong: a panic of the product, or an answer that breaks a promise. The same bodies are driven
//! twice: by libFuzzer (`tests/fuzz`, `just fuzz`), which looks for paths that nobody has taken yet, and by every
//! `cargo test`, which replays `tests/fuzz/corpus` (seeds, and whatever was ever found) and mutates it by a seed.
//!
//! ```text
//!   corpus ─▶ mutate ─▶ bytes ─▶ input (steps, fields) ─▶ product ─▶ judged here
//! ```

mod apply;
pub mod corpus;
mod guard_frames;
mod guard_lease;
mod input;
mod log_files;
mod mutate;
mod requests;
mod scene;
mod service_file;
mod settings;
mod snapshot;
mod voter;
mod words;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

pub use mutate::mutated;

/// One kind of input.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// The name of its libFuzzer program and of its directory in the corpus.
    pub name: &'static str,
    /// Takes any bytes; panics when something is wrong.
    pub body: fn(&[u8]),
    /// Inputs that reach deep, made from valid values.
    pub seeds: fn() -> Vec<(String, Vec<u8>)>,
    /// How many mutated inputs an ordinary test tries: about as many as a quarter of a second allows.
    pub rounds: u32,
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target { name: "apply", body: apply::body, seeds: apply::seeds, rounds: 3_000 },
    Target { name: "guard_frames", body: guard_frames::body, seeds: guard_frames::seeds, rounds: 8_000 },
    Target { name: "guard_lease", body: guard_lease::body, seeds: guard_lease::seeds, rounds: 8_000 },
    Target { name: "log_files", body: log_files::body, seeds: log_files::seeds, rounds: 60 },
    Target { name: "requests", body: requests::body, seeds: requests::seeds, rounds: 4_000 },
    Target { name: "service_file", body: service_file::body, seeds: service_file::seeds, rounds: 4_000 },
    Target { name: "settings", body: settings::body, seeds: settings::seeds, rounds: 4_000 },
    Target { name: "snapshot", body: snapshot::body, seeds: snapshot::seeds, rounds: 2_000 },
    Target { name: "voter", body: voter::body, seeds: voter::seeds, rounds: 8_000 },
    Target { name: "words", body: words::body, seeds: words::seeds, rounds: 20_000 },
];

/// An input that a target did not survive.
#[derive(Debug)]
pub struct Found {
    /// The target.
    pub target: &'static str,
    /// The input.
    pub input: Vec<u8>,
    /// What the panic said.
    pub what: String,
}

impl Target {
    /// The target of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        TARGETS.iter().find(|target| target.name == name).copied()
    }

    /// Where its inputs are kept.
    #[must_use]
    pub fn directory(&self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(self.name)
    }

    /// Tries one input.
    ///
    /// # Errors
    /// What was found.
    pub fn survives(&self, input: &[u8]) -> Result<(), Found> {
        let tried = catch_unwind(AssertUnwindSafe(|| (self.body)(input)));
        tried.map_err(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            Found { target: self.name, input: input.to_vec(), what: text.unwrap_or_default() }
        })
    }
}
