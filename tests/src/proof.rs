//! The tables of `docs/proof.md` that are generated: a test that computes one compares it with the page, so that the
//! page can't go stale. With `MUSTER_WRITE_DOCS=1` the page is written instead.

use std::path::Path;

/// A generated part of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// Mutants that the simulation catches.
    Mutants,
    /// Models of every day.
    Models,
    /// Large models.
    LargeModels,
}

impl Section {
    fn name(self) -> &'static str {
        match self {
            Self::Mutants => "mutants",
            Self::Models => "models",
            Self::LargeModels => "large models",
        }
    }
}

/// A table in Markdown.
#[must_use]
pub fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let owned: Vec<String> = head.iter().map(ToString::to_string).collect();
    let rule = vec!["---".to_owned(); head.len()];
    let body: String = rows.iter().map(|row| line(row)).collect();
    line(&owned) + &line(&rule) + &body
}

/// Compares a section of the page with what was computed, or writes it.
///
/// # Errors
/// What to do when the page says something else.
pub fn settle(section: Section, text: &str) -> Result<(), String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/proof.md");
    let page = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let (begin, end) =
        (format!("<!-- {} -->\n", section.name()), format!("<!-- end of {} -->", section.name()));
    let from = page.find(&begin).ok_or_else(|| format!("docs/proof.md has no {begin}"))? + begin.len();
    let to = page.find(&end).ok_or_else(|| format!("docs/proof.md has no {end}"))?;
    if page[from..to] == *text {
        return Ok(());
    }
    if std::env::var("MUSTER_WRITE_DOCS").is_ok_and(|value| value == "1") {
        let page = format!("{}{text}{}", &page[..from], &page[to..]);
        return std::fs::write(&path, page).map_err(|error| format!("{}: {error}", path.display()));
    }
    Err(format!("docs/proof.md, '{}', is not up to date: run `just proof-tables`\n{text}", section.name()))
}
