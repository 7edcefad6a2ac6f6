//! A small client of the operator's API that stands in the switch's namespace.

use std::sync::Arc;
use std::time::Duration;

use muster_proto::v1;
use muster_proto::v1::cluster_client::ClusterClient;
use tokio::runtime::Runtime;
use tonic::transport::{Channel, Endpoint};
use tonic::{Response, Status};

use super::{HarnessError, Operator, network};

/// How long one call to one agent may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// How long connecting may take: the network is this machine.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(300);

/// The generated client.
pub type Client = ClusterClient<Channel>;

/// Talks to whichever agent answers.
#[derive(Debug)]
pub struct Api {
    runtime: Runtime,
    operator: Operator,
    agents: Vec<(String, Client)>,
}

impl Api {
    /// A client without agents yet.
    ///
    /// # Errors
    /// When its runtime can't be started.
    pub fn new(namespace: &str, operator: Operator) -> Result<Self, HarnessError> {
        let namespace: Arc<str> = namespace.into();
        // All sockets are opened by this runtime's only worker, so they belong to the namespace.
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .on_thread_start(move || {
                if let Err(error) = network::enter(&namespace) {
                    eprintln!("{error}");
                }
            })
            .build()
            .map_err(HarnessError::io("starting a runtime"))?;
        Ok(Self { runtime, operator, agents: Vec::new() })
    }

    /// Adds an agent to ask.
    ///
    /// # Errors
    /// When its address is malformed.
    pub fn add(&mut self, node: &str, endpoint: &str) -> Result<(), HarnessError> {
        let _inside = self.runtime.enter();
        let settings = Endpoint::from_shared(format!("http://{endpoint}"))
            .map_err(|e| HarnessError::broken(format!("{endpoint}: {e}")))?;
        let channel = self.operator.channel(&settings.connect_timeout(CONNECT_TIMEOUT), endpoint);
        self.agents.push((node.to_owned(), ClusterClient::new(channel)));
        Ok(())
    }

    /// The first answer that any agent gives. Agents that can't be reached, or have no leader, are passed over.
    ///
    /// # Errors
    /// A refusal, or the last obstacle when nobody could answer.
    pub fn ask<T, F, Fut>(&self, call: &'static str, request: F) -> Result<T, HarnessError>
    where
        T: Send + 'static,
        F: Fn(Client) -> Fut,
        Fut: Future<Output = Result<Response<T>, Status>> + Send + 'static,
    {
        let mut last = Status::unavailable("there is no agent");
        for (_, agent) in &self.agents {
            match self.ask_one(request(agent.clone())) {
                Ok(answer) => return Ok(answer),
                Err(status) if is_final(&status) => {
                    return Err(HarnessError::Refused { call, status: Box::new(status) });
                }
                Err(status) => last = status,
            }
        }
        Err(HarnessError::Refused { call, status: Box::new(last) })
    }

    /// How many agents it knows.
    #[must_use]
    pub fn agents(&self) -> usize {
        self.agents.len()
    }

    /// What one agent answers within `limit`, whatever it is.
    ///
    /// # Errors
    /// The status of the call.
    ///
    /// # Panics
    /// When there is no such agent.
    pub fn ask_agent<T, F, Fut>(&self, agent: usize, limit: Duration, request: F) -> Result<T, Status>
    where
        T: Send + 'static,
        F: FnOnce(Client) -> Fut,
        Fut: Future<Output = Result<Response<T>, Status>> + Send + 'static,
    {
        self.ask_within(limit, request(self.agents[agent].1.clone()))
    }

    fn ask_one<T: Send + 'static>(
        &self,
        request: impl Future<Output = Result<Response<T>, Status>> + Send + 'static,
    ) -> Result<T, Status> {
        self.ask_within(CALL_TIMEOUT, request)
    }

    fn ask_within<T: Send + 'static>(
        &self,
        limit: Duration,
        request: impl Future<Output = Result<Response<T>, Status>> + Send + 'static,
    ) -> Result<T, Status> {
        let limited = async move {
            let late = |_| Status::deadline_exceeded("no answer");
            tokio::time::timeout(limit, request).await.map_err(late)?.map(Response::into_inner)
        };
        let joined = self.runtime.block_on(self.runtime.spawn(limited));
        joined.map_err(|e| Status::internal(e.to_string()))?
    }

    /// A linearizable status from any agent.
    ///
    /// # Errors
    /// When nobody can answer.
    pub fn status(&self) -> Result<v1::ClusterStatus, HarnessError> {
        let request = v1::GetStatusRequest { stale: false };
        self.ask("status", move |mut c| async move { c.get_status(request).await })
    }

    /// The status as one agent's own copy has it.
    ///
    /// # Errors
    /// When it doesn't answer.
    pub fn stale_status(&self, node: &str) -> Result<v1::ClusterStatus, HarnessError> {
        let (_, agent) = self
            .agents
            .iter()
            .find(|(n, _)| n == node)
            .ok_or_else(|| HarnessError::NoHost(node.to_owned()))?;
        let mut agent = agent.clone();
        let request = v1::GetStatusRequest { stale: true };
        self.ask_one(async move { agent.get_status(request).await })
            .map_err(|status| HarnessError::Refused { call: "status --stale", status: Box::new(status) })
    }
}

/// Whether asking another agent can't change the answer: it is a refusal, not an obstacle.
#[must_use]
pub fn is_final(status: &Status) -> bool {
    let told = |key: &str| status.metadata().get(key).and_then(|v| v.to_str().ok());
    let exit = told("muster-exit");
    // A worker passes nothing on (MU2034): the next agent may.
    !matches!(exit, None | Some("69" | "75" | "106" | "124")) && told("muster-code") != Some("MU2034")
}
