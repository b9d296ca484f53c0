//! Who may commit and fetch offsets of a consumer group.
//!
//! A member commits with its member epoch. One that is a little behind may still commit for partitions which it had
//! already at that epoch: they can not have been anybody else's since (KIP-1251).

use crate::group::consumer::group::ConsumerGroup;
use crate::group::consumer::member::{Member, Standing};
use crate::guards::Guard;
use ottla_protocol::{ErrorCode, Uuid};

/// Which partitions a commit may name.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Permit<'g> {
    All,
    /// Those that the member has had since this member epoch or earlier; `error` for a commit that names any other.
    AssignedSince {
        standing: &'g Standing,
        member_epoch: i32,
        error: ErrorCode,
    },
}

impl Permit<'_> {
    pub(crate) fn check(&self, topic: Uuid, partition: i32) -> Result<(), ErrorCode> {
        match self {
            Permit::All => Ok(()),
            Permit::AssignedSince { standing, member_epoch, error } => {
                let since = standing.assigned_since(topic, partition);
                if since.is_some_and(|since| since <= *member_epoch) { Ok(()) } else { Err(*error) }
            }
        }
    }
}

/// To a member of the classic protocol its epoch is a generation.
fn stale(member: &Member) -> ErrorCode {
    if member.is_classic() { ErrorCode::IllegalGeneration } else { ErrorCode::StaleMemberEpoch }
}

impl ConsumerGroup {
    /// UNKNOWN_MEMBER_ID (25), STALE_MEMBER_EPOCH (113), ILLEGAL_GENERATION (22) for classic members, and
    /// UNSUPPORTED_VERSION (35) for a member that commits in a version that has no member epochs.
    pub(crate) fn permit_commit(
        &self,
        member_id: &str,
        instance_id: Option<&str>,
        member_epoch: i32,
        is_transactional: bool,
        api_version: i16,
    ) -> Result<Permit<'_>, ErrorCode> {
        let is_anonymous = member_epoch == -1 && member_id.is_empty() && instance_id.is_none();
        if member_epoch < 0 && self.members().is_empty() || is_transactional && is_anonymous {
            return Ok(Permit::All);
        }
        let member = self.member(member_id).ok_or(ErrorCode::UnknownMemberId)?;
        if !is_transactional && !member.is_classic() && api_version < 9 {
            return Err(ErrorCode::UnsupportedVersion);
        }
        let (standing, error) = (&*member.standing, stale(member));
        match member_epoch {
            _ if member_epoch == standing.member_epoch || !Guard::CommitChecksMemberEpoch.stands() => {
                Ok(Permit::All)
            }
            _ if member_epoch > standing.member_epoch => Err(error),
            _ => Ok(Permit::AssignedSince { standing, member_epoch, error }),
        }
    }

    /// The same for OffsetFetch, which is only asked by those who say who they are.
    pub(crate) fn permit_fetch(&self, member_id: Option<&str>, member_epoch: i32) -> Result<(), ErrorCode> {
        let Some(member_id) = member_id.or((member_epoch >= 0).then_some("")) else { return Ok(()) };
        let member = self.member(member_id).ok_or(ErrorCode::UnknownMemberId)?;
        if member.standing.member_epoch == member_epoch { Ok(()) } else { Err(stale(member)) }
    }
}
