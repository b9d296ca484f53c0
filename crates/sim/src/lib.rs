//! The same code on a virtual clock and a simulated disk: workloads, crashes, checkers.
