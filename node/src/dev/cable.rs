//! `muster dev cut` and `muster dev heal`: the cable of a node of the running development cluster.

use std::path::Path;

use super::netns::Network;
use super::registry::{self, Entry};
use super::{DevError, paths, say};
use crate::command::{Cable, CableAct};

/// Pulls or plugs the cable, and says what to watch.
///
/// # Errors
/// Without root, without such a cluster or node, or when the system refuses.
pub(super) fn run(act: &CableAct) -> Result<(), DevError> {
    let (cable, is_cut) = match act {
        CableAct::Cut(cable) => (cable, true),
        CableAct::Heal(cable) => (cable, false),
    };
    if !nix::unistd::geteuid().is_root() {
        return Err(DevError::NeedsRoot { what: "pulling a cable of a development cluster" });
    }
    let cluster = registry::find(cable.dir.as_deref())?;
    let network = network_of(&cluster, cable)?;
    let was_cut = !network.is_connected(&cable.node)?;
    if was_cut != is_cut {
        if is_cut { network.cut(&cable.node)? } else { network.heal(&cable.node)? }
    }
    tell(&cluster, &cable.node, is_cut, was_cut)
}

fn network_of(cluster: &Entry, cable: &Cable) -> Result<Network, DevError> {
    let Some(prefix) = &cluster.namespaces else {
        return Err(DevError::NotNamespaces { dir: cluster.dir.clone() });
    };
    if !cluster.nodes.contains(&cable.node) {
        let (name, nodes) = (cable.node.clone(), cluster.nodes.join(", "));
        return Err(DevError::NoNode { name, nodes });
    }
    Ok(Network::named(prefix))
}

fn tell(cluster: &Entry, node: &str, is_cut: bool, was_cut: bool) -> Result<(), DevError> {
    let exe = std::env::current_exe().map_err(DevError::io("the path of this program"))?;
    let ctl = paths::musterctl(&exe);
    let context = paths::context(&cluster.dir);
    let ctl = format!("{ctl} --context {}", context.display());
    let dir = &cluster.dir;
    say(&match (is_cut, was_cut) {
        (true, false) => format!("{node} is cut off: nothing reaches it, and it reaches nobody"),
        (true, true) => format!("{node} is cut off already; nothing was changed"),
        (false, true) => format!("{node} is connected again"),
        (false, false) => format!("{node} is not cut off; nothing was changed"),
    });
    if is_cut {
        say(&format!(
            "\nwatch (what {node} ran exclusively ends there within its lease, then starts elsewhere):\n  \
             {ctl} status\n  {ctl} events --since 1m\n  {}      # as {node} sees it\n\nback:\n  {} dev heal {node}{}",
            stale_line(&exe, dir, node),
            exe.display(),
            dir_option(dir)
        ));
    } else {
        say(&format!("\nwatch it come back, while what moved away stays where it is:\n  {ctl} status"));
    }
    Ok(())
}

fn stale_line(exe: &Path, dir: &Path, node: &str) -> String {
    let socket = paths::api_socket(dir, node);
    format!("{} --endpoint unix:{} status --stale", paths::musterctl(exe), socket.display())
}

/// Names the cluster: it need not be the newest one when the line is pasted.
fn dir_option(dir: &Path) -> String {
    format!(" --dir {}", dir.display())
}
