//! The log from outside: what goes in comes out, whichever way it is read, rolled, cut, closed or killed.

mod compaction;
mod compaction_crash;
mod compaction_model;
mod copy;
mod crash;
mod full_disk;
mod groups;
mod hostile;
mod keeping;
mod model;
mod reading;
mod retention;
mod rig;
mod shortage;
mod transactions;
