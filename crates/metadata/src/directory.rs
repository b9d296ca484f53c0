//! Identities of log directories, and the reserved ones that stand for "not known yet".
//!
//! The tricky idea: a replica whose directory is unassigned or unknown counts as online; only a directory that is
//! known, and that its broker no longer reports, makes the replica unable to lead (KIP-858).

use ottla_protocol::Uuid;

const fn reserved(last: u8) -> Uuid {
    Uuid([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last])
}

/// The replica is older than directory assignment, or its broker never told its directories.
pub const MIGRATING: Uuid = reserved(0);
/// The broker will choose a directory and report it.
pub const UNASSIGNED: Uuid = reserved(1);
/// The replica was in a directory that is gone.
pub const LOST: Uuid = reserved(2);

/// Whether the id is one of the first hundred, which no real directory may have.
pub fn is_reserved(directory: Uuid) -> bool {
    directory.0[..15].iter().all(|byte| *byte == 0) && directory.0[15] < 100
}

/// Whether a replica in `directory` can be served by a broker that reports `online` directories.
pub fn is_online(directory: Uuid, online: &[Uuid]) -> bool {
    match directory {
        UNASSIGNED | MIGRATING => true,
        LOST => false,
        // A broker registered before 3.7-IV2 reported no directories; we believe that it would stop without any.
        _ => online.is_empty() || online.contains(&directory),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_and_online() {
        let real = Uuid([7; 16]);
        assert!(is_reserved(MIGRATING) && is_reserved(UNASSIGNED) && is_reserved(LOST));
        assert!(is_reserved(reserved(99)) && !is_reserved(reserved(100)) && !is_reserved(real));
        assert!(is_online(UNASSIGNED, &[real]) && is_online(MIGRATING, &[real]) && !is_online(LOST, &[real]));
        assert!(is_online(real, &[real]) && is_online(real, &[]) && !is_online(real, &[Uuid([8; 16])]));
    }
}
