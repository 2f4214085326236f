//! The private connection that a client's replies are compared with: a node of its own.
//!
//! Knows what a client would see if it were alone. Invariant: the answer depends on the client's
//! bytes only.

use std::collections::{BTreeMap, VecDeque};

use super::postgres::{Node, Service, SessionId, Users};
use super::prng::Prng;
use super::request::Messages;
use super::wire::{Frame, take_frame};

/// A node with one session.
#[derive(Clone, Debug)]
pub struct Private {
    node: Node,
    session: SessionId,
}

impl Private {
    /// A fresh connection of a node with these users.
    pub fn new(users: Users) -> Self {
        let mut node = Node::new(users, Service::default(), Prng::new(0));
        let session = node.accept();
        Self { node, session }
    }

    /// What would be answered to these bytes.
    pub fn answer(&mut self, bytes: &[u8]) -> VecDeque<Frame> {
        self.node.receive(self.session, bytes);
        let mut said = self.node.run(self.session);
        let mut frames = VecDeque::new();
        while let Ok(Some(frame)) = take_frame(&mut said) {
            // Notifications come when they come: they are checked by themselves.
            if frame.tag != b'A' {
                frames.push_back(frame);
            }
        }
        assert!(
            said.is_empty(),
            "the private connection answers in whole frames"
        );
        frames
    }

    /// The single byte that answers a request for TLS.
    pub fn answer_tls_request(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.node.receive(self.session, bytes);
        self.node.run(self.session)
    }

    /// The tokens that the client has committed.
    pub fn ledger(&self) -> &BTreeMap<String, u32> {
        &self.node.database.ledger
    }

    /// Whether the session listens to a channel.
    pub fn is_listening(&self, channel: &str) -> bool {
        self.node
            .session(self.session)
            .is_some_and(|session| session.is_listening(channel))
    }

    /// Whether the session is over.
    pub fn has_ended(&self) -> bool {
        self.node
            .session(self.session)
            .is_none_or(|session| session.has_ended())
    }

    /// The transaction is gone without the client having ended it.
    pub fn lose_transaction(&mut self) {
        self.node.lose_transaction(self.session);
    }

    /// What would be answered if statements whose tables have changed were prepared anew.
    pub fn answer_with_new_plans(&mut self, bytes: &[u8]) -> VecDeque<Frame> {
        self.node.renew_plans(self.session, true);
        let answer = self.answer(bytes);
        self.node.renew_plans(self.session, false);
        answer
    }

    /// A Query fails.
    pub fn fail_query(&mut self) {
        self.answer(&Messages::default().query("(").0);
    }

    /// Leaves the session in a failed transaction, which a Query may have begun before it failed.
    pub fn fail_transaction(&mut self) {
        if self.status() == b'I' {
            self.answer(&Messages::default().query("BEGIN").0);
        }
        self.answer(&Messages::default().parse("failing", "(").sync().0);
    }

    /// The status that ReadyForQuery would tell.
    pub fn status(&self) -> u8 {
        self.node
            .session(self.session)
            .map_or(b'I', |session| session.status())
    }
}
