use std::fs;
use std::io::Write;

use futures::StreamExt;
use muster_core::id::ServiceName;

use super::*;

struct Logs {
    dir: tempfile::TempDir,
    path: PathBuf,
}

impl Logs {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let instance = dir.path().join("logs/web/0");
        fs::create_dir_all(&instance).unwrap();
        Self { path: instance.join("server.log"), dir }
    }

    fn write(&self, text: &str) {
        let mut file = fs::OpenOptions::new().create(true).append(true).open(&self.path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    fn rotate(&self) {
        for index in (0..task_log::oldest(&self.path) + 1).rev() {
            fs::rename(task_log::rotated(&self.path, index), task_log::rotated(&self.path, index + 1))
                .unwrap();
        }
    }

    fn query(&self, tail: Option<usize>, follow: bool) -> impl Stream<Item = String> + use<> {
        let slot = SlotId { service: ServiceName::new("web").unwrap(), index: 0 };
        let query = LogQuery { slot, task: None, tail, follow };
        read_logs(self.dir.path(), query).map(|line| line.unwrap().line)
    }

    async fn all(&self, tail: Option<usize>) -> Vec<String> {
        self.query(tail, false).collect().await
    }
}

#[tokio::test]
async fn all_lines_are_read_oldest_first_across_rotations() {
    let logs = Logs::new();
    assert_eq!(logs.all(None).await, Vec::<String>::new());
    logs.write("a\nb\n");
    logs.rotate();
    logs.write("c\n");
    logs.rotate();
    logs.write("d\r\nunfinished");
    assert_eq!(logs.all(None).await, ["a", "b", "c", "d", "unfinished"]);
}

#[tokio::test]
async fn the_tail_reaches_into_rotated_files() {
    let logs = Logs::new();
    logs.write("a\nb\n");
    logs.rotate();
    logs.write("c\nd\n");
    assert_eq!(logs.all(Some(0)).await, Vec::<String>::new());
    assert_eq!(logs.all(Some(1)).await, ["d"]);
    assert_eq!(logs.all(Some(2)).await, ["c", "d"]);
    assert_eq!(logs.all(Some(3)).await, ["b", "c", "d"]);
    assert_eq!(logs.all(Some(100)).await, ["a", "b", "c", "d"]);
}

#[tokio::test]
async fn a_follower_sees_each_line_once_across_rotations() {
    let logs = Logs::new();
    logs.write("old\nlast\n");
    let mut lines = Box::pin(logs.query(Some(1), true));
    assert_eq!(lines.next().await.unwrap(), "last");
    logs.write("par");
    logs.write("tial\n");
    assert_eq!(lines.next().await.unwrap(), "partial");
    logs.write("before\n");
    logs.rotate();
    logs.write("between\n");
    logs.rotate();
    logs.write("after\n");
    assert_eq!(lines.next().await.unwrap(), "before");
    assert_eq!(lines.next().await.unwrap(), "between");
    assert_eq!(lines.next().await.unwrap(), "after");
}

#[tokio::test]
async fn a_line_without_end_is_cut() {
    let logs = Logs::new();
    logs.write(&"x".repeat(200 * 1024));
    let lines = logs.all(None).await;
    assert_eq!(lines.len(), 4);
    assert_eq!(lines.iter().map(String::len).sum::<usize>(), 200 * 1024);
}
