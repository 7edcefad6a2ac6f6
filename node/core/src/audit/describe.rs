//! What a command is in the operator's words, without anything secret: no key, no hash, no value of a secret or of an
//! annotation, no environment of a task.

use super::Actor;
use crate::command::{CertificateHolder, Command, NewCertificate, NodeChange, PutSecret, SecretWrite};
use crate::id::{NodeId, Revision};
use crate::spec::ServiceSpec;
use crate::state::State;

/// A verb and what it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Act {
    /// As `musterctl` has it.
    pub verb: &'static str,
    /// Names and arguments.
    pub target: String,
}

impl Act {
    fn new(verb: &'static str, target: impl Into<String>) -> Self {
        Self { verb, target: target.into() }
    }

    /// What the command does, on the state before it; none for what the cluster does by itself all the time, which
    /// the events tell.
    #[must_use]
    pub fn of(state: &State, actor: &Actor, command: &Command) -> Option<Self> {
        let name = |node: &NodeId| state.name_of(*node);
        Some(match command {
            Command::VoterUp { .. }
            | Command::OpenSession(_)
            | Command::CloseSession(_)
            | Command::Fenced { .. }
            | Command::Reopen { .. }
            | Command::NoteAgent { .. }
            | Command::Stopped(_)
            | Command::Observe(_)
            | Command::ApplyPlan(_)
            | Command::HoldSecretKey { .. }
            | Command::PutSecret(PutSecret { how: SecretWrite::Reseal { .. }, .. })
            // They are records themselves.
            | Command::RecordCalls(_) => return None,
            Command::Bootstrap(bootstrap) => Self::new("cluster init", bootstrap.name.clone()),
            Command::AddNode(add) => Self::new("join", format!("{} role={}", add.name, add.role.as_str())),
            Command::RemoveNode { node } => Self::new("node remove", name(node)),
            Command::DescribeNode { node, description } => {
                Self::new("node describe", format!("{} {}", name(node), description.addresses.join(" ")))
            }
            Command::ChangeNode { node, change } => of_node(name(node), change),
            Command::PutServices { services, if_revision } => Self::new("service apply", put(services, *if_revision)),
            Command::RemoveService { service } => Self::new("service remove", service.as_str()),
            Command::SetServiceWanted { service, wanted: true } => Self::new("service start", service.as_str()),
            Command::SetServiceWanted { service, wanted: false } => Self::new("service stop", service.as_str()),
            Command::RestartService { service } => Self::new("service restart", service.as_str()),
            Command::ScaleService { service, count } => Self::new("service scale", format!("{service} {count}")),
            Command::RollbackService { service } => Self::new("service rollback", service.as_str()),
            Command::AnnotateService { service, key, value } => {
                let mark = if value.is_some() { '=' } else { '-' };
                Self::new("service annotate", format!("{service} {key}{mark}"))
            }
            Command::MoveInstance { slot, to: Some(to) } => Self::new("move", format!("{slot} to={}", name(to))),
            Command::MoveInstance { slot, to: None } => Self::new("move", slot.to_string()),
            Command::ClearFailures { service } => Self::new("service clear-failures", service.as_str()),
            Command::CreateToken(grant) => {
                Self::new("token create", format!("{} role={} uses={}", grant.id, grant.role.as_str(), grant.uses))
            }
            Command::RevokeToken { id } => Self::new("token revoke", id.clone()),
            Command::SetTiming(timing) => Self::new("cluster set", format!("lease_ttl_ms={}", timing.lease_ttl_ms)),
            Command::AddAuthority(_) => Self::new("cert rotate-ca", ""),
            Command::RetireAuthority { forced } => {
                Self::new("cert rotate-ca", if *forced { "finish force" } else { "finish" })
            }
            Command::IssueCertificate(new) => of_certificate(state, actor, new),
            Command::RevokeCertificates(CertificateHolder::Node(node)) => {
                Self::new("cert revoke", format!("node {}", name(node)))
            }
            Command::RevokeCertificates(CertificateHolder::User(user)) => {
                Self::new("cert revoke", format!("user {user}"))
            }
            Command::OfferSecretKey { key } => Self::new("secret rotate-key", key.to_string()),
            Command::PutSecret(put) => match put.how {
                SecretWrite::Create => Self::new("secret create", put.name.to_string()),
                SecretWrite::Set | SecretWrite::Reseal { .. } => Self::new("secret set", put.name.to_string()),
            },
            Command::RemoveSecret { name, forced } => {
                Self::new("secret remove", if *forced { format!("{name} force") } else { name.to_string() })
            }
            Command::RemoveUser { name } => Self::new("user remove", name.to_string()),
        })
    }
}

fn of_node(node: String, change: &NodeChange) -> Act {
    match change {
        NodeChange::Cordon(true) => Act::new("node cordon", node),
        NodeChange::Cordon(false) => Act::new("node uncordon", node),
        NodeChange::Maintenance(on) => {
            Act::new("node maintenance", format!("{node} {}", if *on { "on" } else { "off" }))
        }
        NodeChange::Drain(wish) => {
            let deadline = wish.deadline.map(|d| format!(" deadline={}s", d.as_secs())).unwrap_or_default();
            let most = if wish.max_parallel > 0 {
                format!(" max-parallel={}", wish.max_parallel)
            } else {
                String::new()
            };
            Act::new("drain", format!("{node}{deadline}{most}"))
        }
        NodeChange::Undrain => Act::new("undrain", node),
        NodeChange::Label { key, value: Some(value) } => {
            Act::new("node label", format!("{node} {key}={value}"))
        }
        NodeChange::Label { key, value: None } => Act::new("node label", format!("{node} {key}-")),
    }
}

fn of_certificate(state: &State, actor: &Actor, new: &NewCertificate) -> Act {
    match new {
        NewCertificate::Node { node, token_hash: None } => {
            Act::new("cert renew", format!("node {}", state.name_of(*node)))
        }
        NewCertificate::Node { node, token_hash: Some(_) } => {
            Act::new("join", format!("{} again", state.name_of(*node)))
        }
        NewCertificate::User { name, .. } if actor.name == format!("user {name}") => {
            Act::new("cert renew", format!("user {name}"))
        }
        NewCertificate::User { name, role, life } => {
            let days = life.as_secs() / 86_400;
            Act::new("user create", format!("{name} role={} life={days}d", role.as_str()))
        }
    }
}

fn put(services: &[ServiceSpec], if_revision: Option<Revision>) -> String {
    let names: Vec<&str> = services.iter().map(|spec| spec.name.as_str()).collect();
    match if_revision {
        Some(revision) => format!("{} if-revision={revision}", names.join(" ")),
        None => names.join(" "),
    }
}
