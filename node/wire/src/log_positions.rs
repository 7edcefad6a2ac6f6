//! How far the output of tasks was told, on either side of a stream of logs.

use std::collections::BTreeMap;

use muster_proto::v1;

/// So many last lines of each task are told when nothing else is asked for, and of a task of which nothing was told
/// yet when a stream goes on: it may have begun meanwhile, and written more than was asked for of the past.
pub const TAIL_LINES: u32 = 100;

/// Where the last line of each task that was told ends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogPositions(BTreeMap<Task, Position>);

/// Node, instance and task.
type Task = (String, String, String);
/// The file's number on that host, and bytes in it.
type Position = (u64, u64);

impl LogPositions {
    /// A line was told.
    pub fn record(&mut self, line: &v1::LogLine) {
        let task = (line.node.clone(), line.instance.clone(), line.task.clone());
        self.0.insert(task, (line.file, line.offset));
    }

    /// All of them, as a request to go on names them.
    #[must_use]
    pub fn to_proto(&self) -> Vec<v1::LogPosition> {
        self.0.iter().map(position).collect()
    }

    /// Those of one host's tasks.
    #[must_use]
    pub fn of_node(&self, node: &str) -> Vec<v1::LogPosition> {
        self.0.iter().filter(|((host, ..), _)| host == node).map(position).collect()
    }
}

fn position(((node, instance, task), (file, offset)): (&Task, &Position)) -> v1::LogPosition {
    let (node, instance, task) = (node.clone(), instance.clone(), task.clone());
    v1::LogPosition { node, instance, task, file: *file, offset: *offset }
}

impl From<&[v1::LogPosition]> for LogPositions {
    fn from(named: &[v1::LogPosition]) -> Self {
        let known = |at: &v1::LogPosition| {
            ((at.node.clone(), at.instance.clone(), at.task.clone()), (at.file, at.offset))
        };
        Self(named.iter().map(known).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(node: &str, offset: u64) -> v1::LogLine {
        let (node, instance, task) = (node.to_owned(), "web/0".to_owned(), "main".to_owned());
        v1::LogLine { node, instance, task, line: Vec::new().into(), file: 7, offset }
    }

    #[test]
    fn a_stream_goes_on_behind_the_last_line_of_each_task() {
        let mut positions = LogPositions::default();
        for line in [line("n1", 10), line("n2", 5), line("n1", 20)] {
            positions.record(&line);
        }
        let ends = |named: Vec<v1::LogPosition>| named.iter().map(|at| at.offset).collect::<Vec<_>>();
        assert_eq!(ends(positions.to_proto()), [20, 5]);
        assert_eq!(ends(positions.of_node("n1")), [20]);
        assert_eq!(LogPositions::from(positions.to_proto().as_slice()), positions);
    }
}
