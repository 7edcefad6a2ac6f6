//! What a killed test left behind: empty namespaces and directories. Its processes ended with it.

use std::path::Path;

use super::{control_group, tool};

/// What the names of all namespaces of the harness begin with; the test's process id follows.
pub const NAMESPACE_PREFIX: &str = "mt";
/// The same for directories.
pub const DIRECTORY_PREFIX: &str = "muster-test-";

/// Removes what belongs to tests that are no more.
pub fn sweep() {
    for name in names(Path::new("/run/netns")) {
        if is_abandoned(&name, NAMESPACE_PREFIX)
            && let Err(error) = tool::ip(&format!("netns del {name}"))
        {
            eprintln!("cleaning up after another test: {error}");
        }
    }
    for controller in names(Path::new(control_group::ROOT)) {
        let controller = Path::new(control_group::ROOT).join(controller);
        for name in names(&controller).into_iter().filter(|name| is_abandoned(name, NAMESPACE_PREFIX)) {
            if let Err(error) = std::fs::remove_dir(controller.join(&name)) {
                eprintln!("cleaning up after another test: {name}: {error}");
            }
        }
    }
    let temporary = std::env::temp_dir();
    for name in names(&temporary).into_iter().filter(|name| is_abandoned(name, NAMESPACE_PREFIX)) {
        if let Err(error) = std::fs::remove_file(temporary.join(&name)) {
            eprintln!("cleaning up after another test: {name}: {error}");
        }
    }
    for name in names(&temporary) {
        if is_abandoned(&name, DIRECTORY_PREFIX)
            && let Err(error) = std::fs::remove_dir_all(temporary.join(&name))
        {
            eprintln!("cleaning up after another test: {name}: {error}");
        }
    }
}

fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

/// `PREFIX` + process id + `-` + anything, and no such process.
fn is_abandoned(name: &str, prefix: &str) -> bool {
    let owner = name.strip_prefix(prefix).and_then(|rest| rest.split_once('-')).map(|(pid, _)| pid);
    let owner = owner.and_then(|pid| pid.parse::<u32>().ok());
    owner.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_belongs_to_no_living_process_is_abandoned() {
        let own = std::process::id();
        assert!(!is_abandoned(&format!("mt{own}-0-sw"), NAMESPACE_PREFIX));
        // Above the largest process id that Linux gives.
        assert!(is_abandoned("mt4194305-0-sw", NAMESPACE_PREFIX));
        assert!(!is_abandoned("mtab-0-sw", NAMESPACE_PREFIX));
        assert!(!is_abandoned("other4194305-0", NAMESPACE_PREFIX));
    }
}
