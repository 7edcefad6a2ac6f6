//! Recorded scenarios: `scenarios/NAME.txt` says what happens to a cluster, `scenarios/NAME.out` what the scheduler
//! answers. `MUSTER_RECORD=1 cargo test -p muster-tests --test scenarios` records the answers anew; read the
//! difference before it is committed.

#[path = "scenarios/act.rs"]
mod act;
#[path = "scenarios/cluster.rs"]
mod cluster;
#[path = "scenarios/declare.rs"]
mod declare;
#[path = "scenarios/script.rs"]
mod script;
#[path = "scenarios/show.rs"]
mod show;

use std::path::{Path, PathBuf};

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios")
}

fn texts() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory()).expect("tests/scenarios exists");
    let mut texts: Vec<PathBuf> = entries.map(|e| e.expect("it can be read").path()).collect();
    texts.retain(|p| p.extension().is_some_and(|e| e == "txt"));
    texts.sort();
    texts
}

/// The first line in which two texts differ, with its number.
fn first_difference(recorded: &str, actual: &str) -> String {
    let (mut old, mut new) = (recorded.lines(), actual.lines());
    for number in 1.. {
        match (old.next(), new.next()) {
            (None, None) => break,
            (a, b) if a == b => {}
            (a, b) => {
                let told = |line: Option<&str>| line.unwrap_or("(nothing)").to_owned();
                return format!("line {number}:\n  recorded: {}\n  now:      {}", told(a), told(b));
            }
        }
    }
    "only line ends differ".to_owned()
}

#[test]
fn scenarios_end_as_recorded() {
    let record = std::env::var_os("MUSTER_RECORD").is_some();
    let mut failures = Vec::new();
    let texts = texts();
    for path in &texts {
        let text = std::fs::read_to_string(path).expect("it can be read");
        let actual = script::play(&text);
        let recorded_at = path.with_extension("out");
        if record {
            std::fs::write(&recorded_at, &actual).expect("it can be written");
            continue;
        }
        let recorded = std::fs::read_to_string(&recorded_at).unwrap_or_default();
        if recorded != actual {
            failures.push(format!("{}, {}", recorded_at.display(), first_difference(&recorded, &actual)));
        }
    }
    assert!(texts.len() >= 40, "only {} scenarios were found", texts.len());
    assert!(failures.is_empty(), "{} of {} differ:\n{}", failures.len(), texts.len(), failures.join("\n"));
}
