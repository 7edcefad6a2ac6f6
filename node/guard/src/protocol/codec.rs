//! Frames: a 4-byte big-endian length, then that many bytes of JSON.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use zeroize::Zeroize;

use super::FRAME_BYTES_MAX;

const HEADER_BYTES: usize = 4;

/// Why a frame can't be read or written. The connection is useless afterwards.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// Longer than [`FRAME_BYTES_MAX`].
    #[error("a frame of {bytes} bytes is longer than the limit of {FRAME_BYTES_MAX}")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// Not the JSON that was expected.
    #[error("a frame could not be read")]
    Json(#[source] serde_json::Error),
}

/// One message as a frame.
///
/// # Errors
/// [`FrameError::TooLong`] when it does not fit.
pub fn encode_frame<T: Serialize>(message: &T) -> Result<Vec<u8>, FrameError> {
    let mut frame = vec![0; HEADER_BYTES];
    serde_json::to_writer(&mut frame, message).map_err(FrameError::Json)?;
    let bytes = frame.len() - HEADER_BYTES;
    match u32::try_from(bytes) {
        Ok(length) if bytes <= FRAME_BYTES_MAX => {
            frame[..HEADER_BYTES].copy_from_slice(&length.to_be_bytes());
            Ok(frame)
        }
        _ => Err(FrameError::TooLong { bytes }),
    }
}

/// Collects received bytes and hands out whole messages.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct FrameDecoder {
    bytes: Vec<u8>,
    /// Where the next frame begins in `bytes`.
    start: usize,
}

impl FrameDecoder {
    /// An empty decoder.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds received bytes. Feed no more than a few kilobytes between calls of [`Self::next`]: that bounds it.
    pub fn push(&mut self, received: &[u8]) {
        self.forget_read();
        self.bytes.extend_from_slice(received);
    }

    /// Wipes what has been handed out: it may hold secrets.
    fn forget_read(&mut self) {
        if self.start > 0 {
            let left = self.bytes.len() - self.start;
            self.bytes.copy_within(self.start.., 0);
            self.bytes[left..].zeroize();
            self.bytes.truncate(left);
            self.start = 0;
        }
    }

    /// The next whole message, or `None` until more bytes came.
    ///
    /// # Errors
    /// [`FrameError`]: the connection must be closed.
    #[expect(
        clippy::should_implement_trait,
        reason = "an iterator would have to be told the type and end for good"
    )]
    pub fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, FrameError> {
        let Some(frame) = self.next_bytes()? else { return Ok(None) };
        serde_json::from_slice(frame).map(Some).map_err(FrameError::Json)
    }

    /// The next whole frame's JSON, for a reader that must tell a bad request from a bad connection.
    ///
    /// # Errors
    /// [`FrameError::TooLong`]: the connection must be closed.
    pub fn next_bytes(&mut self) -> Result<Option<&[u8]>, FrameError> {
        let rest = &self.bytes[self.start..];
        let length = rest.first_chunk::<HEADER_BYTES>().map(|header| u32::from_be_bytes(*header) as usize);
        if let Some(bytes) = length.filter(|length| *length > FRAME_BYTES_MAX) {
            return Err(FrameError::TooLong { bytes });
        }
        let Some(length) = length.filter(|length| rest.len() >= HEADER_BYTES + length) else {
            self.forget_read();
            return Ok(None);
        };
        let begin = self.start + HEADER_BYTES;
        self.start = begin + length;
        Ok(Some(&self.bytes[begin..begin + length]))
    }
}
