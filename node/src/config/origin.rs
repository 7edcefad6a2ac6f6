//! Where a value of the configuration comes from, for messages about it.

use std::path::{Path, PathBuf};

/// The file and the variables that a configuration was read from.
#[derive(Clone, Debug, Default)]
pub struct Origin {
    path: PathBuf,
    text: String,
    /// The key that each one sets, and its name.
    variables: Vec<(String, String)>,
}

impl Origin {
    pub(super) fn new(path: &Path, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned(), variables: Vec::new() }
    }

    pub(super) fn add_variable(&mut self, keys: &[String], name: &str) {
        self.variables.push((keys.join("."), name.to_owned()));
    }

    /// Where `SECTION.KEY`, or something of `SECTION`, was set: the variable, or the file with its line. `None` when
    /// nothing was read.
    pub(super) fn of(&self, key: &str) -> Option<String> {
        let is_meant = |set: &str| set == key || set.starts_with(&format!("{key}."));
        if let Some((_, name)) = self.variables.iter().find(|(set, _)| is_meant(set)) {
            return Some(name.clone());
        }
        if self.text.is_empty() {
            return None;
        }
        let line = self.line_of(key).map_or_else(String::new, |line| format!(":{line}"));
        Some(format!("{}{line}", self.path.display()))
    }

    /// The line, from 1. It is looked for as people write it: `[section]`, and `key =` below it.
    fn line_of(&self, key: &str) -> Option<usize> {
        let mut section = "";
        for (index, line) in self.text.lines().enumerate() {
            let line = line.trim();
            let (found, is_header) = match line.strip_prefix('[').and_then(|line| line.split_once(']')) {
                Some((name, _)) => {
                    section = name.trim();
                    (section.to_owned(), true)
                }
                None => {
                    let name = line.split('=').next().unwrap_or_default().trim();
                    (format!("{section}.{name}").trim_start_matches('.').to_owned(), false)
                }
            };
            if found == key && (is_header || line.contains('=')) {
                return Some(index + 1);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_found_in_its_section_only() {
        let text = "# listen = here?\nlog.level = \"info\"\n[http]\nlisten = []\n\n[node]\n  listen = []\n[timing]\n";
        let mut origin = Origin::new(Path::new("/etc/agent.toml"), text);
        assert_eq!(origin.of("node.listen").as_deref(), Some("/etc/agent.toml:7"));
        assert_eq!(origin.of("http.listen").as_deref(), Some("/etc/agent.toml:4"));
        assert_eq!(origin.of("log.level").as_deref(), Some("/etc/agent.toml:2"));
        assert_eq!(origin.of("timing").as_deref(), Some("/etc/agent.toml:8"));
        assert_eq!(origin.of("node.advertise").as_deref(), Some("/etc/agent.toml"), "it is not there");
        origin.add_variable(&["node".to_owned(), "listen".to_owned()], "MUSTER_NODE__LISTEN");
        assert_eq!(origin.of("node.listen").as_deref(), Some("MUSTER_NODE__LISTEN"));
        assert_eq!(Origin::default().of("node.name"), None);
    }
}
