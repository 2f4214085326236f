//! What a statement does, as far as it has been proven.
//!
//! The words in which the classifier (outside the core, with PostgreSQL's own grammar and the
//! database's catalog) tells a shard what a text may do. It is an allow-list: whatever is not
//! positively understood is [`Statement::Opaque`]. Knows neither grammar nor catalog.

/// What one text does: the answer to `Operation::Classify`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Verdict {
    /// What each statement of the text does, in order; empty for an empty text.
    pub statements: Box<[Statement]>,
    /// For which texts this holds.
    pub scope: Scope,
    /// A string literal names the clock ('now', 'today' …), so a prepared form freezes the moment
    /// of its Parse and must not be shared between Parses. It speaks of this very text, whatever
    /// the scope: another text of the shape may have another literal.
    pub freezes: bool,
}

impl Verdict {
    /// The verdict on a text of which nothing is known.
    pub fn opaque(reason: Reason) -> Self {
        Self {
            statements: Box::new([Statement::Opaque(reason)]),
            scope: Scope::Text,
            freezes: false,
        }
    }
}

/// For which texts a verdict holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Scope {
    /// All texts that differ from this one in literals only.
    Shape,
    /// This very text: its literals matter.
    Text,
}

/// What one statement is proven to do.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Statement {
    /// Reads, writes nothing, takes no lock that anything but DDL and LOCK waits for, leaves no
    /// state behind.
    Read,
    /// Writes nothing and leaves no state behind, but may wait or be slow by its nature
    /// (FOR UPDATE, pg_sleep, advisory locks of the transaction).
    ReadWaiting,
    /// Writes, leaves no session state behind, and can run inside a transaction block.
    Write,
    /// Changes the catalog (or, like TRUNCATE and LOCK, what others wait for) and leaves no session
    /// state behind. Verdicts that rest on the catalog are void afterwards.
    Define,
    /// Cannot run inside a transaction block (VACUUM, CREATE DATABASE …) and leaves no session
    /// state behind: one request, alone. The catalog may have changed.
    Standalone,
    /// Starts a transaction (BEGIN, START TRANSACTION).
    Begin,
    /// Ends a transaction for good, without AND CHAIN (COMMIT, END, ROLLBACK, ABORT).
    End,
    /// Makes sense inside a transaction only and leaves nothing beyond it: SAVEPOINT, RELEASE,
    /// ROLLBACK TO, SET TRANSACTION, SET CONSTRAINTS, SET LOCAL, DECLARE without HOLD, FETCH, MOVE,
    /// CLOSE of one cursor, COMMIT AND CHAIN, LOCK.
    Inside,
    /// COPY from or to the client, of something proven.
    Copy,
    /// CALL or DO of something proven to leave no session state; it may commit on its way.
    Call,
    /// SET SESSION of one setting.
    Set(Setting),
    /// A SELECT of nothing but `set_config(name, value, false)`: as [`Self::Set`], but the client
    /// is to get the row with the value that it would get from the node.
    SetConfig(Setting),
    /// RESET of one setting. The name is in lower case.
    Reset(Box<str>),
    /// SET … TO DEFAULT: as [`Self::Reset`], but its tag is SET.
    SetDefault(Box<str>),
    /// RESET ALL.
    ResetAll,
    /// DISCARD ALL.
    DiscardAll,
    /// DEALLOCATE ALL (DISCARD PLANS is a `Read`: it changes nothing that a session can tell).
    DeallocateAll,
    /// CLOSE ALL outside a transaction: there can be WITH HOLD cursors only.
    CloseAll,
    /// UNLISTEN *.
    UnlistenAll,
    /// `SELECT pg_advisory_unlock_all()` and nothing else: a session that holds none has none to
    /// give up, and gets a row with nothing in it.
    UnlockAll,
    /// SHOW of one setting; the name is in lower case. Writes nothing, leaves nothing.
    Show(Box<str>),
    /// Leaves state that only the session itself may see, or cannot be proven not to: the session
    /// keeps its upstream from here on.
    Opaque(Reason),
}

/// A setting and its value in the form that `set_config` takes.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Setting {
    /// In lower case, as PostgreSQL compares names of settings.
    pub name: Box<str>,
    /// As `set_config(name, value, false)` takes it: lists flattened and quoted as PostgreSQL does.
    pub value: Box<[u8]>,
}

/// Why a session has to keep its upstream. Shown to operators.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Reason {
    /// Session advisory locks.
    AdvisoryLock,
    /// The catalog of the database could not be read or understood (yet).
    CatalogUnknown,
    /// Above the bounds within which a text is parsed: length, nesting or operators.
    Complexity,
    /// A cursor WITH HOLD.
    HoldCursor,
    /// LISTEN.
    Listen,
    /// A function, operator, cast or type of the database's own that could not be proven.
    Object,
    /// SQL-level PREPARE, EXECUTE or DEALLOCATE.
    Prepare,
    /// setseed, LOAD, dblink, languages that are not proven: what lasts as long as the process.
    Process,
    /// SET ROLE or SET SESSION AUTHORIZATION.
    Role,
    /// A table with row-level security or rules, a foreign table, or an unproven view.
    Relation,
    /// currval, lastval and their like.
    Sequence,
    /// What belongs to one process or session and goes with DISCARD ALL: its id, large-object
    /// descriptors, snapshots, settings that are not known by name.
    SessionState,
    /// Text that does not parse (the node will say so, but we cannot know what it did).
    Syntax,
    /// A temporary table, view, sequence or type, or SELECT INTO TEMP.
    Temporary,
    /// A trigger that could not be proven.
    Trigger,
    /// A kind of statement that is not on the list.
    Unrecognised,
}

/// What a session may leave on its upstream that DISCARD ALL does not take back. Ordered: the
/// later, the worse.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub enum Residue {
    /// Nothing.
    #[default]
    None,
    /// Nobody knows, or the temporary schema, which only sessions with temporary objects notice.
    Unknown,
    /// A seed, a loaded library, variables of a procedural language, a connection elsewhere.
    Process,
}

impl Reason {
    /// All of them, in the order in which they are counted.
    pub const ALL: [Self; 16] = [
        Self::AdvisoryLock,
        Self::CatalogUnknown,
        Self::Complexity,
        Self::HoldCursor,
        Self::Listen,
        Self::Object,
        Self::Prepare,
        Self::Process,
        Self::Role,
        Self::Relation,
        Self::Sequence,
        Self::SessionState,
        Self::Syntax,
        Self::Temporary,
        Self::Trigger,
        Self::Unrecognised,
    ];

    /// What DISCARD ALL leaves of it. An allow-list: most reasons are that something could not be
    /// proven.
    pub fn residue(self) -> Residue {
        match self {
            Self::AdvisoryLock
            | Self::HoldCursor
            | Self::Listen
            | Self::Prepare
            | Self::Role
            | Self::Sequence
            | Self::SessionState => Residue::None,
            Self::Process => Residue::Process,
            _ => Residue::Unknown,
        }
    }

    /// The reason that leaves more behind; of equal ones the first.
    pub fn worst(one: Option<Self>, other: Option<Self>) -> Option<Self> {
        match (one, other) {
            (Some(one), Some(other)) if other.residue() > one.residue() => Some(other),
            _ => one.or(other),
        }
    }

    /// The reason in a word, for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::AdvisoryLock => "advisory lock",
            Self::CatalogUnknown => "catalog unknown",
            Self::Complexity => "statement too complex to classify",
            Self::HoldCursor => "WITH HOLD cursor",
            Self::Listen => "LISTEN",
            Self::Object => "unproven function, operator, cast or type",
            Self::Prepare => "SQL-level PREPARE",
            Self::Process => "state of one process",
            Self::Relation => "unproven relation",
            Self::Role => "SET ROLE",
            Self::Sequence => "currval or lastval",
            Self::SessionState => "state of one session",
            Self::Syntax => "text that does not parse",
            Self::Temporary => "temporary object",
            Self::Trigger => "unproven trigger",
            Self::Unrecognised => "unrecognised statement",
        }
    }
}

mod catalog;
pub use catalog::{CATALOG_QUERY, CATALOG_VERSION_QUERY};
