//! Where a pass delivers its events.
//!
//! Knows no event. Invariant: a driver's state is complete before it delivers, because the one who
//! takes the event may panic, and the driver has to survive that.

use manifold_core::event::Event;

/// The taker of events, and how many it took.
pub(crate) struct Sink<'a> {
    handle: &'a mut dyn FnMut(Event<'_>),
    events: u32,
}

impl<'a> Sink<'a> {
    /// Delivers to this.
    pub(crate) fn new(handle: &'a mut dyn FnMut(Event<'_>)) -> Self {
        Self { handle, events: 0 }
    }

    /// Delivers one event.
    pub(crate) fn deliver(&mut self, event: Event<'_>) {
        self.events += 1;
        (self.handle)(event);
    }

    /// How many were delivered.
    pub(crate) fn events(&self) -> u32 {
        self.events
    }
}
