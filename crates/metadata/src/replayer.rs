//! The `Replayer`: an image that honours metadata transactions (KIP-868).
//!
//! The tricky idea: a transaction needs no undo log. The image is persistent, so what a transaction does happens to a
//! second image that shares everything with the first; end makes the second one current, abort drops it.
//!
//! ```text
//!   records   a  Begin  b  c  End  d          a  Begin  b  Abort  d
//!   image     a    a    a  a  abc  abcd       a    a    a    a    ad
//!   latest    a    a    ab abc abc abcd       a    a    ab   a    ad
//! ```

use crate::delta::Delta;
use crate::image::Image;
use crate::replay_error::ReplayError;
use ottla_protocol::messages::metadata_record::MetadataRecord;

/// Replays a metadata log, transactions included.
#[derive(Debug, Clone)]
pub struct Replayer {
    image: Image,
    delta: Delta,
    open: Option<Open>,
}

/// A transaction that has begun: where, and what it has done so far.
#[derive(Debug, Clone)]
struct Open {
    begin_offset: i64,
    image: Image,
    delta: Delta,
}

impl Replayer {
    /// Starts from `image`.
    pub fn new(image: Image) -> Replayer {
        Replayer { image, delta: Delta::default(), open: None }
    }

    /// Applies the record at `offset`. After an error the replayer must not be used any more.
    pub fn replay(&mut self, record: &MetadataRecord<'_>, offset: i64) -> Result<(), ReplayError> {
        match record {
            MetadataRecord::BeginTransactionRecord(_) => {
                if self.open.is_some() {
                    return Err(ReplayError::NestedTransaction);
                }
                let (image, delta) = (self.image.clone(), self.delta.clone());
                self.open = Some(Open { begin_offset: offset, image, delta });
            }
            MetadataRecord::EndTransactionRecord(_) => {
                let done = self.open.take().ok_or(ReplayError::NoTransaction)?;
                self.image = done.image;
                self.delta = done.delta;
                self.image.last_offset = offset;
            }
            MetadataRecord::AbortTransactionRecord(_) => {
                self.open.take().ok_or(ReplayError::NoTransaction)?;
                self.image.last_offset = offset;
            }
            _ => match &mut self.open {
                Some(open) => open.image.replay(record, offset, &mut open.delta)?,
                None => self.image.replay(record, offset, &mut self.delta)?,
            },
        }
        Ok(())
    }

    /// The image that readers may see: without the transaction that is still open. Its last offset is that of the
    /// last record before the transaction, which is also where a snapshot may be taken.
    pub fn image(&self) -> &Image {
        &self.image
    }

    /// The image with everything replayed, the open transaction included: what the next decision builds upon.
    pub fn latest(&self) -> &Image {
        self.open.as_ref().map_or(&self.image, |open| &open.image)
    }

    /// Where the open transaction began, if there is one.
    pub fn transaction_begin(&self) -> Option<i64> {
        self.open.as_ref().map(|open| open.begin_offset)
    }

    /// What changed in [`Replayer::image`] since the last call. What an open transaction does comes with its end.
    pub fn take_delta(&mut self) -> Delta {
        let taken = std::mem::take(&mut self.delta);
        if let Some(open) = &mut self.open {
            // The open transaction carries on from the state that was just handed out.
            open.delta = Delta::between(&self.image, &open.image);
        }
        taken
    }

    /// Drops what [`Replayer::take_delta`] would return, for those who only want the image.
    pub fn forget_delta(&mut self) {
        self.delta = Delta::default();
        if let Some(open) = &mut self.open {
            open.delta = Delta::default();
        }
    }
}
