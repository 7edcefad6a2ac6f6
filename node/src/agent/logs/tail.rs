//! Where the last lines of a log begin.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use super::task_log::{oldest, open_if_there, rotated};

const BLOCK_BYTES: u64 = 64 * 1024;

/// The file's age and the offset in it at which the last `lines` lines begin.
pub(super) fn position(path: &Path, lines: usize) -> io::Result<(u32, u64)> {
    let last = oldest(path);
    let mut missing = lines;
    for index in 0..=last {
        let Some(mut file) = open_if_there(&rotated(path, index))? else { continue };
        match start_of_last(&mut file, missing)? {
            Found::At(offset) => return Ok((index, offset)),
            Found::Only(found) => missing -= found,
        }
    }
    Ok((last, 0))
}

enum Found {
    /// The lines begin at this offset.
    At(u64),
    /// The file has only so many, fewer than asked for.
    Only(usize),
}

/// Looks for the line ends backwards, block by block. An end at the very end of the file ends its last line.
fn start_of_last(file: &mut File, lines: usize) -> io::Result<Found> {
    let length = file.metadata()?.len();
    if lines == 0 {
        return Ok(Found::At(length));
    }
    let (mut end, mut ends_seen) = (length, 0);
    while end > 0 {
        let begin = end.saturating_sub(BLOCK_BYTES);
        let mut block = Vec::new();
        file.seek(SeekFrom::Start(begin))?;
        file.take(end - begin).read_to_end(&mut block)?;
        for (offset, byte) in (begin..end).rev().zip(block.iter().rev()) {
            if *byte == b'\n' && offset + 1 < length {
                ends_seen += 1;
                if ends_seen == lines {
                    return Ok(Found::At(offset + 1));
                }
            }
        }
        end = begin;
    }
    let first_line = usize::from(length > 0);
    let found = ends_seen + first_line;
    Ok(if found == lines { Found::At(0) } else { Found::Only(found) })
}
