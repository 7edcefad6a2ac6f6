//! First light.
use muster_fullstack::mutant::Mutant;
use muster_fullstack::run::Plan;
use muster_fullstack::{trace, world::World};

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let seed: u64 = args.get(1).and_then(|s| s.parse().ok()).unwrap_or(1);
    let telling =
        if args.iter().any(|a| a == "--story") { trace::Telling::Story } else { trace::Telling::Digest };
    let mutant = args.get(2).and_then(|m| Mutant::named(m));
    let root = tempfile::tempdir_in(World::scratch()).unwrap();
    trace::begin(telling, &root.path().display().to_string());
    let outcome = Plan { seed, mutant }.run(root.path()).unwrap();
    println!("{outcome:#?}");
}
