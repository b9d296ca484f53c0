//! Decisions of the active controller: made here if this node is it, else forwarded to it in an Envelope (KIP-590).
//!
//! The one tricky idea: whoever waits for a decision waits in the same queue, be it a client, another broker, or this broker itself. When
//! the leadership ends the queue does: nobody knows whether what was appended will be committed, so nobody is told that it was.

use ottla_controller::{Controller, Decision, InternalTopic};
use ottla_metadata::topic_name::{CONSUMER_OFFSETS, TRANSACTION_STATE};
use ottla_protocol::Message;
use ottla_protocol::messages::create_topics_request::CreateTopicsRequest;

use super::{Active, Deciding, State, Then};
use crate::Broker;
use crate::api::Circumstance;
use crate::call::{Call, Deferred};
use crate::effect::{Effects, Millis};
use crate::peers::Forwarded;
use crate::quorum::answers::Ask;

impl State {
    /// Decides and appends; `None` if this node is not the active controller.
    pub(super) fn decide<R>(
        &mut self,
        decide: impl FnOnce(&mut Deciding<'_>) -> Decision<R>,
        now: Millis,
        out: &mut Effects,
    ) -> Result<Option<R>, String> {
        let next_offset = self.log.log.log_end_offset();
        let Some(Active { controller, sessions, .. }) = &mut self.active else { return Ok(None) };
        let raft = &self.raft;
        let mut deciding = Deciding { controller, sessions, next_offset, raft, kraft_version: None, now };
        let decision = decide(&mut deciding);
        if let Some(level) = deciding.kraft_version {
            // Its record comes first: when what the decision writes is committed, so is the level.
            self.drive(ottla_raft::Event::UpgradeKRaftVersion { level }, now, out)?;
            assert_eq!(self.raft.kraft_version(), level, "the decision asked whether it may");
        }
        self.append(decision, now, out).map(Some)
    }
}

impl Broker {
    /// Has the active controller decide, and answers when its records are committed.
    pub(crate) fn decide<'m, R: Message<'m>>(
        &self,
        call: &mut Call<'_>,
        decide: impl FnOnce(&mut Controller) -> Decision<R>,
    ) {
        self.decide_as_controller(call, |deciding| decide(deciding.controller));
    }

    /// Like [`Broker::decide`], for what concerns brokers themselves.
    pub(crate) fn decide_as_controller<'m, R: Message<'m>>(
        &self,
        call: &mut Call<'_>,
        decide: impl FnOnce(&mut Deciding<'_>) -> Decision<R>,
    ) {
        let (now, reply) = (call.now, call.reply);
        let decided = self.with_quorum(now, call.out, |state, out| {
            let decided = state.decide(decide, now, out)?;
            Ok(decided.map(|response| {
                let mut answer = Effects::new();
                reply.send(&response, &mut answer);
                state.wait(Then::Respond(reply, answer));
                // It may be that nothing has to be committed.
                state.release();
            }))
        });
        match decided {
            Some(Some(())) => {}
            Some(None) => self.forward(call),
            None => call.reply.close(call.out),
        }
    }

    /// Sends a request to the leader of the quorum, if that is another node; false if it is this one.
    pub(crate) fn forward_to_leader(&self, call: &mut Call<'_>) -> bool {
        let here = self.quorum.leader().is_some_and(|leader| leader.address.is_none());
        let is_final =
            call.reply.envelope.is_some() || self.is_controller_listener(&call.connection.listener);
        if here || is_final {
            return false;
        }
        self.forward(call);
        true
    }

    /// This node is not the active controller: a client's request goes to the one that is. What came from another node does not.
    fn forward(&self, call: &mut Call<'_>) {
        if call.reply.envelope.is_some() || self.is_controller_listener(&call.connection.listener) {
            return call.reply.not_controller(call.out);
        }
        let deadline = call.now + i64::from(self.config.network.request_timeout_ms);
        let forwarded = Forwarded { request: call.to_deferred(), deadline };
        self.send_forwarded(Box::new(forwarded), call.now, call.out);
    }

    /// Creates topics with the cluster's defaults, then handles the request again. Topics that can not be created are left for it to
    /// report.
    pub(crate) fn auto_create(&self, call: &mut Call<'_>, names: &[String]) {
        let internal = [CONSUMER_OFFSETS, TRANSACTION_STATE];
        let ordinary = names.iter().filter(|name| !internal.contains(&name.as_str()));
        let affordable = self.affordable(call, ordinary).into_iter().cloned();
        let mut request = ottla_controller::auto_create(affordable);
        if names.iter().any(|name| name == TRANSACTION_STATE) {
            let topic = InternalTopic::of_transaction_state(&self.config);
            let min_isr = self.config.transactions.min_insync_replicas;
            request.topics.extend(ottla_controller::transaction_state(topic, min_isr).topics);
        }
        if names.iter().any(|name| name == CONSUMER_OFFSETS) {
            let offsets =
                ottla_controller::consumer_offsets(InternalTopic::of_consumer_offsets(&self.config));
            request.topics.extend(offsets.topics);
        }
        if request.topics.is_empty() {
            return self.handle_again(call.to_deferred(), call.now, call.out);
        }
        self.create_first(call, request);
    }

    /// Creates `__transaction_state`, then handles the request again.
    pub(crate) fn create_transactions_topic(&self, call: &mut Call<'_>) {
        let topic = InternalTopic::of_transaction_state(&self.config);
        let min_isr = self.config.transactions.min_insync_replicas;
        self.create_first(call, ottla_controller::transaction_state(topic, min_isr));
    }

    /// Creates `__consumer_offsets`, then handles the request again.
    pub(crate) fn create_offsets_topic(&self, call: &mut Call<'_>) {
        let topic = InternalTopic::of_consumer_offsets(&self.config);
        self.create_first(call, ottla_controller::consumer_offsets(topic));
    }

    fn create_first(&self, call: &mut Call<'_>, request: CreateTopicsRequest<'static>) {
        let deferred = call.to_deferred();
        self.ask_controller(Ask::Create(Box::new(request), deferred), call.now, call.out);
    }

    /// Reserves a block of producer ids, then handles the request again, if there is one.
    pub(crate) fn allocate_producer_ids(&self, deferred: Option<Deferred>, now: Millis, out: &mut Effects) {
        self.ask_controller(Ask::ProducerIds(deferred), now, out);
    }

    /// What somebody waited for is committed, or will not be known to be.
    pub(super) fn on_settled(&self, then: Then, committed: bool, now: Millis, out: &mut Effects) {
        match then {
            Then::Respond(_, answer) if committed => out.extend(answer),
            Then::Respond(reply, _) => reply.not_controller(out),
            Then::Again(deferred) => self.handle_again(deferred, now, out),
            Then::Told(answer) if committed => self.on_controller_answer(answer, now, out),
            Then::Told(answer) => self.on_controller_answer(answer.lost(), now, out),
        }
    }

    /// Handles a request again for which something was created.
    pub(crate) fn handle_again(&self, deferred: Deferred, now: Millis, out: &mut Effects) {
        self.again(deferred, Circumstance { retried: true, ..Circumstance::at(now) }, out);
    }
}
