//! The binary starts. That this test belongs to the package makes `cargo test --workspace` build it, which the
//! tests with real processes need.

use std::process::Command;

#[test]
#[allow(clippy::disallowed_methods, reason = "the test is about the program")]
fn the_binary_tells_its_version() {
    let output = Command::new(env!("CARGO_BIN_EXE_muster")).arg("--version").output().unwrap();
    assert!(output.status.success());
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), concat!("muster ", env!("CARGO_PKG_VERSION")));
}
