//! One node as a deterministic object: APIs, partitions, waiting requests, fetch sessions.
