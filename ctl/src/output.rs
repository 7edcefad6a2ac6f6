//! The only printer: data on stdout as a table, JSON, YAML or names; notes and errors on stderr.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use crate::clock;
use crate::failure::Failure;

pub mod table;

pub use table::{Paint, Table};

/// How data is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people, 80 columns wide.
    #[default]
    Table,
    /// For people, with all columns.
    Wide,
    /// One JSON document; streams: one object a line.
    Json,
    /// The same as YAML.
    Yaml,
    /// Names only, one a line.
    Name,
}

/// What a table is drawn for.
#[derive(Clone, Copy, Debug)]
pub struct Screen {
    /// Whether all columns are wanted, however wide.
    pub wide: bool,
    /// Whether colours are wanted.
    pub colour: bool,
    /// The present, for relative times.
    pub now_ms: u64,
}

/// The width that tables keep to unless they are wide.
pub const COLUMNS: usize = 80;

/// Something that can be printed in every format.
pub trait View: Serialize {
    /// For people; ends with a line break unless empty.
    fn table(&self, screen: &Screen) -> String;
    /// The names of the things in it.
    fn names(&self) -> Vec<String>;
}

/// Prints.
#[derive(Clone, Copy, Debug)]
pub struct Printer {
    format: Format,
    quiet: bool,
    colour: bool,
}

impl Printer {
    /// A printer that uses colours only on a terminal, without `NO_COLOR`.
    pub fn new(format: Format, quiet: bool, no_color: bool) -> Self {
        let refused = no_color || std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { format, quiet, colour: !refused && io::stdout().is_terminal() }
    }

    /// Whether output is for programs.
    pub fn is_structured(&self) -> bool {
        matches!(self.format, Format::Json | Format::Yaml)
    }

    /// Whether progress may be drawn: a terminal, a person, and not asked to be quiet.
    pub fn draws_progress(&self) -> bool {
        !self.quiet && !self.is_structured() && io::stderr().is_terminal()
    }

    /// Whether a question can be asked.
    pub fn can_ask(&self) -> bool {
        !self.is_structured() && io::stdin().is_terminal() && io::stderr().is_terminal()
    }

    /// For what is drawn and not printed.
    pub fn screen(&self) -> Screen {
        Screen { wide: self.format == Format::Wide, colour: self.colour, now_ms: clock::wall_ms() }
    }

    /// Prints data.
    ///
    /// # Errors
    /// When stdout cannot be written to.
    pub fn show<V: View>(&self, view: &V) -> Result<(), Failure> {
        let text = match self.format {
            Format::Table | Format::Wide => view.table(&self.screen()),
            Format::Json => json(view, true)?,
            Format::Yaml => yaml(view)?,
            Format::Name => lines(&view.names()),
        };
        self.put(&text)
    }

    /// Prints one of a stream of items.
    ///
    /// # Errors
    /// When stdout cannot be written to.
    pub fn show_item<V: View>(&self, view: &V) -> Result<(), Failure> {
        let text = match self.format {
            Format::Table | Format::Wide => view.table(&self.screen()),
            Format::Json => json(view, false)?,
            Format::Yaml => format!("---\n{}", yaml(view)?),
            Format::Name => lines(&view.names()),
        };
        self.put(&text)
    }

    /// Prints the outcome of an act; with `-q` people are spared it.
    ///
    /// # Errors
    /// When stdout cannot be written to.
    pub fn show_outcome<V: View>(&self, view: &V) -> Result<(), Failure> {
        if self.quiet && !self.is_structured() { Ok(()) } else { self.show(view) }
    }

    /// Prints text as it is.
    ///
    /// # Errors
    /// When stdout cannot be written to.
    pub fn put(&self, text: &str) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            Ok(()) => Ok(()),
            // The reader has seen enough ('| head'): that is no failure.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
            Err(source) => Err(Failure::Io { doing: "writing to stdout", source }),
        }
    }

    /// Tells people something beside the data.
    pub fn note(&self, text: &str) {
        if !self.quiet && !self.is_structured() {
            tell(&format!("{text}\n"));
        }
    }

    /// Tells people something that they should not miss.
    pub fn warn(&self, text: &str) {
        if !self.is_structured() {
            tell(&format!("warning: {text}\n"));
        }
    }

    /// Prints an error, as JSON if the data would be.
    pub fn error(&self, failure: &Failure) {
        let json = self.format == Format::Json;
        tell(&error_text(&failure.to_string(), failure.code(), failure.hint().as_deref(), json));
    }
}

/// An error as it is printed on stderr.
pub fn error_text(message: &str, code: &str, hint: Option<&str>, as_json: bool) -> String {
    if as_json {
        let error = serde_json::json!({ "error": { "code": code, "message": message, "hint": hint } });
        return format!("{error}\n");
    }
    let hint = hint.map(|hint| format!("hint: {hint}\n")).unwrap_or_default();
    format!("error: {message} [{code}]\n{hint}")
}

/// Writes to stderr; when that is closed there is nobody to tell.
pub fn tell(text: &str) {
    if let Err(error) = io::stderr().lock().write_all(text.as_bytes()) {
        drop(error);
    }
}

fn json<V: View>(view: &V, pretty: bool) -> Result<String, Failure> {
    let text = if pretty { serde_json::to_string_pretty(view) } else { serde_json::to_string(view) };
    let text = text.map_err(|error| Failure::Unreadable(error.to_string()))?;
    Ok(format!("{text}\n"))
}

fn yaml<V: View>(view: &V) -> Result<String, Failure> {
    serde_yaml_ng::to_string(view).map_err(|error| Failure::Unreadable(error.to_string()))
}

fn lines(names: &[String]) -> String {
    names.iter().map(|name| format!("{name}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_object_or_two_lines() {
        let json = error_text("no such thing", "MU1", Some("look"), true);
        assert_eq!(json, "{\"error\":{\"code\":\"MU1\",\"hint\":\"look\",\"message\":\"no such thing\"}}\n");
        assert_eq!(error_text("no", "MU1", Some("look"), false), "error: no [MU1]\nhint: look\n");
        assert_eq!(error_text("no", "MU1", None, false), "error: no [MU1]\n");
    }
}
