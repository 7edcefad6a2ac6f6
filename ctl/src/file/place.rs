//! On which line of a file something stands.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Where the services of a file stand.
pub enum Places<'a> {
    /// Known from the parser.
    Toml(&'a str, Option<DeTable<'a>>),
    /// Looked for by name.
    Lines(&'a str),
}

/// The line of a byte, from 1.
pub fn line_at(text: &str, byte: usize) -> usize {
    let before = &text.as_bytes()[..byte.min(text.len())];
    before.iter().filter(|byte| **byte == b'\n').count() + 1
}

/// The key that stands on a line, in any of the syntaxes.
pub fn key_on(text: &str, line: usize) -> Option<String> {
    let line = text.lines().nth(line.checked_sub(1)?)?;
    let line = line.trim().trim_start_matches("- ").trim_start_matches(['{', ' ']);
    let (key, _) = line.split_once(['=', ':'])?;
    let key = key.trim().trim_matches('"');
    let is_key =
        !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'));
    is_key.then(|| key.to_owned())
}

impl<'a> Places<'a> {
    /// The places in a TOML file.
    pub fn of_toml(text: &'a str) -> Self {
        Self::Toml(text, DeTable::parse(text).ok().map(Spanned::into_inner))
    }

    /// The places in a file of another syntax.
    pub fn of_lines(text: &'a str) -> Self {
        Self::Lines(text)
    }

    /// The line of a key, given as a dotted path, of the service at place `at` with that name; as near as it
    /// can be told.
    pub fn line_of(&self, at: usize, name: &str, path: &str) -> usize {
        match self {
            Self::Toml(text, table) => {
                let services = table.as_ref().and_then(|table| member(table, "service"));
                let service = services.and_then(|(_, services)| services.get_ref().get(at));
                service.map_or(1, |service| line_at(text, deepest(service, path)))
            }
            Self::Lines(text) => line_by_name(text, name, path),
        }
    }
}

/// A member of a table: where its key begins, and its value.
fn member<'t, 'a>(table: &'t DeTable<'a>, key: &str) -> Option<(usize, &'t Spanned<DeValue<'a>>)> {
    table.iter().find(|(k, _)| k.get_ref().as_ref() == key).map(|(k, value)| (k.span().start, value))
}

/// Where the path begins, as far as it is there.
fn deepest(value: &Spanned<DeValue<'_>>, path: &str) -> usize {
    let (mut value, mut path, mut start) = (value, path, value.span().start);
    while !path.is_empty() {
        let step = match value.get_ref() {
            DeValue::Table(table) => {
                let (key, rest) = path.split_once('.').unwrap_or((path, ""));
                member(table, key).map(|(at, value)| (at, value, rest))
            }
            DeValue::Array(items) => {
                element(items, path).map(|(value, rest)| (value.span().start, value, rest))
            }
            _ => None,
        };
        let Some((at, next, rest)) = step else { break };
        (start, value, path) = (at, next, rest);
    }
    start
}

/// The element that a path begins with: by its name, which may contain dots, or by `#` and its place from 1.
fn element<'t, 'a, 'p>(
    items: &'t [Spanned<DeValue<'a>>],
    path: &'p str,
) -> Option<(&'t Spanned<DeValue<'a>>, &'p str)> {
    if let Some(place) = path.strip_prefix('#') {
        let (place, rest) = place.split_once('.').unwrap_or((place, ""));
        return items.get(place.parse::<usize>().ok()?.checked_sub(1)?).map(|item| (item, rest));
    }
    items.iter().find_map(|item| {
        let DeValue::Table(table) = item.get_ref() else { return None };
        let (_, name) = member(table, "name")?;
        let DeValue::String(name) = name.get_ref() else { return None };
        let rest = path.strip_prefix(name.as_ref())?;
        if rest.is_empty() { Some((item, rest)) } else { Some((item, rest.strip_prefix('.')?)) }
    })
}

/// The first line with the path's last key at or after the line with the service's name.
fn line_by_name(text: &str, name: &str, path: &str) -> usize {
    let has = |line: &str, word: &str| {
        line.split(|c: char| !(c.is_alphanumeric() || "-_.".contains(c))).any(|w| w == word)
    };
    let lines: Vec<&str> = text.lines().collect();
    let begin = lines.iter().position(|line| has(line, name)).unwrap_or(0);
    let key = path.rsplit('.').next().unwrap_or_default();
    let found = lines[begin.min(lines.len())..].iter().position(|line| has(line, key));
    begin + found.unwrap_or(0) + 1
}
