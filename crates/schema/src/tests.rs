//! The notation against itself and against every message that the project keeps.
