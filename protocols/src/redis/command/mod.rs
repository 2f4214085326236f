//! What a multiplexer must know of each command.
//!
//! Holds the classes, how a command may be sent, and where its keys are. It must not know sessions,
//! pipes or what is permitted. Its invariant: a command that nobody looked at is never shared.
//!
//! `words` is everywhere the whole request, the name of the command first, as positions count.

mod arguments;
mod audited;
mod keys;
mod reply;
mod rule;
mod session;
mod table;

pub use keys::{Access, Begin, Find, KeySpec, Keys, Unknown};
pub use reply::{Fault, Malformed};
pub use session::{ClientCommand, Introspection, SessionCommand};
pub use table::Table;

use arguments::Variant;

/// One command of a node, or one subcommand of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// In lower case; `client|id` for a subcommand.
    pub name: Box<str>,
    /// How many words the node wants, the name among them; negative: at least so many.
    pub arity: i32,
    /// What it does, when its arguments say nothing else.
    pub class: Class,
    /// What the rule makes of what the node itself says. It differs from `class` where the audited
    /// list knows better; a command that is shared is one of which both say the same.
    pub class_told: Class,
    /// How it may be sent, when its arguments say nothing else.
    pub handling: Handling,
    /// Whether somebody looked at what it does to a connection.
    pub is_audited: bool,
    /// Whether it has subcommands. `find` answers a container also for a subcommand that it does
    /// not have.
    pub is_container: bool,
    /// Whether it belongs to the access control category `@dangerous`.
    pub is_dangerous: bool,
    /// Whether it takes constant or logarithmic time.
    pub is_fast: bool,
    /// Whether it needs permission of the operator: it is administrative, or acts on all clients.
    pub is_gated: bool,
    /// Whether it is found even if the node does not name it: the session answers it.
    pub is_kept: bool,
    /// Whether two runs over the same data may answer differently.
    pub is_nondeterministic: bool,
    /// Whether it runs before a client has authenticated.
    pub is_open: bool,
    /// Whether replicas run it. A write that only reads by its arguments is refused there.
    pub is_readonly: bool,
    /// Whether it is refused between MULTI and EXEC.
    pub is_refused_in_multi: bool,
    /// Where keys and channels are.
    pub keys: Box<[KeySpec]>,
    /// To which nodes of a cluster it goes.
    pub request_policy: RequestPolicy,
    /// How the answers of several nodes become one.
    pub response_policy: ResponsePolicy,
    variant: Variant,
}

impl Command {
    /// Whether the node would find the count of words acceptable.
    pub const fn takes(&self, count: usize) -> bool {
        let wanted = self.arity.unsigned_abs() as usize;
        if self.arity < 0 {
            count >= wanted
        } else {
            count == wanted
        }
    }
}

/// What a command does. The order is that of the rule: the first that fits is it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// Holds up all that comes behind it on its connection.
    Blocking,
    /// Sets or tells what a connection remembers.
    Session,
    /// For operators.
    Admin,
    /// Changes data. Once sent it is never sent again. Without keys it goes out by its policies.
    Write,
    /// Reads data only. Without keys it goes out by its policies.
    Read,
    /// Has keys and may read or write: scripts. To be taken for a slow write.
    Keyed,
    /// Has no keys and says neither. It may still act, as PUBLISH does: it is not sent again.
    Keyless,
}

/// How a command may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Handling {
    /// Alone on a connection until it is answered. It leaves nothing behind.
    Lease,
    /// The session keeps its connection until RESET or its end: the connection remembers something.
    Pin,
    /// Never passed on.
    Refuse,
    /// By name: the state is the session's, not a connection's.
    Session(SessionCommand),
    /// Among those of other sessions.
    Share,
    /// Makes a stream of its connection, which is of no other use from then on.
    Stream,
    /// As `Lease`, with RESET behind it, and to be counted: nobody knows what it leaves behind.
    Unaudited,
}

/// To which nodes of a cluster a command goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum RequestPolicy {
    /// To all, replicas too.
    AllNodes,
    /// To all primaries.
    AllShards,
    /// To the one that has its keys, or to any.
    #[default]
    Keys,
    /// In parts, to those that have its keys.
    MultiShard,
    /// As only this command needs it.
    Special,
}

/// How the answers of several nodes become one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum ResponsePolicy {
    /// One only if all are.
    AggLogicalAnd,
    /// One if any is.
    AggLogicalOr,
    /// The greatest.
    AggMax,
    /// The least.
    AggMin,
    /// The sum.
    AggSum,
    /// The first error, else any.
    AllSucceeded,
    /// Put together, in the order of the keys if there are keys.
    #[default]
    Join,
    /// The first that is no error.
    OneSucceeded,
    /// As only this command needs it.
    Special,
}
