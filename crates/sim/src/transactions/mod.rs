//! Transactions through the real broker, on a virtual clock and a simulated disk.

mod flows;
mod rig;
