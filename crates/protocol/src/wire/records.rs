//! Record batches as a field of a message: borrowed from the frame when read, a chain when written.

use std::borrow::Cow;

use bytes::Bytes;

use super::chain::Chain;

/// The bytes of record batches.
#[derive(Clone, Debug)]
pub enum Records<'a> {
    /// A stretch of the frame that the message was read from.
    Slice(&'a [u8]),
    /// Pieces of a log, passed on without a copy.
    Chain(Chain),
}

impl Records<'_> {
    /// The number of bytes.
    pub fn len(&self) -> usize {
        match self {
            Records::Slice(slice) => slice.len(),
            Records::Chain(chain) => chain.len(),
        }
    }

    /// Has it no bytes?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes in one piece, if none of them is in a file. What was read from a frame is such and is not copied.
    pub fn in_memory(&self) -> Option<Cow<'_, [u8]>> {
        match self {
            Records::Slice(slice) => Some(Cow::Borrowed(slice)),
            Records::Chain(chain) => chain.in_memory().map(|bytes| Cow::Owned(bytes.to_vec())),
        }
    }
}

impl<'a> From<&'a [u8]> for Records<'a> {
    fn from(slice: &'a [u8]) -> Records<'a> {
        Records::Slice(slice)
    }
}

impl From<Bytes> for Records<'_> {
    fn from(bytes: Bytes) -> Self {
        Records::Chain(bytes.into())
    }
}

impl From<Chain> for Records<'_> {
    fn from(chain: Chain) -> Self {
        Records::Chain(chain)
    }
}

/// Equal if the bytes are; chains with files only if their pieces are.
impl PartialEq for Records<'_> {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Records::Chain(one), Records::Chain(two)) => one == two,
            _ => {
                self.len() == other.len()
                    && self.in_memory().is_some()
                    && self.in_memory() == other.in_memory()
            }
        }
    }
}
