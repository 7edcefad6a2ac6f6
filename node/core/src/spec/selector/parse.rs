//! Reads a requirement; an error names the column.

use std::fmt;
use std::iter::Peekable;
use std::str::{CharIndices, FromStr};

use serde::{Deserialize, Deserializer, de};

use super::{GRAMMAR, KEYWORDS, Requirement, Test, is_bare};

/// Why a text is no requirement.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{text}', column {column}: {problem}; the grammar is: {GRAMMAR}")]
pub struct SelectorError {
    /// The whole text.
    pub text: String,
    /// Where, in characters, from 1.
    pub column: usize,
    /// What is wrong there.
    pub problem: String,
}

impl FromStr for Requirement {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<Self, SelectorError> {
        let tokens = tokens(text)?;
        let mut parser = Parser { text, rest: &tokens };
        let requirement = parser.requirement()?;
        if parser.rest.is_empty() { Ok(requirement) } else { Err(parser.expected("the end")) }
    }
}

impl<'de> Deserialize<'de> for Requirement {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl de::Visitor<'_> for Text {
            type Value = Requirement;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a condition in quotes, such as \"zone == a\"")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Requirement, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// A token and where it begins, as a byte offset.
type Placed = (usize, Token);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    /// A label or value; in quotes also what would be a keyword.
    Word(String),
    Keyword(&'static str),
    Equal,
    NotEqual,
    Open,
    Close,
    Comma,
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::Word(word) => word.as_str(),
            Self::Keyword(word) => word,
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::Open => "(",
            Self::Close => ")",
            Self::Comma => ",",
        };
        write!(f, "'{text}'")
    }
}

fn error_at(text: &str, offset: usize, problem: impl Into<String>) -> SelectorError {
    let column = text.get(..offset).unwrap_or(text).chars().count() + 1;
    SelectorError { text: text.to_owned(), column, problem: problem.into() }
}

fn tokens(text: &str) -> Result<Vec<Placed>, SelectorError> {
    let mut tokens = Vec::new();
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        let mut equals = |token| match chars.next_if(|(_, next)| *next == '=') {
            Some(_) => Ok(token),
            None => Err(error_at(text, at, format!("'{c}' alone means nothing: use == or !="))),
        };
        let token = match c {
            c if c.is_whitespace() => continue,
            '=' => equals(Token::Equal)?,
            '!' => equals(Token::NotEqual)?,
            '(' => Token::Open,
            ')' => Token::Close,
            ',' => Token::Comma,
            '\'' | '"' => {
                let word = quoted(&mut chars, c);
                Token::Word(word.ok_or_else(|| error_at(text, at, "the quote is not closed"))?)
            }
            c if is_bare(c) => bare_word(&mut chars, c),
            c => return Err(error_at(text, at, format!("'{c}' may stand only within quotes"))),
        };
        tokens.push((at, token));
    }
    Ok(tokens)
}

/// The rest of a quoted word; a backslash takes the next character as it is.
fn quoted(chars: &mut Peekable<CharIndices<'_>>, quote: char) -> Option<String> {
    let mut word = String::new();
    loop {
        match chars.next()?.1 {
            '\\' => word.push(chars.next()?.1),
            c if c == quote => return Some(word),
            c => word.push(c),
        }
    }
}

fn bare_word(chars: &mut Peekable<CharIndices<'_>>, first: char) -> Token {
    let mut word = String::from(first);
    while let Some((_, c)) = chars.next_if(|(_, c)| is_bare(*c)) {
        word.push(c);
    }
    match KEYWORDS.into_iter().find(|keyword| *keyword == word) {
        Some(keyword) => Token::Keyword(keyword),
        None => Token::Word(word),
    }
}

struct Parser<'a> {
    text: &'a str,
    rest: &'a [Placed],
}

impl Parser<'_> {
    fn requirement(&mut self) -> Result<Requirement, SelectorError> {
        if self.takes(&Token::Keyword("has")) {
            return Ok(Requirement { label: self.word("a label")?, test: Test::Has });
        }
        if self.takes(&Token::Keyword("not")) {
            self.takes_or(&Token::Keyword("has"), "'has'")?;
            return Ok(Requirement { label: self.word("a label")?, test: Test::HasNot });
        }
        let label = self.word("a label, 'has' or 'not has'")?;
        let test = if self.takes(&Token::Equal) {
            Test::In(vec![self.word("a value")?])
        } else if self.takes(&Token::NotEqual) {
            Test::NotIn(vec![self.word("a value")?])
        } else if self.takes(&Token::Keyword("in")) {
            Test::In(self.list()?)
        } else if self.takes(&Token::Keyword("not")) {
            self.takes_or(&Token::Keyword("in"), "'in'")?;
            Test::NotIn(self.list()?)
        } else {
            return Err(self.expected("==, !=, 'in' or 'not in'"));
        };
        Ok(Requirement { label, test })
    }

    /// One value or more, in parentheses.
    fn list(&mut self) -> Result<Vec<String>, SelectorError> {
        self.takes_or(&Token::Open, "'('")?;
        let mut values = vec![self.word("a value")?];
        while self.takes(&Token::Comma) {
            values.push(self.word("a value")?);
        }
        self.takes_or(&Token::Close, "',' or ')'")?;
        Ok(values)
    }

    fn word(&mut self, what: &str) -> Result<String, SelectorError> {
        match self.rest {
            [(_, Token::Word(word)), rest @ ..] => {
                self.rest = rest;
                Ok(word.clone())
            }
            _ => Err(self.expected(what)),
        }
    }

    fn takes(&mut self, token: &Token) -> bool {
        match self.rest {
            [(_, found), rest @ ..] if found == token => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    fn takes_or(&mut self, token: &Token, what: &str) -> Result<(), SelectorError> {
        if self.takes(token) { Ok(()) } else { Err(self.expected(what)) }
    }

    fn expected(&self, what: &str) -> SelectorError {
        match self.rest.first() {
            Some((at, found)) => error_at(self.text, *at, format!("expected {what}, found {found}")),
            None => error_at(self.text, self.text.len(), format!("expected {what}, found the end")),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Requirement {
        text.parse().unwrap_or_else(|e: SelectorError| panic!("{e}"))
    }

    #[test]
    fn every_form_is_read_and_printed() {
        for text in [
            "disk == ssd",
            "disk != ssd",
            "zone in (a, b)",
            "zone not in (a, b)",
            "has gpu",
            "not has gpu",
            "node == n1",
            "rack == 'row 3'",
            "'in' == 'has'",
        ] {
            assert_eq!(read(text).to_string(), text);
        }
        assert_eq!(read("zone in (a)").to_string(), "zone == a");
        assert_eq!(read("zone=='a'"), read("  zone == \"a\" "));
    }

    #[test]
    fn errors_name_the_column_and_the_grammar() {
        for (text, column, problem) in [
            ("", 1, "expected a label, 'has' or 'not has', found the end"),
            ("disk = ssd", 6, "'=' alone means nothing: use == or !="),
            ("disk ==", 8, "expected a value, found the end"),
            ("disk ssd", 6, "expected ==, !=, 'in' or 'not in', found 'ssd'"),
            ("zone in a", 9, "expected '(', found 'a'"),
            ("zone in ()", 10, "expected a value, found ')'"),
            ("zone in (a b)", 12, "expected ',' or ')', found 'b'"),
            ("zone == a && disk == ssd", 11, "'&' may stand only within quotes"),
            ("zone == a has disk", 11, "expected the end, found 'has'"),
            ("zöne == 'a", 2, "'ö' may stand only within quotes"),
            ("zone == 'a", 9, "the quote is not closed"),
        ] {
            let error = text.parse::<Requirement>().unwrap_err();
            assert_eq!((error.column, error.problem.as_str()), (column, problem), "{text}");
            assert!(error.to_string().contains(GRAMMAR));
        }
    }

    proptest! {
        #[test]
        fn a_printed_requirement_reads_as_itself(
            label in any::<String>(), values in prop::collection::vec(any::<String>(), 1..4), test in 0..4u8,
        ) {
            let test = match test {
                0 => Test::In(values),
                1 => Test::NotIn(values),
                2 => Test::Has,
                _ => Test::HasNot,
            };
            let requirement = Requirement { label, test };
            prop_assert_eq!(requirement.to_string().parse::<Requirement>(), Ok(requirement));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in any::<String>()) {
            drop(text.parse::<Requirement>());
        }
    }
}
