//! The history: derived data that may be lost, and must never be in anyone's way.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::disallowed_methods,
    reason = "a test that fails should panic where it fails"
)]

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use muster::storage::history::{AuditQuery, Event, History, Query, survives_panics};
use muster_core::audit::{AuditOutcome, AuditRecord};
use muster_core::id::Revision;
use muster_core::time::Stamp;

fn event(revision: u64, service: Option<&str>) -> Event {
    Event {
        revision,
        sequence: 0,
        time_ms: revision * 10,
        kind: "Tested".into(),
        node: Some("n1".into()),
        service: service.map(Into::into),
        detail: serde_json::json!({"number": revision}),
    }
}

async fn revisions(history: &History, query: Query) -> Vec<u64> {
    history.query(query).await.into_iter().map(|event| event.revision).collect()
}

fn broken(directory: &Path) -> usize {
    let parent = fs::read_dir(directory.parent().unwrap()).unwrap();
    parent.filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().contains(".broken-")).count()
}

#[tokio::test]
async fn events_are_found_by_revision_time_and_service() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("history");
    let history = History::open(&path);
    for revision in 1..=20 {
        history.append(event(revision, (revision % 2 == 0).then_some("web")));
        history.append(event(revision, (revision % 2 == 0).then_some("web")));
    }
    history.append(event(21, Some("web-2")));
    drop(history);
    let history = History::open(&path);
    assert_eq!(revisions(&history, Query::default()).await, (1..=21).collect::<Vec<_>>());
    let query = Query { after_revision: Some(18), ..Query::default() };
    assert_eq!(revisions(&history, query).await, [19, 20, 21]);
    let query = Query { since_ms: Some(195), ..Query::default() };
    assert_eq!(revisions(&history, query).await, [20, 21]);
    let web = Query { service: Some("web".into()), ..Query::default() };
    assert_eq!(revisions(&history, Query { limit: 3, ..web.clone() }).await, [16, 18, 20]);
    assert_eq!(revisions(&history, Query { after_revision: Some(14), ..web }).await, [16, 18, 20]);
    assert_eq!(history.query(Query { limit: 1, ..Query::default() }).await, [event(21, Some("web-2"))]);
    assert_eq!(history.dropped(), 0);
}

#[tokio::test]
async fn the_oldest_events_make_room() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("history");
    for round in 0..2 {
        let history = History::open_keeping(&path, 10);
        for revision in 1..=20 {
            history.append(event(round * 20 + revision, Some("web")));
        }
        let kept: Vec<u64> = (round * 20 + 11..=round * 20 + 20).collect();
        assert_eq!(revisions(&history, Query::default()).await, kept);
        let web = Query { service: Some("web".into()), ..Query::default() };
        assert_eq!(revisions(&history, web).await, kept);
    }
}

#[tokio::test]
async fn a_store_that_cannot_be_read_is_set_aside() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("history");
    fs::write(&path, "not a directory").unwrap();
    for round in 1..=5_usize {
        let history = History::open(&path);
        history.append(event(1, None));
        assert_eq!(revisions(&history, Query::default()).await, [1], "round {round}");
        drop(history);
        assert_eq!(broken(&path), round.min(3));
        // Whatever the store keeps in its files, this is not it.
        for entry in fs::read_dir(&path).unwrap() {
            let file = entry.unwrap().path();
            if file.is_file() {
                fs::write(file, vec![0xa5; 100_000]).unwrap();
            }
        }
    }
}

#[tokio::test]
async fn an_oversized_event_is_dropped_and_counted() {
    let parent = tempfile::tempdir().unwrap();
    let history = History::open(&parent.path().join("history"));
    history.append(Event { detail: "x".repeat(60_000).into(), ..event(1, None) });
    history.append(event(2, None));
    assert_eq!(revisions(&history, Query::default()).await, [2]);
    assert_eq!(history.dropped(), 1);
}

#[tokio::test]
async fn the_caller_never_waits() {
    let parent = tempfile::tempdir().unwrap();
    let history = History::open(&parent.path().join("history"));
    let began = Instant::now();
    for revision in 0..50_000 {
        history.append(event(revision, Some("web")));
    }
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    let mut kept = Vec::new();
    while kept.is_empty() {
        // A query is refused while the queue is full.
        kept = revisions(&history, Query::default()).await;
    }
    assert_eq!(kept.len() as u64 + history.dropped(), 50_000);
}

#[test]
fn only_the_historys_threads_may_panic() {
    assert!(survives_panics("muster-history") && survives_panics("sled-io-3"));
    assert!(!survives_panics("tokio-runtime-worker") && !survives_panics("main"));
}

fn line(revision: u64, sequence: u32) -> Arc<AuditRecord> {
    Arc::new(AuditRecord {
        revision: Revision(revision),
        sequence,
        time: Stamp(revision * 10),
        before: Revision(revision - 1),
        actor: "user alice".into(),
        verb: "service annotate".to_owned(),
        target: "web owner=".to_owned() + &"x".repeat(200),
        outcome: AuditOutcome::Applied,
        code: String::new(),
        message: String::new(),
        count: 1,
    })
}

async fn places(history: &History, query: AuditQuery) -> (Vec<(u64, u32)>, u64) {
    let (lines, kept) = history.query_audit(query).await;
    (lines.iter().map(|line| (line.revision, line.sequence)).collect(), kept)
}

const ALL: AuditQuery = AuditQuery { after: (0, 0), since_ms: None, limit: usize::MAX, latest: false };

#[tokio::test]
async fn lines_of_the_audit_trail_are_found_across_their_blocks() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("history");
    let history = History::open(&path);
    // Enough for several blocks of 32 KiB, and two lines in each entry.
    let all: Vec<(u64, u32)> = (1..=300).flat_map(|revision| [(revision, 0), (revision, 1)]).collect();
    all.iter().for_each(|(revision, sequence)| history.append_audit(&line(*revision, *sequence)));
    assert_eq!(places(&history, ALL).await, (all.clone(), 600));
    let some = AuditQuery { after: (150, 0), limit: 3, ..ALL };
    assert_eq!(places(&history, some).await.0, [(150, 1), (151, 0), (151, 1)]);
    let newest = AuditQuery { limit: 2, latest: true, ..ALL };
    assert_eq!(places(&history, newest).await.0, [(300, 0), (300, 1)]);
    let late = AuditQuery { since_ms: Some(3000), ..ALL };
    assert_eq!(places(&history, late).await.0, [(300, 0), (300, 1)]);
    assert_eq!(places(&history, AuditQuery { after: (300, 1), ..ALL }).await.0, []);
    for after in 0..300 {
        let (found, _) = places(&history, AuditQuery { after: (after, 1), limit: 1, ..ALL }).await;
        assert_eq!(found, [(after + 1, 0)]);
    }
    assert_eq!(history.dropped(), 0);
}

#[tokio::test]
async fn a_log_that_is_replayed_writes_no_line_twice() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("history");
    let history = History::open(&path);
    (1..=10).for_each(|revision| history.append_audit(&line(revision, 0)));
    // What waits for more is kept when the agent ends.
    drop(history);
    let history = History::open(&path);
    (5..=12).for_each(|revision| history.append_audit(&line(revision, 0)));
    let expected: Vec<(u64, u32)> = (1..=12).map(|revision| (revision, 0)).collect();
    assert_eq!(places(&history, ALL).await, (expected, 12));
}

#[tokio::test]
async fn the_oldest_lines_of_the_audit_trail_go_first() {
    let parent = tempfile::tempdir().unwrap();
    let history = History::open(&parent.path().join("history"));
    let most = 100_000;
    for revision in 1..=most + 2_000 {
        history.append_audit(&line(revision, 0));
        // Nobody waits for the writer: a reader does.
        if revision % 1_000 == 0 {
            places(&history, AuditQuery { limit: 1, latest: true, ..ALL }).await;
        }
    }
    let (newest, kept) = places(&history, AuditQuery { limit: 1, latest: true, ..ALL }).await;
    assert_eq!(newest, [(most + 2_000, 0)]);
    assert!((most - 1_000..=most).contains(&kept), "{kept} lines are kept");
    assert_eq!(history.dropped(), 0);
}
