//! The grammar of `require` and `prefer`: see [`GRAMMAR`].

mod parse;
mod print;

pub use parse::SelectorError;

use crate::spec::Labels;

/// The grammar, as the documentation and error messages print it.
pub const GRAMMAR: &str = "LABEL == VALUE | LABEL != VALUE | LABEL in (VALUE, ...) | LABEL not in (VALUE, ...) | \
                           has LABEL | not has LABEL; the label 'node' is the node's name; quote a LABEL or VALUE \
                           that has other characters than a-z, A-Z, 0-9 and -_./:@+";

/// The words of the grammar: as a label or value they are quoted.
const KEYWORDS: [&str; 3] = ["in", "not", "has"];

/// Whether a label or value may stand without quotes.
fn is_bare(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-_./:@+".contains(c)
}

/// One condition on a node's labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// The label; `node` stands for the node's name.
    pub label: String,
    /// What must hold for its value.
    pub test: Test,
}

/// What must hold for a label's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Test {
    /// It is one of these (`==`, `in`).
    In(Vec<String>),
    /// It is none of these, or the label is missing (`!=`, `not in`).
    NotIn(Vec<String>),
    /// The label exists.
    Has,
    /// The label does not exist.
    HasNot,
}

impl Requirement {
    /// Whether a node of that name and labels satisfies it.
    #[must_use]
    pub fn holds(&self, node: &str, labels: &Labels) -> bool {
        let value =
            if self.label == "node" { Some(node) } else { labels.get(&self.label).map(String::as_str) };
        match &self.test {
            Test::In(values) => value.is_some_and(|v| values.iter().any(|x| x == v)),
            Test::NotIn(values) => value.is_none_or(|v| values.iter().all(|x| x != v)),
            Test::Has => value.is_some(),
            Test::HasNot => value.is_none(),
        }
    }
}
