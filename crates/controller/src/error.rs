//! Why a request, or one item of it, is refused: a code of the protocol and a sentence for a person.

use ottla_protocol::ErrorCode;
use std::borrow::Cow;

/// A refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    /// What clients act upon.
    pub code: ErrorCode,
    /// What people read.
    pub message: String,
}

impl ApiError {
    /// A refusal with its own sentence.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> ApiError {
        ApiError { code, message: message.into() }
    }

    /// A refusal with the code's usual sentence.
    pub fn plain(code: ErrorCode) -> ApiError {
        ApiError { code, message: code.message().to_owned() }
    }

    /// The message as responses carry it: none where it says no more than the code, for which clients have their own words.
    pub fn text(&self) -> Option<Cow<'static, str>> {
        (self.message != self.code.message()).then(|| Cow::Owned(self.message.clone()))
    }
}

impl std::fmt::Display for ApiError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}: {}", self.code, self.message)
    }
}

impl std::error::Error for ApiError {}

/// The code and message fields of a response item.
pub(crate) fn code_and_message(result: &Result<(), ApiError>) -> (i16, Option<Cow<'static, str>>) {
    match result {
        Ok(()) => (ErrorCode::None.code(), None),
        Err(error) => (error.code.code(), error.text()),
    }
}
