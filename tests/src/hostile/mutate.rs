//! Changes inputs the way fuzzers do, by a seed: the same seed makes the same inputs.

use crate::sim::rng::Rng;

/// The longest input that is made.
const MAX_BYTES: usize = 8 << 10;
/// The most changes to one input.
const MAX_CHANGES: u64 = 6;
/// Values at which arithmetic breaks.
const NUMBERS: [u64; 10] =
    [0, 1, 0x7f, 0xff, 0x7fff, 0xffff, 0x7fff_ffff, 0xffff_ffff, 0x7fff_ffff_ffff_ffff, u64::MAX];

/// One of `corpus`, changed in a few places.
#[must_use]
pub fn mutated(rng: &mut Rng, corpus: &[Vec<u8>]) -> Vec<u8> {
    let mut input = one_of(rng, corpus).to_vec();
    for _ in 0..rng.between(1, MAX_CHANGES) {
        change(rng, &mut input, corpus);
    }
    input.truncate(MAX_BYTES);
    input
}

fn one_of<'a>(rng: &mut Rng, corpus: &'a [Vec<u8>]) -> &'a [u8] {
    corpus.get(index(rng, corpus.len())).map_or(&[], Vec::as_slice)
}

fn index(rng: &mut Rng, bound: usize) -> usize {
    usize::try_from(rng.below(bound as u64)).unwrap_or(0)
}

/// A short stretch of `bytes`.
fn stretch(rng: &mut Rng, bytes: &[u8]) -> std::ops::Range<usize> {
    let from = index(rng, bytes.len() + 1);
    let longest = if rng.percent(80) { 16 } else { 256 };
    from..(from + index(rng, longest)).min(bytes.len())
}

fn change(rng: &mut Rng, input: &mut Vec<u8>, corpus: &[Vec<u8>]) {
    let at = index(rng, input.len().max(1));
    let byte = rng.number().to_le_bytes()[0];
    match rng.below(9) {
        0 | 1 if at < input.len() => input[at] ^= 1 << rng.below(8),
        2 if at < input.len() => input[at] = byte,
        3 => input.insert(at.min(input.len()), byte),
        4 => drop(input.drain(stretch(rng, input))),
        5 => {
            let again = input[stretch(rng, input)].to_vec();
            input.splice(at.min(input.len())..at.min(input.len()), again);
        }
        6 => {
            let other = one_of(rng, corpus);
            let (part, place) = (other[stretch(rng, other)].to_vec(), stretch(rng, input));
            input.splice(place, part);
        }
        7 => put_number(rng, input, at),
        _ => input.truncate(at.max(1)),
    }
}

/// A number at which arithmetic breaks, as fields of a fixed size and as protobuf write it.
fn put_number(rng: &mut Rng, input: &mut Vec<u8>, at: usize) {
    let number = rng.pick(&NUMBERS).unwrap_or_default();
    let mut bytes = number.to_le_bytes()[..1 << rng.below(4)].to_vec();
    if rng.percent(50) {
        bytes.clear();
        prost::encoding::encode_varint(number, &mut bytes);
        // The number that stands there gives way.
        let old = input[at.min(input.len())..].iter().take_while(|byte| **byte >= 0x80).count() + 1;
        input.splice(at.min(input.len())..(at + old).min(input.len()), bytes);
        return;
    }
    if rng.percent(50) {
        bytes.reverse();
    }
    let end = (at + bytes.len()).min(input.len());
    input.splice(at.min(input.len())..end, bytes);
}
