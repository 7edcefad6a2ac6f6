//! Writes about services.

use std::collections::BTreeSet;

use muster_core::command::Command;
use muster_core::id::Revision;
use muster_core::refusal::Refusal;
use muster_core::spec::ServiceSpec;
use muster_core::state::State;
use muster_core::state::apply::ReplyValue;
use muster_proto::v1;
use muster_proto::v1::act_on_service_request::Act;

use super::caller::Caller;
use super::status::ApiError;
use super::writes::acted;
use super::{Api, convert, planner};

/// The label that every node has.
const NODE_LABEL: &str = "node";

impl Api {
    /// Declares services.
    pub(super) async fn apply_here(
        &self,
        caller: &Caller,
        request: v1::ApplyRequest,
    ) -> Result<v1::ApplyReply, ApiError> {
        let specs = specs(request.services)?;
        let warnings = warnings(&self.state(), &specs);
        let command =
            Command::PutServices { services: specs, if_revision: request.if_revision.map(Revision) };
        let reply = self.submit(caller, convert::request_id(request.request), command).await?;
        let services = match &reply.value {
            ReplyValue::Services(all) => {
                all.iter().map(|(name, what)| muster_wire::declared_to_proto(name, *what)).collect()
            }
            ReplyValue::Nothing | ReplyValue::Node(_) | ReplyValue::Session(_) => Vec::new(),
        };
        Ok(v1::ApplyReply { revision: reply.revision.0, services, plan: None, warnings })
    }

    pub(super) async fn act_on_service_here(
        &self,
        caller: &Caller,
        request: v1::ActOnServiceRequest,
    ) -> Result<v1::ActReply, ApiError> {
        let name = convert::service_name(&request.service)?;
        let service = name.clone();
        let (command, done, nothing) = match convert::required(request.act, "act")? {
            Act::Wanted(wanted) => {
                let word = if wanted { "started" } else { "stopped" };
                let command = Command::SetServiceWanted { service, wanted };
                (command, format!("is to be {word}"), format!("was {word} already"))
            }
            Act::Remove(_) => (
                Command::RemoveService { service },
                "is being removed".into(),
                "is being removed already".into(),
            ),
            Act::Restart(_) => (Command::RestartService { service }, "is started anew".into(), String::new()),
            Act::Scale(count) => (
                Command::ScaleService { service, count },
                format!("is to have {count} instances"),
                format!("has {count} instances already"),
            ),
            Act::Rollback(_) => (
                Command::RollbackService { service },
                "went back to its former declaration".into(),
                String::new(),
            ),
            Act::ClearFailures(_) => (
                Command::ClearFailures { service },
                "may run on all nodes again".into(),
                "has no failures".into(),
            ),
        };
        let done = format!("service {name} {done}");
        self.act(caller, request.request, command, done, format!("service {name} {nothing}")).await
    }

    pub(super) async fn annotate_here(
        &self,
        caller: &Caller,
        request: v1::AnnotateRequest,
    ) -> Result<v1::ActReply, ApiError> {
        let service = convert::service_name(&request.service)?;
        let key = request.key;
        let done = format!("service {service}: annotation {key} changed");
        let command = Command::AnnotateService { service, key, value: request.value };
        self.act(caller, request.request, command, done, "nothing to change").await
    }

    /// A move or failover, on the leader's newest state: checked by the scheduler first, so that a wish that can't
    /// come true is refused with its reason. Neither touches a session: what a lost host held is free only after
    /// LEASES.md R7.
    pub(super) async fn move_here(
        &self,
        caller: &Caller,
        state: &State,
        request: v1::MoveRequest,
    ) -> Result<v1::ActReply, ApiError> {
        let slot = convert::slot(state, &request.service, request.index)?;
        let to = convert::optional_node(state, &request.to)?;
        let from = state.slots.get(&slot).and_then(|s| s.current()).map(|p| p.node);
        if from.is_some() && from == to.map(|node| node.id) {
            let message = format!("instance {slot} is on {} already", request.to);
            return Ok(v1::ActReply { revision: state.revision.0, message, ..Default::default() });
        }
        let source_is_there = from.is_some_and(|node| state.session_of(node).is_some());
        if !source_is_there && !request.failover {
            return Err(ApiError::NothingToMove(slot.to_string()));
        }
        planner::check_move(state, &slot, to.map(|node| node.id), self.handles.proposer.now(state))?;
        let whither = to.map_or_else(|| "elsewhere".to_owned(), |node| format!("to {}", node.name));
        let command = Command::MoveInstance { slot: slot.clone(), to: to.map(|node| node.id) };
        let done = format!("instance {slot} moves {whither}");
        self.act(caller, request.request, command, done, "nothing to move").await
    }

    pub(super) async fn set_timing_here(
        &self,
        caller: &Caller,
        request: v1::SetTimingRequest,
    ) -> Result<v1::ActReply, ApiError> {
        let timing = muster_wire::timing_from_proto(&convert::required(request.timing, "timing")?);
        let timing = timing.validated().map_err(Refusal::from)?;
        let command = Command::SetTiming(timing);
        let reply = self.submit(caller, convert::request_id(request.request), command).await?;
        let mut answer = acted(&reply, format!("timing of new sessions: {timing}"));
        if reply.changed {
            answer.warnings.push("open sessions keep the timing that they were opened with".to_owned());
        }
        Ok(answer)
    }
}

/// The declarations of a request, checked as `apply` will check them, so that a bad one costs no log entry.
pub(super) fn specs(messages: Vec<v1::ServiceSpec>) -> Result<Vec<ServiceSpec>, ApiError> {
    if messages.is_empty() {
        return Err(ApiError::BadDeclaration("no service is declared".to_owned()));
    }
    let mut names = BTreeSet::new();
    let mut specs = Vec::with_capacity(messages.len());
    for message in messages {
        let spec = muster_wire::spec_from_proto(message).map_err(|error| ApiError::of_declaration(&error))?;
        muster_core::spec::validate::check(&spec).map_err(|error| Refusal::InvalidService {
            service: spec.name.clone(),
            why: error.to_string(),
        })?;
        if !names.insert(spec.name.clone()) {
            return Err(Refusal::DuplicateService(spec.name).into());
        }
        specs.push(spec);
    }
    Ok(specs)
}

/// What can be right but looks like a mistake: labels that no node has, services that nobody declared.
pub(super) fn warnings(state: &State, specs: &[ServiceSpec]) -> Vec<String> {
    let mut known: BTreeSet<String> = BTreeSet::from([NODE_LABEL.to_owned()]);
    for node in state.nodes.values() {
        known.extend(node.all_labels().into_keys());
    }
    let declared = |name: &muster_core::id::ServiceName| {
        state.services.contains_key(name) || specs.iter().any(|spec| spec.name == *name)
    };
    let mut warnings = Vec::new();
    for spec in specs {
        let placement = &spec.placement;
        let required = placement.require.iter().map(|r| ("require", &r.label));
        let preferred = placement.prefer.iter().map(|p| ("prefer", &p.label.label));
        let spread = placement.spread.iter().map(|label| ("spread", label));
        for (key, label) in required.chain(preferred).chain(spread) {
            if !known.contains(label) {
                warnings.push(format!("service {}: no node has the label '{label}' of {key}", spec.name));
            }
        }
        for (key, names) in
            [("with", &placement.with), ("apart", &placement.apart), ("after", &placement.after)]
        {
            for name in names.iter().filter(|name| !declared(name)) {
                warnings.push(format!("service {}: there is no service {name} ({key})", spec.name));
            }
        }
    }
    warnings
}
