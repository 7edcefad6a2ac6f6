//! The operator's API: who answers, and what is asked of the files beside this one.

use muster_proto::v1;
use muster_proto::v1::cluster_server::Cluster;
use tonic::{Request, Response, Status};

use super::caller::Caller;
use super::route::{Answer, Client, Kind};
use super::said::asked;
use super::{Answers, Api, certificates, plans, reads, secrets};

type Answered<T> = Result<Response<T>, Status>;

/// Hands back the leader's answer, or goes on with the state from which this node answers.
macro_rules! here {
    ($answer:expr) => {
        match $answer.await? {
            Answer::There(response) => return Ok(response),
            Answer::Here(state) => state,
        }
    };
}

#[tonic::async_trait]
impl Cluster for Api {
    type WatchStream = Answers<v1::Event>;
    type LogsStream = Answers<v1::LogLine>;

    // ---- reads --------------------------------------------------------------------------------------------

    async fn get_status(&self, request: Request<v1::GetStatusRequest>) -> Answered<v1::ClusterStatus> {
        let (caller, q) = (Caller::of(&request), request.into_inner());
        let call = |mut c: Client, r| async move { c.get_status(r).await };
        let state = here!(self.at_leader(&caller, Kind::Read { stale: q.stale }, &q, call));
        Ok(Response::new(self.status(&state, q.stale).await))
    }

    async fn list_services(
        &self,
        request: Request<v1::ListServicesRequest>,
    ) -> Answered<v1::ListServicesReply> {
        let (caller, q) = (Caller::of(&request), request.into_inner());
        let call = |mut c: Client, r| async move { c.list_services(r).await };
        let state = here!(self.at_leader(&caller, Kind::Read { stale: q.stale }, &q, call));
        Ok(Response::new(self.list_services_here(&state, &q).await?))
    }

    async fn get_raft(&self, request: Request<v1::GetRaftRequest>) -> Answered<v1::RaftView> {
        let (caller, q) = (Caller::of(&request), request.into_inner());
        let call = |mut c: Client, r| async move { c.get_raft(r).await };
        let state = here!(self.at_leader(&caller, Kind::Read { stale: q.stale }, &q, call));
        Ok(Response::new(self.raft_view(&state)))
    }

    async fn list_tokens(&self, request: Request<v1::ListTokensRequest>) -> Answered<v1::ListTokensReply> {
        let (caller, q) = (Caller::of(&request), request.into_inner());
        let call = |mut c: Client, r| async move { c.list_tokens(r).await };
        let state = here!(self.at_leader(&caller, Kind::Read { stale: q.stale }, &q, call));
        Ok(Response::new(reads::tokens(&state)))
    }

    // ---- writes -------------------------------------------------------------------------------------------
    // Those that need nothing but their command are submitted from here; the proposer finds the leader. Those
    // that are judged on the newest state first go to the leader as a whole.

    async fn apply(&self, request: Request<v1::ApplyRequest>) -> Answered<v1::ApplyReply> {
        let (caller, q) = asked(request);
        if !q.dry_run {
            return Ok(Response::new(self.apply_here(&caller, q).await?));
        }
        let call = |mut c: Client, r| async move { c.apply(r).await };
        let state = here!(self.at_leader(&caller, Kind::Act, &q, call));
        Ok(Response::new(self.think(state, move |state, now| plans::apply(state, now, q)).await?))
    }

    async fn act_on_service(&self, request: Request<v1::ActOnServiceRequest>) -> Answered<v1::ActReply> {
        let (caller, q) = asked(request);
        Ok(Response::new(self.act_on_service_here(&caller, q).await?))
    }

    async fn annotate(&self, request: Request<v1::AnnotateRequest>) -> Answered<v1::ActReply> {
        let (caller, q) = asked(request);
        Ok(Response::new(self.annotate_here(&caller, q).await?))
    }

    async fn r#move(&self, request: Request<v1::MoveRequest>) -> Answered<v1::ActReply> {
        let (caller, q) = asked(request);
        let call = |mut c: Client, r| async move { c.r#move(r).await };
        let state = here!(self.at_leader(&caller, Kind::Act, &q, call));
        Ok(Response::new(self.move_here(&caller, &state, q).await?))
    }

    async fn act_on_node(&self, request: Request<v1::ActOnNodeRequest>) -> Answered<v1::ActReply> {
        let (caller, q) = asked(request);
        let call = |mut c: Client, r| async move { c.act_on_node(r).await };
        let state = here!(self.at_leader(&caller, Kind::Act, &q, call));
        Ok(Response::new(self.act_on_node_here(&caller, &state, q).await?))
    }

    async fn drain(&self, request: Request<v1::DrainRequest>) -> Answered<v1::PlanReply> {
        let (caller, q) = asked(request);
        let call = |mut c: Client, r| async move { c.drain(r).await };
        let state = here!(self.at_leader(&caller, Kind::Act, &q, call));
        Ok(Response::new(self.drain_here(&caller, &state, q).await?))
    }

    async fn create_token(&self, request: Request<v1::CreateTokenRequest>) -> Answered<v1::CreateTokenReply> {
        let (caller, q) = asked(request);
        Ok(Response::new(self.create_token_here(&caller, q).await?))
    }

    async fn revoke_token(&self, request: Request<v1::RevokeTokenRequest>) -> Answered<v1::ActReply> {
        let (caller, q) = asked(request);
        Ok(Response::new(self.revoke_token_here(&caller, q).await?))
    }

    async fn transfer_leader(&self, request: Request<v1::HandOverRequest>) -> Answered<v1::ActReply> {
        let (caller, q) = asked(request);
        let call = |mut c: Client, r| async move { c.transfer_leader(r).await };
        let state = here!(self.at_leader(&caller, Kind::Act, &q, call));
        Ok(Response::new(self.transfer_leader_here(&state, &q).await?))
    }

    async fn set_timing(&self, request: Request<v1::SetTimingRequest>) -> Answered<v1::ActReply> {
        let (caller, q) = asked(request);
        Ok(Response::new(self.set_timing_here(&caller, q).await?))
    }

    // ---- who belongs ------------------------------------------------------------------------------------------

    async fn list_certificates(
        &self,
        request: Request<v1::ListCertificatesRequest>,
    ) -> Answered<v1::ListCertificatesReply> {
        let (caller, q) = (Caller::of(&request), request.into_inner());
        let call = |mut c: Client, r| async move { c.list_certificates(r).await };
        let state = here!(self.at_leader(&caller, Kind::Read { stale: q.stale }, &q, call));
        Ok(Response::new(certificates::list(&state)))
    }

    async fn issue_user(&self, request: Request<v1::IssueUserRequest>) -> Answered<v1::IssuedUser> {
        let (caller, q) = asked(request);
        let call = |mut c: Client, r| async move { c.issue_user(r).await };
        let _state = here!(self.at_leader(&caller, Kind::Act, &q, call));
        Ok(Response::new(self.issue_user_here(&caller, q).await?))
    }

    async fn renew_certificate(
        &self,
        request: Request<v1::RenewCertificateRequest>,
    ) -> Answered<v1::IssuedUser> {
        let (caller, q) = asked(request);
        let q = self.for_caller(&caller, q)?;
        let call = |mut c: Client, r| async move { c.renew_certificate(r).await };
        let _state = here!(self.at_leader(&caller, Kind::Act, &q, call));
        Ok(Response::new(self.renew_certificate_here(&caller, q).await?))
    }

    async fn remove_user(&self, request: Request<v1::RemoveUserRequest>) -> Answered<v1::ActReply> {
        let (caller, q) = asked(request);
        Ok(Response::new(self.remove_user_here(&caller, q).await?))
    }

    async fn revoke_certificates(
        &self,
        request: Request<v1::RevokeCertificatesRequest>,
    ) -> Answered<v1::ActReply> {
        let (caller, q) = asked(request);
        let call = |mut c: Client, r| async move { c.revoke_certificates(r).await };
        let state = here!(self.at_leader(&caller, Kind::Act, &q, call));
        Ok(Response::new(self.revoke_certificates_here(&caller, &state, q).await?))
    }

    async fn rotate_authority(
        &self,
        request: Request<v1::RotateAuthorityRequest>,
    ) -> Answered<v1::RotateAuthorityReply> {
        let (caller, q) = asked(request);
        let call = |mut c: Client, r| async move { c.rotate_authority(r).await };
        let state = here!(self.at_leader(&caller, Kind::Act, &q, call));
        Ok(Response::new(self.rotate_here(&caller, &state, q).await?))
    }

    // ---- secrets -------------------------------------------------------------------------------------------

    async fn list_secrets(&self, request: Request<v1::ListSecretsRequest>) -> Answered<v1::ListSecretsReply> {
        let (caller, q) = (Caller::of(&request), request.into_inner());
        let call = |mut c: Client, r| async move { c.list_secrets(r).await };
        let state = here!(self.at_leader(&caller, Kind::Read { stale: q.stale }, &q, call));
        Ok(Response::new(secrets::list(&state)))
    }

    async fn put_secret(&self, request: Request<v1::PutSecretRequest>) -> Answered<v1::PutSecretReply> {
        let (caller, q) = asked(request);
        let call = |mut c: Client, r| async move { c.put_secret(r).await };
        let _state = here!(self.at_leader(&caller, Kind::Act, &q, call));
        Ok(Response::new(self.put_secret_here(&caller, q).await?))
    }

    async fn remove_secret(&self, request: Request<v1::RemoveSecretRequest>) -> Answered<v1::ActReply> {
        let (caller, q) = asked(request);
        Ok(Response::new(self.remove_secret_here(&caller, q).await?))
    }

    async fn rotate_secret_key(
        &self,
        request: Request<v1::RotateSecretKeyRequest>,
    ) -> Answered<v1::ActReply> {
        let (caller, q) = asked(request);
        let call = |mut c: Client, r| async move { c.rotate_secret_key(r).await };
        let _state = here!(self.at_leader(&caller, Kind::Act, &q, call));
        Ok(Response::new(self.rotate_secret_key_here(&caller, q).await?))
    }

    // ---- who did what -----------------------------------------------------------------------------------------

    async fn read_audit(&self, request: Request<v1::ReadAuditRequest>) -> Answered<v1::ReadAuditReply> {
        let (caller, q) = (Caller::of(&request), request.into_inner());
        let call = |mut c: Client, r| async move { c.read_audit(r).await };
        let state = here!(self.at_leader(&caller, Kind::Read { stale: q.stale }, &q, call));
        Ok(Response::new(self.read_audit_here(&state, &q).await))
    }

    // ---- what would happen --------------------------------------------------------------------------------

    async fn explain(&self, request: Request<v1::ExplainRequest>) -> Answered<v1::PlanReply> {
        let (caller, q) = (Caller::of(&request), request.into_inner());
        let call = |mut c: Client, r| async move { c.explain(r).await };
        let state = here!(self.at_leader(&caller, Kind::Read { stale: q.stale }, &q, call));
        Ok(Response::new(self.think(state, move |state, now| plans::explain(state, now, &q)).await?))
    }

    async fn simulate(&self, request: Request<v1::SimulateRequest>) -> Answered<v1::PlanReply> {
        let (caller, q) = (Caller::of(&request), request.into_inner());
        let call = |mut c: Client, r| async move { c.simulate(r).await };
        let state = here!(self.at_leader(&caller, Kind::Read { stale: q.stale }, &q, call));
        Ok(Response::new(self.think(state, move |state, now| plans::simulate(state, now, &q)).await?))
    }

    async fn rebalance(&self, request: Request<v1::RebalanceRequest>) -> Answered<v1::PlanReply> {
        let (caller, q) = asked(request);
        let call = |mut c: Client, r| async move { c.rebalance(r).await };
        let state = here!(self.at_leader(&caller, Kind::Act, &q, call));
        Ok(Response::new(self.rebalance_here(&caller, &state, &q).await?))
    }

    // ---- streams ------------------------------------------------------------------------------------------

    async fn watch(&self, request: Request<v1::WatchRequest>) -> Answered<Self::WatchStream> {
        self.watch_here(request.into_inner()).map(Response::new)
    }

    async fn logs(&self, request: Request<v1::LogsRequest>) -> Answered<Self::LogsStream> {
        let (caller, q) = (Caller::of(&request), request.into_inner());
        self.logs_here(&caller, q).await.map(Response::new)
    }
}
