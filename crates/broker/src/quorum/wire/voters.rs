//! AddRaftVoter (80, versions 0-1), RemoveRaftVoter (81) and UpdateRaftVoter (82): who votes (KIP-853). AddRaftVoter v1 can be answered as
//! soon as the change is appended.

use ottla_protocol::messages::add_raft_voter_request as add;
use ottla_protocol::messages::add_raft_voter_response::AddRaftVoterResponse;
use ottla_protocol::messages::remove_raft_voter_request::RemoveRaftVoterRequest;
use ottla_protocol::messages::remove_raft_voter_response::RemoveRaftVoterResponse;
use ottla_protocol::messages::update_raft_voter_request as update;
use ottla_protocol::messages::update_raft_voter_response::{CurrentLeader, UpdateRaftVoterResponse};
use ottla_protocol::{ErrorCode, Uuid};
use ottla_raft::{
    AddVoterRequest, Endpoints, Leader, QuorumResponse, Refusal, RemoveVoterRequest, ReplicaKey,
    UpdateVoterRequest, VersionRange, Voter, Voters,
};

use super::epochs::endpoint;
use super::{Wire, code, key, refusal};

/// What a refusal is told with: who it was about, and the quorum as it is.
pub(in crate::quorum) struct Seen<'s> {
    pub voter: Option<ReplicaKey>,
    pub voters: &'s Voters,
    pub kraft_version: i16,
}

impl Wire {
    pub(crate) fn add_voter_request<'r>(
        &'r self,
        request: &'r AddVoterRequest,
        timeout_ms: i32,
    ) -> add::AddRaftVoterRequest<'r> {
        add::AddRaftVoterRequest {
            cluster_id: self.cluster(),
            timeout_ms,
            voter_id: request.voter.id,
            voter_directory_id: Uuid(request.voter.directory_id),
            listeners: request
                .endpoints
                .iter()
                .map(|endpoint| add::Listener {
                    name: endpoint.listener.as_str().into(),
                    host: endpoint.host.as_str().into(),
                    port: endpoint.port,
                })
                .collect(),
            ack_when_committed: request.ack_when_committed,
        }
    }

    pub(crate) fn read_add_voter_request(
        &self,
        request: &add::AddRaftVoterRequest<'_>,
    ) -> Result<AddVoterRequest, ErrorCode> {
        self.check_cluster(request.cluster_id.as_deref())?;
        let listeners = request.listeners.iter();
        let endpoints = listeners.map(|at| endpoint(&at.name, &at.host, at.port)).collect();
        Ok(AddVoterRequest {
            voter: key(request.voter_id, request.voter_directory_id),
            endpoints: self.reachable(endpoints)?,
            ack_when_committed: request.ack_when_committed,
        })
    }

    /// A voter that does not listen where the others look for it could never be asked for its vote (Kafka: `AddVoterHandler`,
    /// `UpdateVoterHandler`).
    fn reachable(&self, endpoints: Endpoints) -> Result<Endpoints, ErrorCode> {
        if endpoints.iter().any(|endpoint| *endpoint.listener == *self.listener) {
            Ok(endpoints)
        } else {
            Err(ErrorCode::InvalidRequest)
        }
    }

    pub(in crate::quorum) fn add_voter_response(
        &self,
        response: &QuorumResponse,
        seen: &Seen<'_>,
    ) -> AddRaftVoterResponse<'static> {
        AddRaftVoterResponse {
            error_code: code(response.refusal).code(),
            error_message: response.refusal.map(|refusal| reason(refusal, "adding", seen).into()),
            ..Default::default()
        }
    }

    pub(crate) fn remove_voter_request(&self, request: &RemoveVoterRequest) -> RemoveRaftVoterRequest<'_> {
        RemoveRaftVoterRequest {
            cluster_id: self.cluster(),
            voter_id: request.voter.id,
            voter_directory_id: Uuid(request.voter.directory_id),
        }
    }

    pub(crate) fn read_remove_voter_request(
        &self,
        request: &RemoveRaftVoterRequest<'_>,
    ) -> Result<RemoveVoterRequest, ErrorCode> {
        self.check_cluster(request.cluster_id.as_deref())?;
        Ok(RemoveVoterRequest { voter: key(request.voter_id, request.voter_directory_id) })
    }

    pub(in crate::quorum) fn remove_voter_response(
        &self,
        response: &QuorumResponse,
        seen: &Seen<'_>,
    ) -> RemoveRaftVoterResponse<'static> {
        RemoveRaftVoterResponse {
            error_code: code(response.refusal).code(),
            error_message: response.refusal.map(|refusal| reason(refusal, "removing", seen).into()),
            ..Default::default()
        }
    }

    pub(crate) fn update_voter_request<'r>(
        &'r self,
        request: &'r UpdateVoterRequest,
    ) -> update::UpdateRaftVoterRequest<'r> {
        let Voter { key, endpoints, kraft_versions } = &request.voter;
        update::UpdateRaftVoterRequest {
            cluster_id: self.cluster(),
            current_leader_epoch: request.epoch,
            voter_id: key.id,
            voter_directory_id: Uuid(key.directory_id),
            listeners: endpoints
                .iter()
                .map(|endpoint| update::Listener {
                    name: endpoint.listener.as_str().into(),
                    host: endpoint.host.as_str().into(),
                    port: endpoint.port,
                })
                .collect(),
            kraft_version_feature: update::KRaftVersionFeature {
                min_supported_version: kraft_versions.min,
                max_supported_version: kraft_versions.max,
            },
        }
    }

    pub(crate) fn read_update_voter_request(
        &self,
        request: &update::UpdateRaftVoterRequest<'_>,
    ) -> Result<UpdateVoterRequest, ErrorCode> {
        self.check_cluster(request.cluster_id.as_deref())?;
        let levels = &request.kraft_version_feature;
        let listeners = request.listeners.iter();
        let endpoints = listeners.map(|at| endpoint(&at.name, &at.host, at.port)).collect();
        let voter = Voter {
            key: key(request.voter_id, request.voter_directory_id),
            endpoints: self.reachable(endpoints)?,
            kraft_versions: VersionRange {
                min: levels.min_supported_version,
                max: levels.max_supported_version,
            },
        };
        Ok(UpdateVoterRequest { epoch: request.current_leader_epoch, voter })
    }

    pub(crate) fn update_voter_response<'r>(
        &self,
        response: &'r QuorumResponse,
    ) -> UpdateRaftVoterResponse<'r> {
        let leader = response.leader.as_ref();
        let address = leader.and_then(|leader| self.address(&leader.endpoints));
        UpdateRaftVoterResponse {
            error_code: code(response.refusal).code(),
            current_leader: CurrentLeader {
                leader_id: leader.map_or(-1, |leader| leader.id),
                leader_epoch: response.epoch,
                host: address.map_or("", |address| &address.host).into(),
                port: address.map_or(0, |address| address.port.into()),
            },
            ..Default::default()
        }
    }

    pub(crate) fn read_update_voter_response(
        &self,
        response: &UpdateRaftVoterResponse<'_>,
    ) -> Result<QuorumResponse, ErrorCode> {
        let refusal = refusal(response.error_code)?;
        let said = &response.current_leader;
        let port = u16::try_from(said.port).ok().filter(|port| *port > 0 && !said.host.is_empty());
        let endpoints: Endpoints =
            port.map(|port| endpoint(&self.listener, &said.host, port)).into_iter().collect();
        let leader = (said.leader_id >= 0).then_some(Leader { id: said.leader_id, endpoints });
        Ok(QuorumResponse { refusal, epoch: said.leader_epoch, leader })
    }
}

/// Why the voters stay as they are. Where there is something to say of this quorum the words are Kafka's (`AddVoterHandler`,
/// `RemoveVoterHandler`): its tools print them.
fn reason(refusal: Refusal, what: &str, seen: &Seen<'_>) -> String {
    let shown = |key: &ReplicaKey| {
        let disk =
            if key.is_complete() { Uuid(key.directory_id).to_string() } else { "<undefined>".to_owned() };
        format!("ReplicaKey(id={}, directoryId={disk})", key.id)
    };
    let voter = seen.voter.as_ref().map_or_else(String::new, shown);
    let voters = || seen.voters.iter().map(|voter| shown(&voter.key)).collect::<Vec<_>>().join(", ");
    match refusal {
        Refusal::DuplicateVoter => {
            format!("The voter id for {voter} is already part of the set of voters [{}].", voters())
        }
        Refusal::VoterNotFound => {
            format!("Cannot remove voter {voter} from the set of voters [{}]", voters())
        }
        Refusal::UnsupportedVersion => format!(
            "Cluster doesn't support {what} voter because the kraft.version feature is {}",
            seen.kraft_version
        ),
        Refusal::TimedOut => format!(
            "Request timed out {what} {voter}: the change before is not committed yet, the leader was just elected, or \
             the new voter does not answer or lags behind"
        ),
        other => code(Some(other)).message().to_owned(),
    }
}
