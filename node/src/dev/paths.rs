//! Where the files of a development cluster are, and how its commands are called.

use std::path::{Path, PathBuf};

/// How this machine calls musterctl: beside this program, or through cargo.
pub(super) fn musterctl(exe: &Path) -> String {
    let beside = exe.with_file_name("musterctl");
    if beside.is_file() {
        beside.display().to_string()
    } else {
        "cargo run -q --release -p musterctl --".to_owned()
    }
}

/// The context of whoever operates the cluster.
pub(super) fn context(dir: &Path) -> PathBuf {
    dir.join("context.toml")
}

/// The example service.
pub(super) fn example(dir: &Path) -> PathBuf {
    dir.join("hello.toml")
}

/// Where services stamp the clock.
pub(super) fn stamps(dir: &Path) -> PathBuf {
    dir.join("stamps")
}

/// The socket of a node's agent.
pub(super) fn api_socket(dir: &Path, node: &str) -> PathBuf {
    dir.join(node).join("run").join("api.sock")
}
