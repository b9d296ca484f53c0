//! The `Controller`: the image with everything appended, and the means to decide.
//!
//! The tricky idea: it runs ahead of the rest of the node. The broker acts on what is committed; the controller
//! decides on what is appended. Losing the leadership of the quorum therefore means to drop the controller and to
//! make a new one from the committed image.

use crate::allowance::Allowance;
use crate::context::{ConfigRules, Context, Decision, Settings};
use crate::dice::Dice;
use crate::error::ApiError;
use crate::register_broker::Registration;
use crate::update_features::{Quorum, UpdatedFeatures};
use ottla_metadata::{Image, ReplayError, Replayer};
use ottla_protocol::ids::NodeId;
use ottla_protocol::messages::allocate_producer_ids_request::AllocateProducerIdsRequest;
use ottla_protocol::messages::allocate_producer_ids_response::AllocateProducerIdsResponse;
use ottla_protocol::messages::alter_configs_request::AlterConfigsRequest;
use ottla_protocol::messages::alter_configs_response::AlterConfigsResponse;
use ottla_protocol::messages::broker_heartbeat_request::BrokerHeartbeatRequest;
use ottla_protocol::messages::broker_heartbeat_response::BrokerHeartbeatResponse;
use ottla_protocol::messages::broker_registration_request::BrokerRegistrationRequest;
use ottla_protocol::messages::broker_registration_response::BrokerRegistrationResponse;
use ottla_protocol::messages::controller_registration_request::ControllerRegistrationRequest;
use ottla_protocol::messages::create_acls_request::CreateAclsRequest;
use ottla_protocol::messages::create_acls_response::CreateAclsResponse;
use ottla_protocol::messages::create_delegation_token_request::CreateDelegationTokenRequest;
use ottla_protocol::messages::create_delegation_token_response::CreateDelegationTokenResponse;
use ottla_protocol::messages::create_partitions_request::CreatePartitionsRequest;
use ottla_protocol::messages::create_partitions_response::CreatePartitionsResponse;
use ottla_protocol::messages::create_topics_request::CreateTopicsRequest;
use ottla_protocol::messages::create_topics_response::CreateTopicsResponse;
use ottla_protocol::messages::delete_topics_request::DeleteTopicsRequest;
use ottla_protocol::messages::delete_topics_response::DeleteTopicsResponse;
use ottla_protocol::messages::incremental_alter_configs_request::IncrementalAlterConfigsRequest;
use ottla_protocol::messages::incremental_alter_configs_response::IncrementalAlterConfigsResponse;
use ottla_protocol::messages::metadata_record::MetadataRecord;
use ottla_protocol::messages::update_features_request::UpdateFeaturesRequest;

/// Decides for a cluster. One exists where the leader of the quorum is.
#[derive(Debug)]
pub struct Controller {
    replayer: Replayer,
    settings: Settings,
    rules: Box<dyn ConfigRules>,
    dice: Dice,
}

impl Controller {
    /// Starts from a replayed log; whatever transaction is open in it belongs to an earlier leader and is to be
    /// aborted by [`Controller::activation`].
    pub fn new(replayer: Replayer, settings: Settings, rules: Box<dyn ConfigRules>, seed: u64) -> Controller {
        Controller { replayer, settings, rules, dice: Dice::new(seed) }
    }

    /// The state after everything appended.
    pub fn image(&self) -> &Image {
        self.replayer.latest()
    }

    /// This node's settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Takes over changed settings (dynamic configuration).
    pub fn set_settings(&mut self, settings: Settings) {
        self.settings = settings;
    }

    /// What a decision looks at.
    pub fn context(&self) -> Context<'_> {
        Context { image: self.replayer.latest(), settings: &self.settings, rules: &*self.rules }
    }

    /// A record was appended at `offset`. After an error the controller must be dropped.
    pub fn replay(&mut self, record: &MetadataRecord<'_>, offset: i64) -> Result<(), ReplayError> {
        self.replayer.replay(record, offset)?;
        // Deltas are for those who act on what is committed.
        self.replayer.forget_delta();
        Ok(())
    }

    /// The first records of this leader: see [`crate::activation`].
    pub fn activation(&self, bootstrap: &[MetadataRecord<'static>]) -> Decision<()> {
        crate::activation(&self.replayer, &self.settings, bootstrap)
    }

    /// CreateTopics. Needs the dice, so `&mut`; no other state changes.
    pub fn create_topics(
        &mut self,
        request: &CreateTopicsRequest<'_>,
        allowance: Allowance<'_>,
    ) -> Decision<CreateTopicsResponse<'static>> {
        let context =
            Context { image: self.replayer.latest(), settings: &self.settings, rules: &*self.rules };
        crate::create_topics(&context, request, &mut self.dice, allowance)
    }

    /// CreatePartitions. Needs the dice, so `&mut`; no other state changes.
    pub fn create_partitions(
        &mut self,
        request: &CreatePartitionsRequest<'_>,
        allowance: Allowance<'_>,
    ) -> Decision<CreatePartitionsResponse<'static>> {
        let context =
            Context { image: self.replayer.latest(), settings: &self.settings, rules: &*self.rules };
        crate::create_partitions(&context, request, &mut self.dice, allowance)
    }

    /// CreateAcls. Needs the dice, so `&mut`; no other state changes.
    pub fn create_acls(&mut self, request: &CreateAclsRequest<'_>) -> Decision<CreateAclsResponse<'static>> {
        let context =
            Context { image: self.replayer.latest(), settings: &self.settings, rules: &*self.rules };
        crate::create_acls(&context, request, &mut self.dice)
    }

    /// CreateDelegationToken. Needs the dice, so `&mut`; no other state changes.
    pub fn create_delegation_token(
        &mut self,
        request: &CreateDelegationTokenRequest<'_>,
        requester: &str,
        now: i64,
    ) -> Decision<CreateDelegationTokenResponse<'static>> {
        let context =
            Context { image: self.replayer.latest(), settings: &self.settings, rules: &*self.rules };
        crate::create_delegation_token(&context, request, requester, now, &mut self.dice)
    }

    /// DeleteTopics.
    pub fn delete_topics(
        &self,
        request: &DeleteTopicsRequest<'_>,
        version: i16,
        allowance: Allowance<'_>,
    ) -> Decision<DeleteTopicsResponse<'static>> {
        crate::delete_topics(&self.context(), request, version, allowance)
    }

    /// AlterConfigs.
    pub fn alter_configs(
        &self,
        request: &AlterConfigsRequest<'_>,
    ) -> Decision<AlterConfigsResponse<'static>> {
        crate::alter_configs(&self.context(), request)
    }

    /// IncrementalAlterConfigs.
    pub fn incremental_alter_configs(
        &self,
        request: &IncrementalAlterConfigsRequest<'_>,
    ) -> Decision<IncrementalAlterConfigsResponse<'static>> {
        crate::incremental_alter_configs(&self.context(), request)
    }

    /// BrokerRegistration.
    pub fn register_broker(
        &self,
        request: &BrokerRegistrationRequest<'_>,
        registration: Registration,
    ) -> Result<Decision<BrokerRegistrationResponse>, ApiError> {
        crate::register_broker(&self.context(), request, registration)
    }

    /// ControllerRegistration.
    pub fn register_controller(
        &self,
        request: &ControllerRegistrationRequest<'_>,
    ) -> Result<Decision<()>, ApiError> {
        crate::register_controller(&self.context(), request)
    }

    /// BrokerHeartbeat.
    pub fn heartbeat(
        &self,
        request: &BrokerHeartbeatRequest,
        others_caught_up: bool,
    ) -> Result<Decision<BrokerHeartbeatResponse>, ApiError> {
        crate::heartbeat(&self.context(), request, others_caught_up)
    }

    /// Unfences a broker that has caught up.
    pub fn unfence_broker(&self, broker: NodeId) -> Result<Decision<()>, ApiError> {
        crate::unfence_broker(&self.context(), broker)
    }

    /// Fences a broker whose session is over.
    pub fn fence_broker(&self, broker: NodeId) -> Result<Decision<()>, ApiError> {
        crate::fence_broker(&self.context(), broker)
    }

    /// Starts the orderly end of a broker.
    pub fn begin_controlled_shutdown(&self, broker: NodeId) -> Result<Decision<()>, ApiError> {
        crate::begin_controlled_shutdown(&self.context(), broker)
    }

    /// UnregisterBroker.
    pub fn unregister_broker(&self, broker: NodeId) -> Result<Decision<()>, ApiError> {
        crate::unregister_broker(&self.context(), broker)
    }

    /// UnregisterController.
    pub fn unregister_controller(&self, controller: NodeId) -> Result<Decision<()>, ApiError> {
        crate::unregister_controller(&self.context(), controller)
    }

    /// AllocateProducerIds.
    pub fn allocate_producer_ids(
        &self,
        request: &AllocateProducerIdsRequest,
    ) -> Result<Decision<AllocateProducerIdsResponse>, ApiError> {
        crate::allocate_producer_ids(&self.context(), request)
    }

    /// UpdateFeatures.
    pub fn update_features(
        &self,
        request: &UpdateFeaturesRequest<'_>,
        version: i16,
        quorum: Quorum<'_>,
    ) -> Decision<UpdatedFeatures> {
        crate::update_features(&self.context(), request, version, quorum)
    }
}
