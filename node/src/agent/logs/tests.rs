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
        let service = ServiceName::new("web").unwrap();
        let query = LogQuery { service, index: None, task: None, after: BTreeMap::new(), tail, follow };
        read_logs(self.dir.path(), query, || Past::Of([0].into())).map(|line| line.unwrap().line)
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

#[tokio::test]
async fn a_follower_sees_what_an_instance_writes_that_is_placed_here_later() {
    let logs = Logs::new();
    logs.write("of a former run\n");
    let service = ServiceName::new("web").unwrap();
    let after = BTreeMap::new();
    let query = LogQuery { service, index: None, task: None, after, tail: Some(10), follow: true };
    let lines = read_logs(logs.dir.path(), query, || Past::Of(BTreeSet::new()));
    let mut lines = Box::pin(lines.map(|line| line.unwrap()));
    let early = tokio::time::timeout(3 * FOLLOW_PACE, lines.next()).await;
    assert!(early.is_err(), "nothing of the past is told");
    logs.write("of this run\n");
    assert_eq!(lines.next().await.unwrap().line, "of this run");
    let second = logs.dir.path().join("logs/web/1");
    fs::create_dir_all(&second).unwrap();
    fs::write(second.join("server.log"), "first line\n").unwrap();
    let line = lines.next().await.unwrap();
    assert_eq!((line.slot.index, line.line.as_str()), (1, "first line"));
}

#[tokio::test]
async fn the_past_of_all_is_told_although_none_is_placed_here() {
    let logs = Logs::new();
    logs.write("a\n");
    let service = ServiceName::new("web").unwrap();
    let query = |past: Past, index| {
        let (service, after) = (service.clone(), BTreeMap::new());
        let query = LogQuery { service, index, task: None, after, tail: None, follow: false };
        read_logs(logs.dir.path(), query, move || past).map(|line| line.unwrap().line).collect::<Vec<_>>()
    };
    assert_eq!(query(Past::Of(BTreeSet::new()), None).await, Vec::<String>::new());
    assert_eq!(query(Past::All, None).await, ["a"]);
    assert_eq!(query(Past::All, Some(1)).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_stream_goes_on_where_another_one_broke_off() {
    let logs = Logs::new();
    logs.write("a\nb\nc\nunfin");
    let service = ServiceName::new("web").unwrap();
    let key = (0, TaskName::new("server").unwrap());
    let read = |after: Option<Position>| {
        let after = after.into_iter().map(|position| (key.clone(), position)).collect();
        let service = service.clone();
        let query = LogQuery { service, index: None, task: None, after, tail: Some(2), follow: false };
        let lines = read_logs(logs.dir.path(), query, || Past::Of([0].into()));
        lines.map(|line| line.unwrap()).collect::<Vec<_>>()
    };
    let text = |lines: &[LogLine]| lines.iter().map(|line| line.line.clone()).collect::<Vec<_>>();
    let first = read(None).await;
    assert_eq!(text(&first), ["c", "unfin"]);
    let behind_c = Some(first[0].end);
    assert_eq!(text(&read(behind_c).await), ["unfin"]);
    logs.write("ished\n");
    logs.rotate();
    logs.write("d\n");
    assert_eq!(text(&read(behind_c).await), ["unfinished", "d"], "across a rotation");
    logs.rotate();
    logs.write("e\n");
    fs::remove_file(task_log::rotated(&logs.path, 2)).unwrap();
    assert_eq!(text(&read(behind_c).await), ["d", "e"], "it goes on with what is kept");
}

#[tokio::test]
async fn what_is_placed_between_the_first_look_and_the_answer_is_told_from_its_first_line() {
    let logs = Logs::new();
    logs.write("of a former run\n");
    let path = logs.path.clone();
    let (service, after) = (ServiceName::new("web").unwrap(), BTreeMap::new());
    let query = LogQuery { service, index: None, task: None, after, tail: Some(10), follow: true };
    // The state that is asked does not know of the placement yet, and its task writes already.
    let lines = read_logs(logs.dir.path(), query, move || {
        let mut file = fs::OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"first\n").unwrap();
        Past::Of(BTreeSet::new())
    });
    let mut lines = Box::pin(lines.map(|line| line.unwrap()));
    assert_eq!(lines.next().await.unwrap().line, "first");
}
