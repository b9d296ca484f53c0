//! What a connection still has to send: sizes, bytes and ranges of files, in order.
//!
//! The tricky idea: a range of a file becomes bytes only piece by piece, just before they are sent. One piece is read ahead by a
//! reader thread while the one before it is being sent; memory for pieces comes out of a budget that all connections share.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes, BytesMut};
use ottla_protocol::{Chain, Chunk, FileRange};

use super::admission::{Admission, Permit};

/// The most of a file that is read at once: what is copied out of the page cache should still be in the processor's cache when it is
/// copied into the socket.
pub const PIECE_BYTES: usize = 256 * 1024;

/// Smaller pieces are copied, one behind the other: a slice of its own costs more than that.
const COPY_BYTES_MAX: usize = 1024;

/// The sending half of one connection.
#[derive(Debug, Default)]
pub struct Outbox {
    pieces: VecDeque<Piece>,
    /// Small ones, behind all others.
    small: BytesMut,
    /// Bytes not yet sent, whether in memory or in files.
    unsent: usize,
}

#[derive(Debug)]
enum Piece {
    /// Bytes in memory; those of a file hold a permit.
    Bytes { bytes: Bytes, _permit: Option<Permit> },
    /// Not yet asked for.
    Range(FileRange),
    /// A reader thread is at it. There is one at most.
    Reading(usize),
}

/// What [`Outbox::next_read`] says.
#[derive(Debug)]
pub enum NextRead {
    /// This has to be read now.
    Read(FileRange, Permit),
    /// Nothing has to be read for now.
    Nothing,
    /// Something should be read, but the budget is used up.
    Refused,
}

impl Outbox {
    /// Appends a response, preceded by its size. Returns false when it is larger than the size can say.
    #[must_use]
    pub fn push(&mut self, response: Chain) -> bool {
        let Ok(size) = i32::try_from(response.len()) else { return false };
        self.unsent += size_of_val(&size) + response.len();
        self.small.extend_from_slice(&size.to_be_bytes());
        for chunk in response.into_chunks() {
            match chunk {
                Chunk::Bytes(bytes) if bytes.len() <= COPY_BYTES_MAX => self.small.extend_from_slice(&bytes),
                Chunk::Bytes(bytes) => self.push_piece(Piece::Bytes { bytes, _permit: None }),
                Chunk::File(range) if range.len == 0 => {}
                Chunk::File(range) => self.push_piece(Piece::Range(range)),
            }
        }
        true
    }

    fn push_piece(&mut self, piece: Piece) {
        if !self.small.is_empty() {
            let bytes = self.small.split().freeze();
            self.pieces.push_back(Piece::Bytes { bytes, _permit: None });
        }
        self.pieces.push_back(piece);
    }

    /// Bytes not yet sent.
    pub fn unsent(&self) -> usize {
        self.unsent
    }

    /// The bytes at the front, as far as they are in memory. Returns how many slices were filled.
    pub fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut count = 0;
        for (slice, piece) in slices.iter_mut().zip(&self.pieces) {
            let Piece::Bytes { bytes, .. } = piece else { break };
            *slice = IoSlice::new(bytes);
            count += 1;
        }
        if count == self.pieces.len() && count < slices.len() && !self.small.is_empty() {
            slices[count] = IoSlice::new(&self.small);
            count += 1;
        }
        count
    }

    /// Forgets bytes that were sent.
    pub fn advance(&mut self, mut sent: usize) {
        self.unsent -= sent;
        while sent > 0 {
            let Some(piece) = self.pieces.front_mut() else {
                self.small.advance(sent);
                break;
            };
            let Piece::Bytes { bytes, .. } = piece else { panic!("only bytes in memory are sent") };
            let count = sent.min(bytes.len());
            bytes.advance(count);
            sent -= count;
            if bytes.is_empty() {
                self.pieces.pop_front();
            }
        }
        if self.unsent == 0 {
            // A connection at rest keeps no queue.
            (self.pieces, self.small) = (VecDeque::new(), BytesMut::new());
        }
    }

    /// The next piece of a file to read, if the time has come.
    pub fn next_read(&mut self, admission: &Admission) -> NextRead {
        let mut ahead = 0;
        for index in 0..self.pieces.len() {
            match &mut self.pieces[index] {
                Piece::Bytes { bytes, .. } => ahead += bytes.len(),
                Piece::Reading(_) => return NextRead::Nothing,
                Piece::Range(_) if ahead >= PIECE_BYTES => return NextRead::Nothing,
                Piece::Range(range) => {
                    let len = range.len.min(PIECE_BYTES);
                    let Some(permit) = admission.admit(len) else { return NextRead::Refused };
                    let piece = FileRange { len, ..range.clone() };
                    if range.len == len {
                        self.pieces[index] = Piece::Reading(len);
                    } else {
                        range.position += len as u64;
                        range.len -= len;
                        self.pieces.insert(index, Piece::Reading(len));
                    }
                    return NextRead::Read(piece, permit);
                }
            }
        }
        NextRead::Nothing
    }

    /// Puts in place what a reader thread has read.
    pub fn on_read(&mut self, bytes: Bytes, permit: Permit) {
        let reading = self.pieces.iter_mut().find(|piece| matches!(piece, Piece::Reading(_)));
        let Some(piece @ Piece::Reading(_)) = reading else {
            panic!("a piece that was read had been asked for")
        };
        assert!(
            matches!(piece, Piece::Reading(len) if *len == bytes.len()),
            "a piece has the length that was asked for"
        );
        *piece = Piece::Bytes { bytes, _permit: Some(permit) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ottla_protocol::ReadAt;
    use std::sync::Arc;

    /// A file whose byte at position `p` is `p % 251`.
    #[derive(Debug)]
    struct Pattern;

    impl ReadAt for Pattern {
        fn read_exact_at(&self, buf: &mut [u8], position: u64) -> std::io::Result<()> {
            buf.iter_mut().enumerate().for_each(|(i, byte)| *byte = ((position + i as u64) % 251) as u8);
            Ok(())
        }
    }

    fn range(position: u64, len: usize) -> Chunk {
        Chunk::File(FileRange { file: Arc::new(Pattern), position, len })
    }

    fn chain(chunks: Vec<Chunk>) -> Chain {
        let mut chain = Chain::default();
        chunks.into_iter().for_each(|chunk| chain.push(chunk));
        chain
    }

    /// Sends everything, at most `write` bytes at a time, and returns what the peer sees.
    fn drain(outbox: &mut Outbox, write: usize, admission: &Admission) -> Vec<u8> {
        let mut sent = Vec::new();
        while outbox.unsent() > 0 {
            if let NextRead::Read(range, permit) = outbox.next_read(admission) {
                assert!(range.len <= PIECE_BYTES);
                let mut bytes = vec![0; range.len];
                range.file.read_exact_at(&mut bytes, range.position).expect("read");
                outbox.on_read(bytes.into(), permit);
            }
            let mut slices = [IoSlice::new(&[]); 4];
            let count = outbox.slices(&mut slices);
            let before = sent.len();
            for slice in &slices[..count] {
                let room = write - (sent.len() - before);
                sent.extend_from_slice(&slice[..slice.len().min(room)]);
            }
            let count = sent.len() - before;
            assert!(count > 0, "progress");
            outbox.advance(count);
        }
        sent
    }

    #[test]
    fn bytes_and_files_leave_in_order() {
        for write in [100_000, PIECE_BYTES, 100 << 20] {
            let (admission, mut outbox) = (Admission::new(64 << 20), Outbox::default());
            let length = 3 * PIECE_BYTES + 17;
            assert!(outbox.push(chain(vec![
                Chunk::Bytes(Bytes::from_static(b"head")),
                range(5, length),
                range(9, 0),
                Chunk::Bytes(Bytes::new()),
                range(1, 2),
                Chunk::Bytes(Bytes::from_static(b"tail")),
            ])));
            assert!(outbox.push(chain(vec![])));
            let mut expected = ((length + 10) as i32).to_be_bytes().to_vec();
            expected.extend_from_slice(b"head");
            expected.extend((0..length).map(|i| ((5 + i) % 251) as u8));
            expected.extend_from_slice(&[1, 2]);
            expected.extend_from_slice(b"tail\0\0\0\0");
            assert_eq!(outbox.unsent(), expected.len());
            assert_eq!(drain(&mut outbox, write, &admission), expected);
            assert_eq!(admission.available(), 64 << 20);
        }
    }

    #[test]
    fn one_piece_ahead_and_not_without_memory() {
        let (admission, mut outbox) = (Admission::new(1), Outbox::default());
        assert!(outbox.push(chain(vec![range(0, 10 * PIECE_BYTES)])));
        let NextRead::Read(first, permit) = outbox.next_read(&admission) else { panic!("the first piece") };
        assert_eq!(first.len, PIECE_BYTES);
        assert!(matches!(outbox.next_read(&admission), NextRead::Nothing), "one at a time");
        outbox.on_read(vec![0; PIECE_BYTES].into(), permit);
        assert!(
            matches!(outbox.next_read(&admission), NextRead::Nothing),
            "a whole piece is there to be sent"
        );
        outbox.advance(5);
        let other = admission.admit(1).expect("overdraws");
        assert!(matches!(outbox.next_read(&admission), NextRead::Refused), "the budget is used up");
        drop(other);
        outbox.advance(PIECE_BYTES - 1);
        let NextRead::Read(second, _) = outbox.next_read(&admission) else { panic!("the second piece") };
        assert_eq!(second.position, PIECE_BYTES as u64);
    }
}
