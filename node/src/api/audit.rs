//! Who did what: what the history keeps, and what the state keeps in case it does not.

use std::collections::BTreeMap;

use muster_core::state::State;
use muster_proto::v1;

use super::Api;
use crate::storage::history::AuditQuery;

/// The most records in one answer: half a megabyte.
const PAGE: usize = 1000;

impl Api {
    /// A page of the audit trail. The newest records come from the replicated state, so that they are there on every
    /// agent and whatever happened to its history; the older ones from the history of this agent.
    pub(super) async fn read_audit_here(
        &self,
        state: &State,
        request: &v1::ReadAuditRequest,
    ) -> v1::ReadAuditReply {
        let limit = match usize::try_from(request.limit) {
            Ok(0) | Err(_) => PAGE,
            Ok(limit) => limit.min(PAGE),
        };
        let query = AuditQuery {
            after: (request.after_revision, request.after_sequence),
            since_ms: request.since_ms,
            // One more than asked for tells whether there are more.
            limit: limit + 1,
            latest: request.latest,
        };
        let (past, kept_there) = self.handles.history.query_audit(query.clone()).await;
        let mut records: BTreeMap<_, _> = past.into_iter().map(|record| (place(&record), record)).collect();
        let newest = state.audit.records().map(|record| muster_wire::audit_to_proto(record));
        records.extend(newest.filter(|record| query.wants(record)).map(|record| (place(&record), record)));
        let more = records.len() > limit;
        while records.len() > limit {
            if request.latest {
                records.pop_first()
            } else {
                records.pop_last()
            };
        }
        let (changes, refusals) = state.audit.totals();
        let kept_here = u64::try_from(state.audit.records().count()).unwrap_or(u64::MAX);
        v1::ReadAuditReply {
            records: records.into_values().collect(),
            more,
            missing: (changes + refusals).saturating_sub(kept_there.max(kept_here)),
            answered_by: self.handles.name.to_string(),
        }
    }
}

/// A record's place in the trail.
fn place(record: &v1::AuditRecord) -> (u64, u32) {
    (record.revision, record.sequence)
}
