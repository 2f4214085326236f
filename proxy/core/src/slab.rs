//! A table whose places are used again, with a generation that tells old ids from new ones.
//!
//! Knows nothing of what it stores. Invariant: an id finds a value only if it was given out for
//! that very value.

use core::marker::PhantomData;
use core::ops::{Index, IndexMut};

/// Generations are 24 bits wide, so that one fits into the driver's `user_data` beside an index.
pub const GENERATION_MASK: u32 = 0x00ff_ffff;

/// Values by generational id.
#[derive(Debug)]
pub struct Slab<K, T> {
    entries: Vec<Entry<T>>,
    free: Vec<u32>,
    /// For tests of tests: ids find whatever is at their place.
    ignores_generations: bool,
    key: PhantomData<fn() -> K>,
}

#[derive(Debug)]
struct Entry<T> {
    generation: u32,
    value: Option<T>,
}

impl<K: From<(u32, u32)> + Into<(u32, u32)>, T> Slab<K, T> {
    /// An empty table.
    pub fn new() -> Self {
        Self {
            entries: Vec::new(),
            free: Vec::new(),
            ignores_generations: false,
            key: PhantomData,
        }
    }

    /// Plants a bug: generations are not looked at any more.
    #[cfg(feature = "planted-bugs")]
    pub fn ignore_generations(&mut self) {
        self.ignores_generations = true;
    }

    /// Stores a value and says under which id.
    pub fn insert(&mut self, value: T) -> K {
        self.insert_with(|_| value)
    }

    /// Stores a value that knows its own id.
    pub fn insert_with(&mut self, make: impl FnOnce(K) -> T) -> K {
        let index = self.free.pop().unwrap_or_else(|| {
            self.entries.push(Entry {
                generation: 0,
                value: None,
            });
            u32::try_from(self.entries.len() - 1).expect("fewer than 2^32 entries: limits say so")
        });
        let entry = &mut self.entries[index as usize];
        assert!(entry.value.is_none(), "a free place is empty");
        entry.value = Some(make(K::from((index, entry.generation))));
        K::from((index, entry.generation))
    }

    /// Takes a value out; its id is dead from now on.
    pub fn remove(&mut self, key: K) -> Option<T> {
        let (index, generation) = key.into();
        let entry = self.entries.get_mut(index as usize)?;
        if entry.generation != generation {
            return None;
        }
        let value = entry.value.take()?;
        entry.generation = (entry.generation + 1) & GENERATION_MASK;
        self.free.push(index);
        Some(value)
    }

    /// The value of an id, if it is still there.
    pub fn get(&self, key: K) -> Option<&T> {
        let (index, generation) = key.into();
        let entry = self.entries.get(index as usize)?;
        if entry.generation == generation || self.ignores_generations {
            entry.value.as_ref()
        } else {
            None
        }
    }

    /// The value of an id, if it is still there.
    pub fn get_mut(&mut self, key: K) -> Option<&mut T> {
        let (index, generation) = key.into();
        let ignores = self.ignores_generations;
        let entry = self.entries.get_mut(index as usize)?;
        if entry.generation == generation || ignores {
            entry.value.as_mut()
        } else {
            None
        }
    }

    /// The id of the value at a place, if there is one.
    pub fn id_at(&self, index: u32) -> Option<K> {
        let entry = self.entries.get(index as usize)?;
        entry.value.as_ref()?;
        Some(K::from((index, entry.generation)))
    }

    /// All values with their ids, by place.
    pub fn iter(&self) -> impl Iterator<Item = (K, &T)> {
        self.entries
            .iter()
            .enumerate()
            .filter_map(|(index, entry)| {
                Some((
                    K::from((index as u32, entry.generation)),
                    entry.value.as_ref()?,
                ))
            })
    }

    /// All values, by place, to be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (K, &mut T)> {
        self.entries
            .iter_mut()
            .enumerate()
            .filter_map(|(index, entry)| {
                Some((
                    K::from((index as u32, entry.generation)),
                    entry.value.as_mut()?,
                ))
            })
    }

    /// How many values there are.
    pub fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<K: From<(u32, u32)> + Into<(u32, u32)>, T> Default for Slab<K, T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: From<(u32, u32)> + Into<(u32, u32)>, T> Index<K> for Slab<K, T> {
    type Output = T;

    fn index(&self, key: K) -> &T {
        self.get(key)
            .expect("the id of a value that is still there")
    }
}

impl<K: From<(u32, u32)> + Into<(u32, u32)>, T> IndexMut<K> for Slab<K, T> {
    fn index_mut(&mut self, key: K) -> &mut T {
        self.get_mut(key)
            .expect("the id of a value that is still there")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ConnId;

    #[test]
    fn finds_nothing_under_the_id_of_a_removed_value() {
        let mut slab = Slab::<ConnId, &str>::new();
        let first = slab.insert("first");
        assert_eq!(slab.remove(first), Some("first"));
        let second = slab.insert("second");
        assert_eq!(first.index, second.index);
        assert_ne!(first, second);
        assert_eq!(slab.get(first), None);
        assert_eq!(slab.remove(first), None);
        assert_eq!(slab[second], "second");
        assert_eq!(slab.len(), 1);
    }

    #[test]
    fn wraps_generations_at_24_bits() {
        let mut slab = Slab::<ConnId, u8>::new();
        let id = slab.insert(1);
        slab.remove(id);
        slab.entries[0].generation = GENERATION_MASK;
        let last = slab.insert(2);
        slab.remove(last);
        assert_eq!(slab.insert(3).generation, 0);
    }
}
