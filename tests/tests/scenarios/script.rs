//! Plays a scenario: each line is an act; what it leads to is printed under it, indented.
//!
//! ```text
//! node n1 zone=a cpu=4000 memory=8192         a host joins and opens a session (witness, worker, user, joining)
//! service db exclusive require="disk == ssd"  declares a service; see declare.rs
//! settle                                      plans, applies, and lets all hosts obey, until nothing is left to do
//! plan | apply | obey                         one part of that alone
//! lose n1 n2 | return n1 [empty] | wait 5s    what hosts and time do
//! running web/0 | failed db/0 exit status 1 | stopped db/0 | unhealthy web/0
//! drain n1 deadline=60s parallel=1 | undrain | cordon | uncordon | maintenance n1 on | label n1 zone=b | leave n1
//! stop db | start db | restart db | scale web 5 | remove db | rollback db | move db/0 n2 | forget-failures db
//! explain db | simulate n1 | survive 1 | rebalance | preview-drain n1 | blocked n1 | check-move db/0 n2 | where | wakeup
//! ```

use crate::act;
use crate::cluster::Cluster;

/// The transcript of a scenario.
pub fn play(text: &str) -> String {
    let mut cluster = Cluster::new();
    let mut transcript = String::new();
    for line in text.lines().map(str::trim_end) {
        transcript.push_str(line);
        transcript.push('\n');
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let words = words(line);
        for told in act::run(&mut cluster, &words) {
            transcript.push_str("    ");
            transcript.push_str(&told);
            transcript.push('\n');
        }
        let found = muster_core::check::violations(&cluster.state);
        assert!(found.is_empty(), "after '{line}': {found:?}");
    }
    transcript
}

/// Splits at blanks; quotes keep blanks together and are dropped.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for c in line.chars() {
        match c {
            '"' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            _ => words.last_mut().expect("there is one from the start").push(c),
        }
    }
    words.retain(|w| !w.is_empty());
    words
}
