//! Memory for pieces of files on their way into a socket, used again and again.
//!
//! The tricky idea: a piece belongs to whoever sends it, like any other bytes, and goes back to its pool when the last slice of it is
//! dropped. So the same few buffers, which are still in the processor's cache, serve all connections, and are never cleared.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use super::outbox::PIECE_BYTES;

/// Buffers that are kept for the next piece.
const KEPT_MAX: usize = 8;

/// The pool; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Pieces {
    kept: Arc<Mutex<Vec<Box<[u8]>>>>,
}

/// A buffer that is filled.
#[derive(Debug)]
pub struct Piece {
    buffer: Box<[u8]>,
    len: usize,
    pool: Pieces,
}

impl Pieces {
    /// A buffer for `len` bytes, which may hold anything.
    pub fn take(&self, len: usize) -> Piece {
        assert!(len <= PIECE_BYTES, "files are sent in pieces");
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let buffer = kept.unwrap_or_else(|| vec![0; PIECE_BYTES].into());
        Piece { buffer, len, pool: self.clone() }
    }
}

impl Piece {
    /// Where its bytes have to be put.
    pub fn space(&mut self) -> &mut [u8] {
        &mut self.buffer[..self.len]
    }

    /// The bytes, to be sent.
    pub fn into_bytes(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.buffer[..self.len]
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        let mut kept = self.pool.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < KEPT_MAX {
            kept.push(std::mem::take(&mut self.buffer));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_when_its_last_slice_is_dropped() {
        let pool = Pieces::default();
        let mut piece = pool.take(100);
        piece.space().fill(7);
        let bytes = piece.into_bytes();
        let slice = bytes.slice(10..20);
        drop(bytes);
        assert_eq!(slice, [7; 10][..]);
        assert!(pool.kept.lock().expect("nobody panicked").is_empty());
        let at = slice.as_ptr();
        drop(slice);
        assert_eq!(pool.take(5).as_ref().as_ptr(), at.wrapping_sub(10), "the same memory");
        let many: Vec<Piece> = (0..KEPT_MAX + 3).map(|_| pool.take(1)).collect();
        drop(many);
        assert_eq!(pool.kept.lock().expect("nobody panicked").len(), KEPT_MAX);
    }
}
