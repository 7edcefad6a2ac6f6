//! `events`, and the history of one service.

use muster_proto::v1 as pb;

use super::Run;
use crate::cli::EventsArgs;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::view::event::Event;
use crate::{clock, when};

/// So many past events, where nothing is said.
const LAST: u32 = 100;
const LAST_BEFORE_FOLLOWING: u32 = 10;
/// With a point to begin from, everything since then is meant.
const SINCE: u32 = 10_000;

/// Prints events.
///
/// # Errors
/// As of any call; a `--since` that cannot be read is wrong usage.
pub async fn events(run: &mut Run, args: EventsArgs) -> Result<Exit, Failure> {
    let (since_revision, since_ms) = match &args.since {
        Some(since) => parse_since(since, clock::wall_ms())?,
        None => (0, Some(0)),
    };
    let limit = match (args.limit, &args.since, args.follow) {
        (Some(limit), _, _) => limit,
        (None, Some(_), _) => SINCE,
        (None, None, true) => LAST_BEFORE_FOLLOWING,
        (None, None, false) => LAST,
    };
    let request = pb::WatchRequest {
        since_revision,
        since_ms,
        follow: args.follow,
        service: args.service,
        node: args.node,
        limit,
    };
    let printed = print(run, request).await?;
    if printed == 0 {
        run.out.note("no such events");
    }
    Ok(Exit::Done)
}

/// Prints what happened to a service.
///
/// # Errors
/// As of any call.
pub async fn history(run: &mut Run, service: String, limit: u32) -> Result<Exit, Failure> {
    let request =
        pb::WatchRequest { since_ms: Some(0), service: Some(service.clone()), limit, ..Default::default() };
    if print(run, request).await? == 0 {
        let status = run.status().await?;
        super::find_service(&status, &service)?;
        run.out.note(&format!("nothing is known to have happened to {service}"));
    }
    Ok(Exit::Done)
}

async fn print(run: &mut Run, request: pb::WatchRequest) -> Result<u64, Failure> {
    let follow = request.follow;
    let mut stream = run.client.watch(request).await?;
    let mut printed = 0;
    while let Some(event) = next(run, &mut stream, follow).await? {
        run.out.show_item(&Event::from(event))?;
        printed += 1;
    }
    Ok(printed)
}

/// The next event. Only following may take for ever.
pub(super) async fn next(
    run: &mut Run,
    stream: &mut crate::client::EventStream,
    follow: bool,
) -> Result<Option<pb::Event>, Failure> {
    if follow {
        return stream.next(&mut run.client).await;
    }
    let (limit, deadline) = (run.client.limit(), run.client.deadline());
    let late = |_| Failure::TimedOut { limit, waiting_for: vec!["the events".to_owned()], goes_on: false };
    tokio::time::timeout_at(deadline, stream.next(&mut run.client)).await.map_err(late)?
}

/// A revision, a time, or how long ago.
pub(super) fn parse_since(text: &str, now_ms: u64) -> Result<(u64, Option<u64>), Failure> {
    if let Ok(revision) = text.parse::<u64>() {
        return Ok((revision, None));
    }
    if let Some(time_ms) = when::parse_iso(text) {
        return Ok((0, Some(time_ms)));
    }
    match when::parse_duration(text) {
        Ok(ago) => Ok((0, Some(now_ms.saturating_sub(when::as_ms(ago))))),
        Err(_) => Err(Failure::Usage(format!(
            "--since: '{text}' is neither a duration (1h), nor a time (2026-01-01T12:00:00Z), nor a revision (4711)"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_is_a_revision_a_time_or_a_duration() {
        assert_eq!(parse_since("4711", 0).unwrap(), (4711, None));
        assert_eq!(parse_since("1m", 100_000).unwrap(), (0, Some(40_000)));
        assert_eq!(parse_since("1970-01-02", 0).unwrap(), (0, Some(86_400_000)));
        assert!(matches!(parse_since("yesterday", 0), Err(Failure::Usage(_))));
    }
}
