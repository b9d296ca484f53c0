//! Cuts a connection's byte stream into request frames: four bytes of size, then that many bytes of request.
//!
//! The tricky idea: memory follows the bytes, never the announced size. Bytes land in a borrowed read buffer; a frame that is whole
//! in there is handed out as a slice of it, which costs nothing, and whoever keeps a frame copies it (`ottla_broker::call`), so that the buffer is
//! free again, and still in the processor's cache, for the next reader; the beginning of a frame that is not whole is either tiny and set
//! aside in an exact copy, or has its own memory, for which the node's budget is asked step by step, as the bytes arrive. A connection at
//! rest holds no buffer at all.

use bytes::{Buf, BufMut, Bytes, BytesMut, buf::Limit};

use super::admission::{Admission, Permit};

/// Size of a read buffer: enough for many small requests or a dozen batches of the usual 16 KB at once.
pub const READ_BUFFER_BYTES: usize = 256 * 1024;
/// Read buffers that a loop keeps for the next reader.
const READ_BUFFERS_KEPT: usize = 4;
/// The beginning of a frame of at most this size is set aside without asking the budget.
const TINY_FRAME_BYTES: usize = 4 * 1024;
/// The first step in which the budget is asked for a frame; each further one doubles what there is.
const ADMISSION_BYTES: usize = 64 * 1024;
/// How far address space for a frame runs ahead of its bytes, so that usual batches are not moved while they grow. Pages that are
/// not written cost nothing.
const CAPACITY_AHEAD_BYTES: usize = 1024 * 1024;
/// Bytes of the size in front of a frame.
const SIZE_BYTES: usize = 4;

/// Read buffers of one loop, lent to whichever connection has something to read.
#[derive(Debug, Default)]
pub struct ReadBuffers {
    kept: Vec<BytesMut>,
}

impl ReadBuffers {
    fn take(&mut self) -> BytesMut {
        self.kept.pop().unwrap_or_else(|| BytesMut::with_capacity(READ_BUFFER_BYTES))
    }

    /// Keeps a buffer unless slices of it are still in use.
    fn give(&mut self, mut buffer: BytesMut) {
        buffer.clear();
        if self.kept.len() < READ_BUFFERS_KEPT && buffer.try_reclaim(READ_BUFFER_BYTES) {
            self.kept.push(buffer);
        }
    }
}

/// A stream that is not made of frames; the connection has to be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameError {
    /// The size is negative.
    Negative(i32),
    /// The size is above `socket.request.max.bytes`.
    TooLarge(i32),
}

/// What [`FrameReader::next`] found.
#[derive(Debug)]
pub enum Next {
    /// A request.
    Frame(Bytes),
    /// The rest has not arrived.
    Incomplete,
    /// The budget is used up, and this large request needs more: ask again when there is some.
    Refused,
}

/// The receiving half of one connection.
#[derive(Debug)]
pub struct FrameReader {
    size_max: usize,
    /// Bytes received and not yet cut; a lent read buffer, an exact copy of a few bytes, or empty without memory.
    arrived: BytesMut,
    /// Whether `arrived` is a lent read buffer.
    is_lent: bool,
    /// A frame that is too large to be set aside.
    large: Option<Large>,
}

#[derive(Debug)]
struct Large {
    body: BytesMut,
    size: usize,
    /// Bytes that the budget has admitted; at most `size`.
    admitted: usize,
    permit: Permit,
}

impl FrameReader {
    /// A reader that accepts frames of at most `size_max` bytes.
    pub fn new(size_max: usize) -> FrameReader {
        FrameReader { size_max, arrived: BytesMut::new(), is_lent: false, large: None }
    }

    /// Where the next bytes of the stream have to be put.
    pub fn space(&mut self, buffers: &mut ReadBuffers) -> Limit<&mut BytesMut> {
        if let Some(large) = &mut self.large {
            let room = large.admitted - large.body.len();
            return (&mut large.body).limit(room);
        }
        // Everything that could be cut was cut before more is read: what is left is the tiny beginning of a frame.
        debug_assert!(self.arrived.len() <= SIZE_BYTES + TINY_FRAME_BYTES);
        let room = self.arrived.capacity() - self.arrived.len();
        if room < READ_BUFFER_BYTES / 2 && !(self.is_lent && self.arrived.try_reclaim(READ_BUFFER_BYTES / 2))
        {
            let mut buffer = buffers.take();
            buffer.extend_from_slice(&self.arrived);
            self.arrived = buffer;
            self.is_lent = true;
        }
        let room = self.arrived.capacity() - self.arrived.len();
        (&mut self.arrived).limit(room)
    }

    /// The next frame of what has arrived.
    pub fn next(&mut self, admission: &Admission) -> Result<Next, FrameError> {
        if let Some(large) = self.large.take_if(|large| large.body.len() == large.size) {
            drop(large.permit);
            return Ok(Next::Frame(large.body.freeze()));
        }
        if let Some(large) = &mut self.large {
            return Ok(if large.grow() { Next::Incomplete } else { Next::Refused });
        }
        let Some(size) = self.arrived.first_chunk::<SIZE_BYTES>().map(|size| i32::from_be_bytes(*size))
        else {
            return Ok(Next::Incomplete);
        };
        let length = usize::try_from(size).map_err(|_| FrameError::Negative(size))?;
        if length > self.size_max {
            return Err(FrameError::TooLarge(size));
        }
        if self.arrived.len() >= SIZE_BYTES + length {
            self.arrived.advance(SIZE_BYTES);
            return Ok(Next::Frame(self.arrived.split_to(length).freeze()));
        }
        if length <= TINY_FRAME_BYTES {
            return Ok(Next::Incomplete);
        }
        let first = length.min(ADMISSION_BYTES.max(self.arrived.len()));
        let Some(permit) = admission.admit(first) else { return Ok(Next::Refused) };
        self.arrived.advance(SIZE_BYTES);
        let mut body = BytesMut::with_capacity(length.min(CAPACITY_AHEAD_BYTES.max(self.arrived.len())));
        body.extend_from_slice(&self.arrived);
        self.arrived.clear();
        let mut large = Large { body, size: length, admitted: first, permit };
        let has_room = large.grow();
        self.large = Some(large);
        Ok(if has_room { Next::Incomplete } else { Next::Refused })
    }

    /// Gives the read buffer back; called whenever the connection has nothing more to read for now.
    pub fn rest(&mut self, buffers: &mut ReadBuffers) {
        if !self.is_lent || self.arrived.len() > SIZE_BYTES + TINY_FRAME_BYTES {
            return;
        }
        self.is_lent = false;
        let rest = if self.arrived.is_empty() { BytesMut::new() } else { BytesMut::from(&self.arrived[..]) };
        buffers.give(std::mem::replace(&mut self.arrived, rest));
    }

    /// Whether a frame has begun and not ended: such a connection has to make progress or go.
    pub fn is_inside_frame(&self) -> bool {
        self.large.is_some() || !self.arrived.is_empty()
    }

    /// Whether a large request is on its way, which occupies a part of the budget.
    pub fn is_inside_large_frame(&self) -> bool {
        self.large.is_some()
    }
}

impl Large {
    /// Makes room for more bytes when what was admitted is full. False: the budget refuses.
    fn grow(&mut self) -> bool {
        let length = self.body.len();
        if length < self.admitted {
            return true;
        }
        let step = (self.size - length).min(ADMISSION_BYTES.max(length));
        if !self.permit.extend(step) {
            return false;
        }
        self.admitted += step;
        self.body.reserve(step);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(length: usize, fill: u8) -> Vec<u8> {
        let mut bytes = (length as u32).to_be_bytes().to_vec();
        bytes.resize(SIZE_BYTES + length, fill);
        bytes
    }

    /// Feeds `stream` in pieces of `piece` bytes and collects what comes out, resting after every piece.
    fn feed(
        reader: &mut FrameReader,
        stream: &[u8],
        piece: usize,
        admission: &Admission,
    ) -> Result<Vec<Bytes>, FrameError> {
        let (mut buffers, mut frames) = (ReadBuffers::default(), Vec::new());
        for mut bytes in stream.chunks(piece) {
            while !bytes.is_empty() {
                let mut space = reader.space(&mut buffers);
                let count = bytes.len().min(space.remaining_mut());
                assert!(count > 0, "there is always space");
                space.put_slice(&bytes[..count]);
                bytes = &bytes[count..];
                while let Next::Frame(frame) = reader.next(admission)? {
                    frames.push(frame);
                }
            }
            reader.rest(&mut buffers);
        }
        Ok(frames)
    }

    #[test]
    fn split_anywhere_and_pipelined() {
        let lengths = [0, 1, 5, 4096, 4097, 20_000, 32_768, 70_000, 3, 1_500_000, 12];
        for piece in [1, 3, 7, 1000, 65_536, 1_000_003, usize::MAX] {
            // A megabyte byte by byte shows nothing that seventy thousand bytes do not show.
            let lengths = if piece < 1000 { &lengths[..9] } else { &lengths[..] };
            let frames = lengths.iter().enumerate().map(|(i, &length)| frame(length, i as u8));
            let stream: Vec<u8> = frames.flatten().collect();
            let admission = Admission::new(64 << 20);
            let mut reader = FrameReader::new(100 << 20);
            let frames = feed(&mut reader, &stream, piece, &admission).expect("well formed");
            assert_eq!(frames.iter().map(Bytes::len).collect::<Vec<_>>(), lengths, "pieces of {piece}");
            for (i, frame) in frames.iter().enumerate() {
                assert!(frame.iter().all(|&byte| byte == i as u8), "frame {i}, pieces of {piece}");
            }
            assert_eq!(admission.available(), 64 << 20);
            assert!(!reader.is_inside_frame());
            assert_eq!(reader.arrived.capacity(), 0, "a connection at rest holds no buffer");
        }
    }

    #[test]
    fn sizes_that_are_refused() {
        let admission = Admission::new(1 << 20);
        for (size, error) in [
            (-1, FrameError::Negative(-1)),
            (i32::MIN, FrameError::Negative(i32::MIN)),
            (1001, FrameError::TooLarge(1001)),
            (i32::MAX, FrameError::TooLarge(i32::MAX)),
        ] {
            let mut reader = FrameReader::new(1000);
            assert_eq!(feed(&mut reader, &size.to_be_bytes(), 4, &admission), Err(error));
        }
        let mut reader = FrameReader::new(1000);
        assert_eq!(feed(&mut reader, &frame(1000, 1), 10, &admission).expect("at the limit").len(), 1);
    }

    #[test]
    fn an_announced_size_costs_next_to_nothing() {
        let admission = Admission::new(200 << 20);
        let mut reader = FrameReader::new(100 << 20);
        let mut start = (100i32 << 20).to_be_bytes().to_vec();
        start.extend_from_slice(&[7; 10]);
        assert!(feed(&mut reader, &start, 14, &admission).expect("has begun").is_empty());
        assert_eq!(admission.available(), (200 << 20) - ADMISSION_BYTES as i64);
        let large = reader.large.as_ref().expect("begun");
        assert!(large.body.capacity() <= CAPACITY_AHEAD_BYTES, "memory follows the bytes");
        drop(reader);
        assert_eq!(admission.available(), 200 << 20, "a connection that goes gives its permit back");
    }

    #[test]
    fn a_used_up_budget_holds_large_frames_back_but_not_small_ones() {
        let admission = Admission::new(10_000);
        let mut reader = FrameReader::new(1 << 20);
        let mut buffers = ReadBuffers::default();
        let stream = frame(200_000, 3);
        let others = [admission.admit(10_000), admission.admit(1)];
        assert!(others.iter().all(Option::is_some), "all of it, and the right to overdraw");
        assert_eq!(feed(&mut reader, &frame(3000, 1), 100, &admission).expect("small").len(), 1);
        reader.space(&mut buffers).put_slice(&stream[..100]);
        assert!(matches!(reader.next(&admission), Ok(Next::Refused)));
        reader.rest(&mut buffers);
        assert!(matches!(reader.next(&admission), Ok(Next::Refused)));
        drop(others);
        assert!(matches!(reader.next(&admission), Ok(Next::Incomplete)));
        assert!(reader.is_inside_large_frame());
        let rest = feed(&mut reader, &stream[100..], 4000, &admission).expect("it may overdraw");
        assert_eq!(rest[0], stream[4..]);
        assert_eq!(admission.available(), 10_000);
    }

    #[test]
    fn a_read_buffer_is_lent_again_when_no_frame_of_it_is_held() {
        let (admission, mut buffers) = (Admission::new(1 << 20), ReadBuffers::default());
        let mut reader = FrameReader::new(1 << 20);
        let lent = |buffers: &ReadBuffers| buffers.kept.first().map(|buffer| buffer.as_ptr());
        for round in 0..3 {
            let before = lent(&buffers);
            reader.space(&mut buffers).put_slice(&[frame(100, 1), frame(140_000, 2)].concat());
            for length in [100, 140_000] {
                let Ok(Next::Frame(handled)) = reader.next(&admission) else { panic!("a frame") };
                assert_eq!(handled.len(), length);
            }
            reader.rest(&mut buffers);
            assert_eq!(buffers.kept.len(), 1, "given back");
            assert!(round == 0 || lent(&buffers) == before, "the same memory again");
        }
        reader.space(&mut buffers).put_slice(&frame(100, 1));
        let Ok(Next::Frame(held)) = reader.next(&admission) else { panic!("a frame") };
        reader.rest(&mut buffers);
        assert_eq!(buffers.kept.len(), 0, "a slice keeps its buffer");
        drop(held);
    }
}
