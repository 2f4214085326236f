//! EXEC at a simulated node.
//!
//! Invariant: a transaction ends with its EXEC, whatever is answered.

use std::rc::Rc;

use manifold_core::time::Instant;

use super::log::{Exec, Place, token_of};
use super::node::Node;
use super::resp::Value;
use super::session::Session;
use super::table::TABLE;

impl Node {
    /// EXEC: everything, or nothing and why.
    pub(super) fn exec(&mut self, session: &mut Session, now: Instant) -> Value {
        let Some(multi) = &session.multi else {
            return Value::error("ERR EXEC without MULTI");
        };
        let answer = if multi.is_dirty {
            Value::error("EXECABORT Transaction discarded because of previous errors.")
        } else if session.is_touched {
            Value::NullList
        } else {
            let queue = multi.queue.clone();
            session.watched.clear();
            let answers = queue.iter().map(|words| self.exec_one(session, now, words));
            Value::List(answers.collect())
        };
        self.end_exec(session, &answer);
        answer
    }

    fn exec_one(&mut self, session: &mut Session, now: Instant, words: &[Vec<u8>]) -> Value {
        let row = TABLE.find(words).expect("only what is known is queued");
        let answer = self.run(session, now, &row.name, words, true);
        let answer = answer.unwrap_or_else(|| panic!("{} says nothing in EXEC", row.name));
        self.note(session, token_of(words), Place::Exec, words, true, &answer);
        answer
    }

    /// The transaction of a connection is over: notes what was answered to its EXEC.
    pub(super) fn end_exec(&mut self, session: &mut Session, answer: &Value) {
        if let Some(multi) = &session.multi {
            let orders = multi.queue.iter().flat_map(|words| self.orders_of(words));
            let orders = match self.cluster {
                Some(_) => orders.collect(),
                None => self.orders_of(&[]),
            };
            let exec = Rc::new(Exec {
                seq: self.log.seq,
                tokens: multi.tokens.clone(),
                orders,
                reply: answer.bytes(session.version),
            });
            for token in &multi.tokens {
                let execs = self.log.execs.entry(token.clone()).or_default();
                execs.push(exec.clone());
            }
        }
        session.end_transaction();
    }
}
