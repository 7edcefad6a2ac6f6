//! Finding Muster's binaries beside the test's own, and saying what is missing here.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::{HarnessError, sweep, tool};

/// The programs of this build.
#[derive(Clone, Debug)]
pub struct Binaries {
    /// The agent.
    pub muster: PathBuf,
    /// The operator's command.
    pub musterctl: PathBuf,
}

impl Binaries {
    /// The binaries of the profile that this test was built with.
    ///
    /// # Errors
    /// When one is missing.
    pub fn find() -> Result<Self, HarnessError> {
        let here = std::env::current_exe().map_err(HarnessError::io("the path of this program"))?;
        // Tests are target/PROFILE/deps/real-…, one directory below the binaries; the benchmark stands beside them.
        let dir = here.parent().unwrap_or(Path::new("/"));
        let dir = if dir.ends_with("deps") { dir.parent().unwrap_or(dir) } else { dir };
        let named = |name: &str| {
            let path = dir.join(name);
            if path.is_file() { Ok(path) } else { Err(HarnessError::NoBinary(path)) }
        };
        Ok(Self { muster: named("muster")?, musterctl: named("musterctl")? })
    }
}

/// Why tests with real processes can't run here; `None`: they can. Found out once: several stages may ask at once.
#[must_use]
pub fn obstacle() -> Option<String> {
    static FOUND: OnceLock<Option<String>> = OnceLock::new();
    FOUND.get_or_init(find_obstacle).clone()
}

fn find_obstacle() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("network namespaces need root".to_owned());
    }
    if let Err(error) = Binaries::find() {
        return Some(error.to_string());
    }
    let name = format!("{}{}-try", sweep::NAMESPACE_PREFIX, std::process::id());
    if let Err(error) = tool::ip(&format!("netns add {name}")) {
        return Some(format!("no network namespace can be made: {error}"));
    }
    let filter =
        tool::run_inside(&name, Path::new("iptables"), &["-w", "-S"]).and_then(tool::Finished::success);
    let removed = tool::ip(&format!("netns del {name}"));
    filter.map(drop).and(removed).err().map(|error| format!("no packet filter: {error}"))
}

/// Whether a missing condition is a failure and not a reason to skip.
#[must_use]
pub fn all_required() -> bool {
    std::env::var("MUSTER_REQUIRE_ALL").is_ok_and(|v| v == "1")
}
