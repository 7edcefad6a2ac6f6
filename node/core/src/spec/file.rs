//! The service file's structure, the same in TOML, JSON and YAML.
