//! Generates the code of `muster/v1/*.proto` with protox, so that no protoc is needed.

use std::error::Error;
use std::path::PathBuf;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=muster/v1");
    let mut files = Vec::new();
    for entry in std::fs::read_dir("muster/v1")? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "proto") {
            files.push(path);
        }
    }
    // A fixed order keeps the generated code the same on every machine.
    files.sort();
    let descriptors = protox::compile(&files, [PathBuf::from(".")])?;
    tonic_prost_build::configure()
        // Payloads are passed on without copying them.
        .bytes(".")
        // Equal messages have equal bytes: maps are written in order.
        .btree_map(".")
        .build_transport(true)
        .compile_fds(descriptors)?;
    Ok(())
}
