//! Decisions that change the cluster: a request and the image become records and a response.
//!
//! One file per API, each a function of a [`Context`] and a request; [`Controller`] keeps what they need together.
//! Nothing here changes state except [`Controller::replay`]: a decision returns records, the broker appends them to
//! the metadata log and replays them here at once, and answers when they are committed.

mod allocate_producer_ids;
mod allowance;
mod alter_client_quotas;
mod alter_configs;
mod alter_partition;
mod alter_partition_reassignments;
mod alter_user_scram_credentials;
mod assign_replicas_to_dirs;
mod bootstrap;
mod broker_lifecycle;
mod configs;
mod context;
mod controller;
mod create_acls;
mod create_partitions;
mod create_topics;
mod delegation_tokens;
mod delete_acls;
mod delete_topics;
mod dice;
mod draft;
mod elect_leaders;
mod error;
mod guard;
mod heartbeat;
mod incremental_alter_configs;
mod internal_topics;
mod leader_balance;
mod list_partition_reassignments;
mod partition_change;
mod placement;
mod racks;
mod reassignment;
mod register_broker;
mod register_controller;
mod rules;
mod update_features;

#[cfg(test)]
mod tests;

pub use allocate_producer_ids::{PRODUCER_ID_BLOCK_SIZE, allocate_producer_ids};
pub use allowance::{Allowance, unlimited};
pub use alter_client_quotas::alter_client_quotas;
pub use alter_configs::alter_configs;
pub use alter_partition::alter_partition;
pub use alter_partition_reassignments::alter_partition_reassignments;
pub use alter_user_scram_credentials::{alter_user_scram_credentials, scram_credential};
pub use assign_replicas_to_dirs::assign_replicas_to_dirs;
pub use bootstrap::{activation, bootstrap_records, first_record};
pub use broker_lifecycle::{
    begin_controlled_shutdown, fence_broker, leads_any, unfence_broker, unregister_broker,
};
pub use context::{
    ConfigRules, Context, Decision, EffectiveConfig, MAX_PARTITIONS_PER_REQUEST, MAX_RECORDS_PER_BATCH,
    Settings,
};
pub use controller::Controller;
pub use create_acls::create_acls;
pub use create_partitions::create_partitions;
pub use create_topics::create_topics;
pub use delegation_tokens::{
    create_delegation_token, expire_delegation_token, principal_parts, renew_delegation_token,
    sweep_delegation_tokens, token_hmac,
};
pub use delete_acls::delete_acls;
pub use delete_topics::delete_topics;
pub use dice::Dice;
pub use elect_leaders::elect_leaders;
pub use error::ApiError;
#[cfg(feature = "mutations")]
pub use guard::Guard;
pub use heartbeat::heartbeat;
pub use incremental_alter_configs::incremental_alter_configs;
pub use internal_topics::{
    InternalTopic, auto_create, consumer_offsets, share_group_state, transaction_state,
};
pub use leader_balance::{MAX_ELECTIONS_PER_ROUND, balance_leaders, elect_unclean_leaders};
pub use list_partition_reassignments::list_partition_reassignments;
pub use partition_change::{Election, PartitionChange};
pub use register_broker::{Registration, register_broker};
pub use register_controller::{register_controller, unregister_controller};
pub use rules::TableRules;
pub use update_features::{Quorum, UpdatedFeatures, update_features};
