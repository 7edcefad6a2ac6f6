//! Reading the file and the variables, with messages that name the place and the nearest known key.

use std::path::Path;

use muster_core::spec::file::nearest_known_key;
use serde::Deserialize;
use toml::{Table, Value};

use super::{Config, ConfigError, DEFAULT_PATH, Origin};

/// What every variable begins with.
const PREFIX: &str = "MUSTER_";
/// Sections that variables may set.
const SECTIONS: [&str; 6] = ["node", "admin", "http", "timing", "guard", "log"];

/// Reads the configuration. Without `path` the default file is read if it exists.
///
/// # Errors
/// [`ConfigError`] with the place.
pub fn load(path: Option<&Path>, variables: &[(String, String)]) -> Result<Config, ConfigError> {
    let chosen = path.unwrap_or(Path::new(DEFAULT_PATH));
    let text = match std::fs::read_to_string(chosen) {
        Ok(text) => text,
        Err(error) if path.is_none() && error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(source) => return Err(ConfigError::Read { path: chosen.to_owned(), source }),
    };
    read(chosen, &text, variables)
}

/// [`load`] with the file's text at hand; `path` is what errors call it.
///
/// # Errors
/// As [`load`].
pub fn read(path: &Path, text: &str, variables: &[(String, String)]) -> Result<Config, ConfigError> {
    // The file alone first: only its own text has lines to name.
    toml::from_str::<Config>(text).map_err(|e| file_error(path, text, &e))?;
    let mut table: Table = toml::from_str(text).map_err(|e| file_error(path, text, &e))?;
    let mut origin = Origin::new(path, text);
    for (name, value) in variables {
        if let Some(keys) = keys_of(name) {
            set(&mut table, name, &keys, value)?;
            origin.add_variable(&keys, name);
            // One after the other, so that the message names the right one.
            deserialize(&table, name)?;
        }
    }
    Ok(Config { origin, ..deserialize(&table, &path.display().to_string())? })
}

fn deserialize(table: &Table, place: &str) -> Result<Config, ConfigError> {
    Config::deserialize(Value::Table(table.clone())).map_err(|error| ConfigError::Parse {
        place: place.to_owned(),
        problem: error.message().to_owned(),
        hint: hint(error.message()),
    })
}

/// `MUSTER_NODE__DATA_DIR` → `["node", "data_dir"]`; none for other variables.
fn keys_of(name: &str) -> Option<Vec<String>> {
    let keys: Vec<String> = name.strip_prefix(PREFIX)?.split("__").map(str::to_lowercase).collect();
    (keys.len() > 1 && SECTIONS.contains(&keys[0].as_str())).then_some(keys)
}

fn set(table: &mut Table, name: &str, keys: &[String], text: &str) -> Result<(), ConfigError> {
    let (last, path) = keys.split_last().expect("keys_of gives at least two keys");
    let mut at = table;
    for key in path {
        let entry = at.entry(key.clone()).or_insert_with(|| Value::Table(Table::new()));
        at = entry.as_table_mut().ok_or_else(|| ConfigError::Parse {
            place: name.to_owned(),
            problem: format!("'{key}' is not a section"),
            hint: String::new(),
        })?;
    }
    at.insert(last.clone(), value_of(last, text));
    Ok(())
}

/// A variable's text as a TOML value: a list for the keys that are lists, a number where it is one.
fn value_of(key: &str, text: &str) -> Value {
    let is_list = matches!(key, "listen" | "advertise" | "raft_election_ms");
    let scalar = |t: &str| t.parse::<i64>().map_or_else(|_| Value::String(t.to_owned()), Value::Integer);
    if is_list {
        Value::Array(text.split(',').map(str::trim).filter(|t| !t.is_empty()).map(scalar).collect())
    } else if key.ends_with("_ms") || key.ends_with("_millis") || key.ends_with("_mib") {
        scalar(text)
    } else {
        Value::String(text.to_owned())
    }
}

fn file_error(path: &Path, text: &str, error: &toml::de::Error) -> ConfigError {
    let line = error.span().map(|span| text[..span.start.min(text.len())].matches('\n').count() + 1);
    let place = line.map_or_else(|| path.display().to_string(), |l| format!("{}:{l}", path.display()));
    ConfigError::Parse { place, problem: error.message().to_owned(), hint: hint(error.message()) }
}

/// serde names the unknown key first and then the known ones, each in backquotes.
fn hint(message: &str) -> String {
    if !message.starts_with("unknown field") {
        return String::new();
    }
    let mut quoted = message.split('`').skip(1).step_by(2);
    let Some(unknown) = quoted.next() else { return String::new() };
    let known: Vec<&str> = quoted.collect();
    nearest_known_key(unknown, &known).map_or_else(String::new, |k| format!("; did you mean `{k}`?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load_text(text: &str, variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.toml");
        std::fs::write(&path, text).unwrap();
        let variables: Vec<_> = variables.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        load(Some(&path), &variables)
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line_and_the_nearest_one() {
        let error = load_text("[node]\nname = \"n1\"\nlisten_on = []\n", &[]).unwrap_err().to_string();
        assert!(error.contains("agent.toml:3:"), "{error}");
        assert!(error.contains("did you mean `listen`?"), "{error}");
    }

    #[test]
    fn a_variable_wins_over_the_file() {
        let config = load_text(
            "[node]\nname = \"n1\"\n",
            &[("MUSTER_NODE__NAME", "n2"), ("MUSTER_NODE__LISTEN", "127.0.0.1:1, 127.0.0.2:1")],
        )
        .unwrap();
        assert_eq!(config.node_name().unwrap().as_str(), "n2");
        assert_eq!(config.node.listen.len(), 2);
    }

    #[test]
    fn users_may_have_addresses_of_their_own() {
        let config = load_text("[admin]\nlisten = [\"10.0.0.1:7430\"]\n", &[]).unwrap();
        assert_eq!(config.admin.listen.len(), 1);
    }

    #[test]
    fn a_timing_that_breaks_the_inequality_is_refused() {
        let config = load_text("[timing]\nlease_ttl_ms = 500\n", &[]).unwrap();
        let error = config.check().unwrap_err().to_string();
        assert!(error.contains("agent.toml:1: timing: "), "{error}");
    }

    #[test]
    fn a_timing_that_is_not_the_clusters_is_named_and_saying_nothing_is_no_disagreement() {
        let cluster = muster_core::time::Timing::CLOUD;
        let quiet = load_text("[log]\nlevel = \"info\"\n", &[]).unwrap();
        assert_eq!(quiet.timing_in_vain(&cluster), None);
        let same = load_text("[timing]\nprofile = \"cloud\"\n", &[]).unwrap();
        assert_eq!(same.timing_in_vain(&cluster), None);
        let other = load_text("[log]\n[timing]\nprofile = \"lan\"\n", &[]).unwrap();
        let told = other.timing_in_vain(&cluster).unwrap();
        assert!(
            told.contains("agent.toml:2: ") && told.contains("lan (") && told.contains("cloud ("),
            "{told}"
        );
    }

    #[test]
    fn a_wrong_variable_is_named() {
        let variables = [("MUSTER_NODE__NAME", "n2"), ("MUSTER_TIMING__LEASE_TTL_MS", "soon")];
        let error = load_text("", &variables).unwrap_err().to_string();
        assert!(error.starts_with("MUSTER_TIMING__LEASE_TTL_MS: "), "{error}");
        let config = load_text("", &[("MUSTER_NODE__NAME", "no spaces please")]).unwrap();
        let error = config.check().unwrap_err().to_string();
        assert!(error.starts_with("MUSTER_NODE__NAME: node.name: "), "{error}");
    }
}
