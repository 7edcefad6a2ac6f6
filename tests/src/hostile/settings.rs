//! The agent's configuration: a file, and variables of the environment behind a zero byte, one a line.

use std::path::Path;

use muster::config;

pub(super) fn body(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (file, environment) = text.split_once('\0').unwrap_or((&text, ""));
    let variables: Vec<(String, String)> = environment
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    match config::read(Path::new("agent.toml"), file, &variables) {
        Ok(config) => {
            if let Err(error) = config.check() {
                assert!(!error.to_string().is_empty());
            }
            let _capacity = config.capacity();
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

pub(super) fn seeds() -> Vec<(String, Vec<u8>)> {
    let whole = include_str!("../../../deploy/agent.toml");
    let every_key = "[node]\nname = \"n1\"\ndata_dir = \"/d\"\nrun_dir = \"/r\"\nlisten = [\"10.0.0.1:7420\", \"[::1]:1\"]\n\
        advertise = [\"10.0.0.1:7420\"]\nrole = \"witness\"\nlabels = { zone = \"a\" }\n\
        capacity = { cpu_millis = 4000, memory_mib = 8192 }\n[admin]\nlisten = []\n[http]\nlisten = [\"127.0.0.1:1\"]\n\
        [timing]\nprofile = \"wan\"\nheartbeat_ms = 250\nlease_ttl_ms = 10000\nkill_budget_ms = 250\n\
        raft_heartbeat_ms = 250\nraft_election_ms = [1500, 3000]\n[guard]\nwatchdog = \"off\"\n\
        [log]\nlevel = \"info\"\nformat = \"json\"\n";
    let variables = "[node]\nname = \"n1\"\n\0MUSTER_NODE__NAME=n2\nMUSTER_NODE__LISTEN=127.0.0.1:1, 127.0.0.2:1\n\
        MUSTER_TIMING__RAFT_ELECTION_MS=200,400\nMUSTER_NODE__CAPACITY__CPU_MILLIS=-1\nMUSTER_NODE__LABELS__ZONE=a\n";
    let unknown = "[node]\nname = \"n1\"\nlisten_on = []\n";
    [("example", whole), ("every-key", every_key), ("variables", variables), ("unknown", unknown)]
        .map(|(name, text)| (name.to_owned(), text.as_bytes().to_vec()))
        .into()
}
