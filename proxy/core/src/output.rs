//! Buffers that come and go, and the pool they come from.
//!
//! Knows nothing of connections. Invariant: a pooled buffer is empty, and the pool never keeps more
//! than its bound, so that idle connections cost nothing.

/// The capacity of a new buffer: a request or a short reply fits, and growing is rare.
const BUFFER_BYTES: usize = 1024;

/// A larger buffer is given back to the allocator rather than kept.
const KEPT_BYTES_MAX: usize = 64 << 10;

/// What all kept buffers may hold together.
const POOL_BYTES_MAX: usize = 8 << 20;

/// Empty buffers that keep their capacity, so that a steady-state pass allocates nothing.
#[derive(Debug, Default)]
pub struct Pool {
    kept: Vec<Vec<u8>>,
    bytes: usize,
}

impl Pool {
    /// An empty buffer.
    pub fn take(&mut self) -> Vec<u8> {
        match self.kept.pop() {
            Some(buffer) => {
                self.bytes -= buffer.capacity();
                buffer
            }
            None => Vec::with_capacity(BUFFER_BYTES),
        }
    }

    /// Gives a buffer back; its content is gone.
    pub fn give(&mut self, mut buffer: Vec<u8>) {
        let capacity = buffer.capacity();
        if capacity == 0 || capacity > KEPT_BYTES_MAX || self.bytes + capacity > POOL_BYTES_MAX {
            return;
        }
        buffer.clear();
        self.bytes += capacity;
        self.kept.push(buffer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_back_an_empty_buffer_when_it_was_returned_full() {
        let mut pool = Pool::default();
        let mut buffer = pool.take();
        buffer.extend_from_slice(b"secret of another client");
        pool.give(buffer);
        assert!(pool.take().is_empty());
    }

    #[test]
    fn keeps_no_more_than_its_bound() {
        let mut pool = Pool::default();
        for _ in 0..1_000 {
            pool.give(Vec::with_capacity(KEPT_BYTES_MAX));
        }
        assert!(pool.bytes <= POOL_BYTES_MAX);
        pool.give(Vec::with_capacity(KEPT_BYTES_MAX + 1));
        assert!(
            pool.kept
                .iter()
                .all(|kept| kept.capacity() <= KEPT_BYTES_MAX)
        );
    }
}
