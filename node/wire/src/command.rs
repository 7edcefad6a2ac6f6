//! Commands: one arm each, both ways.

use muster_core::command::Command;
use muster_core::id::{BootId, NodeId, Reopens, Revision, ServiceName, SessionId};
use muster_proto::v1;
use v1::proposal::Command as Wire;

use crate::audit::{calls_from_proto, calls_to_proto};
use crate::error::{DecodeError, required, service_name};
use crate::node::{
    add_node_from_proto, add_node_to_proto, bootstrap_from_proto, bootstrap_to_proto, description_from_proto,
    description_to_proto, node_change_from_proto, node_change_to_proto, timing_from_proto, timing_to_proto,
    token_from_proto, token_to_proto,
};
use crate::plan::{plan_from_proto, plan_to_proto};
use crate::secret;
use crate::session::{close_from_proto, close_to_proto, open_from_proto, open_to_proto};
use crate::slot::{
    observation_from_proto, observation_to_proto, slot_from_proto, slot_to_proto, stopped_from_proto,
    stopped_to_proto,
};
use crate::spec::{spec_from_proto, spec_to_proto};
use crate::trust::{
    holder_from_proto, holder_to_proto, new_authority_from_proto, new_authority_to_proto,
    new_certificate_from_proto, new_certificate_to_proto, user_of,
};

pub(crate) fn command_to_proto(command: &Command) -> Wire {
    match command {
        Command::Bootstrap(bootstrap) => Wire::Bootstrap(bootstrap_to_proto(bootstrap)),
        Command::AddNode(add) => Wire::AddNode(add_node_to_proto(add)),
        Command::RemoveNode { node } => Wire::RemoveNode(v1::RemoveNode { node: node.0 }),
        Command::DescribeNode { node, description } => Wire::DescribeNode(v1::DescribeNode {
            node: node.0,
            description: Some(description_to_proto(description)),
        }),
        Command::ChangeNode { node, change } => {
            Wire::ChangeNode(v1::ChangeNode { node: node.0, change: Some(node_change_to_proto(change)) })
        }
        Command::VoterUp { voter, boot, replaces } => {
            Wire::VoterUp(v1::VoterUp { voter: voter.0, boot: boot.0, replaces: replaces.map(|boot| boot.0) })
        }
        Command::OpenSession(open) => Wire::OpenSession(open_to_proto(open)),
        Command::CloseSession(close) => Wire::CloseSession(close_to_proto(close)),
        Command::Fenced { session, plan } => {
            Wire::Fenced(v1::Fenced { session: session.0, plan: Some(plan_to_proto(plan)) })
        }
        Command::Reopen { session, to } => Wire::Reopen(v1::Reopen { session: session.0, to: to.0 }),
        Command::NoteAgent { session, gone } => {
            Wire::NoteAgent(v1::NoteAgent { session: session.0, gone: *gone })
        }
        Command::ApplyPlan(plan) => Wire::ApplyPlan(plan_to_proto(plan)),
        Command::Stopped(stopped) => Wire::Stopped(stopped_to_proto(stopped)),
        Command::Observe(seen) => Wire::Observe(observation_to_proto(seen)),
        Command::MoveInstance { slot, to } => Wire::MoveInstance(v1::MoveInstance {
            slot: Some(slot_to_proto(slot)),
            to: to.map(|node| node.0),
        }),
        Command::CreateToken(grant) => Wire::CreateToken(token_to_proto(grant)),
        Command::RevokeToken { id } => Wire::RevokeToken(v1::RevokeToken { id: id.clone() }),
        Command::SetTiming(timing) => Wire::SetTiming(timing_to_proto(timing)),
        Command::AddAuthority(new) => Wire::AddAuthority(new_authority_to_proto(new)),
        Command::RetireAuthority { forced } => Wire::RetireAuthority(v1::RetireAuthority { forced: *forced }),
        Command::IssueCertificate(new) => Wire::IssueCertificate(new_certificate_to_proto(new)),
        Command::RevokeCertificates(holder) => Wire::RevokeCertificates(holder_to_proto(holder)),
        Command::RemoveUser { name } => Wire::RemoveUser(v1::UserRef { name: name.to_string() }),
        Command::OfferSecretKey { key } => Wire::OfferSecretKey(secret::offer_to_proto(*key)),
        Command::HoldSecretKey { node, key } => Wire::HoldSecretKey(secret::hold_to_proto(*node, *key)),
        Command::PutSecret(put) => Wire::PutSecret(secret::put_to_proto(put)),
        Command::RemoveSecret { name, forced } => Wire::RemoveSecret(secret::remove_to_proto(name, *forced)),
        Command::RecordCalls(told) => Wire::RecordCalls(calls_to_proto(told)),
        Command::PutServices { services, if_revision } => Wire::PutServices(v1::PutServices {
            services: services.iter().map(spec_to_proto).collect(),
            if_revision: if_revision.map(|revision| revision.0),
        }),
        Command::RemoveService { service } => Wire::RemoveService(only_name(service)),
        Command::SetServiceWanted { service, wanted } => {
            Wire::SetServiceWanted(v1::SetServiceWanted { service: text(service), wanted: *wanted })
        }
        Command::RestartService { service } => Wire::RestartService(only_name(service)),
        Command::ScaleService { service, count } => {
            Wire::ScaleService(v1::ScaleService { service: text(service), count: *count })
        }
        Command::RollbackService { service } => Wire::RollbackService(only_name(service)),
        Command::AnnotateService { service, key, value } => Wire::AnnotateService(v1::AnnotateService {
            service: text(service),
            key: key.clone(),
            value: value.clone(),
        }),
        Command::ClearFailures { service } => Wire::ClearFailures(only_name(service)),
    }
}

fn text(service: &ServiceName) -> String {
    service.as_str().to_owned()
}

fn only_name(service: &ServiceName) -> v1::ServiceName {
    v1::ServiceName { service: text(service) }
}

pub(crate) fn command_from_proto(command: Wire) -> Result<Command, DecodeError> {
    Ok(match command {
        Wire::Bootstrap(bootstrap) => Command::Bootstrap(bootstrap_from_proto(bootstrap)?),
        Wire::AddNode(add) => Command::AddNode(add_node_from_proto(add)?),
        Wire::RemoveNode(remove) => Command::RemoveNode { node: NodeId(remove.node) },
        Wire::DescribeNode(describe) => Command::DescribeNode {
            node: NodeId(describe.node),
            description: description_from_proto(required(describe.description, "describe_node.description")?),
        },
        Wire::ChangeNode(change) => Command::ChangeNode {
            node: NodeId(change.node),
            change: node_change_from_proto(required(change.change, "change_node.change")?),
        },
        Wire::VoterUp(up) => Command::VoterUp {
            voter: NodeId(up.voter),
            boot: BootId(up.boot),
            replaces: up.replaces.map(BootId),
        },
        Wire::OpenSession(open) => Command::OpenSession(open_from_proto(open)?),
        Wire::CloseSession(close) => Command::CloseSession(close_from_proto(close)?),
        Wire::Fenced(fenced) => Command::Fenced {
            session: SessionId(fenced.session),
            plan: plan_from_proto(required(fenced.plan, "fenced.plan")?)?,
        },
        Wire::Reopen(reopen) => {
            Command::Reopen { session: SessionId(reopen.session), to: Reopens(reopen.to) }
        }
        Wire::NoteAgent(note) => Command::NoteAgent { session: SessionId(note.session), gone: note.gone },
        Wire::ApplyPlan(plan) => Command::ApplyPlan(plan_from_proto(plan)?),
        Wire::Stopped(stopped) => Command::Stopped(stopped_from_proto(stopped)?),
        Wire::Observe(seen) => Command::Observe(observation_from_proto(seen)?),
        Wire::MoveInstance(wish) => Command::MoveInstance {
            slot: slot_from_proto(wish.slot, "move_instance.slot")?,
            to: wish.to.map(NodeId),
        },
        Wire::CreateToken(grant) => Command::CreateToken(token_from_proto(grant)?),
        Wire::RevokeToken(revoke) => Command::RevokeToken { id: revoke.id },
        Wire::SetTiming(timing) => Command::SetTiming(timing_from_proto(&timing)),
        Wire::AddAuthority(new) => Command::AddAuthority(new_authority_from_proto(&new)),
        Wire::RetireAuthority(retire) => Command::RetireAuthority { forced: retire.forced },
        Wire::IssueCertificate(new) => Command::IssueCertificate(new_certificate_from_proto(new)?),
        Wire::RevokeCertificates(holder) => Command::RevokeCertificates(holder_from_proto(holder)?),
        Wire::RemoveUser(user) => Command::RemoveUser { name: user_of(&user, "remove_user.name")? },
        Wire::OfferSecretKey(offer) => secret::offer_from_proto(&offer)?,
        Wire::HoldSecretKey(hold) => secret::hold_from_proto(&hold)?,
        Wire::PutSecret(put) => Command::PutSecret(secret::put_from_proto(&put)?),
        Wire::RemoveSecret(remove) => secret::remove_from_proto(&remove)?,
        Wire::RecordCalls(told) => Command::RecordCalls(calls_from_proto(told)?),
        Wire::PutServices(put) => Command::PutServices {
            services: put.services.into_iter().map(spec_from_proto).collect::<Result<_, _>>()?,
            if_revision: put.if_revision.map(Revision),
        },
        Wire::RemoveService(it) => Command::RemoveService { service: name(&it, "remove_service.service")? },
        Wire::SetServiceWanted(set) => Command::SetServiceWanted {
            service: service_name(&set.service, "set_service_wanted.service")?,
            wanted: set.wanted,
        },
        Wire::RestartService(it) => {
            Command::RestartService { service: name(&it, "restart_service.service")? }
        }
        Wire::ScaleService(scale) => Command::ScaleService {
            service: service_name(&scale.service, "scale_service.service")?,
            count: scale.count,
        },
        Wire::RollbackService(it) => {
            Command::RollbackService { service: name(&it, "rollback_service.service")? }
        }
        Wire::AnnotateService(note) => annotate_from_proto(note)?,
        Wire::ClearFailures(it) => Command::ClearFailures { service: name(&it, "clear_failures.service")? },
    })
}

fn annotate_from_proto(note: v1::AnnotateService) -> Result<Command, DecodeError> {
    Ok(Command::AnnotateService {
        service: service_name(&note.service, "annotate_service.service")?,
        key: note.key,
        value: note.value,
    })
}

fn name(message: &v1::ServiceName, field: &'static str) -> Result<ServiceName, DecodeError> {
    service_name(&message.service, field)
}
