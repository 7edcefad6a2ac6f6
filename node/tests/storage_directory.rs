//! The data directory: its lock, its format and its identity.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::disallowed_methods,
    reason = "a test that fails should panic where it fails"
)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use muster::storage::directory::{DataDirectory, DirectoryError, FORMAT, Identity, free_bytes};

fn identity() -> Identity {
    Identity {
        cluster_id: "00000000000000000000000000000007".into(),
        cluster_name: "home".into(),
        node_id: 1,
        node_name: "n1".into(),
        incarnation: 1,
        machine_id: "machine-a".into(),
    }
}

fn open(path: &Path) -> Result<DataDirectory, DirectoryError> {
    DataDirectory::open_on(path, "machine-a")
}

#[test]
fn a_directory_that_others_could_look_into_is_closed_to_them() {
    let parent = tempfile::tempdir().unwrap();
    for mode in [0o755, 0o750, 0o701, 0o777] {
        let path = parent.path().join(format!("{mode:o}"));
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        open(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o700, "{mode:o}");
    }
}

#[test]
fn a_new_directory_is_private_and_keeps_its_identity() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("deep/data");
    let mut directory = open(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(directory.identity(), None);
    directory.claim(identity()).unwrap();
    let taken = directory.claim(Identity { node_id: 2, ..identity() });
    assert!(matches!(taken, Err(DirectoryError::Taken { .. })));
    directory.set_incarnation(2).unwrap();
    drop(directory);
    let directory = open(&path).unwrap();
    assert_eq!(directory.identity(), Some(&Identity { incarnation: 2, ..identity() }));
    assert_eq!(fs::metadata(path.join("identity.json")).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn two_agents_never_share_a_directory() {
    let parent = tempfile::tempdir().unwrap();
    let held = open(parent.path()).unwrap();
    assert!(matches!(open(parent.path()), Err(DirectoryError::InUse { .. })));
    drop(held);
    open(parent.path()).unwrap();
}

#[test]
fn a_clone_of_a_disk_image_is_refused() {
    let parent = tempfile::tempdir().unwrap();
    open(parent.path()).unwrap().claim(identity()).unwrap();
    let error = DataDirectory::open_on(parent.path(), "machine-b").unwrap_err();
    assert!(matches!(error, DirectoryError::ForeignHost { .. }));
    for word in ["machine-a", "machine-b", "n1", "disk image"] {
        assert!(error.to_string().contains(word), "{error}");
    }
    open(parent.path()).unwrap();
    DataDirectory::open_on(parent.path(), "").unwrap();
}

#[test]
fn a_newer_format_and_damaged_files_are_refused_and_left_alone() {
    let parent = tempfile::tempdir().unwrap();
    open(parent.path()).unwrap().claim(identity()).unwrap();
    let (format, identity) = (parent.path().join("FORMAT"), parent.path().join("identity.json"));
    let check = |content: &str| {
        fs::write(&format, content).unwrap();
        let error = open(parent.path()).unwrap_err();
        assert_eq!(fs::read_to_string(&format).unwrap(), content);
        error
    };
    assert!(matches!(check("2\n"), DirectoryError::NewerFormat { found: 2, .. }));
    assert!(matches!(check(""), DirectoryError::Damaged { .. }));
    fs::remove_file(&format).unwrap();
    assert!(matches!(open(parent.path()), Err(DirectoryError::Damaged { .. })));
    fs::write(&format, format!("{FORMAT}\n")).unwrap();
    fs::write(&identity, "{").unwrap();
    assert!(matches!(open(parent.path()), Err(DirectoryError::Damaged { .. })));
}

#[test]
fn free_space_is_measured() {
    assert!(free_bytes(Path::new("/")).unwrap() > 0);
    assert!(free_bytes(Path::new("/no/such/directory")).is_err());
}
