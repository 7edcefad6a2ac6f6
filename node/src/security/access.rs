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
}
