//! The outcome of acts.

use muster_core::id::ServiceName;
use muster_proto::v1 as pb;
use muster_proto::v1::declared_service::What;
use serde::Serialize;

use super::service::Service;
use crate::output::table::Cell;
use crate::output::{Screen, Table, View};

/// What an act did.
#[derive(Debug, Serialize)]
pub struct Outcome {
    /// The revision that it made.
    pub revision: u64,
    /// Whether it changed anything.
    pub changed: bool,
    /// In one sentence.
    pub message: String,
    /// What the operator should know.
    pub warnings: Vec<String>,
    /// What it was done to.
    pub subject: String,
}

impl Outcome {
    /// The outcome of an act on `subject`; `message` is used when the agent has none of its own.
    pub fn new(reply: pb::ActReply, subject: &str, message: &str) -> Self {
        let own = if reply.changed { message.to_owned() } else { format!("{message} (nothing to do)") };
        Self {
            revision: reply.revision,
            changed: reply.changed,
            message: if reply.message.is_empty() { own } else { reply.message },
            warnings: reply.warnings,
            subject: subject.to_owned(),
        }
    }
}

impl View for Outcome {
    fn table(&self, _screen: &Screen) -> String {
        format!("{}\n", self.message)
    }

    fn names(&self) -> Vec<String> {
        vec![self.subject.clone()]
    }
}

/// Several outcomes of one command: a list in JSON too.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub struct Outcomes(pub Vec<Outcome>);

impl View for Outcomes {
    fn table(&self, screen: &Screen) -> String {
        self.0.iter().map(|outcome| outcome.table(screen)).collect()
    }

    fn names(&self) -> Vec<String> {
        self.0.iter().map(|outcome| outcome.subject.clone()).collect()
    }
}

/// What `apply` did.
#[derive(Debug, Serialize)]
pub struct Applied {
    /// The revision that it made.
    pub revision: u64,
    /// Each service.
    pub services: Vec<AppliedService>,
    /// What was accepted but looks like a mistake.
    pub warnings: Vec<String>,
}

/// What `apply` did to one service.
#[derive(Debug, Serialize)]
pub struct AppliedService {
    /// Its name.
    pub name: String,
    /// created, changed or unchanged.
    pub result: &'static str,
    /// How it is now; none: not waited for.
    pub status: Option<Service>,
}

impl From<pb::ApplyReply> for Applied {
    fn from(wire: pb::ApplyReply) -> Self {
        let service = |declared: pb::DeclaredService| AppliedService {
            result: match declared.what() {
                What::Created => "created",
                What::Changed => "changed",
                What::Unchanged => "unchanged",
            },
            name: declared.service,
            status: None,
        };
        Self {
            revision: wire.revision,
            services: wire.services.into_iter().map(service).collect(),
            warnings: wire.warnings,
        }
    }
}

impl Applied {
    /// A service that was left as it is.
    pub fn nothing(service: &ServiceName, revision: u64) -> Self {
        let service = AppliedService { name: service.to_string(), result: "unchanged", status: None };
        Self { revision, services: vec![service], warnings: Vec::new() }
    }
}

impl View for Applied {
    fn table(&self, screen: &Screen) -> String {
        let mut table = Table::new().shrinks("").fixed("");
        for service in &self.services {
            table.row([service.name.as_str().into(), Cell::state(service.result)]);
        }
        table.draw(screen)
    }

    fn names(&self) -> Vec<String> {
        self.services.iter().map(|service| service.name.clone()).collect()
    }
}

/// What was found in service files.
#[derive(Debug, Serialize)]
pub struct Validated {
    /// Each service and the file it stands in.
    pub services: Vec<ValidatedService>,
}

/// A service that is as it should be.
#[derive(Debug, Serialize)]
pub struct ValidatedService {
    /// The file.
    pub file: String,
    /// The service.
    pub name: String,
}

impl View for Validated {
    fn table(&self, _screen: &Screen) -> String {
        let line =
            |service: &ValidatedService| format!("{}: service {} is valid\n", service.file, service.name);
        self.services.iter().map(line).collect()
    }

    fn names(&self) -> Vec<String> {
        self.services.iter().map(|service| service.name.clone()).collect()
    }
}
