//! How much a client may have the controller do: partitions created and deleted in a second (`controller_mutation_rate`, KIP-599).
//!
//! The tricky idea: clients that know the error are refused while they are in debt (strict); older ones are served, and only told to
//! pause (permissive).

use std::sync::Mutex;

use ottla_controller::{Allowance, Controller, Decision};
use ottla_metadata::Image;
use ottla_protocol::Message;

use super::bucket::Bucket;
use super::payers::Payers;
use super::precedence::{self, Payer};
use super::{ANONYMOUS, Windows};
use crate::Broker;
use crate::call::Call;
use crate::effect::Millis;
use crate::sessions::lock;

const KEY: &str = "controller_mutation_rate";

/// What everybody may still have done.
#[derive(Debug)]
pub(crate) struct MutationQuotas {
    windows: Windows,
    buckets: Mutex<Payers<Payer, Bucket>>,
}

/// The allowance of one request.
#[derive(Debug)]
pub(crate) struct MutationAllowance<'q> {
    quotas: &'q MutationQuotas,
    /// `None`: nobody limits this client.
    payer: Option<(f64, Payer)>,
    is_strict: bool,
    now: Millis,
    /// How long the client has to pause, in milliseconds.
    pause: Millis,
}

impl MutationQuotas {
    pub(crate) fn new(windows: Windows) -> MutationQuotas {
        MutationQuotas { windows, buckets: Mutex::default() }
    }

    /// The allowance of a request of that client.
    pub(crate) fn allowance(
        &self,
        image: &Image,
        client_id: &str,
        is_strict: bool,
        now: Millis,
    ) -> MutationAllowance<'_> {
        let is_any = !image.quotas().is_empty();
        let payer = is_any.then(|| precedence::find(image, KEY, ANONYMOUS, client_id)).flatten();
        MutationAllowance { quotas: self, payer, is_strict, now, pause: 0 }
    }
}

impl MutationAllowance<'_> {
    /// Spends so many partitions; false if they have to be refused.
    pub(crate) fn spend(&mut self, partitions: usize) -> bool {
        let Some((limit, payer)) = &self.payer else { return true };
        let (limit, windows, now) = (*limit, self.quotas.windows, self.now);
        let mut buckets = lock(&self.quotas.buckets);
        let is_full = |bucket: &mut Bucket| bucket.is_full(windows, now);
        let bucket = buckets.of(payer.clone(), now, is_full, || Bucket::full(limit, windows, now));
        if self.is_strict {
            self.pause = bucket.debt_ms(limit, windows, now);
            if self.pause > 0 {
                return false;
            }
            bucket.spend(partitions as f64);
        } else {
            bucket.debt_ms(limit, windows, now);
            bucket.spend(partitions as f64);
            self.pause = bucket.debt_ms(limit, windows, now);
        }
        true
    }

    /// The pause in milliseconds that the client has to make.
    pub(crate) fn pause(&self) -> i32 {
        i32::try_from(self.pause).unwrap_or(i32::MAX)
    }
}

impl Broker {
    /// Like [`Broker::decide`], for requests that create or delete partitions: as many as the client's quota grants. `told` is where the
    /// response says how long the client has to pause.
    pub(crate) fn decide_within_quota<'m, R: Message<'m>>(
        &self,
        call: &mut Call<'_>,
        strict_since: i16,
        decide: impl FnOnce(&mut Controller, Allowance<'_>) -> Decision<R>,
        told: impl FnOnce(&mut R) -> &mut i32,
    ) {
        let image = self.image();
        let is_strict = call.reply.version >= strict_since;
        let mut allowance = self.mutation_quotas.allowance(&image, call.client_id, is_strict, call.now);
        self.decide(call, |controller| {
            let mut decision = decide(controller, &mut |partitions| allowance.spend(partitions));
            *told(&mut decision.response) = allowance.pause();
            decision
        });
        // A connection that brings envelopes is another broker's, which sees to its client itself.
        if call.reply.envelope.is_none() {
            self.pause(call.reply.token, allowance.pause(), call.now, call.out);
        }
    }

    /// Those of the topics that a client may have created because it asked for them.
    pub(crate) fn affordable<'n>(
        &self,
        call: &Call<'_>,
        names: impl Iterator<Item = &'n String>,
    ) -> Vec<&'n String> {
        let image = self.image();
        let mut allowance = self.mutation_quotas.allowance(&image, call.client_id, true, call.now);
        let partitions = usize::try_from(self.live_config().num_partitions).unwrap_or(0);
        names.filter(|_| allowance.spend(partitions)).collect()
    }
}
