//! `service logs`.

use muster_proto::v1 as pb;

use super::Run;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::view::event::LogLine;
use crate::wait::service::Instance;

/// What of which tasks is wanted.
pub struct Wanted {
    /// SERVICE or SERVICE/INSTANCE.
    pub instance: String,
    /// Only this task.
    pub task: Option<String>,
    /// Whether new lines are wanted too.
    pub follow: bool,
    /// Whether hosts where it ran before are asked too.
    pub all_hosts: bool,
    /// How many last lines.
    pub tail: u32,
}

/// Prints what tasks wrote.
///
/// # Errors
/// As of any call.
pub async fn logs(run: &mut Run, wanted: Wanted) -> Result<Exit, Failure> {
    let instance = Instance::parse(&wanted.instance)?;
    let request = pb::LogsRequest {
        service: instance.service,
        index: instance.index,
        task: wanted.task.unwrap_or_default(),
        follow: wanted.follow,
        tail: wanted.tail,
        all_hosts: wanted.all_hosts,
        ..Default::default()
    };
    let mut stream = run.client.logs(request).await?;
    let mut printed = 0_u64;
    loop {
        let line = if wanted.follow {
            stream.next(&mut run.client).await?
        } else {
            let (limit, deadline) = (run.client.limit(), run.client.deadline());
            let waiting_for = vec!["the output".to_owned()];
            let late = |_| Failure::TimedOut { limit, waiting_for, goes_on: false };
            tokio::time::timeout_at(deadline, stream.next(&mut run.client)).await.map_err(late)??
        };
        let Some(line) = line else { break };
        run.out.show_item(&LogLine::new(&line, true))?;
        printed += 1;
    }
    if printed == 0 {
        run.out.note("nothing was written yet");
    }
    Ok(Exit::Done)
}
