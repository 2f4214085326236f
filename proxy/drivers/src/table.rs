//! The driver's side of every connection, by the index that the core gave it.
//!
//! Knows no socket. Invariant: a place finds a value only during the use of the index that it was
//! given out for, whatever ids a fresh core begins with.

use manifold_core::ids::ConnId;
use manifold_core::slab::GENERATION_MASK;

use crate::token::Place;

/// Values by the core's index, with generations of our own.
#[derive(Debug)]
pub(crate) struct Table<T> {
    entries: Vec<Entry<T>>,
    len: usize,
}

#[derive(Debug)]
struct Entry<T> {
    generation: u32,
    conn: ConnId,
    value: Option<T>,
}

impl<T> Table<T> {
    /// An empty table.
    pub(crate) fn new() -> Self {
        Self {
            entries: Vec::new(),
            len: 0,
        }
    }

    /// Begins a use of an index. The core never gives an index out before it has heard that its
    /// last use has ended.
    pub(crate) fn insert(&mut self, conn: ConnId, value: T) -> Place {
        let index = conn.index as usize;
        while self.entries.len() <= index {
            let conn = ConnId {
                index: self.entries.len() as u32,
                generation: 0,
            };
            self.entries.push(Entry {
                generation: 0,
                conn,
                value: None,
            });
        }
        let entry = &mut self.entries[index];
        assert!(
            entry.value.is_none(),
            "{conn:?} takes the place of {:?}",
            entry.conn
        );
        entry.conn = conn;
        entry.value = Some(value);
        self.len += 1;
        Place {
            index: conn.index,
            generation: entry.generation,
        }
    }

    /// Ends a use of an index.
    pub(crate) fn remove(&mut self, place: Place) -> Option<(ConnId, T)> {
        let entry = self.entries.get_mut(place.index as usize)?;
        if entry.generation != place.generation {
            return None;
        }
        let value = entry.value.take()?;
        entry.generation = (entry.generation + 1) & GENERATION_MASK;
        self.len -= 1;
        Some((entry.conn, value))
    }

    /// What is at a place, if that use of the index has not ended.
    pub(crate) fn at(&mut self, place: Place) -> Option<(ConnId, &mut T)> {
        let entry = self.entries.get_mut(place.index as usize)?;
        if entry.generation != place.generation {
            return None;
        }
        Some((entry.conn, entry.value.as_mut()?))
    }

    /// What the core means by an id, if it is still there.
    pub(crate) fn find(&mut self, conn: ConnId) -> Option<(Place, &mut T)> {
        let entry = self.entries.get_mut(conn.index as usize)?;
        if entry.conn != conn {
            return None;
        }
        let place = Place {
            index: conn.index,
            generation: entry.generation,
        };
        Some((place, entry.value.as_mut()?))
    }

    /// The place of the use of an index that is going on, if any.
    pub(crate) fn place_of(&self, index: usize) -> Option<Place> {
        let entry = self.entries.get(index)?;
        entry.value.as_ref()?;
        Some(Place {
            index: index as u32,
            generation: entry.generation,
        })
    }

    /// How many indexes have ever been used.
    pub(crate) fn width(&self) -> usize {
        self.entries.len()
    }

    /// How many values there are.
    pub(crate) fn len(&self) -> usize {
        self.len
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONN: ConnId = ConnId {
        index: 3,
        generation: 9,
    };

    #[test]
    fn finds_nothing_at_the_place_of_an_earlier_use() {
        let mut table = Table::new();
        let first = table.insert(CONN, "first");
        assert_eq!(table.at(first), Some((CONN, &mut "first")));
        assert_eq!(table.remove(first), Some((CONN, "first")));
        let second = table.insert(CONN, "second");
        assert_ne!(first, second);
        assert_eq!(table.at(first), None);
        assert_eq!(table.remove(first), None);
        assert_eq!(table.find(CONN), Some((second, &mut "second")));
        assert_eq!(table.len(), 1);
    }

    #[test]
    fn finds_nothing_under_an_id_of_another_generation() {
        let mut table = Table::new();
        let place = table.insert(CONN, ());
        assert_eq!(
            table.find(ConnId {
                generation: 8,
                ..CONN
            }),
            None
        );
        assert_eq!(table.find(ConnId { index: 70, ..CONN }), None);
        assert_eq!(table.place_of(3), Some(place));
        assert_eq!(table.place_of(2), None);
    }

    #[test]
    fn wraps_generations_at_24_bits() {
        let mut table = Table::new();
        let place = table.insert(CONN, ());
        table.remove(place);
        table.entries[3].generation = GENERATION_MASK;
        let last = table.insert(CONN, ());
        assert_eq!(last.generation, GENERATION_MASK);
        table.remove(last);
        assert_eq!(table.insert(CONN, ()).generation, 0);
    }
}
