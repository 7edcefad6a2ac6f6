//! What all programs share.

use muster_tests::hostile::Target;

/// Hands an input to the target of that name. A panic is libFuzzer's to catch and to keep.
pub fn play(name: &str, bytes: &[u8]) {
    (Target::named(name).expect("a target").body)(bytes);
}
