//! The transaction coordinator alone: every request in every state, what time does, what is listed, and the rules of older versions.

mod listing;
mod rig;
mod states;
mod time;
