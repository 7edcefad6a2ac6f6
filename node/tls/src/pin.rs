//! A pin: the hash of a CA's public key, by which somebody who has seen nothing else knows the CA again.

use std::fmt;

/// How many bytes of the hash a pin keeps: 128 bits are far beyond finding another key with the same pin.
const BYTES: usize = 16;

/// The first half of BLAKE3 of a CA's public key (its SubjectPublicKeyInfo).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Pin([u8; BYTES]);

impl Pin {
    /// The pin of a public key.
    #[must_use]
    pub fn of(public_key_info: &[u8]) -> Self {
        let mut pin = [0; BYTES];
        pin.copy_from_slice(&blake3::hash(public_key_info).as_bytes()[..BYTES]);
        Self(pin)
    }

    /// Reads 32 hexadecimal digits.
    #[must_use]
    pub fn parse(digits: &str) -> Option<Self> {
        let is_hex = digits.len() == 2 * BYTES && digits.bytes().all(|b| b.is_ascii_hexdigit());
        let value = u128::from_str_radix(digits, 16).ok().filter(|_| is_hex)?;
        Some(Self(value.to_be_bytes()))
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_is_read_as_it_was_written() {
        let pin = Pin::of(b"a key");
        assert_eq!(Pin::parse(&pin.to_string()), Some(pin));
        assert_ne!(pin, Pin::of(b"another key"));
        for wrong in ["", "12", "+0000000000000000000000000000001", "g0000000000000000000000000000000"] {
            assert_eq!(Pin::parse(wrong), None, "{wrong}");
        }
    }
}
