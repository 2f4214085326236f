//! The loop of one shard: wait, hand events to the core, carry its operations out.
//!
//! Knows no protocol. Runs on the shard's own thread and never waits for anything but its driver.
//! Invariant: the core is called in the order that its documentation asks for, and a core that
//! panicked sends nothing more.

use std::sync::Arc;
use std::time::Duration;

use manifold_core::auth::Users;
use manifold_core::event::{Event, Level, Operation};
use manifold_core::ids::ServiceId;
use manifold_core::shard::Settings;
use manifold_core::time::Instant;
use manifold_drivers::{Driver, Patience, Woken};

use super::core::Core;
use super::mailbox::{Answer, Inbox, Letter, Life};
use super::outside::Outside;
use super::snapshot::Publisher;
use super::spin::Spin;

/// How much longer than the deadline of a drain a core may take to close its connections.
const DRAIN_GRACE: Duration = Duration::from_secs(1);

/// Everything that belongs to one shard.
pub struct Turn {
    core: Core,
    /// What a fresh core starts from; its seed is drawn anew.
    settings: Settings,
    /// Which core this is.
    life: Life,
    inbox: Inbox,
    outside: Outside,
    publisher: Publisher,
    spin: Spin,
    /// Answers that were known at once, for the next pass.
    answers: Vec<Answer>,
    /// When the shard ends even if its core has not finished draining.
    drain_until: Option<Instant>,
    /// Whether the core said that it has nothing left to do.
    is_drained: bool,
}

impl Turn {
    /// A shard that has not begun. `settings` have permits of its own.
    pub fn new(
        settings: Settings,
        inbox: Inbox,
        outside: Outside,
        publisher: Publisher,
        spin: Spin,
    ) -> Self {
        Self {
            core: Core::new(settings.clone()),
            settings,
            life: Life::FIRST,
            inbox,
            outside,
            publisher,
            spin,
            answers: Vec::new(),
            drain_until: None,
            is_drained: false,
        }
    }

    /// Runs until the shard has been drained.
    pub fn run(&mut self, driver: &mut Driver) {
        while !self.is_drained {
            self.pass(driver);
        }
        self.publisher
            .publish(&mut self.core, driver, Driver::now());
    }

    /// One pass.
    fn pass(&mut self, driver: &mut Driver) {
        let before = Driver::now();
        let timeout = self.timeout(before);
        driver.set_patience(self.patience(before));
        let woken = self.wait(driver, timeout);
        let now = Driver::now();
        self.spin.note(&woken, now.since(before));
        if woken.doorbell {
            self.read_letters(now);
        }
        for answer in std::mem::take(&mut self.answers) {
            self.hear(now, answer);
        }
        self.core.run(|shard| {
            if shard.poll_timeout().is_some_and(|at| at <= now) {
                shard.handle_timeout(now);
            }
            shard.finish_pass(now);
        });
        while let Some(operation) = self.core.run(|shard| shard.poll_operation()) {
            self.carry_out(driver, operation);
        }
        if self.core.has_panicked() {
            self.start_afresh(driver);
        }
        self.end_overdue(now);
        self.publisher.publish_if_due(&mut self.core, driver, now);
    }

    /// How long there is nothing to do unless something happens.
    fn timeout(&mut self, now: Instant) -> Duration {
        if !self.answers.is_empty() {
            return Duration::ZERO;
        }
        let core = self.core.run(|shard| shard.poll_timeout());
        let publish = Some(self.publisher.due());
        let due = [core, publish, self.drain_until]
            .into_iter()
            .flatten()
            .min();
        due.map_or(Duration::ZERO, |due| due.since(now))
    }

    /// How the next wait waits.
    fn patience(&mut self, now: Instant) -> Patience {
        let gather = self.core.run(|shard| shard.gather(now));
        gather.map_or(self.spin.patience(), |gather| Patience::Gather {
            events: gather.events,
            time: gather.time,
        })
    }

    /// Waits for events and hands them to the core.
    fn wait(&mut self, driver: &mut Driver, timeout: Duration) -> Woken {
        let core = &mut self.core;
        // One look at the clock serves all events of a pass: they were there when it began.
        let mut now = None;
        let result = driver.wait(Some(timeout), &mut |event| {
            let now = *now.get_or_insert_with(Driver::now);
            core.run(|shard| shard.handle_event(now, event));
        });
        match result {
            Ok(woken) => woken,
            // A shard without a driver can neither serve nor close what it has.
            Err(error) => panic!("the driver of shard {} failed: {error}", self.settings.id.0),
        }
    }

    fn read_letters(&mut self, now: Instant) {
        let letters: Vec<_> = self.inbox.take().collect();
        for letter in letters {
            match letter {
                Letter::Answer(life, answer) if life == self.life => self.hear(now, answer),
                // The question came from a core that is gone.
                Letter::Answer(..) => {}
                Letter::Drain(deadline_ms) => self.drain(now, deadline_ms),
                Letter::Nodes(service, lead) => {
                    let event = Event::Resolved { service, lead };
                    self.core.run(|shard| shard.handle_event(now, event));
                }
                Letter::Users(service, users) => self.take_users(now, service, users),
                Letter::FromShard(message) => {
                    self.core
                        .run(|shard| shard.handle_event(now, Event::FromShard { message }));
                }
            }
        }
    }

    fn hear(&mut self, now: Instant, answer: Answer) {
        let event = match answer {
            Answer::CatalogReady(database, understood) => Event::CatalogReady {
                database,
                understood,
            },
            Answer::Classified(ticket, verdict) => Event::Classified { ticket, verdict },
            Answer::Resolved(service, lead) => Event::Resolved { service, lead },
        };
        self.core.run(|shard| shard.handle_event(now, event));
    }

    /// Another users file, for this core and for those after it.
    fn take_users(&mut self, now: Instant, service: ServiceId, users: Arc<Users>) {
        self.settings.services[service.index()].users = users.clone();
        self.core
            .run(|shard| shard.handle_event(now, Event::Users { service, users }));
    }

    fn drain(&mut self, now: Instant, deadline_ms: u64) {
        self.drain_until = Some(now + Duration::from_millis(deadline_ms) + DRAIN_GRACE);
        self.core
            .run(|shard| shard.handle_event(now, Event::Drain { deadline_ms }));
    }

    fn carry_out(&mut self, driver: &mut Driver, operation: Operation) {
        match operation {
            Operation::Adopt { .. }
            | Operation::Reject { .. }
            | Operation::Connect { .. }
            | Operation::Send { .. }
            | Operation::Pause { .. }
            | Operation::Resume { .. }
            | Operation::Close { .. }
            // A driver refuses with a panic what makes no sense: that is a fault of the core.
            | Operation::AcceptOff => self.core.run(|_| driver.submit(operation)),
            Operation::Classify { ticket, database, text } => {
                let answer = self.outside.classify(self.life, ticket, database, text);
                self.answers.extend(answer);
            }
            Operation::Catalog { database, lines } => {
                let answer = self.outside.read_catalog(self.life, database, lines);
                self.answers.extend(answer);
            }
            Operation::Resolve { service } => {
                self.answers.extend(self.outside.resolve(self.life, service));
            }
            Operation::ToShard { shard, message } => self.outside.tell(driver, shard, message),
            Operation::Log { level, text } => log(self.settings.id.0, level, &text),
            Operation::Drained => self.is_drained = true,
        }
    }

    /// Replaces a core that panicked by a fresh one. Its clients lose their connections; those of
    /// other shards notice nothing.
    fn start_afresh(&mut self, driver: &mut Driver) {
        tracing::error!(
            shard = self.settings.id.0,
            "a panic ended the core of this shard; its clients are disconnected, a fresh one starts"
        );
        driver.close_all();
        for service in &self.settings.services {
            service.permits.return_all();
            service.audience.return_all();
            if let Some(roster) = &service.cluster {
                roster.return_all();
            }
        }
        self.answers.clear();
        self.life = self.life.next();
        self.publisher.count_panic();
        if self.drain_until.is_some() {
            self.is_drained = true;
            return;
        }
        self.settings.seed = super::seed();
        self.core = Core::new(self.settings.clone());
    }

    /// Ends a drain that the core did not finish in time.
    fn end_overdue(&mut self, now: Instant) {
        if !self.is_drained && self.drain_until.is_some_and(|until| until <= now) {
            tracing::warn!(
                shard = self.settings.id.0,
                "connections were still open at the deadline"
            );
            self.is_drained = true;
        }
    }
}

/// Says what a core has to say.
fn log(shard: u32, level: Level, text: &str) {
    match level {
        Level::Error => tracing::error!(shard, "{text}"),
        Level::Warn => tracing::warn!(shard, "{text}"),
        Level::Info => tracing::info!(shard, "{text}"),
        Level::Debug => tracing::debug!(shard, "{text}"),
    }
}

#[cfg(test)]
mod tests;
