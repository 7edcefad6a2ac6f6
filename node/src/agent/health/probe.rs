//! One try of a health check.

use std::time::Duration;

use muster_core::spec::{Check, HealthSpec};
use muster_guard::protocol::ExitHow;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::driver::{Driver, DriverError, TaskId};

/// The status line stands at the very beginning of an answer.
const HTTP_HEAD_BYTES: usize = 512;
const HTTP_PORT: u16 = 80;

/// What a try tells about the task; an error says what was tried and what came of it.
pub(super) type Health = Result<(), String>;

/// Tries once, within the declared timeout. `None`: the try says nothing about the task, because its driver
/// can't be reached or the task does not run.
pub(super) async fn probe(spec: &HealthSpec, id: &TaskId, driver: &dyn Driver) -> Option<Health> {
    match &spec.check {
        Check::Tcp(address) => {
            let result = within(spec.timeout, tcp(address)).await;
            Some(result.map_err(|why| format!("tcp {address}: {why}")))
        }
        Check::Http(url) => {
            let result = within(spec.timeout, http(url)).await;
            Some(result.map_err(|why| format!("GET {url}: {why}")))
        }
        Check::Exec(argv) => exec(driver, id, argv, spec.timeout).await,
    }
}

async fn within(limit: Duration, work: impl Future<Output = Result<(), String>>) -> Result<(), String> {
    let too_slow = || Err(format!("no answer within {} ms", limit.as_millis()));
    tokio::time::timeout(limit, work).await.unwrap_or_else(|_| too_slow())
}

async fn tcp(address: &str) -> Result<(), String> {
    TcpStream::connect(address).await.map(drop).map_err(|error| error.to_string())
}

async fn http(url: &str) -> Result<(), String> {
    let target = HttpTarget::parse(url).ok_or("not an http:// URL")?;
    let status = get(&target).await.map_err(|error| error.to_string())?;
    match status {
        Some(200..=399) => Ok(()),
        Some(status) => Err(format!("status {status}")),
        None => Err("the answer is not HTTP".to_owned()),
    }
}

/// The status of the answer; `None` when it is not HTTP.
async fn get(target: &HttpTarget<'_>) -> std::io::Result<Option<u16>> {
    let mut stream = TcpStream::connect((target.host, target.port)).await?;
    let request = format!(
        "GET {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: muster\r\nAccept: */*\r\nConnection: close\r\n\r\n",
        target.path, target.authority
    );
    stream.write_all(request.as_bytes()).await?;
    let mut head = Vec::with_capacity(HTTP_HEAD_BYTES);
    while head.len() < HTTP_HEAD_BYTES && !head.contains(&b'\n') {
        if stream.read_buf(&mut head).await? == 0 {
            break;
        }
    }
    Ok(status_of(&head))
}

fn status_of(head: &[u8]) -> Option<u16> {
    let line = head.split(|byte| *byte == b'\n').next()?;
    let mut words = std::str::from_utf8(line).ok()?.split_ascii_whitespace();
    words.next().filter(|version| version.starts_with("HTTP/1."))?;
    words.next()?.parse().ok()
}

#[derive(Debug, PartialEq, Eq)]
struct HttpTarget<'a> {
    authority: &'a str,
    host: &'a str,
    port: u16,
    path: &'a str,
}

impl<'a> HttpTarget<'a> {
    fn parse(url: &'a str) -> Option<Self> {
        let rest = url.strip_prefix("http://")?;
        let (authority, path) = rest.find('/').map_or((rest, "/"), |slash| rest.split_at(slash));
        let has_port = authority.rfind(':') > authority.rfind(']');
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if has_port => (host, port.parse().ok()?),
            _ => (authority, HTTP_PORT),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        (!host.is_empty()).then_some(Self { authority, host, port, path })
    }
}

async fn exec(driver: &dyn Driver, id: &TaskId, argv: &[String], timeout: Duration) -> Option<Health> {
    let command = argv.first().map_or("", String::as_str);
    let failed = |why: String| Some(Err(format!("{command}: {why}")));
    match driver.check(id.clone(), argv.to_vec(), timeout).await {
        Ok(Some(ExitHow::Code(0))) => Some(Ok(())),
        Ok(Some(ExitHow::Code(code))) => failed(format!("exit status {code}")),
        Ok(Some(ExitHow::Signal(signal))) => failed(format!("ended by signal {signal}")),
        Ok(None) => failed(format!("no result within {} ms", timeout.as_millis())),
        Err(DriverError::Cannot(problem)) => failed(problem.cause.to_string()),
        Err(error) => {
            tracing::debug!(task = %id, "a health check brought nothing: {error}");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn urls_have_a_host_a_port_and_a_path() {
        let parts = |url| HttpTarget::parse(url).map(|t| (t.host, t.port, t.path));
        assert_eq!(parts("http://127.0.0.1:8080/ok?x=1"), Some(("127.0.0.1", 8080, "/ok?x=1")));
        assert_eq!(parts("http://web"), Some(("web", 80, "/")));
        assert_eq!(parts("http://[::1]:81/"), Some(("::1", 81, "/")));
        assert_eq!(parts("http://[::1]/"), Some(("::1", 80, "/")));
        assert_eq!(parts("https://web/"), None);
        assert_eq!(parts("http://:80/"), None);
        assert_eq!(parts("http://web:port/"), None);
    }

    async fn answer_once(answer: &'static str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            let _length = stream.read(&mut request).await.unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
        });
        format!("http://{address}/ready")
    }

    #[tokio::test]
    async fn success_and_redirects_are_healthy_errors_are_not() {
        assert_eq!(http(&answer_once("HTTP/1.1 200 OK\r\n\r\n").await).await, Ok(()));
        assert_eq!(http(&answer_once("HTTP/1.0 302 Found\r\n\r\n").await).await, Ok(()));
        let refused = http(&answer_once("HTTP/1.1 503 Busy\r\n\r\n").await).await;
        assert_eq!(refused, Err("status 503".to_owned()));
        let nonsense = http(&answer_once("220 smtp ready\r\n").await).await;
        assert_eq!(nonsense, Err("the answer is not HTTP".to_owned()));
    }

    #[tokio::test]
    async fn nobody_listening_is_unhealthy() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        assert_eq!(tcp(&address.to_string()).await, Ok(()));
        drop(listener);
        assert!(tcp(&address.to_string()).await.is_err());
    }
}
