//! One function for each verb.

use std::cell::Cell;
use std::io::BufRead;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use muster_proto::v1 as pb;
use muster_tls::Live;

use crate::cli::{Cli, Verb};
use crate::client::{Client, WriteState};
use crate::context::{self, Environment, nearest_name};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{self, Printer};
use crate::view::outcome::Outcome;

mod apply;
mod audit;
mod cert;
mod check;
mod cluster;
mod completion;
mod events;
mod logs;
mod node;
mod placing;
mod raft;
mod secret;
mod service;
mod status;
mod template;
mod token;
mod top;
mod user;
mod wait;

/// How long a command tries and waits, unless told otherwise.
const TIMEOUT: Duration = Duration::from_secs(30);

/// What a verb works with.
pub struct Run {
    /// The cluster.
    pub client: Client,
    /// The printer.
    pub out: Printer,
    /// Whose certificate is shown; none on the agent's own host.
    pub own: Option<Own>,
    /// Whether reads may be answered from one agent's own copy.
    pub stale: bool,
    /// The operator's own time limit.
    timeout: Option<Duration>,
    yes: bool,
}

/// The user's own certificate.
pub struct Own {
    /// The context file that holds it, if it holds that alone.
    pub file: Option<std::path::PathBuf>,
    /// What it says.
    pub identity: muster_tls::Identity,
}

/// Runs the command; Ctrl-C ends it at any point.
pub async fn run(cli: Cli) -> Exit {
    let out = Printer::new(cli.global.output, cli.global.quiet, cli.global.no_color);
    let writes = Rc::new(Cell::new(WriteState::None));
    let mut work = pin!(dispatch(cli, out, Rc::clone(&writes)));
    let result = loop {
        // The work comes first: until it waits for the cluster (it may be reading stdin, or asking), nobody
        // could react to a Ctrl-C, so it keeps its usual effect.
        tokio::select! {
            biased;
            result = &mut work => break result,
            Ok(()) = tokio::signal::ctrl_c() => {
                if writes.get() != WriteState::Editing {
                    break Err(Failure::Interrupted(interrupted(writes.get())));
                }
            }
        }
    };
    result.unwrap_or_else(|failure| {
        out.error(&failure);
        failure.exit()
    })
}

/// What a Ctrl-C means at this point.
fn interrupted(writes: WriteState) -> &'static str {
    match writes {
        WriteState::None | WriteState::Editing => "nothing was changed",
        WriteState::Sent => {
            "the request was sent but not yet answered; 'musterctl status' shows whether it was taken"
        }
        WriteState::Acknowledged => "only the waiting ended, the act goes on; look with 'musterctl status'",
    }
}

async fn dispatch(cli: Cli, out: Printer, writes: Rc<Cell<WriteState>>) -> Result<Exit, Failure> {
    // What needs no cluster must not ask where one is.
    if let Some(result) = service::without_cluster(&cli.verb, out) {
        return result;
    }
    if let Verb::Completion { shell } = cli.verb {
        return completion::print(shell, out);
    }
    let global = cli.global;
    let target = context::target(&global.endpoint, global.context.as_deref(), &Environment::read())?;
    if let Some(endpoint) = target.lacks_credentials() {
        let nobody = context::nobody_listens(&target.endpoints).await;
        return Err(nobody.unwrap_or_else(|| Failure::NoCertificate { endpoint: endpoint.to_string() }));
    }
    let own =
        target.credentials.as_ref().map(|own| Own { file: target.file, identity: own.identity().clone() });
    let live = target.credentials.map(Live::new).transpose();
    let live = live.map_err(|error| Failure::Usage(format!("the certificate of the context: {error}")))?;
    let client = Client::new(target.endpoints, live, global.timeout.unwrap_or(TIMEOUT), writes);
    let (stale, timeout, yes) = (global.stale, global.timeout, global.yes);
    let mut run = Run { client, out, own, stale, timeout, yes };
    run.note_expiry();
    let run = &mut run;
    match cli.verb {
        Verb::Status { check } => status::status(run, check).await,
        Verb::Cluster { verb } => cluster::cluster(run, verb).await,
        Verb::Node { verb } => node::node(run, verb).await,
        Verb::Drain(args) => node::drain(run, args).await,
        Verb::Undrain { node } => node::undrain(run, &node).await,
        Verb::Service { verb } => service::service(run, verb).await,
        Verb::Move(args) => placing::move_to(run, args).await,
        Verb::Failover(args) => placing::failover(run, args).await,
        Verb::Simulate(args) => placing::simulate(run, args).await,
        Verb::Rebalance { dry_run, detach } => placing::rebalance(run, dry_run, detach).await,
        Verb::Top(args) => top::top(run, args).await,
        Verb::Events(args) => events::events(run, args).await,
        Verb::Audit(args) => audit::audit(run, args).await,
        Verb::Wait(args) => wait::wait(run, &args).await,
        Verb::Secret { verb } => secret::secret(run, verb).await,
        Verb::Token { verb } => token::token(run, verb).await,
        Verb::Cert { verb } => cert::cert(run, verb).await,
        Verb::User { verb } => user::user(run, verb).await,
        Verb::Raft { verb } => raft::raft(run, verb).await,
        Verb::Check => check::check(run).await,
        Verb::Completion { .. } => Ok(Exit::Done),
    }
}

impl Run {
    /// Says in time that the certificate ends.
    fn note_expiry(&self) {
        let Some(own) = &self.own else { return };
        let (now, ends) = (crate::clock::wall_ms(), own.identity.ends.0);
        if own.identity.half_life().0 + (ends - own.identity.half_life().0) / 2 <= now {
            let ends = crate::when::relative(ends, now);
            self.out.warn(&format!("your certificate ends {ends}; renew it with 'musterctl cert renew'"));
        }
    }

    /// The status of the cluster.
    async fn status(&mut self) -> Result<pb::ClusterStatus, Failure> {
        self.client.get_status(pb::GetStatusRequest { stale: self.stale }).await
    }

    /// Gives waiting another default limit; the operator's own one stands.
    fn wait_at_most(&mut self, limit: Duration) {
        self.client.set_limit(self.timeout.unwrap_or(limit));
    }

    /// Prints that an act was waited for and is done; agents can only tell that it has begun.
    fn done(&self, mut reply: pb::ActReply, subject: &str, message: &str) -> Result<(), Failure> {
        if reply.changed {
            reply.message.clear();
        }
        self.acted(reply, subject, message)
    }

    /// Prints what an act did.
    fn acted(&self, reply: pb::ActReply, subject: &str, message: &str) -> Result<(), Failure> {
        let outcome = Outcome::new(reply, subject, message);
        outcome.warnings.iter().for_each(|warning| self.out.warn(warning));
        self.out.show_outcome(&outcome)
    }

    /// Goes on only if the operator confirms: by `--yes`, or at the terminal.
    fn confirm(&self, act: String) -> Result<(), Failure> {
        if self.yes {
            return Ok(());
        }
        if !self.out.can_ask() {
            return Err(Failure::Unconfirmed { act });
        }
        output::tell(&format!("{act}. Go on? [y/N] "));
        let mut answer = String::new();
        let read = std::io::stdin().lock().read_line(&mut answer);
        read.map_err(|source| Failure::Io { doing: "reading the answer", source })?;
        if matches!(answer.trim(), "y" | "Y" | "yes") { Ok(()) } else { Err(Failure::SaidNo) }
    }
}

/// The node of that name.
///
/// # Errors
/// [`Failure::NoSuch`] with the nearest name.
pub fn find_node<'a>(status: &'a pb::ClusterStatus, name: &str) -> Result<&'a pb::NodeStatus, Failure> {
    let found = status.nodes.iter().find(|node| node.name == name);
    found.ok_or_else(|| Failure::NoSuch {
        what: "node",
        name: name.to_owned(),
        nearest: nearest_name(name, status.nodes.iter().map(|node| node.name.as_str())),
    })
}

/// The service of that name.
///
/// # Errors
/// [`Failure::NoSuch`] with the nearest name.
pub fn find_service<'a>(status: &'a pb::ClusterStatus, name: &str) -> Result<&'a pb::ServiceStatus, Failure> {
    let found = status.services.iter().find(|service| service.name == name);
    found.ok_or_else(|| Failure::NoSuch {
        what: "service",
        name: name.to_owned(),
        nearest: nearest_name(name, status.services.iter().map(|service| service.name.as_str())),
    })
}

/// `KEY=VALUE` sets, `KEY-` removes.
fn assignment(text: &str) -> Result<(String, Option<String>), Failure> {
    let wrong = || Failure::Usage(format!("'{text}' is neither KEY=VALUE nor KEY-"));
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), Some(value.to_owned()))),
        Some(_) => Err(wrong()),
        None => match text.strip_suffix('-') {
            Some(key) if !key.is_empty() => Ok((key.to_owned(), None)),
            _ => Err(wrong()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn assignments_set_and_remove() {
        assert_eq!(assignment("a=b=c").unwrap(), ("a".to_owned(), Some("b=c".to_owned())));
        assert_eq!(assignment("a=").unwrap(), ("a".to_owned(), Some(String::new())));
        assert_eq!(assignment("a-b-").unwrap(), ("a-b".to_owned(), None));
        for wrong in ["a", "=b", "-", ""] {
            assert!(matches!(assignment(wrong), Err(Failure::Usage(_))), "{wrong}");
        }
    }

    #[test]
    fn a_wrong_name_brings_the_nearest() {
        let node = pb::NodeStatus { name: "node1".to_owned(), ..Default::default() };
        let status = pb::ClusterStatus { nodes: vec![node], ..Default::default() };
        let failure = find_node(&status, "nod1").unwrap_err();
        assert_eq!(failure.to_string(), "there is no node nod1; did you mean node1?");
        assert_eq!((failure.exit(), failure.code()), (Exit::NotFound, "MU1003"));
    }
}
