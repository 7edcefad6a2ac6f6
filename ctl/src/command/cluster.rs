//! `cluster show` and `cluster set`.

use muster_core::time::Timing;
use muster_proto::v1 as pb;

use super::Run;
use crate::cli::ClusterVerb;
use crate::context::nearest_name;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::view::status::{ClusterDetail, Status};

const KEYS: [&str; 6] = [
    "timing.profile",
    "timing.heartbeat_ms",
    "timing.lease_ttl_ms",
    "timing.kill_budget_ms",
    "timing.raft_heartbeat_ms",
    "timing.raft_election_ms",
];

/// Runs a verb on the cluster itself.
///
/// # Errors
/// As of any call; wrong keys and values are wrong usage.
pub async fn cluster(run: &mut Run, verb: ClusterVerb) -> Result<Exit, Failure> {
    let status = run.status().await?;
    match verb {
        ClusterVerb::Show => run.out.show(&ClusterDetail { cluster: Status::from(status).cluster })?,
        ClusterVerb::Set { assignments } => {
            let before = status.timing.as_ref().map_or(Timing::LAN, muster_wire::timing_from_proto);
            let timing = assignments.iter().try_fold(before, |timing, text| set(timing, text))?;
            let request = pb::SetTimingRequest {
                timing: Some(muster_wire::timing_to_proto(&timing)),
                ..Default::default()
            };
            let reply = run.client.set_timing(request).await?;
            run.acted(reply, "timing", &format!("the timing is {timing}"))?;
        }
    }
    Ok(Exit::Done)
}

/// The timing with one key changed.
fn set(timing: Timing, text: &str) -> Result<Timing, Failure> {
    let (key, value) =
        text.split_once('=').ok_or_else(|| Failure::Usage(format!("'{text}' is not KEY=VALUE")))?;
    let full = if key.contains('.') { key.to_owned() } else { format!("timing.{key}") };
    let ms = || {
        let number = value.parse::<u32>();
        number.map_err(|_| Failure::Usage(format!("{full}: '{value}' is not a number of milliseconds")))
    };
    Ok(match full.as_str() {
        "timing.profile" => Timing::named(value).ok_or_else(|| {
            Failure::Usage(format!("{full}: there is no profile '{value}'; use fast, lan, cloud or wan"))
        })?,
        "timing.heartbeat_ms" => Timing { heartbeat_ms: ms()?, ..timing },
        "timing.lease_ttl_ms" => Timing { lease_ttl_ms: ms()?, ..timing },
        "timing.kill_budget_ms" => Timing { kill_budget_ms: ms()?, ..timing },
        "timing.raft_heartbeat_ms" => Timing { raft_heartbeat_ms: ms()?, ..timing },
        "timing.raft_election_ms" => {
            let (min, max) = election(value).ok_or_else(|| {
                Failure::Usage(format!("{full}: '{value}' is not MIN-MAX, such as 200-400"))
            })?;
            Timing { raft_election_min_ms: min, raft_election_max_ms: max, ..timing }
        }
        _ => {
            let near = nearest_name(&full, KEYS.into_iter());
            let near = near.map(|near| format!("; did you mean {near}?")).unwrap_or_default();
            return Err(Failure::Usage(format!(
                "there is no key '{key}'{near}; known are: {}",
                KEYS.join(", ")
            )));
        }
    })
}

/// `200-400`, or `[200, 400]` as in the agent's configuration.
fn election(value: &str) -> Option<(u32, u32)> {
    let value = value.trim_start_matches('[').trim_end_matches(']');
    let (min, max) = value.split_once(['-', ','])?;
    Some((min.trim().parse().ok()?, max.trim().parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_set_one_after_the_other() {
        let timing = ["timing.profile=cloud", "lease_ttl_ms=4000", "timing.raft_election_ms=[600, 1100]"]
            .iter()
            .try_fold(Timing::LAN, |timing, text| set(timing, text))
            .unwrap();
        let expected = Timing {
            lease_ttl_ms: 4000,
            raft_election_min_ms: 600,
            raft_election_max_ms: 1100,
            ..Timing::CLOUD
        };
        assert_eq!(timing, expected);
    }

    #[test]
    fn mistakes_are_wrong_usage() {
        for wrong in ["timing.profile=slow", "heartbeat_ms=x", "timing.raft_election_ms=200", "x"] {
            assert!(matches!(set(Timing::LAN, wrong), Err(Failure::Usage(_))), "{wrong}");
        }
        let text = set(Timing::LAN, "timing.lease_tll_ms=1").unwrap_err().to_string();
        assert!(text.contains("did you mean timing.lease_ttl_ms?"), "{text}");
    }
}
