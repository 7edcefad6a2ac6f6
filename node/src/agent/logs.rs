//! Reads the logs of tasks as their init wrote them: `TASK.log`, and `TASK.log.1` … for what was rotated
//! away, the highest number the oldest.

mod tail;
mod task_log;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::Stream;
use muster_core::id::{ServiceName, SlotId, TaskName};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

pub use task_log::Position;
use task_log::TaskLog;

/// Lines read ahead of a slow reader.
const LINES_AHEAD_MAX: usize = 256;
/// How long a written line may take until a follower sees it.
const FOLLOW_PACE: Duration = Duration::from_millis(100);

/// One line of a task's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// The instance.
    pub slot: SlotId,
    /// The task.
    pub task: TaskName,
    /// The line, without its end; bytes that are not UTF-8 are replaced.
    pub line: String,
    /// Where it ends.
    pub end: Position,
}

/// What to read.
#[derive(Clone, Debug)]
pub struct LogQuery {
    /// Of which service.
    pub service: ServiceName,
    /// Which instance; `None`: all of them.
    pub index: Option<u64>,
    /// Which task; `None`: all of them.
    pub task: Option<TaskName>,
    /// Tasks that are gone on with behind a line, whatever else is said.
    pub after: BTreeMap<(u64, TaskName), Position>,
    /// Only so many of the last lines of each task; `None`: everything that is kept.
    pub tail: Option<usize>,
    /// Whether to go on with what is written from now on, by any instance, until the stream is dropped.
    pub follow: bool,
}

/// Of which instances it is told what they have written so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Past {
    /// Of these.
    Of(BTreeSet<u64>),
    /// Of all that ever ran here and whose logs are kept.
    All,
}

impl Past {
    fn is_told_of(&self, index: u64) -> bool {
        match self {
            Self::Of(these) => these.contains(&index),
            Self::All => true,
        }
    }
}

/// Reads logs below `data_dir`. An instance that never ran here has no lines. `past` is asked when it is settled where
/// what follows begins, so that whatever is placed here after its answer is followed from its first line on.
pub fn read_logs<P: FnOnce() -> Past + Send + 'static>(
    data_dir: &Path,
    query: LogQuery,
    past: P,
) -> impl Stream<Item = io::Result<LogLine>> + Send + use<P> {
    let data_dir = data_dir.to_owned();
    let (lines, receiver) = mpsc::channel(LINES_AHEAD_MAX);
    tokio::spawn(async move {
        let reader = Reader { data_dir, query, past: Some(Box::new(past)), tasks: BTreeMap::new() };
        tokio::select! {
            () = lines.closed() => {}
            () = pump(reader, &lines) => {}
        }
    });
    ReceiverStream::new(receiver)
}

async fn pump(mut reader: Reader, lines: &mpsc::Sender<io::Result<LogLine>>) {
    let follow = reader.query.follow;
    loop {
        let round = crate::blocking::run(move || {
            let read = reader.read();
            (reader, read)
        });
        let Ok((back, read)) = round.await else { return };
        reader = back;
        let (batch, has_more) = match read {
            Ok(read) => read,
            Err(error) => {
                lines.send(Err(error)).await.ok();
                return;
            }
        };
        for line in batch {
            if lines.send(Ok(line)).await.is_err() {
                return;
            }
        }
        if !has_more {
            if !follow {
                return;
            }
            tokio::time::sleep(FOLLOW_PACE).await;
        }
    }
}

struct Reader {
    data_dir: PathBuf,
    query: LogQuery,
    /// Asked in the first round.
    past: Option<Box<dyn FnOnce() -> Past + Send>>,
    tasks: BTreeMap<(SlotId, TaskName), TaskLog>,
}

impl Reader {
    /// What can be read now, up to a limit; the flag tells whether there is more.
    fn read(&mut self) -> io::Result<(Vec<LogLine>, bool)> {
        match self.past.take() {
            Some(past) => self.begin(past)?,
            // A task that appears later is read from its beginning.
            None => self.open_new(|path| TaskLog::open(path, None))?,
        }
        let (mut lines, mut has_more) = (Vec::new(), false);
        for ((slot, task), log) in &mut self.tasks {
            has_more |= log.read(!self.query.follow, |line, end| {
                let line = String::from_utf8_lossy(line).into_owned();
                lines.push(LogLine { slot: slot.clone(), task: task.clone(), line, end });
            })?;
        }
        Ok((lines, has_more))
    }

    /// Everything that is here is followed from its end; then what is told of the past is opened anew.
    fn begin(&mut self, past: Box<dyn FnOnce() -> Past + Send>) -> io::Result<()> {
        self.open_new(|path| TaskLog::open(path, Some(0)))?;
        let past = past();
        let (query, tasks) = (&self.query, &mut self.tasks);
        if !query.follow {
            tasks.retain(|(slot, _), _| past.is_told_of(slot.index));
        }
        for ((slot, task), log) in tasks.iter_mut() {
            let path = log.path().to_owned();
            match query.after.get(&(slot.index, task.clone())) {
                Some(behind) => *log = TaskLog::resume(path, *behind)?,
                None if past.is_told_of(slot.index) => *log = TaskLog::open(path, query.tail)?,
                None => {}
            }
        }
        Ok(())
    }

    fn open_new(&mut self, open: impl Fn(PathBuf) -> io::Result<TaskLog>) -> io::Result<()> {
        for index in self.instances()? {
            let slot = SlotId { service: self.query.service.clone(), index };
            let directory = crate::driver::exec::log_dir(&self.data_dir, &slot);
            for name in names_in(&directory)? {
                let task = name.strip_suffix(".log").and_then(|task| TaskName::new(task).ok());
                let Some(task) = task else { continue };
                let is_wanted = self.query.task.as_ref().is_none_or(|wanted| *wanted == task);
                let key = (slot.clone(), task);
                if is_wanted && !self.tasks.contains_key(&key) {
                    self.tasks.insert(key, open(directory.join(name))?);
                }
            }
        }
        Ok(())
    }

    /// The instances of which anything is kept here.
    fn instances(&self) -> io::Result<Vec<u64>> {
        let directory = crate::driver::exec::logs_of(&self.data_dir, &self.query.service);
        let mut found = Vec::new();
        for name in names_in(&directory)? {
            let index = name.parse::<u64>().ok();
            found.extend(index.filter(|index| self.query.index.is_none_or(|wanted| wanted == *index)));
        }
        Ok(found)
    }
}

/// The names in a directory; none when it is not there.
fn names_in(directory: &Path) -> io::Result<Vec<String>> {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let names = entries.map(|entry| Ok(entry?.file_name().into_string().ok()));
    names.filter_map(Result::transpose).collect()
}

#[cfg(test)]
mod tests;
