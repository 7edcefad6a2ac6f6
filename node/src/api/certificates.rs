//! Who belongs: CAs, users and their certificates.

use std::time::Duration;

use muster_core::command::{
    AuthorityKey, CertificateHolder, Command, NewAuthority, NewCertificate, UserRole,
};
use muster_core::id::{CertificateId, UserName};
use muster_core::refusal::Refusal;
use muster_core::state::State;
use muster_core::state::apply::NODE_CERTIFICATE_LIFE;
use muster_core::state::trust::Certificates;
use muster_core::time::Stamp;
use muster_proto::v1;
use muster_tls::{Authority, Certificate, Subject};

use super::caller::Caller;
use super::status::ApiError;
use super::{Api, convert};
use crate::security::admission::may_be_member;
use crate::security::issue::{self, issued_to_proto};
use crate::security::principal::Principal;

/// So long before a CA ends it is told.
const CA_WARNING: Duration = Duration::from_secs(180 * 24 * 3600);
/// How long a user's certificate holds when the caller does not say.
const DEFAULT_USER_LIFE: Duration = Duration::from_secs(90 * 24 * 3600);

impl Api {
    pub(super) async fn issue_user_here(
        &self,
        caller: &Caller,
        request: v1::IssueUserRequest,
    ) -> Result<v1::IssuedUser, ApiError> {
        let name = user_name(&request.name)?;
        let role = muster_wire::user_role_from_proto(request.role)?;
        let life =
            if request.life_ms == 0 { DEFAULT_USER_LIFE } else { Duration::from_millis(request.life_ms) };
        self.issue_to_user(caller, name, role, life, &request.certificate_request).await
    }

    /// The caller's own next certificate; it lives as long as the one before it.
    pub(super) async fn renew_certificate_here(
        &self,
        caller: &Caller,
        request: v1::RenewCertificateRequest,
    ) -> Result<v1::IssuedUser, ApiError> {
        let name = user_name(&request.name)?;
        let role = muster_wire::user_role_from_proto(request.role)?;
        self.issue_to_user(caller, name, role, DEFAULT_USER_LIFE, &request.certificate_request).await
    }

    /// Whose certificate is renewed: the caller's. An agent that passes the call on has filled it in.
    pub(super) fn for_caller(
        &self,
        caller: &Caller,
        request: v1::RenewCertificateRequest,
    ) -> Result<v1::RenewCertificateRequest, ApiError> {
        match &caller.who {
            Principal::User { name, role, .. } => Ok(v1::RenewCertificateRequest {
                name: name.to_string(),
                role: muster_wire::user_role_to_proto(*role).into(),
                ..request
            }),
            Principal::Node { id, .. } if caller.forwarded && may_be_member(&self.state(), *id) => {
                Ok(request)
            }
            Principal::Node { .. } | Principal::Local { .. } | Principal::Stranger => {
                Err(ApiError::NotAllowed { who: caller.who.to_string(), needs: "the certificate of a user" })
            }
        }
    }

    async fn issue_to_user(
        &self,
        caller: &Caller,
        name: UserName,
        role: UserRole,
        life: Duration,
        request: &[u8],
    ) -> Result<v1::IssuedUser, ApiError> {
        let command = NewCertificate::User { name: name.clone(), role, life };
        // Not the caller's request id: the answer to a retry would name a certificate that nobody signed.
        let reply = self.submit(caller, convert::own_request()?, Command::IssueCertificate(command)).await?;
        let state = self.state_at(caller, reply.revision).await?;
        let user = state.users.get(&name).ok_or_else(|| Refusal::NoSuchUser(name.clone()))?;
        let (id, ends) = (CertificateId(reply.revision.0), user.certificates.ends);
        let subject = Subject::User { name, role };
        let issued = issue::issue(&state, request, subject, id, ends)?;
        Ok(v1::IssuedUser {
            certificates: Some(issued_to_proto(&issued)),
            id: id.0,
            ends_ms: ends.0,
            addresses: super::tokens::where_to_join(&state),
        })
    }

    pub(super) async fn remove_user_here(
        &self,
        caller: &Caller,
        request: v1::RemoveUserRequest,
    ) -> Result<v1::ActReply, ApiError> {
        let name = user_name(&request.name)?;
        let done = format!("user {name} was removed; its certificates end with it");
        self.act(caller, request.request, Command::RemoveUser { name }, done, "nothing to change").await
    }

    pub(super) async fn revoke_certificates_here(
        &self,
        caller: &Caller,
        state: &State,
        request: v1::RevokeCertificatesRequest,
    ) -> Result<v1::ActReply, ApiError> {
        use v1::revoke_certificates_request::Holder;
        let (holder, mut warnings) = match convert::required(request.holder, "holder")? {
            Holder::User(name) => (CertificateHolder::User(user_name(&name)?), Vec::new()),
            Holder::Node(name) => {
                let node = convert::node(state, &name)?;
                let mut warnings = Vec::new();
                if state.is_in_raft(node.id) {
                    warnings.push(format!(
                        "{name} is a member of Raft and so holds the CA's key: if the host is not to be trusted any \
                         more, remove the node and replace the CA ('musterctl cert rotate-ca')"
                    ));
                }
                (CertificateHolder::Node(node.id), warnings)
            }
        };
        let command = Command::RevokeCertificates(holder);
        let done = "its certificates were revoked; its connections are being closed";
        let mut reply = self.act(caller, request.request, command, done, "nothing to change").await?;
        reply.warnings.append(&mut warnings);
        Ok(reply)
    }

    /// Begins with a new CA, or ends the old one.
    pub(super) async fn rotate_here(
        &self,
        caller: &Caller,
        state: &State,
        request: v1::RotateAuthorityRequest,
    ) -> Result<v1::RotateAuthorityReply, ApiError> {
        let command = if request.finish {
            Command::RetireAuthority { forced: request.force }
        } else if state.authorities.len() > 1 {
            return Err(Refusal::RotationUnderWay.into());
        } else {
            Command::AddAuthority(next_authority(state, self.handles.proposer.now(state))?)
        };
        let reply = self.submit(caller, convert::request_id(request.request), command).await?;
        let (old, message) = if request.finish {
            (Vec::new(), "the old CA is no longer trusted")
        } else {
            let state = self.state_at(caller, reply.revision).await?;
            (state.holders_of_old_certificates(), "a new CA signs; the old one is still trusted")
        };
        Ok(v1::RotateAuthorityReply { revision: reply.revision.0, message: message.to_owned(), old })
    }
}

/// A CA that replaces the one of this state, introduced by it.
fn next_authority(state: &State, now: Stamp) -> Result<NewAuthority, ApiError> {
    let old = state.signing_authority().filter(|old| !old.key.0.is_empty());
    let (old, cluster) = old.zip(state.cluster.as_ref()).ok_or(issue::IssueError::NoKey)?;
    let make = || {
        let older = Authority::from_der(&old.key.0, &old.certificate)?;
        let new = Authority::generate(cluster.id, now)?;
        let introduction = new.introduced_by(&older, cluster.id, now)?;
        Ok::<_, muster_tls::CertificateError>(NewAuthority {
            certificate: new.certificate().der().as_ref().into(),
            introduction: Some(introduction.der().as_ref().into()),
            key: AuthorityKey(new.key_der().into()),
        })
    };
    make().map_err(|error| ApiError::Internal(error.to_string()))
}

fn user_name(name: &str) -> Result<UserName, ApiError> {
    UserName::new(name).map_err(|error| ApiError::Invalid(error.to_string()))
}

/// What an operator should know in time: certificates that were not renewed, a CA near its end, one being replaced.
pub(super) fn warnings(state: &State, now: Stamp) -> Vec<String> {
    let mut warnings = Vec::new();
    let days = |ends: Stamp| ends.since(now).as_secs() / (24 * 3600);
    for node in state.nodes.values() {
        let ends = node.certificates.ends;
        if ends <= now {
            warnings.push(format!(
                "the certificate of node {} has expired: run 'muster join' there with a new token",
                node.name
            ));
        } else if ends.since(now) < NODE_CERTIFICATE_LIFE / 4 {
            let days = days(ends);
            warnings.push(format!(
                "the certificate of node {} ends in {days} days and is not renewed",
                node.name
            ));
        }
    }
    if let Some(authority) = state.signing_authority()
        && let Ok(certificate) = Certificate::from_der(&authority.certificate)
        && certificate.ends().since(now) < CA_WARNING
    {
        let days = days(certificate.ends());
        warnings.push(format!(
            "the cluster's CA ends in {days} days: replace it with 'musterctl cert rotate-ca'"
        ));
    }
    if state.authorities.len() > 1 {
        let left = state.holders_of_old_certificates();
        let who = if left.is_empty() { "nobody".to_owned() } else { left.join(", ") };
        warnings.push(format!("the CA is being replaced; still with a certificate of the old one: {who}"));
    }
    warnings
}

/// All CAs, and everybody with a certificate.
pub(super) fn list(state: &State) -> v1::ListCertificatesReply {
    let authorities = state.authorities.iter().map(|authority| {
        let read = Certificate::from_der(&authority.certificate).ok();
        v1::AuthorityView {
            id: authority.id.0,
            pin: read.as_ref().map(|c| c.pin().to_string()).unwrap_or_default(),
            since_ms: authority.since.0,
            ends_ms: read.map_or(0, |c| c.ends().0),
        }
    });
    let view = |holder: &str, name: String, role: &str, certificates: Certificates| v1::CertificateView {
        holder: holder.to_owned(),
        name,
        role: role.to_owned(),
        id: certificates.newest.0,
        ends_ms: certificates.ends.0,
        revoked: certificates.is_revoked(certificates.newest),
    };
    let nodes = state.nodes.values().map(|n| view("node", n.name.to_string(), "", n.certificates));
    let users =
        state.users.values().map(|u| view("user", u.name.to_string(), u.role.as_str(), u.certificates));
    let rotating = state.authorities.len() > 1;
    v1::ListCertificatesReply {
        authorities: authorities.collect(),
        certificates: nodes.chain(users).collect(),
        old: if rotating { state.holders_of_old_certificates() } else { Vec::new() },
    }
}

#[cfg(test)]
mod tests {
    use muster_core::command::{Bootstrap, NodeDescription, Proposal};
    use muster_core::id::{ClusterId, Incarnation, NodeName, RequestId, Revision};
    use muster_core::time::Timing;

    use super::*;

    #[test]
    fn a_certificate_that_is_not_renewed_is_told_before_it_ends() {
        let mut state = State::default();
        let bootstrap = Command::Bootstrap(Bootstrap {
            cluster: ClusterId(1),
            name: "test".into(),
            incarnation: Incarnation(1),
            timing: Timing::LAN,
            node: NodeDescription::default(),
            node_name: NodeName::new("n1").unwrap(),
        });
        let (stamp, request) = (Stamp(1_000_000), RequestId::default());
        let proposal = Proposal { stamp, request, actor: "test".into(), command: bootstrap };
        state.apply(Revision(1), &proposal).reply.unwrap();
        let after = |days: u64| stamp.plus(Duration::from_secs(days * 24 * 3600));
        assert!(warnings(&state, after(16)).is_empty(), "it is being renewed");
        assert!(warnings(&state, after(25))[0].contains("ends in 5 days"));
        assert!(warnings(&state, after(31))[0].contains("muster join"));
    }
}
