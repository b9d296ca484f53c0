//! KRaft as a pure state machine over epochs and offsets.
