//! The log on a disk that is cut, flipped and robbed: either it opens with everything that was
//! acknowledged, or it refuses.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::disallowed_methods,
    reason = "a test that fails should panic where it fails"
)]

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::sync_channel;

use bytes::Bytes;
use muster::storage::Position;
use muster::storage::log::{Completion, EntryLog, Log, LogState, OpenError, StoredVote};

const WRITER_DIRECTORY: &str = "MUSTER_TEST_LOG_WRITER";

fn at(index: u64) -> Position {
    Position { term: 3, index }
}

fn content(index: u64) -> Bytes {
    Bytes::from(format!("entry {index} {}", "x".repeat((index % 50) as usize)))
}

/// Does a write and waits until it is on the disk.
fn acknowledged(write: impl FnOnce(Completion) -> std::io::Result<()>) -> std::io::Result<()> {
    let (sender, receiver) = sync_channel(1);
    write(Completion::new(move |outcome| sender.send(outcome).unwrap()))?;
    receiver.recv().unwrap()
}

fn append(log: &Log, indices: std::ops::Range<u64>) {
    let mut entries = indices.map(|index| (at(index), content(index)));
    acknowledged(|done| log.append(&mut entries, done)).unwrap();
}

fn vote(log: &Log, term: u64) -> StoredVote {
    let vote = StoredVote { term, node: 1, committed: false };
    acknowledged(|done| log.save_vote(vote, done)).unwrap();
    vote
}

fn everything(log: &Log) -> Vec<(Position, Bytes)> {
    log.read(0..u64::MAX, usize::MAX).unwrap()
}

fn expected(indices: std::ops::Range<u64>) -> Vec<(Position, Bytes)> {
    indices.map(|index| (at(index), content(index))).collect()
}

/// The files of the log, in order.
fn chunks(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut chunks: Vec<_> = entries.filter(|path| path.extension().is_some_and(|e| e == "wal")).collect();
    chunks.sort();
    chunks
}

/// A log of two files, closed.
fn two_chunks(directory: &Path) -> u64 {
    let log = Log::open(directory).unwrap();
    vote(&log, 4);
    for first in (0..70_000).step_by(1_000) {
        append(&log, first..first + 1_000);
    }
    drop(log);
    assert_eq!(chunks(directory).len(), 2);
    70_000
}

#[test]
fn everything_is_there_after_an_orderly_stop() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("deep/log");
    let log = Log::open(&path).unwrap();
    assert_eq!(log.state().unwrap(), LogState::default());
    append(&log, 0..100);
    let vote = vote(&log, 4);
    log.save_committed(at(90)).unwrap();
    log.purge(at(9)).unwrap();
    assert!(matches!(Log::open(&path), Err(OpenError::InUse { .. })));
    log.close();
    assert!(log.state().is_err(), "a closed log says so");

    let log = Log::open(&path).unwrap();
    assert_eq!(log.torn_tail_bytes(), 0);
    let state =
        LogState { purged: Some(at(9)), last: Some(at(99)), committed: Some(at(90)), vote: Some(vote) };
    assert_eq!(log.state().unwrap(), state);
    assert_eq!(everything(&log), expected(10..100));
    acknowledged(|done| log.truncate_after(Some(at(94)), done)).unwrap();
    append(&log, 95..97);
    drop(log);
    assert_eq!(everything(&Log::open(&path).unwrap()), expected(10..97));
}

#[test]
fn the_committed_index_never_goes_back_nor_beyond_the_log() {
    let directory = tempfile::tempdir().unwrap();
    let log = Log::open(directory.path()).unwrap();
    log.save_committed(at(5)).unwrap();
    assert_eq!(log.state().unwrap().committed, None, "beyond the log");
    append(&log, 0..10);
    log.save_committed(at(5)).unwrap();
    log.save_committed(at(4)).unwrap();
    log.save_committed(at(5)).unwrap();
    log.save_committed(at(50)).unwrap();
    assert_eq!(log.state().unwrap().committed, Some(at(5)));
    assert!(!log.has_failed());
}

#[test]
fn a_read_takes_at_least_one_entry_and_otherwise_keeps_to_its_limit() {
    let directory = tempfile::tempdir().unwrap();
    let log = Log::open(directory.path()).unwrap();
    append(&log, 0..10);
    assert_eq!(log.read(2..10, 1).unwrap(), expected(2..3));
    assert_eq!(log.read(2..10, content(2).len() + content(3).len()).unwrap(), expected(2..4));
    assert_eq!(log.read(5..5, 100).unwrap(), []);
}

#[test]
fn a_torn_tail_is_cut_off_and_told() {
    let directory = tempfile::tempdir().unwrap();
    let log = Log::open(directory.path()).unwrap();
    append(&log, 0..20);
    let kept_bytes = fs::metadata(&chunks(directory.path())[0]).unwrap().len();
    append(&log, 20..21);
    drop(log);
    let chunk = chunks(directory.path()).remove(0);
    let whole = fs::read(&chunk).unwrap();
    for length in (kept_bytes + 1)..(whole.len() as u64) {
        let copy = tempfile::tempdir().unwrap();
        let copied = copy.path().join(chunk.file_name().unwrap());
        fs::write(&copied, &whole[..length as usize]).unwrap();
        let log = Log::open(copy.path()).unwrap();
        assert_eq!(log.torn_tail_bytes(), length - kept_bytes);
        assert_eq!(everything(&log), expected(0..20));
        append(&log, 20..25);
        drop(log);
        assert_eq!(everything(&Log::open(copy.path()).unwrap()), expected(0..25));
    }
}

#[test]
fn a_flipped_bit_is_found_wherever_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let log = Log::open(directory.path()).unwrap();
    append(&log, 0..40);
    log.save_committed(at(30)).unwrap();
    let vote = vote(&log, 9);
    let state = log.state().unwrap();
    drop(log);
    let chunk = chunks(directory.path()).remove(0);
    let whole = fs::read(&chunk).unwrap();
    // The first records and the last ones bit by bit, for there a wrong length or type reaches the end of
    // the file; the rest in steps.
    let bits = whole.len() * 8;
    let positions = (0..800).chain((800..bits - 1_600).step_by(37)).chain(bits - 1_600..bits);
    let mut tried = 0;
    for bit in positions {
        let mut flipped = whole.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let copy = tempfile::tempdir().unwrap();
        let copied = copy.path().join(chunk.file_name().unwrap());
        fs::write(&copied, &flipped).unwrap();
        match Log::open(copy.path()) {
            Err(OpenError::Damaged { .. }) => {
                assert_eq!(fs::read(&copied).unwrap(), flipped, "bit {bit}: the file was changed");
            }
            Err(error) => panic!("bit {bit}: {error}"),
            Ok(log) => {
                assert_eq!(log.state().unwrap().vote, Some(vote), "bit {bit}: the vote is forgotten");
                assert_eq!(everything(&log), expected(0..40), "bit {bit}: entries are lost");
                assert_eq!(log.state().unwrap(), state);
            }
        }
        tried += 1;
    }
    assert!(tried > 2_400, "{tried}");
}

#[test]
fn damage_in_the_middle_is_named_with_file_and_offset() {
    let directory = tempfile::tempdir().unwrap();
    two_chunks(directory.path());
    let first = chunks(directory.path()).remove(0);
    let mut bytes = fs::read(&first).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    fs::write(&first, &bytes).unwrap();
    let error = Log::open(directory.path()).err().unwrap().to_string();
    assert!(error.contains("ChunkId(00_000_000_000_000_000_000)"), "{error}");
    assert!(error.contains("join it again"), "{error}");
    let offset: usize = error.split("offset ").nth(1).unwrap().split(')').next().unwrap().parse().unwrap();
    assert!(offset <= middle && middle - offset < 200, "{offset} is not near {middle}");
}

#[test]
fn a_missing_or_empty_file_is_damage() {
    let whole = tempfile::tempdir().unwrap();
    let entries = two_chunks(whole.path());
    let files: BTreeMap<_, _> =
        chunks(whole.path()).into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect();
    let names: Vec<_> = files.keys().map(|path| path.file_name().unwrap().to_owned()).collect();
    let copy_of = |skip: &dyn Fn(usize) -> Option<usize>| {
        let copy = tempfile::tempdir().unwrap();
        for (number, (name, bytes)) in names.iter().zip(files.values()).enumerate() {
            if let Some(length) = skip(number) {
                fs::write(copy.path().join(name), &bytes[..length.min(bytes.len())]).unwrap();
            }
        }
        copy
    };
    let all = copy_of(&|_| Some(usize::MAX));
    assert_eq!(everything(&Log::open(all.path()).unwrap()).len() as u64, entries);
    let without_first = copy_of(&|number| (number == 1).then_some(usize::MAX));
    assert!(matches!(Log::open(without_first.path()), Err(OpenError::Damaged { .. })));
    for length in [0, 1, 20, 1_000] {
        let cut = copy_of(&|number| Some(if number == 0 { length } else { usize::MAX }));
        assert!(matches!(Log::open(cut.path()), Err(OpenError::Damaged { .. })), "cut to {length}");
    }
}

#[test]
fn purged_files_give_their_space_back_and_the_log_still_opens() {
    let directory = tempfile::tempdir().unwrap();
    let entries = two_chunks(directory.path());
    let log = Log::open(directory.path()).unwrap();
    log.purge(at(entries - 10)).unwrap();
    append(&log, entries..entries + 1);
    drop(log);
    assert_eq!(chunks(directory.path()).len(), 1);
    let log = Log::open(directory.path()).unwrap();
    assert_eq!(everything(&log), expected(entries - 9..entries + 1));
    // A snapshot may be ahead of the whole log.
    log.purge(at(entries + 100)).unwrap();
    append(&log, entries + 101..entries + 102);
    drop(log);
    let log = Log::open(directory.path()).unwrap();
    assert_eq!(everything(&log), expected(entries + 101..entries + 102));
    assert_eq!(log.state().unwrap().vote.unwrap().term, 4);
}

/// Not a test: the process that the tests below start, to kill it or to let its disk fail.
#[test]
#[ignore = "run by the other tests as a process of its own"]
fn writer_process() {
    let Some(directory) = std::env::var_os(WRITER_DIRECTORY) else { return };
    let log = Log::open(Path::new(&directory)).unwrap();
    let first = log.state().unwrap().last.map_or(0, |last| last.index + 1);
    for index in first.. {
        let entry = [(at(index), content(index))];
        match acknowledged(|done| log.append(&mut entry.into_iter(), done)) {
            Ok(()) => println!("acknowledged {index}"),
            Err(error) => {
                assert!(log.has_failed());
                let mut entry = std::iter::once((at(index), content(index)));
                let next = acknowledged(|done| log.append(&mut entry, done));
                assert!(next.is_err(), "a log that has failed takes nothing more");
                println!("failed {error}");
                std::process::exit(0);
            }
        }
    }
}

fn spawn(mut command: Command, directory: &Path) -> (Child, impl Iterator<Item = String>) {
    let mut child = command
        .env(WRITER_DIRECTORY, directory)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    (child, lines.map_while(Result::ok))
}

const WRITER_ARGUMENTS: [&str; 4] = ["--exact", "writer_process", "--ignored", "--nocapture"];

fn writer() -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(WRITER_ARGUMENTS);
    command
}

#[test]
fn a_killed_writer_loses_nothing_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let mut acknowledged = None;
    for round in 0..5 {
        let (mut child, lines) = spawn(writer(), directory.path());
        for line in lines.filter(|line| line.contains("acknowledged ")).take(40 + round * 13) {
            acknowledged = Some(line.rsplit(' ').next().unwrap().parse::<u64>().unwrap());
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let log = Log::open(directory.path()).unwrap();
        let entries = everything(&log);
        assert!(entries.last().map(|(at, _)| at.index) >= acknowledged);
        assert_eq!(entries, expected(0..entries.len() as u64));
    }
}

#[test]
fn after_a_write_error_nothing_is_acknowledged_any_more() {
    let directory = tempfile::tempdir().unwrap();
    // Files of at most 64 KiB, and no signal when that is exceeded: writes fail as on a full disk.
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' XFSZ; ulimit -f 128; exec \"$@\"", "sh"]);
    command.arg(std::env::current_exe().unwrap()).args(WRITER_ARGUMENTS);
    let (mut child, lines) = spawn(command, directory.path());
    let (mut acknowledged, mut failed) = (0, 0);
    for line in lines {
        if line.contains("acknowledged ") {
            assert_eq!(failed, 0);
            acknowledged = line.rsplit(' ').next().unwrap().parse::<u64>().unwrap();
        } else if line.contains("failed ") {
            failed += 1;
        }
    }
    assert!(child.wait().unwrap().success());
    assert_eq!(failed, 1);
    let log = Log::open(directory.path()).unwrap();
    assert!(log.state().unwrap().last.unwrap().index >= acknowledged);
}
