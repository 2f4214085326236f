//! The small language that simulated clients speak: valid-looking SQL, each statement with a token.
//!
//! Read by the simulated node, which runs it, and by the simulated classifier, which judges it.
//! Knows no session and no data. Invariant: a text means the same to both.

mod lexeme;
mod parse;

pub use parse::{Syntax, parse};

/// A value that a statement carries: a literal, or the number of a parameter from 1.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Argument {
    /// Written in the text.
    Literal(String),
    /// Given by Bind or EXECUTE.
    Parameter(usize),
}

/// The reading functions; each takes the token first.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Read {
    /// Gives the token back.
    Token,
    /// Gives the token and the session's value of a setting.
    Seen(String),
    /// Gives so many rows.
    Big(u32),
    /// Waits so many milliseconds, and is known for it.
    Slow(u32),
    /// Waits so many milliseconds, and nobody can tell beforehand.
    Crawl(u32),
    /// Fails.
    Fail,
    /// Sends a notice first.
    Note,
    /// Counts the tokens of the same client that are in the ledger.
    Written,
    /// Reads a table that LOCK TABLE keeps others from.
    Board,
    /// Reads the client's own table, whose columns ALTER changes.
    Star(String),
}

/// One statement.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Sql {
    /// `SELECT name('token', …)`.
    Read {
        /// What is read.
        read: Read,
        /// Whose it is.
        token: Argument,
    },
    /// `INSERT INTO ledger VALUES ('token') [RETURNING token]`.
    Insert {
        /// Whose it is.
        token: Argument,
        /// Whether the token comes back as a row.
        returning: bool,
    },
    /// `INSERT INTO late VALUES ('token')`: fails when its transaction commits.
    Late {
        /// Whose it is.
        token: Argument,
    },
    /// `UPDATE tally SET token = 'token' WHERE id = 3`: writes under the lock of a row.
    Touch {
        /// Whose it is.
        token: Argument,
        /// The row.
        row: u32,
    },
    /// `LOCK TABLE board`.
    Lock,
    /// `ALTER TABLE star_client ADD 'token'`: one more column.
    Alter {
        /// Whose table.
        client: String,
        /// Whose it is.
        token: Argument,
    },
    /// `VACUUM`.
    Vacuum,
    /// `DO 'token'`: writes, and may commit on its way.
    Do {
        /// Whose it is.
        token: Argument,
    },
    /// `COPY ledger FROM STDIN`: every line is a token.
    CopyIn,
    /// `COPY (SELECT token('token')) TO STDOUT`.
    CopyOut {
        /// Whose it is.
        token: Argument,
    },
    /// `BEGIN`, `START TRANSACTION`.
    Begin,
    /// `COMMIT`, `END`.
    Commit {
        /// AND CHAIN.
        chain: bool,
    },
    /// `ROLLBACK`, `ABORT`.
    Rollback {
        /// AND CHAIN.
        chain: bool,
    },
    /// `SAVEPOINT name`.
    Savepoint(String),
    /// `RELEASE name`.
    Release(String),
    /// `ROLLBACK TO name`.
    RollbackTo(String),
    /// `SET [LOCAL] name = value`, or `SELECT set_config('name', 'value', local)`.
    Set {
        /// In lower case.
        name: String,
        /// As written.
        value: String,
        /// Until the end of the transaction only.
        local: bool,
        /// Written as a function call, which answers with a row.
        call: bool,
    },
    /// `RESET name`.
    Reset(String),
    /// `DO RESET name`: a RESET that nobody but the node sees.
    Hide(String),
    /// `RESET ALL`.
    ResetAll,
    /// `SELECT pg_catalog.current_setting('name', true), …`: NULL for an unknown name.
    Current(Vec<String>),
    /// `SHOW name`.
    Show(String),
    /// `DISCARD ALL`.
    DiscardAll,
    /// `DEALLOCATE ALL`.
    DeallocateAll,
    /// `CLOSE ALL`.
    CloseAll,
    /// `UNLISTEN *`.
    UnlistenAll,
    /// `SELECT pg_advisory_unlock_all()`.
    UnlockAll,
    /// `CREATE TEMP TABLE name`.
    CreateTemp(String),
    /// `INSERT INTO temp_… VALUES ('token')`.
    FillTemp {
        /// The table.
        name: String,
        /// Whose it is.
        token: Argument,
    },
    /// `SELECT token FROM temp_…`.
    ReadTemp(String),
    /// `DROP TABLE temp_…`.
    DropTemp(String),
    /// `SELECT pg_advisory_lock(5)` and its kin.
    Advisory {
        /// What is done.
        act: Advisory,
        /// The key.
        key: u32,
    },
    /// `LISTEN name`.
    Listen(String),
    /// `UNLISTEN name`.
    Unlisten(String),
    /// `NOTIFY name, 'token'`.
    Notify {
        /// The channel.
        channel: String,
        /// The payload.
        payload: String,
    },
    /// `PREPARE name AS …`.
    Prepare {
        /// Its name.
        name: String,
        /// What it runs.
        inner: Box<Sql>,
    },
    /// `EXECUTE name ('…')`.
    Execute {
        /// Its name.
        name: String,
        /// Its parameters.
        values: Vec<String>,
    },
    /// `DEALLOCATE name`.
    Deallocate(String),
    /// `DECLARE name CURSOR [WITH HOLD] FOR …`.
    Declare {
        /// Its name.
        name: String,
        /// Whether it outlives the transaction.
        hold: bool,
        /// What it reads.
        inner: Box<Sql>,
    },
    /// `FETCH name`.
    Fetch(String),
    /// `CLOSE name`.
    CloseCursor(String),
    /// `SELECT pg_backend_pid()`.
    Pid,
    /// The core's catalog query.
    Catalog,
    /// The core's catalog version query.
    CatalogVersion,
}

/// What is done to a session advisory lock.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Advisory {
    /// Waits for it.
    Lock,
    /// Takes it if it is free.
    Try,
    /// Gives it back.
    Unlock,
}

impl Sql {
    /// The token argument, where there is one.
    pub fn token(&self) -> Option<&Argument> {
        match self {
            Self::Read { token, .. }
            | Self::Insert { token, .. }
            | Self::Late { token }
            | Self::Touch { token, .. }
            | Self::Alter { token, .. }
            | Self::Do { token }
            | Self::CopyOut { token }
            | Self::FillTemp { token, .. } => Some(token),
            Self::Prepare { inner, .. } | Self::Declare { inner, .. } => inner.token(),
            _ => None,
        }
    }

    /// How many parameters it takes: those of a statement inside it are not its own.
    pub fn parameters(&self) -> usize {
        if matches!(self, Self::Prepare { .. } | Self::Declare { .. }) {
            return 0;
        }
        match self.token() {
            Some(Argument::Parameter(number)) => *number,
            _ => 0,
        }
    }

    /// Whether it is allowed in a transaction that has failed.
    pub fn is_exit(&self) -> bool {
        matches!(
            self,
            Self::Commit { .. } | Self::Rollback { .. } | Self::RollbackTo(_)
        )
    }

    /// Whether it has a plan, whose columns must stay what they were; the others find out anew
    /// each time.
    pub fn is_planned(&self) -> bool {
        matches!(
            self,
            Self::Read { .. } | Self::Insert { .. } | Self::FillTemp { .. } | Self::ReadTemp(_)
        )
    }

    /// Whether it must not run inside a transaction block.
    pub fn is_standalone(&self) -> bool {
        matches!(self, Self::Vacuum | Self::DiscardAll)
    }
}
