//! Service files: TOML, JSON or YAML, several services in one, `-` for stdin. What is wrong is named with the
//! file, the line and the key.

use std::collections::BTreeMap;
use std::io::Read;

use muster_core::spec::ServiceSpec;
use muster_core::spec::file::ServiceFile;
use muster_core::spec::validate::SpecError;

use crate::exit::Exit;

mod place;

/// The name that stands for stdin.
const STDIN: &str = "-";
/// More than this is no service file.
const MAX_BYTES: u64 = 16 * 1024 * 1024;

/// What is wrong with a service file.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("{file}: {source}")]
    Read {
        /// Which.
        file: String,
        /// Why.
        source: std::io::Error,
    },
    /// It is no TOML, JSON or YAML, or has a wrong key or value.
    #[error("{file}:{line}: {}{message}", .key.as_ref().map(|key| format!("{key}: ")).unwrap_or_default())]
    Syntax {
        /// Which file.
        file: String,
        /// The line, from 1.
        line: usize,
        /// The key on that line, unless the message names it.
        key: Option<String>,
        /// What is wrong.
        message: String,
    },
    /// A declaration makes no sense.
    #[error("{file}:{line}: service {service}: {}: {}", error.path, error.problem)]
    Spec {
        /// Which file.
        file: String,
        /// The line, from 1.
        line: usize,
        /// The service, or its place in the file.
        service: String,
        /// What is wrong.
        error: SpecError,
    },
    /// The same service twice.
    #[error("{file}:{line}: service {service} is declared twice, first at {first}")]
    Duplicate {
        /// The second file.
        file: String,
        /// The line, from 1.
        line: usize,
        /// The service.
        service: String,
        /// FILE:LINE of the first.
        first: String,
    },
    /// No services in it.
    #[error("{file}:1: service: the file declares no service")]
    Empty {
        /// Which.
        file: String,
    },
}

impl FileError {
    /// The status to end with: a file that is wrong, or is not there.
    #[expect(clippy::unused_self, reason = "every kind of wrong file has the same status")]
    pub fn exit(&self) -> Exit {
        Exit::BadFile
    }

    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Read { .. } => "name an existing file, or '-' for stdin",
            Self::Syntax { .. } | Self::Empty { .. } => {
                "'musterctl service init exec' prints a complete service file"
            }
            Self::Spec { error, .. } => error.remedy,
            Self::Duplicate { .. } => "remove one of them, or give it another name",
        }
    }
}

/// A service, and where it stands.
#[derive(Debug)]
pub struct Declared {
    /// The file.
    pub file: String,
    /// The line where it begins.
    line: usize,
    /// The declaration.
    pub spec: ServiceSpec,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Syntax {
    Toml,
    Json,
    Yaml,
}

/// Reads all services of these files.
///
/// # Errors
/// The first thing that is wrong.
pub fn load(files: &[String]) -> Result<Vec<Declared>, FileError> {
    let mut all: Vec<Declared> = Vec::new();
    for file in files {
        let text = read(file)?;
        let file = if file == STDIN { "stdin" } else { file };
        all.extend(parse(file, &text)?);
    }
    let mut seen: BTreeMap<&str, String> = BTreeMap::new();
    for declared in &all {
        let (file, line) = (&declared.file, declared.line);
        let name = declared.spec.name.as_str();
        if let Some(first) = seen.insert(name, format!("{file}:{line}")) {
            return Err(FileError::Duplicate { file: file.clone(), line, service: name.to_owned(), first });
        }
    }
    Ok(all)
}

fn read(file: &str) -> Result<String, FileError> {
    let mut text = String::new();
    let result = if file == STDIN {
        std::io::stdin().lock().take(MAX_BYTES).read_to_string(&mut text)
    } else {
        std::fs::File::open(file).and_then(|opened| opened.take(MAX_BYTES).read_to_string(&mut text))
    };
    result.map(|_| text).map_err(|source| FileError::Read { file: file.to_owned(), source })
}

/// Reads one file's services.
///
/// # Errors
/// The first thing that is wrong.
pub fn parse(file: &str, text: &str) -> Result<Vec<Declared>, FileError> {
    let syntax = syntax_of(file, text);
    let parsed = deserialize(file, text, syntax)?;
    if parsed.service.is_empty() {
        return Err(FileError::Empty { file: file.to_owned() });
    }
    let places =
        if syntax == Syntax::Toml { place::Places::of_toml(text) } else { place::Places::of_lines(text) };
    let mut all = Vec::new();
    for (at, entry) in parsed.service.into_iter().enumerate() {
        let name = entry.name.as_ref().map_or_else(|| format!("#{}", at + 1), ToString::to_string);
        let spec = ServiceSpec::try_from(entry).map_err(|error| FileError::Spec {
            file: file.to_owned(),
            line: places.line_of(at, &name, &error.path),
            service: name.clone(),
            error,
        })?;
        all.push(Declared { file: file.to_owned(), line: places.line_of(at, &name, ""), spec });
    }
    Ok(all)
}

/// The syntax by the file's name, else by its look.
fn syntax_of(file: &str, text: &str) -> Syntax {
    match file.rsplit_once('.').map(|(_, extension)| extension) {
        Some("json") => return Syntax::Json,
        Some("yaml" | "yml") => return Syntax::Yaml,
        Some("toml") => return Syntax::Toml,
        _ => {}
    }
    let is_yaml = |line: &str| line.starts_with("---") || line.starts_with("service:");
    if text.trim_start().starts_with('{') {
        Syntax::Json
    } else if text.lines().any(is_yaml) {
        Syntax::Yaml
    } else {
        Syntax::Toml
    }
}

fn deserialize(file: &str, text: &str, syntax: Syntax) -> Result<ServiceFile, FileError> {
    let (line, message) = match syntax {
        Syntax::Toml => match toml::from_str(text) {
            Ok(parsed) => return Ok(parsed),
            Err(error) => {
                (place::line_at(text, error.span().map_or(0, |span| span.start)), error.message().to_owned())
            }
        },
        Syntax::Json => match serde_json::from_str(text) {
            Ok(parsed) => return Ok(parsed),
            Err(error) => (error.line(), without_position(&error.to_string(), " at line ")),
        },
        Syntax::Yaml => match serde_yaml_ng::from_str(text) {
            Ok(parsed) => return Ok(parsed),
            Err(error) => {
                let line = error.location().map_or(1, |location| location.line());
                (line, without_position(&error.to_string(), " at line "))
            }
        },
    };
    let key = place::key_on(text, line).filter(|key| !message.contains(&format!("'{key}'")));
    Err(FileError::Syntax { file: file.to_owned(), line: line.max(1), key, message })
}

/// The message without the position that our own already tells.
fn without_position(message: &str, marker: &str) -> String {
    message.rsplit_once(marker).map_or(message, |(message, _)| message).to_owned()
}

#[cfg(test)]
mod tests;
