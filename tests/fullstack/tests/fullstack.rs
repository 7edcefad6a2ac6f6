//! First light.
use muster_fullstack::{trace, world::World};

fn main() {
    let seed: u64 = std::env::args().nth(1).and_then(|s| s.parse().ok()).unwrap_or(1);
    let telling =
        if std::env::args().any(|a| a == "--story") { trace::Telling::Story } else { trace::Telling::Digest };
    let seconds: u64 = std::env::args().nth(2).and_then(|s| s.parse().ok()).unwrap_or(10);
    let root = tempfile::tempdir_in(World::scratch()).unwrap();
    trace::begin(telling, &root.path().display().to_string());
    let mut world = World::new(seed, 3, root.path(), None).unwrap();
    for _ in 0..seconds * 1000 {
        world.step();
    }
    println!("{:?} {} {}", trace::digest(), world.network.digest(), world.network.delivered());
}
