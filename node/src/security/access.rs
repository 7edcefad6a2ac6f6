//! What each call needs: the one table of who may do what.

use Needs::{Admin, Anybody, Local, Member, Node, Operator, OwnNode, Viewer, Voter};

/// The least that a caller must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// Nothing, not even a certificate.
    Anybody,
    /// A user of any role, or a node.
    Viewer,
    /// An operator; or a node, for the caller that it passes on.
    Operator,
    /// As `Operator`; a worker also acts on itself.
    OwnNode,
    /// An admin; or a node that may be a member of Raft, for the caller that it passes on.
    Admin,
    /// A node, which speaks for itself.
    Node,
    /// A node that may be a member of Raft.
    Member,
    /// A voter.
    Voter,
    /// A process of this host.
    Local,
}

/// Every method of every service.
pub const METHODS: &[(&str, Needs)] = &[
    ("/muster.v1.Joining/Join", Anybody),
    ("/muster.v1.Cluster/GetStatus", Viewer),
    ("/muster.v1.Cluster/ListServices", Viewer),
    ("/muster.v1.Cluster/GetRaft", Viewer),
    ("/muster.v1.Cluster/Explain", Viewer),
    ("/muster.v1.Cluster/Simulate", Viewer),
    ("/muster.v1.Cluster/Watch", Viewer),
    ("/muster.v1.Cluster/ListCertificates", Viewer),
    ("/muster.v1.Cluster/RenewCertificate", Viewer),
    ("/muster.v1.Cluster/ListSecrets", Operator),
    ("/muster.v1.Cluster/PutSecret", Operator),
    ("/muster.v1.Cluster/RemoveSecret", Operator),
    ("/muster.v1.Cluster/RotateSecretKey", Admin),
    ("/muster.v1.Cluster/Logs", Operator),
    ("/muster.v1.Cluster/ReadAudit", Operator),
    ("/muster.v1.Cluster/Apply", Operator),
    ("/muster.v1.Cluster/ActOnService", Operator),
    ("/muster.v1.Cluster/Annotate", Operator),
    ("/muster.v1.Cluster/Move", Operator),
    ("/muster.v1.Cluster/ActOnNode", OwnNode),
    ("/muster.v1.Cluster/Drain", OwnNode),
    ("/muster.v1.Cluster/TransferLeader", Operator),
    ("/muster.v1.Cluster/Rebalance", Operator),
    ("/muster.v1.Cluster/ListTokens", Admin),
    ("/muster.v1.Cluster/CreateToken", Admin),
    ("/muster.v1.Cluster/RevokeToken", Admin),
    ("/muster.v1.Cluster/SetTiming", Admin),
    ("/muster.v1.Cluster/IssueUser", Admin),
    ("/muster.v1.Cluster/RemoveUser", Admin),
    ("/muster.v1.Cluster/RevokeCertificates", Admin),
    ("/muster.v1.Cluster/RotateAuthority", Admin),
    ("/muster.v1.NodeLink/Forward", Node),
    ("/muster.v1.NodeLink/Follow", Node),
    ("/muster.v1.NodeLink/Renew", Node),
    ("/muster.v1.NodeLink/GetSecrets", Node),
    ("/muster.v1.NodeLink/GetSecretKey", Member),
    ("/muster.v1.NodeLink/LeaseAges", Voter),
    ("/muster.v1.NodeLink/PromiseClose", Voter),
    ("/muster.v1.NodeLink/RelayFenced", Voter),
    ("/muster.v1.NodeLink/Leave", Local),
    ("/muster.v1.Raft/Append", Member),
    ("/muster.v1.Raft/Vote", Member),
    ("/muster.v1.Raft/InstallSnapshot", Member),
    ("/muster.v1.Raft/TransferLeader", Member),
];

/// Those that need more than looking but change nothing: a refused one is in the audit trail only when the caller may
/// not make it at all.
const READS: &[&str] = &[
    "/muster.v1.Cluster/Logs",
    "/muster.v1.Cluster/ReadAudit",
    "/muster.v1.Cluster/ListTokens",
    "/muster.v1.Cluster/ListSecrets",
];
/// Others of which every refusal is recorded: they make somebody a member, hand out what is secret, or let a node write.
const DELICATE: &[&str] = &[
    "/muster.v1.NodeLink/Forward",
    "/muster.v1.Joining/Join",
    "/muster.v1.Cluster/RenewCertificate",
    "/muster.v1.NodeLink/GetSecrets",
    "/muster.v1.NodeLink/GetSecretKey",
];
/// Changes that are no command, so that a successful one is recorded too.
const WITHOUT_COMMAND: &[&str] = &["/muster.v1.Cluster/TransferLeader"];

/// Whether every refusal of this is in the audit trail, not only that of a caller who may not make the call at all.
#[must_use]
pub fn is_recorded(path: &str) -> bool {
    DELICATE.contains(&path)
        || matches!(needs(path), Some(Operator | OwnNode | Admin)) && !READS.contains(&path)
}

/// Whether a change leaves no command in the log.
#[must_use]
pub fn is_without_command(path: &str) -> bool {
    WITHOUT_COMMAND.contains(&path)
}

/// What a method is called in the audit trail while its message is not read.
#[must_use]
pub fn verb_of(path: &str) -> &str {
    let method = path.rsplit('/').next().unwrap_or(path);
    match method {
        "Apply" => "service apply",
        "ActOnService" => "service",
        "Annotate" => "service annotate",
        "Move" => "move",
        "ActOnNode" => "node",
        "Drain" => "drain",
        "TransferLeader" => "raft transfer-leader",
        "Rebalance" => "rebalance",
        "ListTokens" => "token list",
        "CreateToken" => "token create",
        "RevokeToken" => "token revoke",
        "SetTiming" => "cluster set",
        "IssueUser" => "user create",
        "RemoveUser" => "user remove",
        "RevokeCertificates" => "cert revoke",
        "RotateAuthority" => "cert rotate-ca",
        "RenewCertificate" => "cert renew",
        "ListSecrets" => "secret list",
        "PutSecret" => "secret set",
        "RemoveSecret" => "secret remove",
        "RotateSecretKey" => "secret rotate-key",
        "GetSecrets" => "secret read",
        "GetSecretKey" => "secret read-key",
        "ReadAudit" => "audit",
        "Logs" => "service logs",
        "Forward" => "forward",
        "Join" => "join",
        _ => path,
    }
}

/// What a method needs; none when there is no such method.
#[must_use]
pub fn needs(path: &str) -> Option<Needs> {
    METHODS.iter().find(|(method, _)| *method == path).map(|(_, needs)| *needs)
}

impl Needs {
    /// In words.
    #[must_use]
    pub fn in_words(self) -> &'static str {
        match self {
            Anybody => "nothing",
            Viewer => "a certificate of this cluster",
            Operator | OwnNode => "the role operator",
            Admin => "the role admin",
            Node => "the certificate of a node",
            Member => "the certificate of a node that may be a member of Raft",
            Voter => "the certificate of a voter",
            Local => "the local socket",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_method_of_every_service_is_in_the_table() {
        let files = [
            include_str!("../../../proto/muster/v1/cluster.proto"),
            include_str!("../../../proto/muster/v1/node.proto"),
            include_str!("../../../proto/muster/v1/raft.proto"),
        ];
        let mut declared = BTreeSet::new();
        for text in files {
            let mut service = "";
            for line in text.lines().map(str::trim) {
                if let Some(rest) = line.strip_prefix("service ") {
                    service = rest.trim_end_matches(" {");
                }
                if let Some(rest) = line.strip_prefix("rpc ") {
                    let method = rest.split('(').next().unwrap();
                    declared.insert(format!("/muster.v1.{service}/{method}"));
                }
            }
        }
        let listed: BTreeSet<String> = METHODS.iter().map(|(method, _)| (*method).to_owned()).collect();
        assert_eq!(declared, listed);
        assert_eq!(listed.len(), METHODS.len(), "a method stands there twice");
        assert_eq!(needs("/muster.v1.Cluster/Unheard"), None);
    }

    #[test]
    fn the_audit_trail_knows_changes_from_reads() {
        for path in READS.iter().chain(DELICATE).chain(WITHOUT_COMMAND) {
            assert!(needs(path).is_some(), "{path}");
        }
        assert!(is_recorded("/muster.v1.Cluster/Apply") && is_recorded("/muster.v1.Joining/Join"));
        assert!(!is_recorded("/muster.v1.Cluster/GetStatus") && !is_recorded("/muster.v1.Cluster/Logs"));
        assert_eq!(verb_of("/muster.v1.Cluster/CreateToken"), "token create");
        assert_eq!(verb_of("/muster.v1.Raft/Vote"), "/muster.v1.Raft/Vote");
    }
}
