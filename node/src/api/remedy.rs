//! The remedy for each error: one sentence that says what to do. `docs/errors` has a page for each code.

use muster_core::refusal::Refusal;

/// Code and remedy, ascending by code.
pub const REMEDIES: &[(&str, &str)] = &[
    (
        "MU1001",
        "this host is part of a cluster already; to begin anew, stop the agent and use an empty data_dir",
    ),
    ("MU1002", "make a cluster with 'muster init' on the first host, then 'muster join' on the others"),
    ("MU1003", "'musterctl node list' shows the nodes; use the name in its first column"),
    ("MU1004", "'musterctl service list' shows the services"),
    ("MU1005", "'musterctl service show NAME' lists the instances of a service as NAME/INDEX"),
    ("MU1006", "'musterctl token list' shows the tokens; an expired one is dropped by itself"),
    (
        "MU1007",
        "set another [node] name on the joining host, or, if the old host is gone for good, remove it first with \
                'musterctl node remove NAME'",
    ),
    ("MU1008", "make a new token on this cluster with 'musterctl token create' and join with it"),
    ("MU1009", "make a new token with 'musterctl token create --ttl 1h' and join with it"),
    ("MU1010", "make a new token with 'musterctl token create --uses N' and join with it"),
    ("MU1011", "repeat the command: token ids are random"),
    (
        "MU1012",
        "drain the node, then run 'muster leave' on it; or stop its agent and guard there and repeat this once it is lost",
    ),
    ("MU1013", "repeat the command in a moment: the node is being taken out of the control plane first"),
    (
        "MU1014",
        "join another host first ('musterctl token create'), wait until it votes, then repeat the command",
    ),
    (
        "MU1015",
        "nothing to do: a late duplicate of a voter's start was ignored; if it repeats, look at that agent's log",
    ),
    (
        "MU1016",
        "nothing to do: the new session opens as soon as the old one is closed, about one lease later",
    ),
    ("MU1017", "nothing to do: the session was closed already"),
    (
        "MU1018",
        "nothing to do: the close is tried again; if it repeats, look at 'musterctl events' and the leader's log",
    ),
    ("MU1019", "repeat the command: the cluster changed meanwhile"),
    ("MU1020", "nothing to do: the report was about an instance that has been placed anew meanwhile"),
    (
        "MU1021",
        "run 'musterctl service plan -f FILE' again, look at what changed, and apply with the new revision",
    ),
    ("MU1022", "declare each service once; look for the name in all files given with -f"),
    ("MU1023", "set mode = \"replicated\" and count in the service's file and apply it"),
    (
        "MU1024",
        "'musterctl service history NAME' shows what was declared; apply the wanted declaration from its file",
    ),
    ("MU1025", "wait until it is gone ('musterctl service list'), then apply it again"),
    ("MU1026", "shorten the annotation or remove others: 4096 bytes each, 64 a service"),
    (
        "MU1027",
        "'musterctl service explain NAME' says for each node why or why not; choose an eligible one or change what stands against it",
    ),
    (
        "MU1028",
        "use a profile (fast, lan, cloud, wan) or values that satisfy 2 x election_max + 60 ms <= lease_ttl - kill_budget - heartbeat",
    ),
    ("MU1029", "remove what is not needed any more, or spread the work over several clusters"),
    ("MU1030", "nothing to do: a later write of the same client has been applied"),
    ("MU1031", "'musterctl service validate -f FILE' shows file, line and key"),
    ("MU1032", "nothing to do: the node's session moved on meanwhile"),
    ("MU1033", "stop the service and wait until nothing of it is left, then apply the new mode and start it"),
    ("MU1040", "'musterctl user list' shows the users"),
    (
        "MU1041",
        "'musterctl cert show' lists who has not renewed; end it with 'musterctl cert rotate-ca --finish' first",
    ),
    ("MU1042", "'musterctl cert rotate-ca' begins a replacement"),
    ("MU1043", "bring the nodes back, let users run 'musterctl cert renew'; --force shuts out who is left"),
    ("MU1060", "'musterctl secret list' shows the secrets"),
    ("MU1061", "make it first with 'musterctl secret create NAME', or correct its name in the service file"),
    ("MU1062", "give it another value with 'musterctl secret set NAME'"),
    (
        "MU1063",
        "take it out of these services first; --force removes it all the same, and they can't start anew then",
    ),
    ("MU1064", "repeat the command"),
    ("MU1065", "wait until 'musterctl secret list' shows one key, then repeat the command"),
    ("MU1066", "nothing to do for an operator: the node asks again when it is to run the instance"),
    ("MU2001", "try again in a second; 'musterctl raft status --stale' shows what this agent knows"),
    ("MU2002", "bring the other voters back; this agent answers from the local copy with --stale"),
    ("MU2003", "check the names and values in the request"),
    (
        "MU2004",
        "the data directory or the address belongs to another cluster, or to it before a recovery; join that host anew with an empty data_dir",
    ),
    ("MU2005", "ask the leader, or any agent without --stale"),
    ("MU2006", "write SERVICE/INDEX; 'musterctl service show NAME' lists the instances"),
    ("MU2007", "bring more voters back or join another host first; 'musterctl raft status' shows who is up"),
    ("MU2008", "'musterctl raft status' shows the voters; another one must be up and not drained"),
    ("MU2009", "end some 'events --follow' or 'logs -f', or ask another agent"),
    ("MU2010", "try again with a longer --timeout; the act itself may still go on"),
    ("MU2011", "check that the agent on that host runs and can be reached"),
    (
        "MU2012",
        "look at the agent's log on that host; it ends itself and is started again when it can't go on",
    ),
    (
        "MU2013",
        "use 'musterctl failover SERVICE', which also works when the source is gone; a stopped service is started with 'musterctl service start'",
    ),
    ("MU2014", "run the command on that host itself"),
    (
        "MU2015",
        "'musterctl service explain SERVICE' says for each node why not; free a node or change the service's placement",
    ),
    ("MU2016", "'musterctl node list -o wide' shows the labels of the nodes"),
    ("MU2030", "use a context with that role, or run this as root on an agent's host without --endpoint"),
    (
        "MU2031",
        "an admin makes a new one with 'musterctl user create NAME --role ROLE'; a node joins again as a new one",
    ),
    ("MU2032", "try again in a moment, or ask another agent"),
    ("MU2033", "look at that host; 'musterctl cert revoke node/NAME' shuts it out"),
    ("MU2034", "ask an agent that is not a worker: --endpoint HOST:PORT, with a context"),
    ("MU2035", "users are served on the addresses of [admin] listen, agents on those of [node] listen"),
    ("MU2036", "try again in a few seconds"),
    ("MU2037", "let some calls end, or ask another agent"),
    (
        "MU2038",
        "remove the node ('musterctl node remove NAME'), move the data directory away and join as a new one",
    ),
    (
        "MU2060",
        "try again in a moment: the agent fetches the key from another member; 'musterctl status' warns while it lacks it",
    ),
];

/// The remedy for a code; empty for a code that this version doesn't know.
#[must_use]
pub fn of_code(code: &str) -> &'static str {
    REMEDIES.iter().find(|(known, _)| *known == code).map_or("", |(_, remedy)| remedy)
}

/// The remedy for a refusal, with its names filled in where that saves a look.
pub(super) fn of_refusal(refusal: &Refusal) -> String {
    match refusal {
        Refusal::NodeAlive(name) => format!(
            "drain it ('musterctl drain {name}'), then run 'muster leave' there; or stop agent and guard there and repeat this"
        ),
        Refusal::NotEligible { slot, .. } => {
            format!("'musterctl service explain {}' says for each node why or why not", slot.service)
        }
        other => of_code(other.code()).to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    /// Every code that a source file names.
    fn codes_in(text: &str) -> BTreeSet<String> {
        let starts = text.match_indices("\"MU").map(|(at, _)| &text[at + 1..]);
        let codes = starts.filter_map(|rest| rest.get(..6));
        codes.filter(|code| code[2..].chars().all(|c| c.is_ascii_digit())).map(str::to_owned).collect()
    }

    #[test]
    fn every_code_has_a_remedy_and_a_page() {
        let mut codes = codes_in(include_str!("../../core/src/refusal.rs"));
        codes.extend(codes_in(include_str!("status.rs")));
        let known: BTreeSet<String> = REMEDIES.iter().map(|(code, _)| (*code).to_owned()).collect();
        assert_eq!(codes, known, "the codes and their remedies differ");
        let pages = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/errors");
        let index = std::fs::read_to_string(pages.join("README.md")).unwrap();
        for code in codes {
            assert!(pages.join(format!("{code}.md")).is_file(), "docs/errors/{code}.md is missing");
            assert!(index.contains(&format!("({code}.md)")), "docs/errors/README.md does not list {code}");
        }
    }

    #[test]
    fn remedies_can_travel_as_metadata() {
        for (code, remedy) in REMEDIES {
            assert!(remedy.is_ascii() && !remedy.is_empty() && remedy.len() < 300, "{code}");
        }
    }
}
