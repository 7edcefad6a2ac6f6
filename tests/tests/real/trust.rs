//! Who belongs: users with roles, revocations, and a CA that is replaced under a running service.

use libtest_mimic::Trial;
use muster_tests::harness::tool::{self, Finished};
use muster_tests::harness::{Cluster, HarnessError, stamps};

use crate::expect::says;
use crate::scene::START_TIMEOUT;
use crate::stage::{Played, Stage};

pub fn trials(stage: &Stage) -> Vec<Trial> {
    vec![
        stage.shared("trust::users_and_their_roles", users),
        stage.own("trust::the_ca_is_replaced_under_a_running_service", 3, replaced_ca),
    ]
}

/// Runs `musterctl` as a user with a context of its own, against the first host.
fn as_user(cluster: &Cluster, context: &str, args: &[&str]) -> Result<Finished, HarnessError> {
    let endpoint = cluster.hosts()[0].endpoint();
    let mut line = vec!["--context", context, "--endpoint", &endpoint];
    line.extend_from_slice(args);
    tool::run_inside(&cluster.network().switch(), &cluster.binaries().musterctl, &line)
}

fn users(cluster: &mut Cluster) -> Played {
    let context = cluster.dir().join("viewer.toml").display().to_string();
    let create = |role: &str| {
        cluster.musterctl(&["--yes", "user", "create", "eve", "--role", role, "--out", &context])
    };
    says(&create("viewer")?, 0, &["viewer.toml"])?;
    says(&as_user(cluster, &context, &["status"])?, 0, &["quorum"])?;
    says(&as_user(cluster, &context, &["node", "cordon", "n1"])?, 77, &["operator", "hint"])?;
    says(&as_user(cluster, &context, &["token", "create"])?, 77, &["admin"])?;
    says(&create("operator")?, 0, &["viewer.toml"])?;
    says(&as_user(cluster, &context, &["node", "label", "n1", "eve=here"])?, 0, &[])?;
    says(&as_user(cluster, &context, &["token", "create"])?, 77, &["admin"])?;
    says(&cluster.musterctl(&["user", "list"])?, 0, &["user/eve", "operator"])?;
    says(&cluster.musterctl(&["--yes", "cert", "revoke", "user/eve"])?, 0, &["revoked"])?;
    says(&as_user(cluster, &context, &["status"])?, 77, &["revoked"])?;
    says(&cluster.musterctl(&["user", "remove", "eve"])?, 0, &["removed"])?;
    says(&as_user(cluster, &context, &["status"])?, 77, &["no such user"])?;
    says(&cluster.musterctl(&["node", "label", "n1", "eve-"])?, 0, &[])?;
    // Without any certificate nothing is said at all.
    let endpoint = cluster.hosts()[0].endpoint();
    let line = ["--endpoint", &endpoint, "status"];
    let naked = tool::run_inside(&cluster.network().switch(), &cluster.binaries().musterctl, &line)?;
    says(&naked, 77, &["certificate", "user create"])
}

fn replaced_ca(cluster: &mut Cluster) -> Played {
    cluster.form()?;
    let file = stamps::service(&cluster.binaries().muster, cluster.stamps().directory(), "steady", "");
    cluster.api().apply(&file)?;
    let run = cluster.stamps().running("steady", START_TIMEOUT)?;
    let old_token = cluster.token().to_owned();
    let context = cluster.context().display().to_string();
    // The operator's own certificate is of the old CA, and holds its end up.
    says(&cluster.musterctl(&["cert", "rotate-ca"])?, 0, &["user operator", "cert renew"])?;
    says(&cluster.musterctl(&["cert", "rotate-ca"])?, 107, &["being replaced"])?;
    cluster.whole()?;
    says(&cluster.musterctl(&["cert", "renew", "--out", &context, "--yes"])?, 0, &["operator.toml"])?;
    says(&cluster.musterctl(&["cert", "rotate-ca", "--finish"])?, 0, &["no longer trusted"])?;
    says(&cluster.musterctl(&["status"])?, 0, &["quorum 3/3"])?;
    let shown = cluster.musterctl(&["cert", "show", "-o", "json"])?.success()?.text();
    let shown: serde_json::Value =
        serde_json::from_str(&shown).map_err(|e| HarnessError::broken(format!("cert show: {e}")))?;
    if shown["authorities"].as_array().is_none_or(|all| all.len() != 1) {
        return Err(HarnessError::broken(format!("there should be one CA: {shown}")));
    }
    // A token of the old CA leads nowhere; a new one does.
    let first = cluster.hosts()[0].endpoint();
    let new = cluster.add_host()?;
    says(&cluster.host(&new)?.muster("join", &["--token", &old_token, &first])?, 69, &["older than its CA"])?;
    let token = cluster.musterctl(&["-q", "token", "create"])?.success()?.text();
    says(&cluster.host(&new)?.muster("join", &["--token", token.trim(), &first])?, 0, &["joined"])?;
    // Every agent comes back with what it has kept.
    for name in ["n1", "n2", "n3"] {
        cluster.host(name)?.stop_agent()?;
        cluster.host(name)?.start()?;
    }
    let status = || cluster.musterctl(&["wait", "cluster", "--for", "quorum", "--timeout", "20s"]);
    says(&status()?, 0, &[])?;
    cluster.stamps().untouched("steady", &run)
}
