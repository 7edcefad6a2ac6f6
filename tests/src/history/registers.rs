//! Registers of a real cluster: the annotations of a service that is never started, and its declaration, which takes
//! a compare-and-set by revision. One service is one generation of registers.

use std::time::Duration;

use muster_proto::v1;
use tonic::Status;

use super::operation::Value;
use crate::harness::{Api, HarnessError, api, operator};

/// Annotations that serve as registers.
pub const ANNOTATIONS: usize = 4;
/// How long one agent may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);
/// The variable of the task that holds the declaration's value.
const VARIABLE: &str = "VALUE";
/// The code of a declaration that was refused because of its revision.
const REVISION_MISMATCH: &str = "MU1021";

/// The registers of one generation.
#[derive(Clone, Debug)]
pub struct Registers {
    service: String,
}

/// What all registers of a generation held at one moment.
#[derive(Clone, Debug)]
pub struct Sight {
    /// By annotation.
    pub annotations: [Value; ANNOTATIONS],
    /// The declaration.
    pub declaration: Value,
    /// Of the declaration.
    pub revision: u64,
}

/// What a write came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It took effect.
    Done,
    /// The register held something else.
    Mismatch,
    /// Nobody knows.
    Unknown,
    /// A refusal for which there is no reason.
    Surprise(String),
}

impl Registers {
    /// Names a generation.
    #[must_use]
    pub fn new(generation: u64) -> Self {
        Self { service: format!("registers-{generation}") }
    }

    /// The name of an annotation's register in histories.
    #[must_use]
    pub fn annotation(&self, number: usize) -> String {
        format!("{}/annotation-{number}", self.service)
    }

    /// The name of the declaration's register in histories.
    #[must_use]
    pub fn declaration(&self) -> String {
        format!("{}/declaration", self.service)
    }

    /// Whether a register's name is of this generation.
    #[must_use]
    pub fn holds(&self, register: &str) -> bool {
        register.strip_prefix(&self.service).is_some_and(|rest| rest.starts_with('/'))
    }

    /// Declares the value. No host has the label, so nothing is ever started.
    fn specs(&self, value: Value) -> Vec<v1::ServiceSpec> {
        let file = format!(
            "[[service]]\nname = {:?}\nmode = \"replicated\"\ncount = 1\n[service.placement]\n\
             require = [\"has history\"]\n[[service.task]]\nname = \"never\"\n[service.task.exec]\n\
             command = [\"/bin/true\"]\nenv = {{ {VARIABLE} = \"{value}\" }}\n",
            self.service
        );
        operator::declarations(&file).expect("the file is right")
    }

    /// Makes them, with the value 0 everywhere.
    ///
    /// # Errors
    /// When nobody can.
    pub fn create(&self, api: &Api) -> Result<(), HarnessError> {
        let request = v1::ApplyRequest { services: self.specs(Value(0)), ..v1::ApplyRequest::default() };
        api.ask("apply", |mut agent| {
            let request = request.clone();
            async move { agent.apply(request).await }
        })?;
        api.act_on_service(&self.service, v1::act_on_service_request::Act::Wanted(false))
    }

    /// Removes them.
    ///
    /// # Errors
    /// When nobody can.
    pub fn remove(&self, api: &Api) -> Result<(), HarnessError> {
        api.act_on_service(&self.service, v1::act_on_service_request::Act::Remove(true))
    }

    /// Reads all of them at once by way of one agent; `None` without an answer.
    #[must_use]
    pub fn read(&self, api: &Api, agent: usize) -> Option<Sight> {
        let request = v1::ListServicesRequest { names: vec![self.service.clone()], stale: false };
        let read = |mut agent: api::Client| async move { agent.list_services(timed(request)).await };
        let service = api.ask_agent(agent, ANSWER_LIMIT, read).ok()?.services.into_iter().next()?;
        let number = |text: &str| Value(text.parse().unwrap_or(u64::MAX));
        let annotations =
            std::array::from_fn(|at| service.annotations.get(&key(at)).map_or(Value(0), |text| number(text)));
        let task = service.spec?.tasks.into_iter().next()?;
        let v1::task_spec::Driver::Exec(exec) = task.driver?;
        let declaration = exec.env.get(VARIABLE).map_or(Value(u64::MAX), |text| number(text));
        Some(Sight { annotations, declaration, revision: service.status?.revision })
    }

    /// Writes an annotation by way of one agent.
    #[must_use]
    pub fn write(
        &self,
        api: &Api,
        agent: usize,
        number: usize,
        value: Value,
        id: Option<v1::RequestId>,
    ) -> Answer {
        let request = v1::AnnotateRequest {
            request: id,
            service: self.service.clone(),
            key: key(number),
            value: Some(value.to_string()),
        };
        let write = |mut agent: api::Client| async move { agent.annotate(timed(request)).await };
        answer(api.ask_agent(agent, ANSWER_LIMIT, write))
    }

    /// Declares a value by way of one agent, if the declaration is still the one of that revision.
    #[must_use]
    pub fn declare(
        &self,
        api: &Api,
        agent: usize,
        value: Value,
        if_revision: Option<u64>,
        id: Option<v1::RequestId>,
    ) -> Answer {
        let request =
            v1::ApplyRequest { request: id, services: self.specs(value), if_revision, dry_run: false };
        let declare = |mut agent: api::Client| async move { agent.apply(timed(request)).await };
        answer(api.ask_agent(agent, ANSWER_LIMIT, declare))
    }
}

/// The agent gives up when the caller does.
fn timed<T>(message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.set_timeout(ANSWER_LIMIT);
    request
}

fn key(number: usize) -> String {
    format!("annotation-{number}")
}

fn answer<T>(result: Result<T, Status>) -> Answer {
    match result {
        Ok(_) => Answer::Done,
        Err(status) if !api::is_final(&status) => Answer::Unknown,
        Err(status) => {
            let code = status.metadata().get("muster-code").and_then(|code| code.to_str().ok());
            if code == Some(REVISION_MISMATCH) {
                Answer::Mismatch
            } else {
                Answer::Surprise(status.message().to_owned())
            }
        }
    }
}
