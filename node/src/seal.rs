//! Authenticated encryption of what lies on disks: values of secrets, and snapshots.
//!
//! ```text
//! message = salt, 32 bytes | ChaCha20-Poly1305 of the content
//! ```
//! Each message, and each file, is encrypted with a key of its own that is derived from the key and a random salt,
//! so that no nonce can ever be used twice, however many messages there are.

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use zeroize::Zeroizing;

/// Bytes of a key.
pub const KEY_BYTES: usize = 32;
/// Bytes of a salt.
pub const SALT_BYTES: usize = 32;
/// What a chunk grows by.
pub const TAG_BYTES: usize = 16;
/// What a message grows by.
pub const OVERHEAD_BYTES: usize = SALT_BYTES + TAG_BYTES;

const FINGERPRINT_CONTEXT: &str = "muster 2026-11 fingerprint of a key";

/// Why something can't be encrypted or decrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The system has no randomness.
    #[error("the system gave no randomness: {0}")]
    Random(getrandom::Error),
    /// The content is too large for one message.
    #[error("it is too large to be encrypted")]
    TooLarge,
    /// Another key, another place, or changed bytes: which of them can't be told.
    #[error("it can't be decrypted: it was changed, or encrypted with another key or for another place")]
    NotGenuine,
}

/// A key. Never shown, and wiped from memory when it is dropped.
pub struct SealingKey(Zeroizing<[u8; KEY_BYTES]>);

impl std::fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[secret]")
    }
}

impl SealingKey {
    /// A new one.
    ///
    /// # Errors
    /// [`SealError::Random`].
    pub fn generate() -> Result<Self, SealError> {
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        getrandom::fill(bytes.as_mut_slice()).map_err(SealError::Random)?;
        Ok(Self(bytes))
    }

    /// The key of these bytes, if they are as many as a key has.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(|bytes| Self(Zeroizing::new(bytes)))
    }

    /// Its bytes, for the one file that holds it and for another member.
    #[must_use]
    pub fn bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }

    /// By which it is told from others; nothing of the key can be learned from it.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 16] {
        let derived = Zeroizing::new(blake3::derive_key(FINGERPRINT_CONTEXT, self.0.as_slice()));
        let mut fingerprint = [0; 16];
        fingerprint.copy_from_slice(&derived[..16]);
        fingerprint
    }

    /// Encrypts a message. It can be decrypted only for the same place, which is told by `bound_to`.
    ///
    /// # Errors
    /// [`SealError::Random`], [`SealError::TooLarge`].
    pub fn seal(&self, bound_to: &[u8], content: &[u8]) -> Result<Vec<u8>, SealError> {
        let (salt, cipher) = self.new_cipher()?;
        let mut sealed = Vec::with_capacity(content.len() + OVERHEAD_BYTES);
        sealed.extend_from_slice(&salt);
        sealed.extend_from_slice(content);
        let tag = cipher
            .0
            .seal_in_place_separate_tag(nonce(0, true), Aad::from(bound_to), &mut sealed[SALT_BYTES..])
            .map_err(|_| SealError::TooLarge)?;
        sealed.extend_from_slice(tag.as_ref());
        Ok(sealed)
    }

    /// Decrypts a message.
    ///
    /// # Errors
    /// [`SealError::NotGenuine`].
    pub fn open(&self, bound_to: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let (salt, content) = sealed.split_first_chunk().ok_or(SealError::NotGenuine)?;
        let mut content = Zeroizing::new(content.to_vec());
        let opened = self.cipher(salt).0.open_in_place(nonce(0, true), Aad::from(bound_to), &mut content);
        let length = opened.map_err(|_| SealError::NotGenuine)?.len();
        content.truncate(length);
        Ok(content)
    }

    /// The cipher of a new file, and the salt that stands at its beginning.
    ///
    /// # Errors
    /// [`SealError::Random`].
    pub fn new_cipher(&self) -> Result<([u8; SALT_BYTES], ChunkCipher), SealError> {
        let mut salt = [0; SALT_BYTES];
        getrandom::fill(&mut salt).map_err(SealError::Random)?;
        Ok((salt, self.cipher(&salt)))
    }

    /// The cipher of a file with that salt.
    #[must_use]
    pub fn cipher(&self, salt: &[u8; SALT_BYTES]) -> ChunkCipher {
        let derived = Zeroizing::new(*blake3::keyed_hash(&self.0, salt).as_bytes());
        let key = UnboundKey::new(&CHACHA20_POLY1305, derived.as_slice());
        ChunkCipher(LessSafeKey::new(key.expect("a hash has as many bytes as a key")))
    }
}

/// Encrypts the chunks of one file: each is bound to its place, and the last one to being the last.
pub struct ChunkCipher(LessSafeKey);

impl std::fmt::Debug for ChunkCipher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[secret]")
    }
}

impl ChunkCipher {
    /// Encrypts a chunk where it is, and adds its tag. Each place is to be used once.
    ///
    /// # Errors
    /// [`SealError::TooLarge`].
    pub fn seal(&self, at: u64, is_last: bool, chunk: &mut Vec<u8>) -> Result<(), SealError> {
        let sealed = self.0.seal_in_place_append_tag(nonce(at, is_last), Aad::empty(), chunk);
        sealed.map_err(|_| SealError::TooLarge)
    }

    /// Decrypts a chunk where it is, and takes its tag away.
    ///
    /// # Errors
    /// [`SealError::NotGenuine`].
    pub fn open(&self, at: u64, is_last: bool, chunk: &mut Vec<u8>) -> Result<(), SealError> {
        let opened = self.0.open_in_place(nonce(at, is_last), Aad::empty(), chunk);
        let length = opened.map_err(|_| SealError::NotGenuine)?.len();
        chunk.truncate(length);
        Ok(())
    }
}

fn nonce(at: u64, is_last: bool) -> Nonce {
    let mut bytes = [0; 12];
    bytes[..8].copy_from_slice(&at.to_le_bytes());
    bytes[8] = u8::from(is_last);
    Nonce::assume_unique_for_key(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_opens_with_its_key_at_its_place_and_unchanged_only() {
        let (key, other) = (SealingKey::generate().unwrap(), SealingKey::generate().unwrap());
        let sealed = key.seal(b"here", b"hunter2").unwrap();
        assert_eq!(key.open(b"here", &sealed).unwrap().as_slice(), b"hunter2");
        assert!(!sealed.windows(7).any(|part| part == b"hunter2"));
        assert_eq!(sealed.len(), 7 + OVERHEAD_BYTES);
        assert_ne!(sealed, key.seal(b"here", b"hunter2").unwrap(), "the same content looks the same");
        assert_eq!(key.open(b"there", &sealed).unwrap_err(), SealError::NotGenuine);
        assert_eq!(other.open(b"here", &sealed).unwrap_err(), SealError::NotGenuine);
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert_eq!(key.open(b"here", &changed).unwrap_err(), SealError::NotGenuine, "byte {at}");
            assert_eq!(key.open(b"here", &sealed[..at]).unwrap_err(), SealError::NotGenuine, "cut at {at}");
        }
    }

    #[test]
    fn a_chunk_opens_at_its_place_only() {
        let key = SealingKey::generate().unwrap();
        let (salt, cipher) = key.new_cipher().unwrap();
        let mut sealed = b"chunk".to_vec();
        cipher.seal(3, false, &mut sealed).unwrap();
        for (at, is_last) in [(2, false), (3, true)] {
            assert_eq!(cipher.open(at, is_last, &mut sealed.clone()), Err(SealError::NotGenuine));
        }
        key.cipher(&salt).open(3, false, &mut sealed).unwrap();
        assert_eq!(sealed, b"chunk");
    }

    #[test]
    fn a_key_is_known_by_its_fingerprint_and_never_shown() {
        let key = SealingKey::from_bytes(&[7; 32]).unwrap();
        assert_eq!(key.fingerprint(), SealingKey::from_bytes(&[7; 32]).unwrap().fingerprint());
        assert_ne!(key.fingerprint(), SealingKey::from_bytes(&[8; 32]).unwrap().fingerprint());
        assert_eq!(format!("{key:?} {:?}", key.new_cipher().unwrap().1), "[secret] [secret]");
        assert!(SealingKey::from_bytes(&[7; 31]).is_none());
    }
}
