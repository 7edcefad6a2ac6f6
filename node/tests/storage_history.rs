//! The history: derived data that may be lost, and must never be in anyone's way.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::disallowed_methods,
    reason = "a test that fails should panic where it fails"
)]

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use muster::storage::history::{Event, History, Query, survives_panics};

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
