//! Join tokens: `muster1.ID.SECRET.PIN`. The ID lists and revokes it, the PIN tells the cluster's CA from any other;
//! only a hash of the whole is stored.

use muster_tls::Pin;

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
    /// A token with 160 bits of chance, for the cluster whose CA has that pin.
    ///
    /// # Errors
    /// When the system has no randomness to give.
    pub fn generate(pin: Pin) -> Result<Self, getrandom::Error> {
        let mut bytes = [0u8; 40];
        getrandom::fill(&mut bytes)?;
        let letters: String = bytes.iter().map(|b| char::from(ALPHABET[usize::from(b % 32)])).collect();
        let (id, secret) = letters.split_at(8);
        Ok(Self { id: id.to_owned(), text: format!("{KIND}.{id}.{secret}.{pin}") })
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
    pin(text).is_some()
}

/// The pin of a token; none when the text is no token.
#[must_use]
pub fn pin(text: &str) -> Option<Pin> {
    let parts: Vec<&str> = text.trim().split('.').collect();
    match parts.as_slice() {
        [kind, id, secret, pin] if *kind == KIND && id.len() == 8 && secret.len() == 32 => Pin::parse(pin),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_tells_its_pin_and_a_cut_one_is_none() {
        let of = Pin::of(b"the CA's key");
        let token = Token::generate(of).unwrap();
        assert_eq!(pin(&format!(" {}\n", token.text)), Some(of));
        assert!(!is_well_formed(&token.text[..token.text.len() - 1]));
        assert!(!is_well_formed("muster1.abc.def"));
        assert_eq!(hash(&token.text), token.hash());
    }
}
