//! Requests that wait, findable by their token: for the deadline that the shell brings, and for the connection that goes away.
//!
//! The waiting things themselves sit where their condition is (a fetch on its partitions, a produce on its high watermarks, a deletion among the node's); this is
//! only the index over them, one short lock for each loop of the shell.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use crate::api::delete_records::PendingDeletion;
use crate::api::fetch::PendingFetch;
use crate::api::produce::PendingProduce;
use crate::effect::Token;
use crate::sessions::lock;

#[derive(Debug, Clone)]
pub(crate) enum Waiting {
    Fetch(Arc<PendingFetch>),
    Produce(Arc<PendingProduce>),
    Deletion(Arc<PendingDeletion>),
}

#[derive(Debug)]
pub(crate) struct Purgatory {
    /// Loops share stripes by index.
    stripes: Vec<Mutex<BTreeMap<Token, Waiting>>>,
}

const STRIPES: usize = 64;

impl Purgatory {
    pub fn new() -> Self {
        Purgatory { stripes: (0..STRIPES).map(|_| Mutex::default()).collect() }
    }

    fn stripe(&self, token: Token) -> &Mutex<BTreeMap<Token, Waiting>> {
        &self.stripes[usize::from(token.shard) % STRIPES]
    }

    pub fn enter_fetch(&self, fetch: &Arc<PendingFetch>) {
        let token = fetch.reply().token;
        lock(self.stripe(token)).insert(token, Waiting::Fetch(fetch.clone()));
        if fetch.is_answered() {
            self.leave(token);
        }
    }

    pub fn enter_produce(&self, produce: &Arc<PendingProduce>) {
        let token = produce.reply().token;
        lock(self.stripe(token)).insert(token, Waiting::Produce(produce.clone()));
    }

    pub fn enter_deletion(&self, deletion: &Arc<PendingDeletion>) {
        let token = deletion.reply().token;
        lock(self.stripe(token)).insert(token, Waiting::Deletion(deletion.clone()));
    }

    pub fn leave(&self, token: Token) {
        lock(self.stripe(token)).remove(&token);
    }

    pub fn find(&self, token: Token) -> Option<Waiting> {
        lock(self.stripe(token)).get(&token).cloned()
    }

    /// Takes out everything that waits for one connection.
    pub fn take_connection(&self, any: Token) -> Vec<Waiting> {
        let (first, last) = (Token { slot: 0, ..any }, Token { slot: u64::MAX, ..any });
        let mut stripe = lock(self.stripe(any));
        let tokens: Vec<Token> = stripe.range(first..=last).map(|(token, _)| *token).collect();
        tokens.into_iter().filter_map(|token| stripe.remove(&token)).collect()
    }
}
