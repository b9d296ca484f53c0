//! What an error of the disk means: the one place where errors of the operating system are sorted.
//!
//! | meaning | which | what whoever met it does |
//! |---|---|---|
//! | [`Meaning::Full`] | ENOSPC, EDQUOT | refuses or postpones this one thing, and tries again when it is asked again |
//! | [`Meaning::Exhausted`] | EMFILE, ENFILE, ENOMEM, EAGAIN, EINTR | the same |
//! | [`Meaning::Damage`] | a file that is missing, cut short or not what it should be | refuses what needs this file |
//! | [`Meaning::Failure`] | EIO, EROFS, and all others; *any* error of a sync | takes the log directory offline (KIP-112) |
//!
//! The tricky idea: a shortage only counts as one if what the disk holds is still known. A sync that failed may have lost pages that count as
//! written, whatever it says, and the next one would say that all is well; so errors of syncs are marked ([`unsynced`]) where they arise.

use std::error::Error;
use std::fmt;
use std::io::{self, ErrorKind};

use crate::error::StorageError;

/// ENFILE and EMFILE: too many open files, which [`ErrorKind`] has no names for.
const TOO_MANY_FILES: [i32; 2] = [23, 24];

/// What an error says about the disk, and so what is to be done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// There is no space. Nothing was done, and what the disk holds is what it held.
    Full,
    /// There is too little of something else, such as open files. Nothing was done.
    Exhausted,
    /// One file is not there or not what it should be, which says nothing about others.
    Damage,
    /// The disk does not work, or nobody knows what it holds.
    Failure,
}

impl Meaning {
    /// Whether it is a shortage, which is over when what was missing comes back.
    pub fn passes(self) -> bool {
        matches!(self, Meaning::Full | Meaning::Exhausted)
    }

    /// Sorts an error, however often it was wrapped into one that says more.
    pub fn of(error: &io::Error) -> Meaning {
        let mut meaning = Meaning::Failure;
        let mut next: Option<&(dyn Error + 'static)> = Some(error);
        while let Some(error) = next {
            if error.is::<Unsynced>() {
                return Meaning::Failure;
            }
            if let Some(error) = error.downcast_ref::<StorageError>() {
                return error.meaning();
            }
            next = match error.downcast_ref::<io::Error>() {
                Some(error) => {
                    meaning = Meaning::of_one(error);
                    error.get_ref().map(|inner| inner as _)
                }
                None => error.source(),
            };
        }
        meaning
    }

    fn of_one(error: &io::Error) -> Meaning {
        use ErrorKind::*;
        match error.kind() {
            StorageFull | QuotaExceeded => Meaning::Full,
            OutOfMemory | Interrupted | WouldBlock => Meaning::Exhausted,
            NotFound | InvalidData | UnexpectedEof => Meaning::Damage,
            _ if error.raw_os_error().is_some_and(|code| TOO_MANY_FILES.contains(&code)) => {
                Meaning::Exhausted
            }
            _ => Meaning::Failure,
        }
    }
}

/// A sync that was tried and failed.
#[derive(Debug)]
struct Unsynced(io::Error);

impl fmt::Display for Unsynced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "what was written may be lost: {}", self.0)
    }
}

impl Error for Unsynced {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.0)
    }
}

/// Marks the error of a sync that was tried: it is a failure, whatever it says.
pub fn unsynced(error: io::Error) -> io::Error {
    io::Error::new(error.kind(), Unsynced(error))
}

/// Takes the mark away: what was to be synced will be written anew, as a whole, by whoever tries again.
pub(crate) fn rewritable(error: io::Error) -> io::Error {
    match error.downcast::<Unsynced>() {
        Ok(Unsynced(error)) | Err(error) => error,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn errors_of_the_operating_system_are_sorted() {
        let codes = [
            (5, Meaning::Failure),
            (30, Meaning::Failure),
            (28, Meaning::Full),
            (122, Meaning::Full),
            (23, Meaning::Exhausted),
            (24, Meaning::Exhausted),
            (12, Meaning::Exhausted),
            (2, Meaning::Damage),
        ];
        for (code, expected) in codes {
            let error = io::Error::from_raw_os_error(code);
            assert_eq!(Meaning::of(&error), expected, "{error}");
        }
        assert_eq!(Meaning::of(&io::Error::new(ErrorKind::InvalidData, "no batch")), Meaning::Damage);
        assert_eq!(Meaning::of(&io::Error::other("injected")), Meaning::Failure);
    }

    #[derive(Debug)]
    struct Named(io::Error);

    impl fmt::Display for Named {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a file: {}", self.0)
        }
    }

    impl Error for Named {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&self.0)
        }
    }

    #[test]
    fn an_error_that_was_wrapped_is_still_what_it_was() {
        let told = |code| {
            let source = io::Error::from_raw_os_error(code);
            io::Error::other(io::Error::new(source.kind(), Named(source)))
        };
        for (code, expected) in [(24, Meaning::Exhausted), (28, Meaning::Full), (5, Meaning::Failure)] {
            assert_eq!(Meaning::of(&told(code)), expected);
            let of_log = StorageError::at(Path::new("/t-0"), &told(code));
            assert_eq!(of_log.meaning(), expected);
            assert_eq!(Meaning::of(&io::Error::other(of_log)), expected);
        }
    }

    #[test]
    fn a_sync_that_failed_is_no_shortage_unless_all_is_written_anew() {
        let full = || unsynced(io::Error::from_raw_os_error(28));
        assert_eq!((Meaning::of(&full()), full().kind()), (Meaning::Failure, ErrorKind::StorageFull));
        assert_eq!(Meaning::of(&io::Error::other(Named(full()))), Meaning::Failure);
        assert_eq!(Meaning::of(&rewritable(full())), Meaning::Full);
        assert_eq!(Meaning::of(&rewritable(unsynced(io::Error::from_raw_os_error(5)))), Meaning::Failure);
    }
}
