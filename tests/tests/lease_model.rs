//! The lease protocol explored completely: the sound rules have no way to two holders, every weakened rule has one.
//!
//! `MUSTER_MODEL_LONG=1` adds the large configurations; `MUSTER_MODEL=text` keeps the cases whose name or rule has that
//! text, and prints the way to two holders.

#![allow(clippy::print_stdout, reason = "the numbers are printed")]
#![allow(clippy::disallowed_methods, reason = "how long a case takes is time on the wall")]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use muster_tests::model::catalogue::Expected;
use muster_tests::model::{Case, Verdict, Weakened, cases};
use muster_tests::proof::{self, Section};

/// The chosen cases with what the checker found, in their order.
fn judged(chosen: Vec<Case>) -> Vec<(Case, Verdict)> {
    let workers = thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let next = AtomicUsize::new(0);
    let mut found: Vec<(usize, Verdict)> = thread::scope(|scope| {
        let work = || {
            let mut found = Vec::new();
            while let Some((at, case)) = {
                let at = next.fetch_add(1, Ordering::Relaxed);
                chosen.get(at).map(|case| (at, case))
            } {
                let since = Instant::now();
                let verdict = case.run();
                tell(case, &verdict, since.elapsed().as_secs_f32());
                found.push((at, verdict));
            }
            found
        };
        let running: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        running.into_iter().flat_map(|worker| worker.join().expect("a worker does not panic")).collect()
    });
    found.sort_by_key(|(at, _)| *at);
    chosen.into_iter().zip(found.into_iter().map(|(_, verdict)| verdict)).collect()
}

fn tell(case: &Case, verdict: &Verdict, seconds: f32) {
    let without = case.weakened.map_or(String::new(), |rule| format!(" without {rule:?} ({})", rule.rule()));
    let ended = match &verdict.two_holders {
        None => "safe".to_owned(),
        Some(way) => format!("two holders in {} steps", way.len()),
    };
    let (states, depth) = (verdict.states, verdict.depth);
    println!("{}{without}: {ended}; {states} states, depth {depth}, {seconds:.1} s", case.name);
    if let (Some(way), Ok(_)) = (&verdict.two_holders, std::env::var("MUSTER_MODEL")) {
        way.iter().for_each(|step| println!("    {step}"));
    }
}

fn chosen() -> Vec<Case> {
    let long = std::env::var("MUSTER_MODEL_LONG").is_ok_and(|value| value == "1");
    let wanted = std::env::var("MUSTER_MODEL").unwrap_or_default();
    let named = |case: &Case| {
        case.name.contains(&wanted) || case.weakened.is_some_and(|rule| format!("{rule:?}").contains(&wanted))
    };
    cases().into_iter().filter(|case| (long || !case.long) && named(case)).collect()
}

#[test]
fn sound_rules_hold_and_every_weakened_one_is_seen() {
    let mut wrong = Vec::new();
    let judged = judged(chosen());
    for (case, verdict) in &judged {
        let ended = if verdict.two_holders.is_some() { Expected::TwoHolders } else { Expected::Safe };
        if ended != case.expected {
            wrong.push(format!("{} {:?}: {ended:?} {:?}", case.name, case.weakened, verdict.two_holders));
        }
        // A model that stands still is safe, too.
        if case.expected == Expected::Safe && !verdict.unreached.is_empty() {
            wrong.push(format!("{} {:?} never reaches {:?}", case.name, case.weakened, verdict.unreached));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // A choice of cases makes no table.
    if std::env::var("MUSTER_MODEL").is_err() {
        settle_tables(&judged);
    }
}

fn settle_tables(judged: &[(Case, Verdict)]) {
    let row = |(case, verdict): &(Case, Verdict)| {
        let (rule, without) =
            case.weakened.map_or(("", String::new()), |rule| (rule.rule(), format!("`{rule:?}`")));
        let ended = match &verdict.two_holders {
            None => "safe".to_owned(),
            Some(way) => format!("two holders after {} steps", way.len()),
        };
        vec![case.name.to_owned(), rule.to_owned(), without, verdict.states.to_string(), ended]
    };
    let table = |large: bool| {
        let rows: Vec<_> = judged.iter().filter(|(case, _)| case.long == large).map(row).collect();
        proof::table(&["model", "rule", "without", "states", "ends"], &rows)
    };
    proof::settle(Section::Models, &table(false)).unwrap_or_else(|why| panic!("{why}"));
    if judged.iter().any(|(case, _)| case.long) {
        proof::settle(Section::LargeModels, &table(true)).unwrap_or_else(|why| panic!("{why}"));
    }
}

#[test]
fn every_rule_has_a_case() {
    let all = cases();
    let without = |rule: &Weakened| all.iter().any(|case| case.weakened == Some(*rule) && !case.long);
    let missing: Vec<&Weakened> = Weakened::ALL.iter().filter(|rule| !without(rule)).collect();
    assert!(missing.is_empty(), "no case weakens {missing:?}");
}
