//! Hosts that ask to be let in, or to come back: the only calls that need no certificate.

use muster_core::audit::Actor;
use muster_core::command::{AddNode, Command, NewCertificate};
use muster_core::id::{CertificateId, NodeId, NodeName, RequestId};
use muster_core::refusal::Refusal;
use muster_core::state::State;
use muster_core::state::apply::{Reply, ReplyValue};
use muster_core::state::node::{LostCause, Node};
use muster_core::time::Stamp;
use muster_proto::v1;
use muster_proto::v1::joining_server::Joining;
use muster_tls::{Certificate, Proof, Subject, Usage};
use tonic::{Request, Response, Status};

use super::caller::Caller;
use super::route::{Answer, Kind};
use super::said::asked;
use super::status::ApiError;
use super::{Api, convert};
use crate::security::issue::{self, issued_to_proto};
use crate::token;

/// What a returning host signs: its certificate request and its token.
#[must_use]
pub fn proven(request: &[u8], token: &str) -> Vec<u8> {
    [request, b"\0", token.trim().as_bytes()].concat()
}

#[tonic::async_trait]
impl Joining for Api {
    async fn join(&self, request: Request<v1::JoinRequest>) -> Result<Response<v1::JoinReply>, Status> {
        let (caller, request) = asked(request);
        if caller.is_stranger() {
            self.handles.joins.take().inspect_err(|error| {
                self.handles.rejections.call(&caller.who, &caller.actor.from, "Join", error);
            })?;
        }
        let answer = self.route(&caller, Kind::Act, |node| {
            let joining = self.handles.peers.joining(node);
            let message = caller.forward(request.clone());
            async move {
                let mut joining = joining.map_err(|error| Status::unavailable(error.to_string()))?;
                joining.join(message).await
            }
        });
        match answer.await? {
            Answer::There(response) => Ok(response),
            Answer::Here(_) => Ok(Response::new(self.join_here(&caller, request).await?)),
        }
    }
}

impl Api {
    /// On the leader: lets the host in, once for each request.
    async fn join_here(&self, caller: &Caller, request: v1::JoinRequest) -> Result<v1::JoinReply, ApiError> {
        if !token::is_well_formed(&request.token) {
            return Err(Refusal::TokenUnknown.into());
        }
        let hash = token::hash(&request.token);
        let actor = Actor { name: format!("joining node {}", request.name), ..caller.actor.clone() };
        let actor = Caller { actor, ..caller.clone() };
        let command = match &request.returning {
            None => Self::entry_of_new_node(&request, hash)?,
            Some(returning) => self.entry_of_returning_node(&request, returning, hash)?,
        };
        // Before anything is written: a stranger without a good token leaves no trace in the log. A retry of a join
        // that has been applied meets a token that may be used up, so it is only judged at apply.
        let id = request_of(&request);
        if !self.state().clients.knows(id) {
            self.state().check_token(&hash)?;
        }
        let reply = self.submit(&actor, id, command).await;
        let reply = reply.map_err(|error| match &request.returning {
            None => self.name_taken(&request.name, error),
            Some(_) => error,
        })?;
        let state = self.state_at(caller, reply.revision).await?;
        welcome(&state, &request, &reply)
    }

    fn entry_of_new_node(request: &v1::JoinRequest, token_hash: [u8; 32]) -> Result<Command, ApiError> {
        let name = convert::node_name(&request.name)?;
        let description = convert::required(request.description.clone(), "description")?;
        let description = muster_wire::description_from_proto(description);
        if description.addresses.is_empty() {
            return Err(ApiError::Invalid(format!("node {name} has no address to be reached at")));
        }
        let role = muster_wire::role_from_proto(request.role)?;
        Ok(Command::AddNode(AddNode { name, description, role, token_hash }))
    }

    /// A token alone must not make anybody a node that exists: the host proves that it has held that node's key.
    fn entry_of_returning_node(
        &self,
        request: &v1::JoinRequest,
        returning: &v1::Returning,
        token_hash: [u8; 32],
    ) -> Result<Command, ApiError> {
        let state = self.state();
        let refused = |why: &str| ApiError::NotReturned { name: request.name.clone(), why: why.to_owned() };
        let unusable = |error: muster_tls::CertificateError| refused(&format!("its certificate: {error}"));
        let node = state.nodes.get(&NodeId(returning.node)).filter(|node| node.name.as_str() == request.name);
        let node = node.ok_or_else(|| refused("it is not part of the cluster any more"))?;
        let old = Certificate::from_der(&returning.certificate).map_err(unusable)?;
        let trust = issue::trust_of(&state).map_err(unusable)?.ok_or(Refusal::NoCluster)?;
        // It has expired, that is why it is here; everything else about it must hold.
        let while_it_held = Stamp(old.ends().0.saturating_sub(1000));
        let identity = trust.verify(old.der(), &[], while_it_held, Usage::Client).map_err(unusable)?;
        if identity.subject != Subject::Node(node.id) {
            return Err(refused("its certificate is another node's"));
        }
        if node.certificates.is_revoked(identity.certificate) {
            return Err(refused("its certificates were revoked"));
        }
        let message = proven(&request.certificate_request, &request.token);
        Proof(returning.proof.to_vec()).check(&old, &message).map_err(unusable)?;
        Ok(Command::IssueCertificate(NewCertificate::Node { node: node.id, token_hash: Some(token_hash) }))
    }

    /// The name of a host that is lost is most likely this very host, installed anew.
    fn name_taken(&self, name: &str, error: ApiError) -> ApiError {
        let Ok(name) = NodeName::new(name) else { return error };
        let is_taken = error.code() == Refusal::NodeNameTaken(name.clone()).code();
        let is_lost = |node: &Node| matches!(node.lost, Some(lost) if lost.cause != LostCause::Joining);
        if is_taken && self.state().node_named(name.as_str()).is_some_and(is_lost) {
            return ApiError::NameOfLostNode(name.to_string());
        }
        error
    }
}

/// The answer: who it is, whom to ask, and its certificate.
fn welcome(state: &State, request: &v1::JoinRequest, reply: &Reply) -> Result<v1::JoinReply, ApiError> {
    let (id, certificate) = match (&reply.value, &request.returning) {
        (ReplyValue::Node(id), None) => (*id, CertificateId(id.0)),
        (_, Some(returning)) => (NodeId(returning.node), CertificateId(reply.revision.0)),
        (_, None) => return Err(ApiError::Internal("the answer to a join names no node".to_owned())),
    };
    let cluster = state.cluster.as_ref().ok_or(Refusal::NoCluster)?;
    let node = state.nodes.get(&id).ok_or_else(|| Refusal::NoSuchNode(format!("#{id}")))?;
    let ends = node.certificates.ends;
    let subject = Subject::Node(id);
    // Without a CA (only a simulation has none) there is nothing to sign with, and nobody asks for it.
    let issued = match state.signing_authority() {
        Some(_) => Some(issue::issue(state, &request.certificate_request, subject, certificate, ends)?),
        None => None,
    };
    Ok(v1::JoinReply {
        cluster_id: cluster.id.0.to_be_bytes().to_vec().into(),
        cluster_name: cluster.name.clone(),
        incarnation: cluster.incarnation.0,
        node: id.0,
        timing: Some(muster_wire::timing_to_proto(&cluster.timing)),
        peers: peers_for(state, id),
        role: muster_wire::role_to_proto(node.role).into(),
        certificates: issued.as_ref().map(issued_to_proto),
    })
}

/// The request's identity is made of all that is in it, the secret included: nobody gets the answer to a join who did not
/// ask in just the same words.
fn request_of(request: &v1::JoinRequest) -> RequestId {
    use prost::Message;
    let bytes = v1::JoinRequest { request: None, ..request.clone() }.encode_to_vec();
    let hash = blake3::hash(&bytes);
    let mut client = [0; 8];
    client.copy_from_slice(&hash.as_bytes()[..8]);
    RequestId { client: u64::from_le_bytes(client).max(1), seq: 1 }
}

/// Whom a new node may ask: the voters, then the standbys.
fn peers_for(state: &State, joined: NodeId) -> Vec<v1::Peer> {
    let members = state.membership.voters().into_iter().chain(state.standbys.iter().copied());
    let nodes = members.filter(|id| *id != joined).filter_map(|id| state.nodes.get(&id));
    nodes
        .map(|node| v1::Peer {
            node: node.id.0,
            name: node.name.to_string(),
            addresses: node.description.addresses.clone(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_identity_of_a_join_depends_on_every_word() {
        let request = v1::JoinRequest { token: "a".into(), name: "n2".into(), ..Default::default() };
        let id = request_of(&request);
        assert_eq!(
            id,
            request_of(&v1::JoinRequest { request: Some(v1::RequestId::default()), ..request.clone() })
        );
        assert_ne!(id, request_of(&v1::JoinRequest { token: "b".into(), ..request.clone() }));
        assert_ne!(id, request_of(&v1::JoinRequest { certificate_request: vec![1].into(), ..request }));
    }
}
