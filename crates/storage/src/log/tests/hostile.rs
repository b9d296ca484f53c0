//! Bytes that nobody honest would send or leave on a disk: refused or cut off, never a panic, and the log goes on.

use crate::Lookup;
use std::path::Path;

use bytes::Bytes;
use ottla_protocol::compression::Codec;
use ottla_protocol::records::{BatchOptions, crc32c};
use proptest::prelude::*;

use super::rig::*;
use crate::disk::{Disk, write_atomic};
use crate::{AppendOrigin, Log, LogConfig, OpenHints, OpenMode};

/// A good batch with some bytes changed, and its checksum made right again or not.
fn damaged() -> impl Strategy<Value = Bytes> {
    let codec = prop_oneof![Just(Codec::None), Just(Codec::Lz4), Just(Codec::Gzip)];
    let edits = prop::collection::vec((0..120usize, any::<u8>()), 1..4);
    (codec, edits, any::<bool>(), any::<bool>()).prop_map(|(codec, edits, mend, keep_length)| {
        let options = BatchOptions {
            codec,
            producer_id: 1,
            producer_epoch: 0,
            base_sequence: 0,
            ..BatchOptions::default()
        };
        let mut bytes = batch_at(NOW, &[b"one", b"two", b"three"], options).to_vec();
        let length = bytes[8..12].to_vec();
        for (at, byte) in edits {
            if let Some(target) = bytes.get_mut(at) {
                *target = byte;
            }
        }
        if keep_length {
            bytes[8..12].copy_from_slice(&length);
        }
        if mend {
            let crc = crc32c(&bytes[21..]);
            bytes[17..21].copy_from_slice(&crc.to_be_bytes());
        }
        bytes.into()
    })
}

fn goes_on(log: &mut Log) {
    let end = log.log_end_offset();
    assert!(log.append(&batch(&[b"fine"]), AppendOrigin::COORDINATOR, 5, NOW).is_ok());
    assert_eq!(log.log_end_offset(), end + 1);
    log.flush().unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 80, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn batches_from_anybody(bytes in damaged(), strict in any::<bool>(), who in 0..4usize) {
        let (disk, mut log) = fresh(LogConfig { strict_validation: strict, ..small() });
        let origin = [CLIENT, AppendOrigin::COORDINATOR, AppendOrigin::RaftLeader, AppendOrigin::Replication][who];
        for _ in 0..2 {
            match log.append(&bytes, origin, 5, NOW) {
                Ok(info) => prop_assert!(info.last_offset + 1 >= info.first_offset),
                Err(error) => prop_assert!(!error.is_storage_failure()),
            }
        }
        if log.log_end_offset() < i64::MAX / 2 {
            goes_on(&mut log);
        }
        let end = log.log_end_offset();
        let (again, _) = open_with(&disk.kill(), small(), OpenHints::default());
        prop_assert_eq!(again.log_end_offset(), end);
    }

    #[test]
    fn files_that_were_scribbled_over(
        file in 0..6usize,
        at in 0..400u64,
        junk in prop::collection::vec(any::<u8>(), 1..40),
        clean_shutdown in any::<bool>(),
    ) {
        let (disk, mut log) = fresh(small());
        fill(&mut log, 30);
        log.close().unwrap();
        let second = log.segments().nth(1).unwrap().0;
        let name = [
            format!("{:020}.log", second),
            format!("{:020}.index", second),
            format!("{:020}.timeindex", 0),
            format!("{:020}.snapshot", 30),
            format!("{:020}.snapshot", second),
            "leader-epoch-checkpoint".to_owned(),
        ][file].clone();
        let path = Path::new(DIR).join(name);
        let target = disk.open(&path, OpenMode::Write).unwrap();
        let at = at.min(target.len().unwrap());
        target.write_all_at(&[std::io::IoSlice::new(&junk)], at).unwrap();
        let hints = OpenHints { clean_shutdown, ..OpenHints::default() };
        let opened = Log::open(std::sync::Arc::new(disk), DIR.into(), small(), hints, NOW);
        if let Ok((mut log, _)) = opened {
            // Reads may report damage, but must not go astray.
            let end = log.log_end_offset();
            for offset in 0..end {
                let _ = log.read(offset, 200, end, true);
            }
            let _ = log.lookup(Lookup::Timestamp(NOW));
            if file != 0 && !clean_shutdown {
                check_filled(&mut log, 0, 30);
            }
        } else {
            prop_assert!(clean_shutdown || file == 5, "what recovery makes anew cannot keep a log from opening");
        }
    }

    #[test]
    fn checkpoints_of_any_content(content in prop::collection::vec(any::<u8>(), 0..60)) {
        let disk = crate::SimDisk::new(1);
        let dir = Path::new("/");
        for name in ["meta.properties", "quorum-state", "partition.metadata", "recovery-point-offset-checkpoint"] {
            write_atomic(&disk, &dir.join(name), &content).unwrap();
        }
        let _ = crate::QuorumState::read(&disk, dir);
        let _ = crate::read_partition_metadata(&disk, dir);
        if let Ok(dir) = crate::LogDir::open(std::sync::Arc::new(disk), dir) {
            let _ = dir.read_checkpoint(crate::Checkpoint::RecoveryPoint);
        }
    }
}
