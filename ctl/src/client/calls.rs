//! One method for each call. Writes carry the request id.

use muster_proto::v1 as pb;

use super::Client;
use crate::failure::Failure;

/// Both kinds differ only in that writes carry a request id and are remembered for Ctrl-C.
macro_rules! reads {
    ($($(#[$doc:meta])* $name:ident($request:ident) -> $reply:ident;)*) => { impl Client { $(
        $(#[$doc])*
        pub async fn $name(&mut self, request: pb::$request) -> Result<pb::$reply, Failure> {
            self.call(request, |mut grpc, request| async move { grpc.$name(request).await }).await
        }
    )* } };
}

macro_rules! writes {
    ($($(#[$doc:meta])* $name:ident($request:ident) -> $reply:ident;)*) => { impl Client { $(
        $(#[$doc])*
        pub async fn $name(&mut self, request: pb::$request) -> Result<pb::$reply, Failure> {
            let request = pb::$request { request: self.next_request(), ..request };
            self.write(request, |mut grpc, request| async move { grpc.$name(request).await }).await
        }
    )* } };
}

reads! {
    /// The whole cluster at a glance.
    get_status(GetStatusRequest) -> ClusterStatus;
    /// Services with their declarations.
    list_services(ListServicesRequest) -> ListServicesReply;
    /// The control plane.
    get_raft(GetRaftRequest) -> RaftView;
    /// Join tokens.
    list_tokens(ListTokensRequest) -> ListTokensReply;
    /// Where a service's instances are, and why not elsewhere.
    explain(ExplainRequest) -> PlanReply;
    /// CAs, and everybody with a certificate.
    list_certificates(ListCertificatesRequest) -> ListCertificatesReply;
    /// Secrets, without their values.
    list_secrets(ListSecretsRequest) -> ListSecretsReply;
    /// Who did what.
    read_audit(ReadAuditRequest) -> ReadAuditReply;
    /// What a loss would do.
    simulate(SimulateRequest) -> PlanReply;
}

writes! {
    /// Declares services.
    apply(ApplyRequest) -> ApplyReply;
    /// Starts, stops, scales and so on.
    act_on_service(ActOnServiceRequest) -> ActReply;
    /// Sets or removes a note on a service.
    annotate(AnnotateRequest) -> ActReply;
    /// Wants an instance elsewhere.
    r#move(MoveRequest) -> ActReply;
    /// Cordon, maintenance, labels, undrain, removal.
    act_on_node(ActOnNodeRequest) -> ActReply;
    /// Empties a node.
    drain(DrainRequest) -> PlanReply;
    /// Makes a join token.
    create_token(CreateTokenRequest) -> CreateTokenReply;
    /// Ends a join token.
    revoke_token(RevokeTokenRequest) -> ActReply;
    /// Changes the cluster's timing.
    set_timing(SetTimingRequest) -> ActReply;
    /// Makes a user, or gives one another certificate.
    issue_user(IssueUserRequest) -> IssuedUser;
    /// Takes a user out.
    remove_user(RemoveUserRequest) -> ActReply;
    /// Ends the certificates of a node or user.
    revoke_certificates(RevokeCertificatesRequest) -> ActReply;
    /// Replaces the CA.
    rotate_authority(RotateAuthorityRequest) -> RotateAuthorityReply;
    /// Makes a secret, or gives one another value.
    put_secret(PutSecretRequest) -> PutSecretReply;
    /// Takes a secret away.
    remove_secret(RemoveSecretRequest) -> ActReply;
    /// Evens out placements.
    rebalance(RebalanceRequest) -> PlanReply;
}

impl Client {
    /// The caller's own next certificate; another one does no harm, so it needs no request id.
    pub async fn renew_certificate(
        &mut self,
        request: pb::RenewCertificateRequest,
    ) -> Result<pb::IssuedUser, Failure> {
        self.write(request, |mut grpc, request| async move { grpc.renew_certificate(request).await }).await
    }

    /// Encrypts all secrets with another key.
    pub async fn rotate_secret_key(&mut self) -> Result<pb::ActReply, Failure> {
        let request = pb::RotateSecretKeyRequest { request: self.next_request() };
        self.write(request, |mut grpc, request| async move { grpc.rotate_secret_key(request).await }).await
    }

    /// Hands the leadership over; to do it twice does no harm, so it needs no request id.
    pub async fn transfer_leader(&mut self, request: pb::HandOverRequest) -> Result<pb::ActReply, Failure> {
        self.write(request, |mut grpc, request| async move { grpc.transfer_leader(request).await }).await
    }
}
