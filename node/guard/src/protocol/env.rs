//! The value of a variable in a task's environment: it may be a secret.

use serde::{Deserialize, Serialize};
use zeroize::Zeroize;

/// A text that is never shown, and wiped from memory when it is dropped.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EnvText(String);

impl EnvText {
    /// The text itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for EnvText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[secret]")
    }
}

impl From<String> for EnvText {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl From<&str> for EnvText {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl Drop for EnvText {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}
