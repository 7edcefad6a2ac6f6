//! The log's files, damaged: changes to a sound one at any place, and files of any content beside it.
//!
//! It opens with everything that was acknowledged, or with a torn tail cut off where the file ends early, or it is
//! refused; never with other entries than were written, and never with another vote while the last bytes are there.

use std::fs;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::mpsc::sync_channel;

use bytes::Bytes;
use muster::storage::Position;
use muster::storage::log::{Completion, EntryLog, Log, StoredVote};

use super::input::{Input, Output};

const ENTRIES: u64 = 12;
/// The most changes of one input.
const MAX_CHANGES: usize = 8;

struct Sound {
    name: String,
    bytes: Vec<u8>,
}

fn content(index: u64) -> Bytes {
    Bytes::from(format!("entry {index} {}", "x".repeat(usize::try_from(index % 5).unwrap_or(0))))
}

fn at(index: u64) -> Position {
    Position { term: 3, index }
}

fn acknowledged(write: impl FnOnce(Completion) -> std::io::Result<()>) {
    let (sender, receiver) = sync_channel(1);
    let done = Completion::new(move |outcome| drop(sender.send(outcome)));
    write(done).expect("the log takes it");
    receiver.recv().expect("it tells").expect("it is on the disk");
}

/// The only file of a sound log.
fn sound() -> &'static Sound {
    static SOUND: OnceLock<Sound> = OnceLock::new();
    SOUND.get_or_init(|| {
        let directory = scratch();
        let log = Log::open(directory.path()).expect("an empty directory");
        acknowledged(|done| log.save_vote(StoredVote { term: 4, node: 1, committed: false }, done));
        let mut entries = (0..ENTRIES).map(|index| (at(index), content(index)));
        acknowledged(|done| log.append(&mut entries, done));
        drop(log);
        let mut files = fs::read_dir(directory.path()).expect("it is there").filter_map(Result::ok);
        let file = files.find(|file| file.path().extension().is_some_and(|e| e == "wal")).expect("a file");
        let name = file.file_name().to_string_lossy().into_owned();
        Sound { name, bytes: fs::read(file.path()).expect("it can be read") }
    })
}

/// In memory: nothing here has to survive a power cut.
fn scratch() -> tempfile::TempDir {
    let shared = Path::new("/dev/shm");
    let made = if shared.is_dir() { tempfile::tempdir_in(shared) } else { tempfile::tempdir() };
    made.expect("a directory")
}

pub(super) fn body(bytes: &[u8]) {
    let sound = sound();
    let mut file = sound.bytes.clone();
    let mut input = Input::new(bytes);
    let cut = usize::from(input.byte()) | usize::from(input.byte()) << 8;
    let beside = input.part();
    for _ in 0..MAX_CHANGES {
        if input.is_empty() {
            break;
        }
        let at = usize::from(input.byte()) | usize::from(input.byte()) << 8;
        let flipped = input.byte();
        let length = file.len();
        file[at % length] ^= flipped;
    }
    file.truncate(file.len() - cut % file.len());
    let directory = scratch();
    fs::write(directory.path().join(&sound.name), &file).expect("it is memory");
    if !beside.is_empty() {
        let next = sound.name.replace(|c: char| c.is_ascii_digit(), "9");
        fs::write(directory.path().join(next), beside).expect("it is memory");
    }
    judge(directory.path(), file == sound.bytes);
}

fn judge(directory: &Path, is_sound: bool) {
    let Ok(log) = Log::open(directory) else {
        return;
    };
    let Ok(entries) = log.read(0..u64::MAX, usize::MAX) else { return };
    for (number, (position, bytes)) in (0..).zip(&entries) {
        assert_eq!((*position, bytes), (at(number), &content(number)), "another entry than was written");
    }
    if is_sound {
        assert_eq!(entries.len() as u64, ENTRIES, "a sound file lost entries");
    }
}

pub(super) fn seeds() -> Vec<(String, Vec<u8>)> {
    let plain = |cut: u16| Output::default().byte(cut.to_le_bytes()[0]).byte(cut.to_le_bytes()[1]);
    let flip = |at: u16| plain(0).part(&[]).byte(at.to_le_bytes()[0]).byte(at.to_le_bytes()[1]).byte(1).0;
    vec![
        ("sound".to_owned(), plain(0).part(&[]).0),
        ("cut".to_owned(), plain(10).part(&[]).0),
        ("flipped".to_owned(), flip(100)),
        ("beside".to_owned(), plain(0).part(b"MUST").0),
    ]
}
