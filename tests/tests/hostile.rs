//! Hostile input (docs/decisions/0018-fuzzing.md): every target survives everything that was ever found, and some
//! thousand changes of it. `just fuzz TARGET SECONDS` looks for more.
//!
//! `MUSTER_HOSTILE_SEED` and `MUSTER_HOSTILE_SECONDS` (for each target) make longer runs of other inputs;
//! `MUSTER_WRITE_CORPUS=1` writes the seeds of the corpus anew.

use std::time::Duration;

use muster_tests::harness::wait::Moment;
use muster_tests::hostile::{Found, TARGETS, Target, corpus, mutated};
use muster_tests::sim::rng::Rng;

fn number_from(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

/// Keeps the input where libFuzzer and the next run find it, and tells.
fn report(target: &Target, found: &Found) -> ! {
    let path = target.directory().join(format!("found-{:08x}", crc32c::crc32c(&found.input)));
    let kept = std::fs::write(&path, &found.input);
    panic!("{}: {}\nthe input is in {} ({kept:?})", found.target, found.what, path.display());
}

fn play(target: &Target) {
    let files = corpus::read(target).expect("the corpus can be read");
    assert!(!files.is_empty(), "{} has no corpus", target.name);
    for (path, bytes) in &files {
        if let Err(found) = target.survives(bytes) {
            panic!("{}: {}\nby {}", target.name, found.what, path.display());
        }
    }
    let inputs: Vec<Vec<u8>> = files.into_iter().map(|(_, bytes)| bytes).collect();
    let mut rng = Rng::new(number_from("MUSTER_HOSTILE_SEED").unwrap_or(1));
    let seconds = number_from("MUSTER_HOSTILE_SECONDS").map(Duration::from_secs);
    let begun = Moment::now();
    let mut round = 0;
    while seconds.map_or(round < target.rounds, |limit| begun.elapsed() < limit) {
        round += 1;
        if let Err(found) = target.survives(&mutated(&mut rng, &inputs)) {
            report(target, &found);
        }
    }
}

/// A test of its own for each target, so that they run side by side.
macro_rules! targets {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            play(&Target::named(stringify!($name)).expect("a target"));
        })*

        #[test]
        fn every_target_is_tested_here() {
            let mut here = vec![$(stringify!($name)),*];
            here.sort_unstable();
            assert_eq!(here, TARGETS.iter().map(|target| target.name).collect::<Vec<_>>());
        }
    };
}

targets!(apply guard_frames guard_lease log_files requests service_file settings snapshot voter words);

#[test]
fn the_seeds_are_those_of_this_version() {
    let write = std::env::var_os("MUSTER_WRITE_CORPUS").is_some();
    for target in TARGETS {
        if write {
            corpus::write(target).expect("the corpus can be written");
        }
        for (name, bytes) in corpus::seeds(target) {
            let kept = std::fs::read(target.directory().join(&name)).ok();
            assert!(
                kept.as_ref() == Some(&bytes),
                "{}/{name} is old: set MUSTER_WRITE_CORPUS=1",
                target.name
            );
        }
    }
}
