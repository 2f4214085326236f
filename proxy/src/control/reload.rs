//! Reading the configuration again while serving, as far as it can change then.
//!
//! What is logged and who may log in. Invariant: a configuration with an error changes nothing.

use std::sync::Arc;

use manifold_core::auth::Auth;
use manifold_core::ids::ServiceId;

use crate::config::{Config, Problem, Service, Severity};
use crate::logging::Logging;
use crate::shards::{Letter, Mailbox};

/// What can be changed, and who has to be told.
#[derive(Debug)]
pub struct Reload {
    logging: Logging,
    /// The services that check their clients against a file, by number.
    checking: Vec<(ServiceId, Arc<str>)>,
    mailboxes: Arc<[Mailbox]>,
}

impl Reload {
    /// For the services that run.
    pub fn new(config: &Config, logging: Logging, mailboxes: Arc<[Mailbox]>) -> Self {
        let numbered = (0..).map(ServiceId).zip(&config.services);
        let checking = numbered.filter(|(_, service)| service.auth == Auth::Users);
        let checking = checking.map(|(id, service)| (id, service.name.clone()));
        Self {
            logging,
            checking: checking.collect(),
            mailboxes,
        }
    }

    /// Reads it all again and takes in what may change, or says what is wrong with it.
    pub fn reload(&mut self) {
        let (config, problems) = self.logging.options().load();
        let Some(config) = config else {
            let is_error = |problem: &&Problem| problem.severity == Severity::Error;
            for problem in problems.iter().filter(is_error) {
                tracing::warn!("not reloaded: {problem}");
            }
            return;
        };
        self.logging.set(config.log);
        for (id, name) in &self.checking {
            let same = |service: &&Service| service.name == *name && service.auth == Auth::Users;
            let Some(service) = config.services.iter().find(same) else {
                tracing::warn!(
                    "service {name:?} stands in the configuration no more as it runs: its users \
                     stay as they are until a restart"
                );
                continue;
            };
            for mailbox in &*self.mailboxes {
                mailbox.send(Letter::Users(*id, service.users.clone()));
            }
        }
        tracing::warn!(
            log = ?config.log,
            "the configuration has been read again: log and users hold from now on, anything else \
             from the next start"
        );
    }
}
