//! Three small files with one fact each: `.kafka_cleanshutdown`, `partition.metadata` and `quorum-state`.
//!
//! The one tricky idea: `quorum-state` is a promise (a vote given must never be forgotten), so a damaged one is an error and never
//! read as "no vote yet"; a damaged clean-shutdown file, by contrast, merely means that the shutdown was not clean.

use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;

use ottla_protocol::Uuid;

use super::checkpoint::malformed;
use super::json::Json;
use crate::disk::{Disk, File, OpenMode, read_file, remove_if_exists, write_atomic};
use crate::names;

/// The file that says that the last shutdown synced everything (`CleanShutdownFileHandler`).
pub const CLEAN_SHUTDOWN: &str = ".kafka_cleanshutdown";
/// The file with a voter's promises (`FileQuorumStateStore`).
pub const QUORUM_STATE: &str = "quorum-state";

/// What the last shutdown left: it was clean, by a broker of this epoch (-1 if it did not say).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CleanShutdown {
    /// The broker epoch at shutdown.
    pub broker_epoch: i64,
}

/// Reads and durably removes the clean-shutdown file: from here on, a crash is a crash.
pub(super) fn take_clean_shutdown(disk: &dyn Disk, dir: &Path) -> io::Result<Option<CleanShutdown>> {
    let path = dir.join(CLEAN_SHUTDOWN);
    let bytes = match read_file(disk, &path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    remove_if_exists(disk, &path)?;
    disk.sync_dir(dir)?;
    let json = std::str::from_utf8(&bytes).ok().and_then(Json::parse);
    // Kafka before 3.8 wrote an empty file: clean, of an unknown broker epoch.
    let broker_epoch =
        json.as_ref().and_then(|json| json.get("brokerEpoch")).and_then(Json::as_i64).unwrap_or(-1);
    Ok(Some(CleanShutdown { broker_epoch }))
}

pub(super) fn write_clean_shutdown(disk: &dyn Disk, dir: &Path, broker_epoch: i64) -> io::Result<()> {
    let text = format!("{{\"version\":0,\"brokerEpoch\":{broker_epoch}}}");
    write_atomic(disk, &dir.join(CLEAN_SHUTDOWN), text.as_bytes())
}

/// Reads the topic id that a partition's directory belongs to; `None` if there is no such file (yet).
pub fn read_partition_metadata(disk: &dyn Disk, partition_dir: &Path) -> io::Result<Option<Uuid>> {
    let path = partition_dir.join(names::PARTITION_METADATA);
    let bytes = match read_file(disk, &path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let text = std::str::from_utf8(&bytes).map_err(|_| malformed(&path, "not text"))?;
    let mut lines = text.lines();
    let mut field = |name: &str| {
        let (key, value) = lines.next()?.split_once(':')?;
        (key == name).then(|| value.trim().to_owned())
    };
    let version = field("version").ok_or_else(|| malformed(&path, "no version"))?;
    if version != "0" {
        return Err(malformed(&path, &format!("version {version:?} is unknown")));
    }
    let id = field("topic_id").ok_or_else(|| malformed(&path, "no topic_id"))?;
    match id.parse::<Uuid>() {
        Ok(id) if id != Uuid::ZERO => Ok(Some(id)),
        _ => Err(malformed(&path, &format!("bad topic_id {id:?}"))),
    }
}

/// Writes the topic id of a new partition's directory (`PartitionMetadata`: no newline at the end). It is durable when the file that
/// comes back, the directory and its parent are synced; that is the caller's to do before anything in the directory counts.
pub fn write_partition_metadata(
    disk: &dyn Disk,
    partition_dir: &Path,
    topic_id: Uuid,
) -> io::Result<Arc<dyn File>> {
    let text = format!("version: 0\ntopic_id: {topic_id}");
    let file = disk.open(&partition_dir.join(names::PARTITION_METADATA), OpenMode::Create)?;
    file.write_all_at(&mut [IoSlice::new(text.as_bytes())], 0)?;
    Ok(file)
}

/// What a voter must not forget: the epoch, its leader, and whom it voted for. -1 stands for nobody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuorumState {
    /// The leader of the epoch, or -1.
    pub leader_id: i32,
    /// The quorum epoch.
    pub leader_epoch: i32,
    /// The candidate that got this voter's vote in the epoch, or -1.
    pub voted_id: i32,
    /// The candidate's directory. Only format version 1 stores it.
    pub voted_directory_id: Uuid,
    /// The static voters. Only format version 0 stores them.
    pub current_voters: Vec<i32>,
    /// The format: 0 under `kraft.version` 0, 1 from `kraft.version` 1 on.
    pub data_version: i16,
}

impl QuorumState {
    fn encode(&self) -> String {
        let QuorumState { leader_id, leader_epoch, voted_id, voted_directory_id, .. } = self;
        if self.data_version == 0 {
            let voters: Vec<String> =
                self.current_voters.iter().map(|id| format!("{{\"voterId\":{id}}}")).collect();
            let voters = voters.join(",");
            format!(
                "{{\"clusterId\":\"\",\"leaderId\":{leader_id},\"leaderEpoch\":{leader_epoch},\"votedId\":{voted_id},\
                 \"appliedOffset\":0,\"currentVoters\":[{voters}],\"data_version\":0}}"
            )
        } else {
            format!(
                "{{\"leaderId\":{leader_id},\"leaderEpoch\":{leader_epoch},\"votedId\":{voted_id},\
                 \"votedDirectoryId\":\"{voted_directory_id}\",\"data_version\":1}}"
            )
        }
    }

    fn parse(text: &str) -> Option<QuorumState> {
        let json = Json::parse(text)?;
        let number = |name: &str| json.get(name).and_then(Json::as_i32);
        let data_version =
            i16::try_from(number("data_version")?).ok().filter(|version| (0..=1).contains(version))?;
        let voted_directory_id = match json.get("votedDirectoryId") {
            None => Uuid::ZERO,
            Some(id) => id.as_str()?.parse().ok()?,
        };
        let mut current_voters = Vec::new();
        for voter in json.get("currentVoters").and_then(Json::as_array).unwrap_or_default() {
            current_voters.push(voter.get("voterId")?.as_i32()?);
        }
        Some(QuorumState {
            leader_id: number("leaderId")?,
            leader_epoch: number("leaderEpoch")?,
            voted_id: number("votedId")?,
            voted_directory_id,
            current_voters,
            data_version,
        })
    }

    /// Reads `quorum-state` in the metadata partition's directory; `None` if this node never took part.
    pub fn read(disk: &dyn Disk, partition_dir: &Path) -> io::Result<Option<QuorumState>> {
        let path = partition_dir.join(QUORUM_STATE);
        match read_file(disk, &path) {
            Ok(bytes) => match std::str::from_utf8(&bytes).ok().and_then(QuorumState::parse) {
                Some(state) => Ok(Some(state)),
                None => Err(malformed(&path, "not a quorum state")),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Replaces `quorum-state`, durable when it returns: only then may the vote be answered.
    pub fn write(&self, disk: &dyn Disk, partition_dir: &Path) -> io::Result<()> {
        assert!((0..=1).contains(&self.data_version), "quorum-state has formats 0 and 1");
        write_atomic(disk, &partition_dir.join(QUORUM_STATE), self.encode().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::SimDisk;

    #[test]
    fn a_clean_shutdown_is_believed_once() {
        let disk = SimDisk::new(1);
        let dir = Path::new("/");
        assert_eq!(take_clean_shutdown(&disk, dir).unwrap(), None);
        write_clean_shutdown(&disk, dir, 42).unwrap();
        let text = disk.contents(Path::new("/.kafka_cleanshutdown")).unwrap();
        assert_eq!(text, b"{\"version\":0,\"brokerEpoch\":42}");
        assert_eq!(take_clean_shutdown(&disk, dir).unwrap(), Some(CleanShutdown { broker_epoch: 42 }));
        assert_eq!(take_clean_shutdown(&disk.crash(), dir).unwrap(), None, "the removal is durable");
    }

    #[test]
    fn partition_metadata_is_kafkas() {
        let disk = SimDisk::new(1);
        let dir = Path::new("/");
        let id: Uuid = "J8aAPcfLQt2bqs1JT_rMgQ".parse().unwrap();
        assert_eq!(read_partition_metadata(&disk, dir).unwrap(), None);
        write_partition_metadata(&disk, dir, id).unwrap();
        let text = disk.contents(Path::new("/partition.metadata")).unwrap();
        assert_eq!(text, b"version: 0\ntopic_id: J8aAPcfLQt2bqs1JT_rMgQ");
        assert_eq!(read_partition_metadata(&disk, dir).unwrap(), Some(id));
        for broken in ["", "version: 1\ntopic_id: x", "version: 0", "version: 0\ntopic_id: x"] {
            write_atomic(&disk, Path::new("/partition.metadata"), broken.as_bytes()).unwrap();
            assert!(read_partition_metadata(&disk, dir).is_err(), "{broken}");
        }
    }

    #[test]
    fn quorum_state_is_kafkas_in_both_formats() {
        let disk = SimDisk::new(1);
        let dir = Path::new("/");
        assert_eq!(QuorumState::read(&disk, dir).unwrap(), None);
        let directory: Uuid = "J8aAPcfLQt2bqs1JT_rMgQ".parse().unwrap();
        let state = QuorumState {
            leader_id: -1,
            leader_epoch: 2,
            voted_id: 1,
            voted_directory_id: directory,
            current_voters: vec![],
            data_version: 1,
        };
        let expected = r#"{"leaderId":-1,"leaderEpoch":2,"votedId":1,"votedDirectoryId":"J8aAPcfLQt2bqs1JT_rMgQ","data_version":1}"#;
        assert_eq!(state.encode(), expected);
        state.write(&disk, dir).unwrap();
        assert_eq!(QuorumState::read(&disk.crash(), dir).unwrap(), Some(state));
        let old = r#"{"clusterId":"","leaderId":1,"leaderEpoch":2,"votedId":-1,"appliedOffset":0,"currentVoters":[{"voterId":1}],"data_version":0}"#;
        let state = QuorumState::parse(old).unwrap();
        assert_eq!((state.leader_id, &*state.current_voters), (1, &[1][..]));
        assert_eq!(state.encode(), old);
    }

    #[test]
    fn a_damaged_quorum_state_is_an_error() {
        let disk = SimDisk::new(1);
        for text in
            ["", "{}", "{\"leaderId\":1", r#"{"leaderId":1,"leaderEpoch":2,"votedId":-1,"data_version":7}"#]
        {
            write_atomic(&disk, Path::new("/quorum-state"), text.as_bytes()).unwrap();
            assert!(QuorumState::read(&disk, Path::new("/")).is_err(), "{text}");
        }
    }
}
