//! Reads the logs of tasks as their init wrote them: `TASK.log`, and `TASK.log.1` … for what was rotated
//! away, the highest number the oldest.

mod tail;
mod task_log;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::Stream;
use muster_core::id::{SlotId, TaskName};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use task_log::TaskLog;

/// Lines read ahead of a slow reader.
const LINES_AHEAD_MAX: usize = 256;
/// How long a written line may take until a follower sees it.
const FOLLOW_PACE: Duration = Duration::from_millis(100);

/// One line of a task's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// The task.
    pub task: TaskName,
    /// The line, without its end; bytes that are not UTF-8 are replaced.
    pub line: String,
}

/// What to read.
#[derive(Clone, Debug)]
pub struct LogQuery {
    /// Which instance.
    pub slot: SlotId,
    /// Which task; `None`: all of them.
    pub task: Option<TaskName>,
    /// Only so many of the last lines of each task; `None`: everything that is kept.
    pub tail: Option<usize>,
    /// Whether to go on with what is written from now on, until the stream is dropped.
    pub follow: bool,
}

/// Reads logs below `data_dir`. An instance that never ran here has no lines.
pub fn read_logs(data_dir: &Path, query: LogQuery) -> impl Stream<Item = io::Result<LogLine>> + Send + use<> {
    let dir = crate::driver::exec::log_dir(data_dir, &query.slot);
    let (lines, receiver) = mpsc::channel(LINES_AHEAD_MAX);
    tokio::spawn(async move {
        let reader = Reader { dir, query, tasks: BTreeMap::new(), is_first_round: true };
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
    dir: PathBuf,
    query: LogQuery,
    tasks: BTreeMap<TaskName, TaskLog>,
    is_first_round: bool,
}

impl Reader {
    /// What can be read now, up to a limit; the flag tells whether there is more.
    fn read(&mut self) -> io::Result<(Vec<LogLine>, bool)> {
        self.find_tasks()?;
        let (mut lines, mut has_more) = (Vec::new(), false);
        for (task, log) in &mut self.tasks {
            has_more |= log.read(!self.query.follow, |line| {
                lines.push(LogLine { task: task.clone(), line: String::from_utf8_lossy(line).into_owned() });
            })?;
        }
        Ok((lines, has_more))
    }

    /// A task that appears later is read from its beginning.
    fn find_tasks(&mut self) -> io::Result<()> {
        let tail = if self.is_first_round { self.query.tail } else { None };
        self.is_first_round = false;
        let entries = match std::fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        for entry in entries {
            let name = entry?.file_name();
            let task = name.to_str().and_then(|n| n.strip_suffix(".log")).and_then(|n| TaskName::new(n).ok());
            let Some(task) = task else { continue };
            let is_wanted = self.query.task.as_ref().is_none_or(|wanted| *wanted == task);
            if is_wanted && !self.tasks.contains_key(&task) {
                let log = TaskLog::open(self.dir.join(name), tail)?;
                self.tasks.insert(task, log);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
