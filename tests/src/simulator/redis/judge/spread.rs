//! Whether a reply is what a cluster brings: put together of what several nodes said, or the word
//! that a slot is on its way.
//!
//! Invariant: each part of a request that was divided has run, at its node and in its order, as
//! what is put together of the parts says.

use std::collections::BTreeMap;

use super::{Bench, Reply, Text, Verdict};
use crate::simulator::redis::cluster::keys_of;
use crate::simulator::redis::log::{Entry, Place, Realm};
use crate::simulator::redis::model::Model;
use crate::simulator::redis::resp::Value;
use crate::simulator::redis::table::TABLE;
use manifold_protocols::redis::cluster::slot;

/// By slot, the places of its keys among all keys of a request.
type Parts = BTreeMap<u16, Vec<usize>>;

/// The parts of a request that is divided, if it is.
pub(super) fn parts_of(name: &str, words: &[Vec<u8>]) -> Option<Parts> {
    let is_divisible = ["mget", "mset", "del", "exists"].contains(&name);
    let mut parts = Parts::new();
    for (place, key) in keys_of(name, words).into_iter().enumerate() {
        parts.entry(slot(key)).or_default().push(place);
    }
    (is_divisible && parts.len() > 1).then_some(parts)
}

/// Whether a reply says that a slot is on its way and that nothing was run.
pub(super) fn is_on_its_way(value: &Value) -> bool {
    matches!(value, Value::Error(text) if text.starts_with("TRYAGAIN "))
}

/// Whether a reply says that a part of the slots has no node now.
pub(super) fn is_down(value: &Value) -> bool {
    matches!(value, Value::Error(text) if text == "CLUSTERDOWN The cluster is down")
}

impl Model {
    /// Whether a request goes to several nodes.
    pub fn is_divided(&self, words: &[Vec<u8>]) -> bool {
        let name = TABLE.find(words).map_or("", |row| &row.name);
        self.is_spread && parts_of(name, words).is_some()
    }

    /// Whether WATCH is refused because keys of another slot are watched, which is at one node only.
    pub(super) fn is_watching_elsewhere(&self, words: &[Vec<u8>], value: &Value) -> bool {
        let is_refused = matches!(value, Value::Error(text) if text.starts_with("CROSSSLOT "));
        let asked = words.get(1).map(|key| slot(key));
        let mut watched = self.watched.iter();
        self.is_spread && is_refused && watched.any(|((_, key), _)| Some(slot(key)) != asked)
    }

    /// Whether a reply says that nobody is let in without a password: so much is known without a
    /// node.
    pub(super) fn is_locked_out(&self, value: &Value) -> bool {
        let is = |text: &str| text == "NOAUTH Authentication required.";
        self.user.is_none() && matches!(value, Value::Error(text) if is(text))
    }

    /// The reply to a request that was divided.
    pub(super) fn judge_divided(
        &mut self,
        bench: &Bench<'_>,
        token: &str,
        parts: &Parts,
        reply: Reply<'_>,
    ) -> Verdict {
        let entries = bench.log.entries.get(token);
        let entries = entries.map_or(&[][..], Vec::as_slice);
        match reply.value {
            Value::Error(_) => {
                let is_known = entries.iter().any(|entry| entry.reply == reply.bytes);
                let came = Text(reply.bytes);
                is_known
                    .then_some(())
                    .ok_or_else(|| format!("I1: no node answered {came:?} to a part of {token}"))
            }
            Value::List(values) => {
                for (slot, places) in parts {
                    let own = places
                        .iter()
                        .filter_map(|place| values.get(*place).cloned());
                    let own = Value::List(own.collect()).bytes(self.version);
                    self.judge_part(bench, token, *slot, &own)?;
                }
                Ok(())
            }
            Value::Int(sum) => self.judge_sum(entries, token, parts, *sum),
            _ => {
                for slot in parts.keys() {
                    self.judge_part(bench, token, *slot, reply.bytes)?;
                }
                Ok(())
            }
        }
    }

    fn judge_part(&mut self, bench: &Bench<'_>, token: &str, slot: u16, own: &[u8]) -> Verdict {
        let is_equal = |entry: &Entry| entry.realm == Realm::Slot(slot) && entry.reply == own;
        let found = self.find(bench.log, token, (Place::Alone, false), is_equal);
        found
            .map(|_| ())
            .map_err(|why| format!("{why}, of slot {slot}; expected {:?}", Text(own)))
    }

    /// Of what each node counted, one count each makes the sum.
    fn judge_sum(&mut self, entries: &[Entry], token: &str, parts: &Parts, sum: i64) -> Verdict {
        let model = &*self;
        let counts = |slot: &u16| {
            let realm = Realm::Slot(*slot);
            let own = entries.iter().filter(move |entry| {
                entry.realm == realm
                    && entry.place == Place::Alone
                    && model.is_in_order(&entry.orders, entry.seq)
                    && model.fits(entry, false).is_ok()
            });
            let own = own.filter_map(|entry| match Value::take(&entry.reply) {
                Ok(Some((Value::Int(count), _))) => Some((count, entry)),
                _ => None,
            });
            own.collect::<Vec<_>>()
        };
        let all: Vec<_> = parts.keys().map(counts).collect();
        let Some(chosen) = choose(&all, sum) else {
            let counts: Vec<Vec<i64>> = all
                .iter()
                .map(|some| some.iter().map(|(count, _)| *count).collect())
                .collect();
            return Err(format!(
                "I1: {sum} is not the sum of {counts:?} for {token}"
            ));
        };
        for entry in chosen {
            self.note_run(&entry.orders, entry.seq);
        }
        Ok(())
    }
}

/// One of each that together make the sum.
fn choose<'a>(all: &[Vec<(i64, &'a Entry)>], sum: i64) -> Option<Vec<&'a Entry>> {
    let Some((first, rest)) = all.split_first() else {
        return (sum == 0).then(Vec::new);
    };
    first.iter().find_map(|(count, entry)| {
        let mut chosen = choose(rest, sum - count)?;
        chosen.insert(0, entry);
        Some(chosen)
    })
}
