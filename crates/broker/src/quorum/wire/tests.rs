//! Whatever raft says arrives as it was said, in every version; what an old version has no place for arrives as not known.

use bytes::Bytes;
use ottla_controller::Dice;
use ottla_protocol::records::{BatchBuilder, BatchOptions, ControlType, control_batch};
use ottla_protocol::{Chain, ErrorCode, Message, Reader, Request, Writer};
use ottla_raft::{
    AddVoterRequest, BeginQuorumEpochRequest, Control, EndQuorumEpochRequest, Endpoint, Endpoints,
    FetchRequest, FetchResponse, FetchSnapshotRequest, FetchSnapshotResponse, Leader, OffsetAndEpoch,
    QuorumResponse, Refusal, RemoveVoterRequest, ReplicaKey, UpdateVoterRequest, VersionRange, VoteRequest,
    VoteResponse, Voter, Voters,
};

use super::control::decode_control;
use super::{Seen, Wire, code, encode_voters, refusal};

const NO_DISK: [u8; 16] = [0; 16];
const REFUSALS: [Refusal; 12] = [
    Refusal::FencedEpoch,
    Refusal::UnknownEpoch,
    Refusal::NotLeader,
    Refusal::InvalidRequest,
    Refusal::InvalidVoter,
    Refusal::TimedOut,
    Refusal::UnsupportedVersion,
    Refusal::DuplicateVoter,
    Refusal::VoterNotFound,
    Refusal::InvalidUpdateVersion,
    Refusal::SnapshotNotFound,
    Refusal::PositionOutOfRange,
];

fn wire() -> Wire {
    Wire { cluster_id: "4L6g3nShT-eMCtK--X86sw".into(), listener: "CONTROLLER".into() }
}

/// Writes a message and reads it again, as the other side does.
fn travel<'a, M: Message<'a>>(message: &impl Message<'a>, version: i16, buffer: &'a mut Bytes) -> M {
    let mut writer = Writer::new();
    message.encode(&mut writer, version).expect("it can be said in this version");
    *buffer = writer.finish().read().expect("in memory");
    let mut reader = Reader::new(buffer);
    let read = M::decode(&mut reader, version).expect("what was written can be read");
    reader.expect_end().expect("all of it");
    read
}

fn versions<'a, R: Request<'a>>() -> std::ops::RangeInclusive<i16> {
    R::MIN_VERSION..=R::MAX_VERSION
}

struct Made(Dice);

impl Made {
    fn below(&mut self, bound: u64) -> u64 {
        self.0.roll() % bound
    }

    fn maybe<T>(&mut self, value: T) -> Option<T> {
        (self.below(3) > 0).then_some(value)
    }

    fn replica(&mut self) -> ReplicaKey {
        let directory_id = if self.below(4) == 0 { NO_DISK } else { self.0.uuid().0 };
        ReplicaKey { id: self.below(10) as i32, directory_id }
    }

    fn endpoint(&mut self, listener: &str) -> Endpoint {
        let host = format!("host-{}", self.below(9));
        Endpoint { listener: listener.to_owned(), host, port: self.below(65_535) as u16 + 1 }
    }

    fn endpoints(&mut self) -> Endpoints {
        let mut endpoints = vec![self.endpoint("CONTROLLER")];
        if self.below(2) == 0 {
            endpoints.push(self.endpoint("CONTROLLER_TLS"));
        }
        endpoints.into()
    }

    fn leader(&mut self) -> Leader {
        Leader { id: self.below(10) as i32, endpoints: self.endpoints() }
    }

    fn log_end(&mut self) -> OffsetAndEpoch {
        OffsetAndEpoch { offset: self.below(1 << 40) as i64, epoch: self.below(1 << 20) as i32 }
    }

    fn epoch(&mut self) -> i32 {
        self.below(1 << 20) as i32
    }

    fn refusal(&mut self) -> Option<Refusal> {
        let refusal = REFUSALS[self.below(12) as usize];
        self.maybe(refusal)
    }

    /// A leader as answers name it: by one address, if the version has a place for it.
    fn told(&mut self) -> Option<Leader> {
        let (id, endpoint) = (self.below(10) as i32, self.endpoint("CONTROLLER"));
        self.maybe(Leader { id, endpoints: [endpoint].into() })
    }

    fn quorum_response(&mut self) -> QuorumResponse {
        QuorumResponse { refusal: self.refusal(), epoch: self.epoch(), leader: self.told() }
    }

    fn voter(&mut self, id: i32) -> Voter {
        let (mut key, endpoints) = (self.replica(), self.endpoints());
        key.id = id;
        Voter { key, endpoints, kraft_versions: VersionRange { min: 0, max: 1 } }
    }
}

fn many(mut test: impl FnMut(&mut Made)) {
    (0..200).for_each(|seed| test(&mut Made(Dice::new(seed))));
}

fn without_address(leader: Option<Leader>) -> Option<Leader> {
    leader.map(|leader| Leader { endpoints: [].into(), ..leader })
}

fn without_disk(replica: ReplicaKey) -> ReplicaKey {
    ReplicaKey { directory_id: NO_DISK, ..replica }
}

#[test]
fn votes() {
    use ottla_protocol::messages::{vote_request, vote_response};
    many(|made| {
        let voter = made.replica();
        let asked = VoteRequest {
            epoch: made.epoch(),
            candidate: made.replica(),
            voter: made.maybe(voter),
            log_end: made.log_end(),
            pre_vote: made.below(2) == 0,
        };
        let answered = VoteResponse {
            refusal: made.refusal(),
            epoch: made.epoch(),
            leader: made.told(),
            granted: made.below(2) == 0,
        };
        for version in versions::<vote_request::VoteRequest<'_>>() {
            let (wire, mut buffer) = (wire(), Bytes::new());
            // That it is a question only can not be said before version 2: encoding refuses.
            let mut expected = asked.clone();
            expected.pre_vote &= version >= 2;
            if version < 1 {
                expected.voter = None;
                expected.candidate = without_disk(expected.candidate);
            }
            let said = VoteRequest { pre_vote: expected.pre_vote, ..asked.clone() };
            let request = wire.vote_request(&said);
            let read = travel::<vote_request::VoteRequest<'_>>(&request, version, &mut buffer);
            assert_eq!(wire.read_vote_request(&read), Ok(expected));

            let mut expected = answered.clone();
            if version < 1 {
                expected.leader = without_address(expected.leader);
            }
            let said = if version < 1 { &expected } else { &answered };
            let (response, mut buffer) = (wire.vote_response(said), Bytes::new());
            let read = travel::<vote_response::VoteResponse<'_>>(&response, version, &mut buffer);
            assert_eq!(wire.read_vote_response(&read), Ok(expected));
        }
    });
}

#[test]
fn epochs_begin_and_end() {
    use ottla_protocol::messages::{
        begin_quorum_epoch_request as begin, begin_quorum_epoch_response as begun,
        end_quorum_epoch_request as end, end_quorum_epoch_response as ended,
    };
    many(|made| {
        let voter = made.replica();
        let begins =
            BeginQuorumEpochRequest { epoch: made.epoch(), leader: made.leader(), voter: made.maybe(voter) };
        let ends = EndQuorumEpochRequest {
            epoch: made.epoch(),
            leader: made.leader(),
            preferred: (0..made.below(4)).map(|_| made.replica()).collect(),
        };
        let answered = made.quorum_response();
        for version in versions::<begin::BeginQuorumEpochRequest<'_>>() {
            let (wire, old) = (wire(), version < 1);
            let bare = |leader: &Leader| Leader { endpoints: [].into(), ..leader.clone() };
            let mut expected = begins.clone();
            if old {
                expected = BeginQuorumEpochRequest { voter: None, leader: bare(&begins.leader), ..expected };
            }
            let (request, mut buffer) = (wire.begin_request(&begins), Bytes::new());
            let read = travel::<begin::BeginQuorumEpochRequest<'_>>(&request, version, &mut buffer);
            assert_eq!(wire.read_begin_request(&read), Ok(expected));

            let mut expected = ends.clone();
            if old {
                expected.leader = bare(&ends.leader);
                expected.preferred = ends.preferred.iter().map(|replica| without_disk(*replica)).collect();
            }
            let (request, mut buffer) = (wire.end_request(&ends), Bytes::new());
            let read = travel::<end::EndQuorumEpochRequest<'_>>(&request, version, &mut buffer);
            assert_eq!(wire.read_end_request(&read), Ok(expected));

            let mut expected = answered.clone();
            if old {
                expected.leader = without_address(expected.leader);
            }
            let said = if old { &expected } else { &answered };
            let (response, mut buffer) = (wire.begin_response(said), Bytes::new());
            let read = travel::<begun::BeginQuorumEpochResponse<'_>>(&response, version, &mut buffer);
            assert_eq!(wire.read_begin_response(&read), Ok(expected.clone()));
            let (response, mut buffer) = (wire.end_response(said), Bytes::new());
            let read = travel::<ended::EndQuorumEpochResponse<'_>>(&response, version, &mut buffer);
            assert_eq!(wire.read_end_response(&read), Ok(expected));
        }
    });
}

/// The first version of Fetch in which replicas of the quorum can be answered (KIP-595).
const FETCH_FROM: i16 = 12;

#[test]
fn fetches() {
    use ottla_protocol::messages::{fetch_request, fetch_response};
    many(|made| {
        let (committed, diverging, snapshot) = (made.below(1000) as i64, made.log_end(), made.log_end());
        let asked = FetchRequest {
            request: 0,
            replica: made.replica(),
            epoch: made.epoch(),
            log_end: made.log_end(),
            high_watermark: made.maybe(committed),
        };
        let answered = FetchResponse {
            refusal: made.refusal(),
            epoch: made.epoch(),
            leader: made.told(),
            high_watermark: made.maybe(committed),
            diverging: made.maybe(diverging),
            snapshot: made.maybe(snapshot),
            records: None,
        };
        for version in FETCH_FROM..=18 {
            let (wire, mut buffer) = (wire(), Bytes::new());
            let mut expected = asked;
            if version < 17 {
                expected.replica = without_disk(asked.replica);
            }
            if version < 18 {
                // No high watermark is news to one that can not say which it knows.
                expected.high_watermark = Some(i64::MAX);
            }
            let mut request = wire.fetch_request(&asked);
            if version < 15 {
                request.replica_state = Default::default();
            } else {
                request.replica_id = -1;
            }
            let read = travel::<fetch_request::FetchRequest<'_>>(&request, version, &mut buffer);
            assert_eq!(wire.read_fetch_request(&read), Ok(expected), "version {version}");

            let mut said = answered.clone();
            if version < 16 {
                said.leader = without_address(said.leader);
            }
            let (response, mut buffer) = (wire.fetch_response(&said, 7, Chain::default()), Bytes::new());
            let mut writer = Writer::new();
            response.encode(&mut writer, version).expect("it can be said");
            buffer.clone_from(&writer.finish().read().expect("in memory"));
            let read = fetch_response::FetchResponse::decode(&mut Reader::new(&buffer), version);
            let read = read.expect("what was written can be read");
            assert_eq!(wire.read_fetch_response(&read, &buffer), Ok((said, Bytes::new())));
        }
    });
}

/// Reads an answer with these bytes as its records.
fn arrive(bytes: Vec<u8>) -> Result<(FetchResponse, Bytes), ErrorCode> {
    let wire = wire();
    let header = FetchResponse {
        refusal: None,
        epoch: 5,
        leader: None,
        high_watermark: None,
        diverging: None,
        snapshot: None,
        records: None,
    };
    let response = wire.fetch_response(&header, 0, Chain::from(Bytes::from(bytes)));
    let mut writer = Writer::new();
    response.encode(&mut writer, 17).expect("it can be said");
    let frame = writer.finish().read().expect("in memory");
    let mut reader = Reader::new(&frame);
    let read = ottla_protocol::messages::fetch_response::FetchResponse::decode(&mut reader, 17);
    wire.read_fetch_response(&read.expect("what was written can be read"), &frame)
}

#[test]
fn records_that_were_fetched_are_checked() {
    let batch = |base: i64, epoch: i32, count: usize| {
        let options = BatchOptions { leader_epoch: epoch, ..Default::default() };
        let mut builder = BatchBuilder::new(base, options);
        (0..count).for_each(|_| {
            builder.push(0, None, Some(b"some value"), &[]);
        });
        builder.finish()
    };
    let mut made = Made(Dice::new(1));
    let voters = Voters::new((1..4).map(|id| made.voter(id)).collect()).expect("three of them");
    let mut writer = Writer::new();
    encode_voters(&voters).encode(&mut writer, 0).expect("it can be said");
    let options = BatchOptions { leader_epoch: 4, ..Default::default() };
    let control = control_batch(12, 0, ControlType::KraftVoters, &writer.into_bytes(), options);

    let whole = [batch(10, 3, 2), control.clone(), batch(13, 4, 1)].concat();
    let (response, bytes) = arrive(whole.clone()).expect("sound");
    let records = response.records.expect("there are some");
    assert_eq!((records.base_offset, records.first_epoch), (10, 3));
    assert_eq!(records.end, OffsetAndEpoch { offset: 14, epoch: 4 });
    assert_eq!(records.control, [(12, Control::Voters(voters))]);
    assert_eq!(bytes, whole);

    // The last batch is cut off: what comes before it counts.
    let (response, bytes) = arrive(whole[..whole.len() - 1].to_vec()).expect("sound");
    assert_eq!(response.records.expect("there are some").end.offset, 13);
    assert_eq!(bytes.len(), whole.len() - batch(13, 4, 1).len());

    let mut damaged = whole.clone();
    *damaged.last_mut().expect("not empty") ^= 1;
    assert_eq!(arrive(damaged).map(|_| ()), Err(ErrorCode::CorruptMessage));
    let gap = [batch(10, 3, 2), batch(13, 3, 1)].concat();
    assert_eq!(arrive(gap).map(|_| ()), Err(ErrorCode::InvalidRecord));
    let back = [batch(10, 3, 2), batch(12, 2, 1)].concat();
    assert_eq!(arrive(back).map(|_| ()), Err(ErrorCode::InvalidRecord));
}

#[test]
fn snapshots() {
    use ottla_protocol::messages::{fetch_snapshot_request as request, fetch_snapshot_response as response};
    many(|made| {
        let asked = FetchSnapshotRequest {
            request: 0,
            replica: made.replica(),
            epoch: made.epoch(),
            snapshot: made.log_end(),
            position: made.below(1 << 40) as i64,
        };
        let answered = FetchSnapshotResponse {
            refusal: made.refusal(),
            epoch: made.epoch(),
            leader: made.told(),
            snapshot: made.log_end(),
            size: made.below(1 << 40) as i64,
            position: made.below(1 << 40) as i64,
            bytes: 5,
        };
        for version in versions::<request::FetchSnapshotRequest<'_>>() {
            let (wire, mut buffer) = (wire(), Bytes::new());
            let mut expected = asked;
            if version < 1 {
                expected.replica = without_disk(asked.replica);
            }
            let asks = wire.fetch_snapshot_request(&asked);
            let read = travel::<request::FetchSnapshotRequest<'_>>(&asks, version, &mut buffer);
            assert_eq!(wire.read_fetch_snapshot_request(&read), Ok((expected, 1 << 20)));

            let mut said = answered.clone();
            if version < 1 {
                said.leader = without_address(said.leader);
            }
            let answer = wire.fetch_snapshot_response(&said, Chain::from(Bytes::from_static(b"bytes")));
            let mut writer = Writer::new();
            answer.encode(&mut writer, version).expect("it can be said");
            let frame = writer.finish().read().expect("in memory");
            let read = response::FetchSnapshotResponse::decode(&mut Reader::new(&frame), version);
            let read = wire.read_fetch_snapshot_response(&read.expect("it can be read"), &frame);
            assert_eq!(read, Ok((said, Bytes::from_static(b"bytes"))));
        }
    });
}

#[test]
fn voters_come_and_go() {
    use ottla_protocol::messages::{
        add_raft_voter_request as add, remove_raft_voter_request as remove,
        update_raft_voter_request as update, update_raft_voter_response as updated,
    };
    many(|made| {
        let added = AddVoterRequest {
            voter: made.replica(),
            endpoints: made.endpoints(),
            ack_when_committed: made.below(2) == 0,
        };
        let removed = RemoveVoterRequest { voter: made.replica() };
        let id = made.below(10) as i32;
        let updates = UpdateVoterRequest { epoch: made.epoch(), voter: made.voter(id) };
        let answered = made.quorum_response();
        let wire = wire();
        for version in versions::<add::AddRaftVoterRequest<'_>>() {
            let said = AddVoterRequest {
                ack_when_committed: added.ack_when_committed || version < 1,
                ..added.clone()
            };
            let (request, mut buffer) = (wire.add_voter_request(&said, 100), Bytes::new());
            let read = travel::<add::AddRaftVoterRequest<'_>>(&request, version, &mut buffer);
            assert_eq!(wire.read_add_voter_request(&read), Ok(said.clone()));
        }
        let (request, mut buffer) = (wire.remove_voter_request(&removed), Bytes::new());
        let read = travel::<remove::RemoveRaftVoterRequest<'_>>(&request, 0, &mut buffer);
        assert_eq!(wire.read_remove_voter_request(&read), Ok(removed));
        let (request, mut buffer) = (wire.update_voter_request(&updates), Bytes::new());
        let read = travel::<update::UpdateRaftVoterRequest<'_>>(&request, 0, &mut buffer);
        assert_eq!(wire.read_update_voter_request(&read), Ok(updates));
        let (response, mut buffer) = (wire.update_voter_response(&answered), Bytes::new());
        let read = travel::<updated::UpdateRaftVoterResponse<'_>>(&response, 0, &mut buffer);
        assert_eq!(wire.read_update_voter_response(&read), Ok(answered.clone()));
        let seen = Seen { voter: Some(added.voter), voters: &Voters::none(), kraft_version: 1 };
        let (added, removed) =
            (wire.add_voter_response(&answered, &seen), wire.remove_voter_response(&answered, &seen));
        assert_eq!((added.error_code, removed.error_code), (code(answered.refusal).code(), added.error_code));
        assert_eq!(added.error_message.is_some(), answered.refusal.is_some());
    });
}

#[test]
fn messages_of_another_cluster_are_refused() {
    let other = Wire { cluster_id: "another".into(), ..wire() };
    let removed = RemoveVoterRequest { voter: ReplicaKey { id: 1, directory_id: [1; 16] } };
    let request = other.remove_voter_request(&removed);
    assert_eq!(wire().read_remove_voter_request(&request), Err(ErrorCode::InconsistentClusterId));
}

#[test]
fn a_voter_listens_where_the_others_look_for_it() {
    let elsewhere = Wire { listener: "ELSEWHERE".into(), ..wire() };
    let endpoint = Endpoint { listener: "CONTROLLER".to_owned(), host: "here".to_owned(), port: 1 };
    let voter = ReplicaKey { id: 1, directory_id: [1; 16] };
    let added = AddVoterRequest { voter, endpoints: [endpoint].into(), ack_when_committed: true };
    let here = wire();
    let request = here.add_voter_request(&added, 100);
    assert!(here.read_add_voter_request(&request).is_ok());
    assert_eq!(elsewhere.read_add_voter_request(&request), Err(ErrorCode::InvalidRequest));
}

#[test]
fn every_refusal_has_its_code() {
    for one in REFUSALS {
        assert_eq!(refusal(code(Some(one)).code()), Ok(Some(one)));
    }
    assert_eq!(refusal(0), Ok(None));
    assert_eq!(refusal(ErrorCode::UnknownServerError.code()), Err(ErrorCode::UnknownServerError));
}

#[test]
fn damaged_control_records_are_told() {
    assert!(decode_control(ControlType::KraftVoters, b"").is_err());
    assert!(decode_control(ControlType::KraftVersion, b"\0").is_err());
    assert_eq!(decode_control(ControlType::LeaderChange, b""), Ok(None));
}
