//! The transaction of a simulated session: blocks, savepoints, commit and rollback.
//!
//! Knows what begins and ends; what statements do is in `execute`. Invariant: a rollback leaves
//! nothing of what happened since the mark, and only a commit reaches the database.

use std::collections::{BTreeMap, BTreeSet};

use super::database::{Change, Database};
use super::locks::LockKey;
use super::report::Report;
use super::session::Session;
use super::settings;

/// Where a session stands.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Block {
    /// In no transaction.
    #[default]
    Idle,
    /// In one that ends by itself, with the Query or at Sync.
    Implicit,
    /// Between BEGIN and COMMIT.
    Open,
    /// After an error between BEGIN and COMMIT.
    Failed,
}

/// A cursor.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Cursor {
    /// The head of its column.
    pub column: String,
    /// The rows that were not fetched yet, last first.
    pub rows: Vec<Vec<u8>>,
    /// WITH HOLD.
    pub hold: bool,
}

/// Everything that a rollback brings back.
#[derive(Clone, Debug, Default)]
pub struct Mark {
    settings: settings::Mark,
    temporary: BTreeMap<String, Vec<String>>,
    cursors: BTreeMap<String, Cursor>,
    channels: BTreeSet<String>,
    changes: usize,
    late: bool,
}

/// The transaction's own state.
#[derive(Clone, Debug, Default)]
pub struct Transaction {
    /// Where the session stands.
    pub block: Block,
    /// What a commit would change.
    pub changes: Vec<Change>,
    /// A deferred check will fail.
    pub late: bool,
    /// Whether it was begun read-only.
    pub read_only: bool,
    /// Whose token ran in it first.
    pub owner: Option<String>,
    begun: Mark,
    savepoints: Vec<(String, Mark)>,
}

impl Session {
    /// Begins an implicit transaction unless one is under way.
    pub(super) fn begin_implicit(&mut self) {
        if self.transaction.block == Block::Idle {
            let begun = self.mark();
            let block = Block::Implicit;
            let read_only = self.settings.value("default_transaction_read_only") == Some("on");
            self.transaction = Transaction {
                block,
                begun,
                read_only,
                ..Default::default()
            };
        }
    }

    fn mark(&self) -> Mark {
        Mark {
            settings: self.settings.mark(),
            temporary: self.temporary.clone(),
            cursors: self.cursors.clone(),
            channels: self.channels.clone(),
            changes: self.transaction.changes.len(),
            late: self.transaction.late,
        }
    }

    fn return_to(&mut self, mark: &Mark) {
        self.settings.return_to(&mark.settings);
        self.temporary = mark.temporary.clone();
        self.cursors = mark.cursors.clone();
        self.channels = mark.channels.clone();
        self.transaction.changes.truncate(mark.changes);
        self.transaction.late = mark.late;
    }

    /// Commits; a deferred check may still fail, and then everything is rolled back.
    pub(super) fn commit(&mut self, database: &mut Database) -> Result<(), Report> {
        if self.transaction.block == Block::Idle {
            return Ok(());
        }
        if self.transaction.late {
            self.roll_back(database);
            return Err(Report::error("23503", "deferred check failed at commit"));
        }
        let changes = core::mem::take(&mut self.transaction.changes);
        database.commit(self.pid, changes);
        self.cursors.retain(|_, cursor| cursor.hold);
        self.close_transaction(database);
        Ok(())
    }

    /// Rolls back.
    pub(super) fn roll_back(&mut self, database: &mut Database) {
        if self.transaction.block == Block::Idle {
            return;
        }
        let begun = core::mem::take(&mut self.transaction.begun);
        self.return_to(&begun);
        self.close_transaction(database);
    }

    fn close_transaction(&mut self, database: &mut Database) {
        self.settings.end_local();
        self.portals.clear();
        self.transaction = Transaction::default();
        database
            .locks
            .release(self.id, |key| !matches!(key, LockKey::Advisory(_)));
    }

    /// What an error does to the transaction.
    pub(super) fn fail_transaction(&mut self, database: &mut Database) {
        match self.transaction.block {
            Block::Implicit => self.roll_back(database),
            Block::Open => {
                self.transaction.block = Block::Failed;
                database
                    .locks
                    .release(self.id, |key| !matches!(key, LockKey::Advisory(_)));
            }
            Block::Idle | Block::Failed => {}
        }
    }

    /// BEGIN.
    pub(super) fn begin(&mut self) {
        match self.transaction.block {
            Block::Idle => {
                self.begin_implicit();
                self.transaction.block = Block::Open;
            }
            Block::Implicit => self.transaction.block = Block::Open,
            Block::Open | Block::Failed => {
                let text = "there is already a transaction in progress";
                self.notice(&Report::warning("25001", text));
            }
        }
    }

    /// COMMIT and ROLLBACK; says which of the two it was in the end.
    pub(super) fn finish(
        &mut self,
        database: &mut Database,
        is_commit: bool,
        chain: bool,
    ) -> Result<&'static str, Report> {
        let block = self.transaction.block;
        if !matches!(block, Block::Open | Block::Failed) {
            if chain {
                let verb = if is_commit { "COMMIT" } else { "ROLLBACK" };
                let text = format!("{verb} AND CHAIN can only be used in transaction blocks");
                return Err(Report::error("25P01", text));
            }
            let text = "there is no transaction in progress";
            self.notice(&Report::warning("25P01", text));
        }
        let commits = is_commit && block != Block::Failed;
        if commits {
            self.commit(database)?;
        } else {
            self.roll_back(database);
        }
        if chain {
            self.begin();
        }
        Ok(if commits { "COMMIT" } else { "ROLLBACK" })
    }

    /// SAVEPOINT, RELEASE and ROLLBACK TO.
    pub(super) fn savepoint(&mut self, act: Savepoint, name: &str) -> Result<(), Report> {
        let (verb, is_open) = match act {
            Savepoint::Set => ("SAVEPOINT", self.transaction.block == Block::Open),
            Savepoint::Release => ("RELEASE SAVEPOINT", self.transaction.block == Block::Open),
            Savepoint::Return => {
                let block = self.transaction.block;
                (
                    "ROLLBACK TO SAVEPOINT",
                    matches!(block, Block::Open | Block::Failed),
                )
            }
        };
        if !is_open {
            let text = format!("{verb} can only be used in transaction blocks");
            return Err(Report::error("25P01", text));
        }
        if act == Savepoint::Set {
            let mark = self.mark();
            self.transaction.savepoints.push((name.to_owned(), mark));
            return Ok(());
        }
        let place = self
            .transaction
            .savepoints
            .iter()
            .rposition(|(other, _)| other == name);
        let Some(place) = place else {
            return Err(Report::error(
                "3B001",
                format!("savepoint \"{name}\" does not exist"),
            ));
        };
        if act == Savepoint::Release {
            self.transaction.savepoints.truncate(place);
            return Ok(());
        }
        self.transaction.savepoints.truncate(place + 1);
        let mark = self.transaction.savepoints[place].1.clone();
        self.return_to(&mark);
        self.transaction.block = Block::Open;
        Ok(())
    }
}

/// What is done with a savepoint.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Savepoint {
    /// SAVEPOINT.
    Set,
    /// RELEASE.
    Release,
    /// ROLLBACK TO.
    Return,
}
