//! Prepared statements as a client names them, and what its unanswered requests will change.
//!
//! Knows the client's names only; which upstream has a statement, and under what name of ours, is
//! the upstream's business. Invariant: a name changes when the node has confirmed it and not
//! before, and look-ups see what is on its way as if it had happened.

use std::collections::VecDeque;
use std::rc::Rc;

use crate::texts::Text;

/// A prepared statement, shared by all clients that prepared the same text with the same types
/// under the same settings.
#[derive(Debug)]
pub struct Statement {
    /// Unique in the shard's life; its name on upstreams is made of it.
    pub number: u64,
    /// Its name on upstreams.
    pub name: Box<[u8]>,
    /// The text.
    pub text: Box<[u8]>,
    /// The parameter types as in Parse: a count and object ids.
    pub types: Box<[u8]>,
    /// What the text does and how it behaved.
    pub meaning: Rc<Text>,
}

/// A client's prepared statements.
#[derive(Debug, Default)]
pub struct Statements {
    named: Vec<(Box<[u8]>, Rc<Statement>)>,
    unnamed: Option<Rc<Statement>>,
    pending: VecDeque<Change>,
}

/// What a request changes once the node has confirmed it.
#[derive(Clone, Debug)]
pub enum Change {
    /// Close of a statement.
    Close(Box<[u8]>),
    /// Parse; the empty name is the unnamed statement.
    Parse(Box<[u8]>, Rc<Statement>),
}

impl Statements {
    /// The statement of a name, after everything on its way.
    pub fn find(&self, name: &[u8]) -> Option<&Rc<Statement>> {
        for change in self.pending.iter().rev() {
            match change {
                Change::Close(closed) if **closed == *name => return None,
                Change::Parse(parsed, statement) if **parsed == *name => return Some(statement),
                _ => {}
            }
        }
        if name.is_empty() {
            return self.unnamed.as_ref();
        }
        let at = self.position(name).ok()?;
        Some(&self.named[at].1)
    }

    fn position(&self, name: &[u8]) -> Result<usize, usize> {
        self.named
            .binary_search_by(|(other, _)| (**other).cmp(name))
    }

    /// All that are confirmed, with their names; the unnamed one has the empty name.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &Rc<Statement>)> {
        let unnamed = self.unnamed.iter().map(|statement| (&b""[..], statement));
        self.named
            .iter()
            .map(|(name, statement)| (&**name, statement))
            .chain(unnamed)
    }

    /// The client's name of one of ours.
    pub fn name_of(&self, number: u64) -> Option<&[u8]> {
        let pending = self.pending.iter().filter_map(|change| match change {
            Change::Parse(name, statement) => Some((&**name, statement)),
            Change::Close(_) => None,
        });
        let mut all = pending.chain(self.iter());
        let found = all.find(|(_, statement)| statement.number == number);
        found.map(|(name, _)| name)
    }

    /// Whether there is an unnamed statement, now or on its way.
    pub fn has_unnamed(&self) -> bool {
        self.find(b"").is_some()
    }

    /// How many there are, with those on their way.
    pub fn len(&self) -> usize {
        self.named.len() + self.pending.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0 && self.unnamed.is_none()
    }

    /// Notes what a request that has just been sent will change.
    pub fn push(&mut self, change: Change) {
        self.pending.push_back(change);
    }

    /// The oldest change was confirmed.
    pub fn confirm(&mut self) {
        let change = self
            .pending
            .pop_front()
            .expect("what is confirmed was noted");
        match change {
            Change::Close(name) if name.is_empty() => self.unnamed = None,
            Change::Close(name) => {
                if let Ok(at) = self.position(&name) {
                    self.named.remove(at);
                }
            }
            Change::Parse(name, statement) if name.is_empty() => self.unnamed = Some(statement),
            Change::Parse(name, statement) => match self.position(&name) {
                Ok(at) => self.named[at].1 = statement,
                Err(at) => {
                    // Most clients have one or two, and many of them are idle: no room for four.
                    if self.named.len() == self.named.capacity() {
                        self.named.reserve_exact(1 + self.named.len() / 2);
                    }
                    self.named.insert(at, (name, statement));
                }
            },
        }
        if self.pending.is_empty() {
            self.pending = VecDeque::new();
        }
    }

    /// The oldest change did not happen. A Parse that fails has dropped the unnamed statement all
    /// the same (PostgreSQL: `exec_parse_message`); one that was skipped has not.
    pub fn refuse(&mut self, was_tried: bool) {
        let change = self.pending.pop_front().expect("what is refused was noted");
        if was_tried && matches!(&change, Change::Parse(name, _) if name.is_empty()) {
            self.unnamed = None;
        }
    }

    /// Nothing that is on its way will happen: the requests are to be sent anew.
    pub fn forget_pending(&mut self) {
        self.pending.clear();
    }

    /// Drops one, now: the name is going to mean something that only the upstream knows.
    pub fn forget(&mut self, name: &[u8]) {
        if name.is_empty() {
            self.unnamed = None;
        } else if let Ok(at) = self.position(name) {
            self.named.remove(at);
        }
    }

    /// Drops all statements: DEALLOCATE ALL and DISCARD ALL. What is on its way stays so.
    pub fn clear(&mut self) {
        self.named = Vec::new();
        self.unnamed = None;
    }
}
