//! What a follower tells the leader about itself: a voter where it listens and what it supports, a controller that is no
//! voter yet that it wants to be one (KIP-853, `controller.quorum.auto.join.enable`).

use crate::event::Effect;
use crate::message::{AddVoterRequest, QuorumResponse, Refusal, RemoveVoterRequest, UpdateVoterRequest};
use crate::raft::{Raft, Role, Step};

impl Raft {
    /// Once in a fetch timeout: after a few rounds of fetches there is something to say, or not.
    pub(crate) fn tell_leader(&mut self, step: &mut Step<'_>) {
        let leader = self.known_leader().filter(|leader| !leader.endpoints.is_empty());
        let (own, level) = (self.own_voter(), self.kraft_version());
        let period = self.settings.fetch_timeout_ms.max(1);
        let Role::Follower(following) = &mut self.role else { return };
        following.update_at = step.now + period;
        let (has_updated, Some(to)) = (following.has_updated, leader) else { return };
        let voters = self.voters();
        if self.is_voter() {
            if if level == 0 { !has_updated } else { voters.needs_update(&own) } {
                let request = UpdateVoterRequest { epoch: self.state.epoch, voter: own };
                step.send(Effect::SendUpdateVoter { to, request });
            }
        } else if level > 0 && self.settings.may_vote && self.settings.auto_join && !self.stopping {
            match voters.get(own.key.id) {
                // This node with another disk: that disk is gone.
                Some(gone) => {
                    let request = RemoveVoterRequest { voter: gone.key };
                    step.send(Effect::SendRemoveVoter { to, request });
                }
                None => {
                    let (voter, endpoints) = (own.key, own.endpoints);
                    let request = AddVoterRequest { voter, endpoints, ack_when_committed: false };
                    step.send(Effect::SendAddVoter { to, request });
                }
            }
        }
    }

    pub(crate) fn on_update_voter_response(&mut self, response: &QuorumResponse, step: &mut Step<'_>) {
        self.on_quorum_response(response, step);
        let heard = matches!(response.refusal, None | Some(Refusal::UnsupportedVersion));
        if let (Role::Follower(following), true) =
            (&mut self.role, heard && response.epoch == self.state.epoch)
        {
            following.has_updated = true;
        }
    }
}
