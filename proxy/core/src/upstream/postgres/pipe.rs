//! What an upstream is expected to answer, request by request and message by message.
//!
//! Pure bookkeeping. Invariant: the steps of all requests in the pipe, laid end to end, are the
//! messages that must come back, and each request's last step is the one whose answer ends it.

use std::rc::Rc;

use crate::ids::ClientId;
use crate::proof::Setting;
use crate::texts::Text;
use crate::time::Instant;

/// A request in flight.
#[derive(Debug)]
pub struct Expectation {
    /// Whose it is.
    pub owner: Requester,
    /// What it ran, for the history; the first statement of several.
    pub text: Option<Rc<Text>>,
    /// When it was put into the pipe.
    pub sent_at: Instant,
    /// The position of its first byte in everything ever written to the upstream.
    pub begins_at: u64,
    /// How many bytes of the client's input it was made of.
    pub len: usize,
    /// How long it was expected to take.
    pub expected_nanos: u32,
    /// Bytes of its reply so far.
    pub reply_bytes: u64,
    /// Whether it may have written.
    pub writes: bool,
    /// Whether it may have committed something before an error ends it.
    pub commits_early: bool,
    /// Whether it runs on its client's lease.
    pub is_leased: bool,
    /// What it is of a transaction that was sent as a whole, without a lease.
    pub part: Option<Part>,
    /// Whether a transaction that was sent before it may still have been open when it ran: it is
    /// never sent again without that.
    pub is_inside: bool,
    /// Whether a byte of its reply has been given to the client.
    pub is_delivered: bool,
    /// Where in the client's output its reply begins, if all of it that was delivered is what the
    /// node sent.
    pub delivered_at: Option<u64>,
    /// Whether it has changed which statements its client has.
    pub has_confirmed: bool,
    /// Whether a cancel was sent because nobody wants it any more.
    pub is_cancelled: bool,
    /// Whether an ErrorResponse has come.
    pub is_failed: bool,
    /// Whether a CommandComplete has come.
    pub is_completed: bool,
    /// Whether the catalog may be another afterwards.
    pub defines: bool,
    /// Whether the upstream has no statements any more afterwards (DISCARD ALL, DEALLOCATE ALL).
    pub clears: bool,
    /// Whether the client's unnamed statement is gone with it (a simple Query).
    pub drops_unnamed: bool,
    /// What its success does to the session.
    pub change: Option<Box<SessionChange>>,
    /// What it resets, and what it sets after that, in order.
    pub resetting: Vec<Resetting>,
}

/// What a request is of a transaction that was sent as a whole.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Part {
    /// More of it follows: it leaves the transaction open.
    Inner,
    /// Its end. If the transaction is open all the same the client goes on in it, on a lease.
    Last,
}

/// A setting that a request resets or, after a reset, sets.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Resetting {
    /// Its name, or that of all.
    pub name: Box<str>,
    /// Whether it is reset.
    pub is_reset: bool,
}

/// Who asked.
#[derive(Debug)]
pub enum Requester {
    /// Nobody any more: the reply is discarded.
    Abandoned,
    /// The proxy itself.
    Chore(Chore),
    /// A client, unless it has gone meanwhile.
    Client(ClientId),
}

/// A request of the proxy's own.
#[derive(Debug)]
pub enum Chore {
    /// Reads the catalog; the lines so far.
    Catalog(Vec<u8>),
    /// Empty: comes back when everything before it is over.
    Fence,
    /// Prepares a statement of a client's on its lease, under the client's own name. Failing means
    /// that the node is asked again when the client uses it.
    Raw(ClientId, Box<[u8]>),
    /// Wipes the session. Failing closes the upstream.
    Reset,
    /// Gives a client's session, after RESET, what it began with. Failing closes the upstream.
    Restore(ClientId),
    /// Sets what has been accepted before. Failing closes the upstream.
    Switch,
    /// Closes statements of ours. Failing means nothing.
    Tidy,
    /// Tries a client's startup settings; its outcome is that of the login. The settings tried and
    /// the node's own spelling of each, as far as it has answered.
    Trial(ClientId, Vec<Setting>, Vec<Box<[u8]>>),
    /// Looks whether the catalog has changed: since when, and the answer so far.
    Version(Instant, Vec<u8>),
    /// Asks what a client's transaction has left of the settings it touched: their names, and the
    /// values as far as they have come.
    Values(ClientId, Vec<Box<str>>, Vec<Option<Box<[u8]>>>),
}

/// What a successful request does to the session's settings.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SessionChange {
    /// SET.
    Set(Setting),
    /// RESET of one.
    Reset(Box<str>),
    /// RESET ALL.
    ResetAll,
    /// DISCARD ALL, or the like that ends a lease.
    DiscardAll,
    /// DEALLOCATE ALL.
    DeallocateAll,
}

/// One message that is to come, and what becomes of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Step {
    /// BindComplete, for the client.
    Bind,
    /// CloseComplete, for the client (a portal).
    Close,
    /// CloseComplete, for the client, of a statement that has the client's own name on its lease.
    CloseRaw,
    /// CloseComplete that we make up: the statement is closed in the client's names only.
    CloseKnown,
    /// CloseComplete for ourselves.
    CloseOurs,
    /// Nothing: the client's data ended here. What it sent before, the node took while copying.
    CopyEnd,
    /// RowDescription or NoData, for the client.
    Describe,
    /// ParameterDescription, then as `Describe`.
    DescribeStatement,
    /// Rows and a CommandComplete, EmptyQueryResponse or PortalSuspended; or a copy.
    Execute,
    /// FunctionCallResponse and ReadyForQuery. Ends a request.
    Function,
    /// Nothing but an error.
    Never,
    /// ParseComplete, for the client, whose name it confirms.
    Parse,
    /// ParseComplete, for the client, of a statement that only the lease knows.
    ParseRaw,
    /// ParseComplete, for the client, of a statement that the upstream has under our name, asked
    /// for all the same because in a failed transaction the node would refuse; or of one that has
    /// the
    /// client's own name.
    ParseCheck,
    /// ParseComplete that we make up: the upstream has the statement.
    ParseKnown,
    /// ParseComplete for ourselves.
    ParseOurs,
    /// ParseComplete for ourselves, of a statement in the client's own name that could not be
    /// prepared when its lease began.
    ParseLate,
    /// ParseComplete for ourselves, of a statement in the client's own name that makes the node
    /// say that the name is taken.
    ParseProvoking,
    /// Whatever a simple Query brings, up to ReadyForQuery. Ends a request.
    Query,
    /// ReadyForQuery. Ends a request.
    Sync,
}

impl Expectation {
    /// A request of our own.
    pub fn of_chore(chore: Chore, sent_at: Instant, begins_at: u64) -> Self {
        Self::new(Requester::Chore(chore), sent_at, begins_at)
    }

    /// A client's request, of which nothing else is known.
    pub fn of_client(client: ClientId, sent_at: Instant, begins_at: u64) -> Self {
        Self::new(Requester::Client(client), sent_at, begins_at)
    }

    fn new(owner: Requester, sent_at: Instant, begins_at: u64) -> Self {
        Self {
            owner,
            text: None,
            sent_at,
            begins_at,
            len: 0,
            expected_nanos: 0,
            reply_bytes: 0,
            writes: false,
            commits_early: false,
            is_leased: false,
            part: None,
            is_inside: false,
            is_delivered: false,
            delivered_at: None,
            has_confirmed: false,
            is_cancelled: false,
            is_failed: false,
            is_completed: false,
            defines: false,
            clears: false,
            drops_unnamed: false,
            change: None,
            resetting: Vec::new(),
        }
    }

    /// The client whose it is, if it is one's.
    pub fn client(&self) -> Option<ClientId> {
        match self.owner {
            Requester::Client(client) => Some(client),
            _ => None,
        }
    }
}

impl Step {
    /// Whether its answer ends a request.
    pub fn is_last(self) -> bool {
        matches!(self, Self::Function | Self::Query | Self::Sync)
    }

    /// Whether it confirms or refuses a change of the client's statements.
    pub fn has_change(self) -> bool {
        matches!(
            self,
            Self::Parse | Self::ParseCheck | Self::ParseKnown | Self::CloseKnown | Self::CloseRaw
        )
    }

    /// Whether it makes the upstream have a statement.
    pub fn prepares(self) -> bool {
        matches!(self, Self::Parse | Self::ParseOurs)
    }

    /// Whether we answer it ourselves.
    pub fn is_made_up(self) -> bool {
        matches!(self, Self::ParseKnown | Self::CloseKnown)
    }
}
