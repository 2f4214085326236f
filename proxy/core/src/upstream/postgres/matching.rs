//! What an upstream does to its own expectations when a message matches one.
//!
//! Small moves on the pipe and the statements, without clients. Invariant: a statement is taken for
//! prepared only after its ParseComplete, or by the request that prepares it.

use crate::upstream::postgres::Upstream;
use crate::upstream::postgres::pipe::{Requester, Step};
use crate::upstream::postgres::replies::{Broken, Fate};

impl Upstream {
    /// Whether the request at the head is one of ours whose rows we read.
    pub(super) fn is_chores(&self) -> bool {
        matches!(
            self.pipe.front().map(|head| &head.owner),
            Some(Requester::Chore(_))
        )
    }

    /// A notice belongs to the request at the head, or to the holder; else to nobody.
    pub(super) fn fate_of_notice(&self) -> Fate {
        match self.pipe.front().map(|head| &head.owner) {
            Some(Requester::Client(_)) => Fate::Pass,
            None if self.holder.is_some() => Fate::Pass,
            _ => Fate::Swallow,
        }
    }

    /// Ends of data that have been passed.
    pub(super) fn drop_copy_ends(&mut self) {
        while self.steps.front() == Some(&Step::CopyEnd) {
            self.steps.pop_front();
        }
    }

    pub(super) fn complete_head(&mut self) {
        if let Some(head) = self.pipe.front_mut() {
            head.is_completed = true;
        }
    }

    /// A copy begins or ends: only on a lease, where nobody else's messages can become its data.
    pub(super) fn begin_copy(&mut self, tag: u8) -> Result<Fate, Broken> {
        let is_leased = self.pipe.front().is_some_and(|head| head.is_leased);
        if is_leased && tag != b'W' {
            Ok(Fate::Pass)
        } else {
            Err(Broken::Mismatch)
        }
    }

    pub(super) fn confirm_prepared(&mut self) {
        let number = self
            .preparing
            .pop_front()
            .expect("what is confirmed was sent");
        if let Some(prepared) = self.prepared.get_mut(&number) {
            prepared.preparing = None;
        }
    }

    pub(super) fn refuse_prepared(&mut self) {
        let number = self
            .preparing
            .pop_front()
            .expect("what is refused was sent");
        self.prepared.remove(&number);
    }
}
