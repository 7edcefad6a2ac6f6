fn main() {
    let seed = std::env::args().nth(1).and_then(|s| s.parse().ok()).unwrap_or(1);
    let only = std::env::args().nth(2).filter(|s| s != "all");
    let rounds = std::env::args().nth(3).and_then(|s| s.parse().ok()).unwrap_or(5);
    let options = muster_tests::campaign::Options { seed, rounds, only, told: true };
    let tally = muster_tests::campaign::play(&options, || false).unwrap();
    println!("{}", serde_json::to_string_pretty(&tally).unwrap());
}
