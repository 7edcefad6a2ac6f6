//! `deny.toml` holds also where cargo-deny is not installed: licenses, bans and sources. Advisories need their database, and
//! cargo-deny itself (`just deny`).

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use muster_tests::harness::tool;
use serde::Deserialize;
use spdx::{Expression, ParseMode};

#[derive(Deserialize)]
struct Rules {
    licenses: Licenses,
    bans: Bans,
}

#[derive(Deserialize)]
struct Licenses {
    allow: BTreeSet<String>,
}

#[derive(Deserialize)]
struct Bans {
    deny: Vec<Ban>,
}

#[derive(Deserialize)]
struct Ban {
    #[serde(rename = "crate")]
    name: String,
    /// Who may depend on it all the same.
    #[serde(default)]
    wrappers: BTreeSet<String>,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    resolve: Resolve,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
    license: Option<String>,
    source: Option<String>,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    dependencies: Vec<String>,
}

fn read() -> (Rules, Metadata) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the repository");
    let rules = std::fs::read_to_string(root.join("deny.toml")).expect("deny.toml");
    let manifest = root.join("Cargo.toml").display().to_string();
    // What other systems would need was perhaps never downloaded.
    let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let line = ["metadata", "--format-version", "1", "--locked", "--filter-platform", &platform];
    let line = [&line[..], &["--manifest-path", &manifest]].concat();
    let told = tool::run(env!("CARGO"), &line).and_then(tool::Finished::success).expect("what cargo knows");
    let metadata = serde_json::from_str(&told.stdout).expect("what cargo tells");
    (toml::from_str(&rules).expect("the rules"), metadata)
}

#[test]
fn every_license_is_allowed() {
    let (rules, metadata) = read();
    let is_fine = |license: &str| {
        let expression = Expression::parse_mode(license, ParseMode::LAX).expect("a license");
        // 'This version or a later one' may be taken as this version.
        let version = |wanted: &spdx::LicenseReq| wanted.to_string().trim_end_matches('+').to_owned();
        expression.evaluate(|wanted| rules.licenses.allow.contains(&version(wanted)))
    };
    let wrong = metadata.packages.iter().filter(|package| !package.license.as_deref().is_some_and(is_fine));
    let wrong: Vec<String> =
        wrong.map(|package| format!("{}: {:?}", package.name, package.license)).collect();
    assert_eq!(wrong, Vec::<String>::new());
    assert!(metadata.packages.len() > 100, "{} packages were found", metadata.packages.len());
}

#[test]
fn what_is_banned_is_used_by_its_wrappers_alone() {
    let (rules, metadata) = read();
    let names: BTreeMap<&str, &str> =
        metadata.packages.iter().map(|package| (package.id.as_str(), package.name.as_str())).collect();
    let mut seen = BTreeSet::new();
    for node in &metadata.resolve.nodes {
        let user = names[node.id.as_str()];
        for used in node.dependencies.iter().map(|id| names[id.as_str()]) {
            let Some(ban) = rules.bans.deny.iter().find(|ban| ban.name == used) else { continue };
            assert!(
                ban.wrappers.contains(user),
                "{user} depends on {used}, which only {:?} may",
                ban.wrappers
            );
            seen.insert(used);
        }
    }
    assert!(
        seen.contains("openraft") && seen.contains("rustls"),
        "the rules are about crates that are used: {seen:?}"
    );
}

#[test]
fn every_crate_comes_from_the_registry_or_from_here() {
    let (_, metadata) = read();
    let is_known = |source: &str| source.starts_with("registry+https://github.com/rust-lang/crates.io-index");
    let foreign =
        metadata.packages.iter().filter_map(|p| p.source.as_deref()).find(|source| !is_known(source));
    assert_eq!(foreign, None);
}
