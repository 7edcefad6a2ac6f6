//! Join tokens: `muster1.ID.SECRET`. The ID lists and revokes it; only a hash of the whole is stored.

/// What every token of this kind begins with.
const KIND: &str = "muster1";
/// Easy to read aloud: no 0, 1, l, o.
const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";

/// A new token.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// The public half.
    pub id: String,
    /// The whole; shown once.
    pub text: String,
}

impl Token {
    /// A token with 160 bits of chance.
    ///
    /// # Errors
    /// When the system has no randomness to give.
    pub fn generate() -> Result<Self, getrandom::Error> {
        let mut bytes = [0u8; 40];
        getrandom::fill(&mut bytes)?;
        let letters: String = bytes.iter().map(|b| char::from(ALPHABET[usize::from(b % 32)])).collect();
        let (id, secret) = letters.split_at(8);
        Ok(Self { id: id.to_owned(), text: format!("{KIND}.{id}.{secret}") })
    }

    /// What is stored of it.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        hash(&self.text)
    }
}

/// What is stored of a token.
#[must_use]
pub fn hash(text: &str) -> [u8; 32] {
    *blake3::hash(text.trim().as_bytes()).as_bytes()
}

/// Whether a text looks like a token at all.
#[must_use]
pub fn is_well_formed(text: &str) -> bool {
    let parts: Vec<&str> = text.trim().split('.').collect();
    matches!(parts.as_slice(), [kind, id, secret] if *kind == KIND && id.len() == 8 && secret.len() == 32)
}
