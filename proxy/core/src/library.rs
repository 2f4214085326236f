//! Prepared statements of all clients of a shard, each kept once.
//!
//! Two clients share a statement if text, parameter types and settings are equal (literals freeze
//! at Parse under the settings of that moment). Knows neither names of clients nor upstreams.
//! Invariant: a number, and with it the name on upstreams, is never given twice.

use std::rc::Rc;

use crate::client::postgres::statements::Statement;
use crate::ids::DatabaseId;
use crate::map::{FastMap, fast_map};
use crate::texts::Text;

/// What the names of ours begin with on upstreams.
pub const NAME_PREFIX: &[u8] = b"_manifold_";

/// A name of ours that no statement ever has: they are counted from 1.
pub const NEVER_GIVEN: &[u8] = b"_manifold_0";

/// All shared statements.
#[derive(Debug)]
pub struct Library {
    by_key: FastMap<Box<[u8]>, Rc<Statement>>,
    next_number: u64,
    purge_at: usize,
    /// Where keys are built.
    key: Vec<u8>,
}

const PURGE_AT_MIN: usize = 1024;

impl Library {
    /// An empty one.
    pub fn new(seed: u64) -> Self {
        Self {
            by_key: fast_map(seed),
            next_number: 1,
            purge_at: PURGE_AT_MIN,
            key: Vec::new(),
        }
    }

    /// The statement with this text and these types, under the fingerprint of this number. After
    /// the catalog has changed it is another one: who prepares it then must not get a plan of
    /// before, and who prepared it before is told by the node that his no longer fits.
    pub fn find_or_make(
        &mut self,
        database: DatabaseId,
        epoch: u32,
        fingerprint: u64,
        text: &[u8],
        types: &[u8],
        meaning: &Rc<Text>,
    ) -> Rc<Statement> {
        self.key.clear();
        self.key.extend_from_slice(&database.0.to_le_bytes());
        self.key.extend_from_slice(&epoch.to_le_bytes());
        self.key.extend_from_slice(&fingerprint.to_le_bytes());
        self.key
            .extend_from_slice(&(types.len() as u64).to_le_bytes());
        self.key.extend_from_slice(types);
        self.key.extend_from_slice(text);
        if let Some(found) = self.by_key.get(self.key.as_slice()) {
            return Rc::clone(found);
        }
        if self.by_key.len() >= self.purge_at {
            self.by_key
                .retain(|_, statement| Rc::strong_count(statement) > 1);
            self.purge_at = PURGE_AT_MIN.max(self.by_key.len() * 2);
        }
        let made = self.make(text, types, meaning);
        self.by_key
            .insert(self.key.as_slice().into(), Rc::clone(&made));
        made
    }

    /// A statement that nobody else will find.
    pub fn make(&mut self, text: &[u8], types: &[u8], meaning: &Rc<Text>) -> Rc<Statement> {
        let number = self.next_number;
        self.next_number += 1;
        let name = [NAME_PREFIX, number.to_string().as_bytes()].concat();
        Rc::new(Statement {
            number,
            name: name.into(),
            text: text.into(),
            types: types.into(),
            meaning: Rc::clone(meaning),
        })
    }
}
