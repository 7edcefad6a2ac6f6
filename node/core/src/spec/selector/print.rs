//! How a requirement is written: so that it reads as itself.

use std::fmt;

use serde::{Serialize, Serializer};

use super::{KEYWORDS, Requirement, Test, is_bare};

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let label = Word(&self.label);
        match &self.test {
            Test::In(values) => match values.as_slice() {
                [value] => write!(f, "{label} == {}", Word(value)),
                values => write!(f, "{label} in {}", List(values)),
            },
            Test::NotIn(values) => match values.as_slice() {
                [value] => write!(f, "{label} != {}", Word(value)),
                values => write!(f, "{label} not in {}", List(values)),
            },
            Test::Has => write!(f, "has {label}"),
            Test::HasNot => write!(f, "not has {label}"),
        }
    }
}

impl Serialize for Requirement {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A label or value, quoted where it must be.
struct Word<'a>(&'a str);

impl fmt::Display for Word<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bare = !self.0.is_empty() && self.0.chars().all(is_bare) && !KEYWORDS.contains(&self.0);
        if bare {
            return f.write_str(self.0);
        }
        f.write_str("'")?;
        for c in self.0.chars() {
            if matches!(c, '\'' | '\\') {
                f.write_str("\\")?;
            }
            write!(f, "{c}")?;
        }
        f.write_str("'")
    }
}

struct List<'a>(&'a [String]);

impl fmt::Display for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(")?;
        for (i, value) in self.0.iter().enumerate() {
            write!(f, "{}{}", if i == 0 { "" } else { ", " }, Word(value))?;
        }
        f.write_str(")")
    }
}
