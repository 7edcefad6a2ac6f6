//! What a call asks for, in the operator's words: for the audit trail, when it is refused before it is a command.

use muster_proto::v1;
use tonic::Request;

use super::caller::Caller;
use crate::security::note::Said;

/// A message that asks for a change.
pub(super) trait Asks {
    /// What it asks for; none when it only asks what would happen.
    fn said(&self) -> Option<Said>;
}

/// The caller and the message of a change, noted for the audit trail.
pub(super) fn asked<T: Asks>(request: Request<T>) -> (Caller, T) {
    let caller = Caller::of(&request);
    let message = request.into_inner();
    if let Some(said) = message.said() {
        caller.note.says(said);
    }
    (caller, message)
}

/// Messages that always ask for the same.
macro_rules! asks {
    ($($message:ident($it:ident) => $verb:expr, $target:expr;)*) => { $(
        impl Asks for v1::$message {
            fn said(&self) -> Option<Said> {
                let $it = self;
                Some(Said::new($verb, $target))
            }
        }
    )* };
}

asks! {
    AnnotateRequest(it) => "service annotate", format!("{} {}", it.service, it.key);
    CreateTokenRequest(it) => "token create", format!("role={} uses={}", it.role().as_str_name(), it.uses.max(1));
    RevokeTokenRequest(it) => "token revoke", it.id.clone();
    HandOverRequest(it) => "raft transfer-leader", it.to.clone();
    SetTimingRequest(_it) => "cluster set", "timing";
    IssueUserRequest(it) => "user create", format!("{} role={}", it.name, it.role().as_str_name());
    RenewCertificateRequest(_it) => "cert renew", "";
    PutSecretRequest(it) => if it.create { "secret create" } else { "secret set" }, it.name.clone();
    RemoveSecretRequest(it) => "secret remove", it.name.clone();
    RotateSecretKeyRequest(_it) => "secret rotate-key", "";
    GetSecretsRequest(it) => "secret read", slot_and_task(it);
    GetSecretKeyRequest(_it) => "secret read-key", "";
    RemoveUserRequest(it) => "user remove", it.name.clone();
    RevokeCertificatesRequest(it) => "cert revoke", holder(it);
    RotateAuthorityRequest(it) => "cert rotate-ca", rotation(it);
    JoinRequest(it) => "join", it.name.clone();
    MoveRequest(it) => if it.failover { "failover" } else { "move" }, movement(it);
}

impl Asks for v1::ApplyRequest {
    fn said(&self) -> Option<Said> {
        let names: Vec<&str> = self.services.iter().map(|spec| spec.name.as_str()).collect();
        let wish = self.if_revision.map(|revision| format!(" if-revision={revision}")).unwrap_or_default();
        (!self.dry_run).then(|| Said::new("service apply", format!("{}{wish}", names.join(" "))))
    }
}

impl Asks for v1::DrainRequest {
    fn said(&self) -> Option<Said> {
        (!self.dry_run).then(|| Said::new("drain", self.node.clone()))
    }
}

impl Asks for v1::RebalanceRequest {
    fn said(&self) -> Option<Said> {
        (!self.dry_run).then(|| Said::new("rebalance", ""))
    }
}

impl Asks for v1::ActOnServiceRequest {
    fn said(&self) -> Option<Said> {
        use v1::act_on_service_request::Act;
        let name = self.service.clone();
        Some(match self.act.as_ref() {
            Some(Act::Wanted(true)) => Said::new("service start", name),
            Some(Act::Wanted(false)) => Said::new("service stop", name),
            Some(Act::Remove(_)) => Said::new("service remove", name),
            Some(Act::Restart(_)) => Said::new("service restart", name),
            Some(Act::Scale(count)) => Said::new("service scale", format!("{name} {count}")),
            Some(Act::Rollback(_)) => Said::new("service rollback", name),
            Some(Act::ClearFailures(_)) => Said::new("service clear-failures", name),
            None => Said::new("service", name),
        })
    }
}

impl Asks for v1::ActOnNodeRequest {
    fn said(&self) -> Option<Said> {
        use v1::act_on_node_request::Act;
        let name = self.node.clone();
        let switch = |on: bool| if on { "on" } else { "off" };
        Some(match self.act.as_ref() {
            Some(Act::Cordon(true)) => Said::new("node cordon", name),
            Some(Act::Cordon(false)) => Said::new("node uncordon", name),
            Some(Act::Maintenance(on)) => Said::new("node maintenance", format!("{name} {}", switch(*on))),
            Some(Act::Label(label)) => Said::new("node label", format!("{name} {}", label.key)),
            Some(Act::Remove(_)) => Said::new("node remove", name),
            Some(Act::Undrain(_)) => Said::new("undrain", name),
            None => Said::new("node", name),
        })
    }
}

fn slot_and_task(request: &v1::GetSecretsRequest) -> String {
    let slot = request.slot.clone().unwrap_or_default();
    format!("{}/{} {}", slot.service, slot.index, request.task)
}

fn holder(request: &v1::RevokeCertificatesRequest) -> String {
    use v1::revoke_certificates_request::Holder;
    match request.holder.as_ref() {
        Some(Holder::Node(name)) => format!("node {name}"),
        Some(Holder::User(name)) => format!("user {name}"),
        None => String::new(),
    }
}

fn rotation(request: &v1::RotateAuthorityRequest) -> &'static str {
    match (request.finish, request.force) {
        (false, _) => "",
        (true, false) => "finish",
        (true, true) => "finish force",
    }
}

fn movement(request: &v1::MoveRequest) -> String {
    let index = request.index.map(|index| format!("/{index}")).unwrap_or_default();
    let to = if request.to.is_empty() { String::new() } else { format!(" to={}", request.to) };
    format!("{}{index}{to}", request.service)
}
