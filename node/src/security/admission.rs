//! Whether a verified certificate still counts, by the replicated state: not revoked, its holder not removed.
//!
//! A node is judged by what is known against it only: an agent that has been away knows neither the newest nodes nor
//! their certificates, and learns of them from just those. A user is judged by what is known for it.

use muster_core::command::Role;
use muster_core::id::{CertificateId, NodeId};
use muster_core::state::State;
use muster_core::time::Stamp;

use super::principal::Principal;
use crate::api::status::ApiError;

/// Judges a caller.
///
/// # Errors
/// [`ApiError::NotAdmitted`], or [`ApiError::NotHeardYet`] when the certificate is younger than this state.
pub fn admit(state: &State, principal: &Principal, now: Stamp) -> Result<(), ApiError> {
    match principal {
        Principal::Local { .. } | Principal::Stranger => Ok(()),
        Principal::Node { id, certificate, ends } => admit_node(state, *id, *certificate, *ends, now),
        Principal::User { name, role, certificate, ends } => {
            let refused =
                |why: &str| Err(ApiError::NotAdmitted { who: principal.to_string(), why: why.to_owned() });
            if *ends <= now {
                return refused("its certificate has expired");
            }
            if state.cluster.is_none() || certificate.0 > state.revision.0 {
                return Err(ApiError::NotHeardYet(principal.to_string()));
            }
            match state.users.get(name) {
                None => refused("there is no such user any more"),
                Some(user) if user.certificates.is_revoked(*certificate) || user.role != *role => {
                    refused("its certificate was revoked")
                }
                Some(_) => Ok(()),
            }
        }
    }
}

fn admit_node(
    state: &State,
    id: NodeId,
    certificate: CertificateId,
    ends: Stamp,
    now: Stamp,
) -> Result<(), ApiError> {
    let refused = |why: &str| Err(ApiError::NotAdmitted { who: format!("node #{id}"), why: why.to_owned() });
    if state.cluster.is_none() || id.0 > state.revision.0 {
        return Ok(());
    }
    let Some(node) = state.nodes.get(&id) else { return refused("it was removed from the cluster") };
    if node.certificates.is_revoked(certificate) {
        return refused("its certificate was revoked");
    }
    // A connection outlives the certificate that it was made with, for as long as the node keeps renewing.
    if ends <= now && node.certificates.ends <= now {
        return refused("its certificate has expired");
    }
    Ok(())
}

/// Whether a node may be a member of Raft. Members hold the CA's key, so they are trusted with what they pass on;
/// a worker is not. A node that this state has not heard of yet may be one.
#[must_use]
pub fn may_be_member(state: &State, id: NodeId) -> bool {
    state.nodes.get(&id).is_none_or(|node| node.role != Role::Worker)
}

#[cfg(test)]
mod tests {
    use muster_core::command::{
        AddNode, Bootstrap, CertificateHolder, Command, NewCertificate, NodeDescription, Proposal,
        TokenGrant, UserRole,
    };
    use muster_core::id::{ClusterId, Incarnation, NodeName, RequestId, Revision, UserName};
    use muster_core::time::Timing;
    use std::time::Duration;

    use super::*;

    const NOW: Stamp = Stamp(1_000_000);
    const LATER: Stamp = Stamp(u64::MAX);

    struct Log(State);

    impl Log {
        fn new() -> Self {
            let mut log = Self(State::default());
            log.write(Command::Bootstrap(Bootstrap {
                cluster: ClusterId(1),
                name: "test".into(),
                incarnation: Incarnation(1),
                timing: Timing::LAN,
                node: NodeDescription::default(),
                node_name: NodeName::new("n1").unwrap(),
            }));
            let (role, hash) = (Role::Worker, [7; 32]);
            let token = TokenGrant { id: "t".into(), hash, role, expires: LATER, uses: 9 };
            log.write(Command::CreateToken(token));
            log.write(Command::AddNode(AddNode {
                name: NodeName::new("n2").unwrap(),
                description: NodeDescription::default(),
                role,
                token_hash: hash,
            }));
            log
        }

        fn write(&mut self, command: Command) -> u64 {
            let at = Revision(self.0.revision.0 + 1);
            let proposal =
                Proposal { stamp: NOW, request: RequestId::default(), actor: "test".into(), command };
            self.0.apply(at, &proposal).reply.unwrap();
            at.0
        }

        fn refusal(&self, principal: &Principal, now: Stamp) -> String {
            admit(&self.0, principal, now).unwrap_err().to_string()
        }
    }

    fn node(id: u64, certificate: u64) -> Principal {
        Principal::Node {
            id: NodeId(id),
            certificate: CertificateId(certificate),
            ends: NOW.plus(Duration::from_secs(1)),
        }
    }

    fn alice(role: UserRole, certificate: u64) -> Principal {
        let ends = NOW.plus(Duration::from_secs(60));
        Principal::User {
            name: UserName::new("alice").unwrap(),
            role,
            certificate: CertificateId(certificate),
            ends,
        }
    }

    #[test]
    fn nodes_are_refused_when_something_is_known_against_them() {
        let mut log = Log::new();
        assert_eq!(admit(&log.0, &node(3, 3), NOW), Ok(()));
        assert_eq!(admit(&log.0, &node(99, 99), NOW), Ok(()), "it may have joined meanwhile");
        assert_eq!(admit(&State::default(), &node(3, 3), NOW), Ok(()));
        assert!(log.refusal(&node(2, 2), NOW).contains("removed"), "no entry added node 2");
        assert!(log.refusal(&node(3, 3), LATER).contains("expired"));
        // Its connection was made with a certificate that ended since; it has renewed it in time.
        assert_eq!(admit(&log.0, &node(3, 3), NOW.plus(Duration::from_secs(2))), Ok(()));
        log.write(Command::RevokeCertificates(CertificateHolder::Node(NodeId(3))));
        assert!(log.refusal(&node(3, 3), NOW).contains("revoked"));
        let again =
            log.write(Command::IssueCertificate(NewCertificate::Node { node: NodeId(3), token_hash: None }));
        assert_eq!(admit(&log.0, &node(3, again), NOW), Ok(()));
        log.write(Command::RemoveNode { node: NodeId(3) });
        assert!(log.refusal(&node(3, again), NOW).contains("removed"));
        assert!(!may_be_member(&Log::new().0, NodeId(3)) && may_be_member(&log.0, NodeId(1)));
    }

    #[test]
    fn users_are_admitted_while_they_are_known_with_that_role() {
        let mut log = Log::new();
        let name = UserName::new("alice").unwrap();
        let issue = |role| {
            let (name, life) = (UserName::new("alice").unwrap(), Duration::from_secs(60));
            Command::IssueCertificate(NewCertificate::User { name, role, life })
        };
        let future = alice(UserRole::Viewer, 4);
        assert!(matches!(admit(&log.0, &future, NOW), Err(ApiError::NotHeardYet(_))));
        let viewer = log.write(issue(UserRole::Viewer));
        assert_eq!(admit(&log.0, &alice(UserRole::Viewer, viewer), NOW), Ok(()));
        assert!(log.refusal(&alice(UserRole::Admin, viewer), NOW).contains("revoked"), "a forged role");
        assert!(log.refusal(&alice(UserRole::Viewer, viewer), LATER).contains("expired"));
        let operator = log.write(issue(UserRole::Operator));
        assert!(log.refusal(&alice(UserRole::Viewer, viewer), NOW).contains("revoked"));
        log.write(Command::RemoveUser { name });
        assert!(log.refusal(&alice(UserRole::Operator, operator), NOW).contains("no such user"));
    }
}
