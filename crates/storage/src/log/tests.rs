//! The log from outside: what goes in comes out, whichever way it is read, rolled, cut, closed or killed.

mod crash;
mod keeping;
mod model;
mod reading;
mod rig;
mod transactions;
