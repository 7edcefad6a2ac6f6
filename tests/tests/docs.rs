//! The documents lead where they say, in the repository and where `deploy/install.sh` puts them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use muster_tests::harness::tool;
use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the repository")
}

/// All pages below a directory, without what is built or hidden.
fn pages(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() && !name.starts_with('.') && name != "target" && name != "corpus" {
            found.extend(pages(&path));
        } else if name.ends_with(".md") {
            found.push(path);
        }
    }
    found
}

/// Where the links of a page lead, unless out of the documents.
fn links(text: &str) -> Vec<String> {
    let target = |event| match event {
        Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
            Some(dest_url.into_string())
        }
        _ => None,
    };
    let targets = Parser::new_ext(text, Options::ENABLE_TABLES).filter_map(target);
    targets.filter(|target| !target.contains("://") && !target.starts_with("mailto:")).collect()
}

/// The names that a page's headings have in links: as GitHub makes them.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut heading: Option<String> = None;
    for event in Parser::new_ext(text, Options::ENABLE_TABLES) {
        match event {
            Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
            Event::End(TagEnd::Heading(_)) => found.extend(heading.take().as_deref().map(anchor)),
            Event::Text(text) | Event::Code(text) => {
                heading = heading.map(|heading| heading + &text);
            }
            _ => {}
        }
    }
    found
}

fn anchor(heading: &str) -> String {
    let name = heading.trim().to_lowercase().replace(' ', "-");
    name.chars().filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_')).collect()
}

/// Every link below a directory that leads nowhere, and how many were followed.
fn dead_links(root: &Path) -> (Vec<String>, usize) {
    let (mut dead, mut followed) = (Vec::new(), 0);
    for page in pages(root) {
        let text = fs::read_to_string(&page).expect("a page");
        for link in links(&text) {
            followed += 1;
            let (file, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target = if file.is_empty() { page.clone() } else { page.with_file_name("").join(file) };
            let is_there = match fs::read_to_string(&target) {
                Ok(text) => anchor.is_empty() || anchors(&text).contains(anchor),
                Err(_) => target.is_dir() && anchor.is_empty(),
            };
            if !is_there {
                dead.push(format!("{}: {link}", page.display()));
            }
        }
    }
    (dead, followed)
}

#[test]
fn every_link_of_a_page_leads_somewhere() {
    let (dead, followed) = dead_links(repository());
    assert_eq!(dead, Vec::<String>::new());
    assert!(followed > 150, "{followed} links were found");
}

#[test]
fn every_link_of_an_installed_page_leads_somewhere() {
    let place = tempfile::tempdir().expect("a directory");
    let (root, binaries) = (place.path().join("root"), place.path().join("binaries"));
    fs::create_dir_all(&binaries).expect("a directory");
    for name in ["muster", "musterctl"] {
        let path = binaries.join(name);
        fs::write(&path, "").expect("a file");
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("its mode");
    }
    let (dest, from) = (format!("DESTDIR={}", root.display()), format!("BINARIES={}", binaries.display()));
    let script = repository().join("deploy/install.sh").display().to_string();
    let installed = tool::run("env", &[&dest, &from, &script]).and_then(tool::Finished::success);
    installed.expect("the script to end well");
    let (dead, followed) = dead_links(&root);
    assert_eq!(dead, Vec::<String>::new());
    assert!(followed > 150, "{followed} links were found");
    for unit in fs::read_dir(root.join("usr/lib/systemd/system")).expect("the units") {
        let unit = fs::read_to_string(unit.expect("a unit").path()).expect("a unit");
        for page in unit.lines().filter_map(|line| line.strip_prefix("Documentation=file://")) {
            assert!(root.join(page.trim_start_matches('/')).is_file(), "{page} is not installed");
        }
    }
}
