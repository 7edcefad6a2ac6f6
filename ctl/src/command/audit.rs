//! `audit`: who did what.

use std::time::Duration;

use muster_proto::v1 as pb;

use super::Run;
use super::events::parse_since;
use crate::cli::AuditArgs;
use crate::clock;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::view::audit::Record;

/// So many past records, where nothing is said.
const LAST: u32 = 100;
const LAST_BEFORE_FOLLOWING: u32 = 10;
/// The most that an agent answers at once.
const PAGE: u32 = 1000;
/// Between two looks for new records.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Prints the audit trail.
///
/// # Errors
/// As of any call; a `--since` that cannot be read is wrong usage.
pub async fn audit(run: &mut Run, args: AuditArgs) -> Result<Exit, Failure> {
    let mut request = pb::ReadAuditRequest { stale: run.stale, ..Default::default() };
    let limit = match &args.since {
        Some(since) => {
            let (revision, since_ms) = parse_since(since, clock::wall_ms())?;
            (request.after_revision, request.since_ms) = (revision, since_ms);
            // Whatever stands in that revision is not behind it.
            request.after_sequence = if revision > 0 { u32::MAX } else { 0 };
            args.limit.unwrap_or(u32::MAX)
        }
        None => {
            request.latest = true;
            args.limit.unwrap_or(if args.follow { LAST_BEFORE_FOLLOWING } else { LAST }).min(PAGE)
        }
    };
    let printed = print(run, &mut request, limit).await?;
    if args.follow {
        return follow(run, request).await;
    }
    if printed == 0 {
        run.out.note("no such records");
    }
    Ok(Exit::Done)
}

/// Goes on for ever with what comes behind the last record.
async fn follow(run: &mut Run, mut request: pb::ReadAuditRequest) -> Result<Exit, Failure> {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        // Each look has the time of a whole command: only following may take for ever.
        run.client.set_limit(run.client.limit());
        print(run, &mut request, u32::MAX).await?;
    }
}

/// Prints page after page, at most `limit` records, and leaves the request behind the last one.
async fn print(run: &mut Run, request: &mut pb::ReadAuditRequest, limit: u32) -> Result<u32, Failure> {
    let mut printed = 0;
    loop {
        request.limit = (limit - printed).min(PAGE);
        let page = run.client.read_audit(*request).await?;
        if printed == 0 && page.missing > 0 && !page.records.is_empty() && request.after_revision == 0 {
            run.out.note(&format!("{} keeps {} older records no longer", page.answered_by, page.missing));
        }
        for record in page.records {
            (request.after_revision, request.after_sequence) = (record.revision, record.sequence);
            run.out.show_item(&Record::from(record))?;
            printed += 1;
        }
        // What came before the newest ones was not asked for.
        let is_last = !page.more || request.latest || printed >= limit;
        request.latest = false;
        if is_last {
            return Ok(printed);
        }
    }
}
