//! `wait`.

use std::time::Duration;

use serde::Serialize;

use super::Run;
use crate::cli::{WaitArgs, WaitState};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Screen, View};
use crate::wait::service::Running;
use crate::wait::{node, service, until};

/// Unless told otherwise.
const WAIT: Duration = Duration::from_secs(60);

/// What came true.
#[derive(Debug, Serialize)]
struct Reached {
    what: String,
    state: &'static str,
}

impl View for Reached {
    fn table(&self, _screen: &Screen) -> String {
        match self.state {
            "quorum" => format!("{} has a quorum\n", self.what),
            state => format!("{} is {state}\n", self.what),
        }
    }

    fn names(&self) -> Vec<String> {
        vec![self.what.clone()]
    }
}

/// Waits until something is so.
///
/// # Errors
/// When the time is over, with what was missing.
pub async fn wait(run: &mut Run, args: &WaitArgs) -> Result<Exit, Failure> {
    run.wait_at_most(WAIT);
    let state = match (args.what.split_once('/'), args.state) {
        (Some(("service", name)), WaitState::Running) => {
            let mut running = Running::new(vec![name.to_owned()]).patient();
            until(run, |status, now| running.judge(status, now)).await?;
            "running"
        }
        (Some(("service", name)), WaitState::Healthy) => {
            let mut running = Running::new(vec![name.to_owned()]).healthy().patient();
            until(run, |status, now| running.judge(status, now)).await?;
            "healthy"
        }
        (Some(("service", name)), WaitState::Stopped) => {
            until(run, |status, _| service::stopped(status, name)).await?;
            "stopped"
        }
        (Some(("node", name)), WaitState::Alive) => {
            until(run, |status, _| node::alive(status, name)).await?;
            "alive"
        }
        (Some(("node", name)), WaitState::Drained) => {
            until(run, |status, _| node::drained(status, name, false)).await?;
            "drained"
        }
        (None, WaitState::Quorum) if args.what == "cluster" => {
            // The agents themselves may still be starting.
            run.client.be_patient();
            until(run, |status, _| node::quorum(status)).await?;
            "quorum"
        }
        _ => {
            return Err(Failure::Usage(format!(
                "'{}' cannot be waited for in that way; use service/NAME --for running|healthy|stopped, \
                 node/NAME --for alive|drained, or cluster --for quorum",
                args.what
            )));
        }
    };
    run.out.show_outcome(&Reached { what: args.what.clone(), state })?;
    Ok(Exit::Done)
}
