//! A story told on purpose: what happens is said in order, and the promises are checked after every sentence.

use ottla_metadata::config::Durability;

use super::message::Message;
use super::model::{Model, Setting};

/// What breaks a promise ends the story.
pub(super) type Told = Result<(), String>;

/// A cluster of three, in which what is acknowledged is in the page cache. Nodes count from 0, which is the preferred leader and leads.
pub(super) struct Story {
    model: Model,
}

impl Story {
    pub fn begin() -> Story {
        let durability = Durability::Replicated;
        Story { model: Model::new(Setting { durability, waits_for_joining: false, late_answers: false }) }
    }

    /// Nodes read all that the controller decided.
    pub fn learns(&mut self, nodes: &[usize]) -> Told {
        for at in nodes {
            self.model.learn(*at, true);
            self.model.check()?;
        }
        Ok(())
    }

    /// A node reads the next state only.
    pub fn learns_next(&mut self, at: usize) -> Told {
        self.model.learn(at, false);
        self.model.check()
    }

    pub fn produces(&mut self, at: usize) -> Told {
        self.model.produce(at);
        self.model.check()
    }

    /// A follower fetches, and has the answer.
    pub fn fetches(&mut self, at: usize) -> Told {
        self.model.fetch(at);
        self.arrives()
    }

    /// A follower fetches, and its fetch stays somewhere. It does not wait.
    pub fn fetch_is_held_back(&mut self, at: usize) -> Message {
        self.model.fetch(at);
        self.model.give_up(at);
        self.model.take(self.model.flight().len() - 1)
    }

    /// A follower fetches, and the answer is lost.
    pub fn fetches_in_vain(&mut self, at: usize) -> Told {
        self.model.fetch(at);
        let asked = self.model.take(self.model.flight().len() - 1);
        self.model.deliver(asked)?;
        self.model.take(self.model.flight().len() - 1);
        self.model.give_up(at);
        self.model.check()
    }

    /// What was held back arrives.
    pub fn arrives_late(&mut self, message: Message) -> Told {
        self.model.put_back(message);
        self.arrives()
    }

    /// A leader proposes what it has to propose, and is told what was decided.
    pub fn proposes(&mut self, at: usize) -> Told {
        self.model.propose(at);
        self.arrives()
    }

    /// A leader proposes, and is not told.
    pub fn proposes_unheard(&mut self, at: usize) -> Told {
        self.model.propose(at);
        let asked = self.model.take(self.model.flight().len() - 1);
        self.model.deliver(asked)?;
        self.model.take(self.model.flight().len() - 1);
        self.model.check()
    }

    /// The session of a broker ends.
    pub fn is_fenced(&mut self, at: usize) -> Told {
        self.model.fence(at);
        self.model.check()
    }

    /// The session of a broker ended, and begins again.
    pub fn is_unfenced(&mut self, at: usize) -> Told {
        self.model.unfence(at);
        self.model.check()
    }

    /// The session of a broker ends for a moment: it leaves the ISR.
    pub fn blinks(&mut self, at: usize) -> Told {
        self.is_fenced(at)?;
        self.is_unfenced(at)
    }

    /// The preferred replica, node 0, is asked to lead.
    pub fn is_preferred(&mut self) -> Told {
        self.model.prefer();
        self.model.check()
    }

    /// A node dies, loses nothing, and registers again.
    pub fn dies_and_returns(&mut self, at: usize) -> Told {
        self.returns_with(at, self.model.node(at).log.len())
    }

    /// A node dies, loses all of its log, and registers again.
    pub fn loses_everything(&mut self, at: usize) -> Told {
        self.returns_with(at, 0)
    }

    fn returns_with(&mut self, at: usize, kept: usize) -> Told {
        self.model.crash(at, kept);
        self.model.check()?;
        self.model.start(at);
        self.model.check()
    }

    fn arrives(&mut self) -> Told {
        while !self.model.flight().is_empty() {
            let message = self.model.take(0);
            self.model.deliver(message)?;
            self.model.check()?;
        }
        Ok(())
    }
}
