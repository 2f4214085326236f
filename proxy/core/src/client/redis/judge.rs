//! What a request needs: a place among others, an upstream alone, or the proxy itself.
//!
//! Pure: looks at the request and at the table of commands, and at no session. Invariant: only
//! what is known to leave nothing behind on a connection is shared.

use manifold_protocols::redis::command::{
    Class, ClientCommand, Command, Handling, SessionCommand, Table,
};
use manifold_protocols::redis::resp::request::{Arguments, Finder, Found};

use crate::client::redis::tracking::INVALIDATIONS;
use crate::upstream::redis::Effect;
use crate::upstream::redis::pool::Lane;

/// What a request needs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Need {
    /// A place in a pipe.
    Share(Lane, Effect),
    /// An upstream alone, until its reply and whatever state is left by it.
    Alone(Alone),
    /// The session's own business.
    Session(SessionCommand),
    /// The operator's permission, which is not there.
    Permission,
    /// Something that cannot be had here.
    Refusal,
    /// What a browser sends that was led to a node: the end, without a word.
    HangUp,
}

/// What happens to the upstream that a request has alone.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Alone {
    /// What it does.
    pub effect: Effect,
    /// The connection remembers something until RESET.
    pub pins: bool,
    /// Nobody knows what it leaves behind.
    pub soils: bool,
}

/// What the request that begins with these words needs.
pub(crate) fn judge(table: &Table, request: &[u8], is_admin: bool) -> Need {
    if request.len() > BIG_BYTES {
        return big(table, request, is_admin);
    }
    let mut words = Arguments::of(request);
    let name = words.next().unwrap_or_default();
    let Some(command) = find_command(table, name, words.next()) else {
        if is_of_another_protocol(name) {
            return Need::HangUp;
        }
        // The node will refuse it; if not, nobody knows what it did.
        return Need::Alone(Alone {
            effect: Effect::Write,
            pins: false,
            soils: true,
        });
    };
    need_of(command, request, is_admin)
}

/// The row of a request. A row's own name may have two words in one, which no request's has.
pub(crate) fn find_command<'a>(
    table: &'a Table,
    name: &[u8],
    subcommand: Option<&[u8]>,
) -> Option<&'a Command> {
    table
        .find(name, subcommand)
        .filter(|_| !name.contains(&b'|'))
}

/// A request above this is sent on an upstream of its own, so that nobody waits while it is
/// transferred.
const BIG_BYTES: usize = 64 << 10;

fn big(table: &Table, request: &[u8], is_admin: bool) -> Need {
    let mut words = Arguments::of(request);
    let name = words.next().unwrap_or_default();
    let command = find_command(table, name, words.next());
    match command.map(|command| need_of(command, request, is_admin)) {
        Some(Need::Share(_, effect)) => Need::Alone(Alone {
            effect,
            pins: false,
            soils: false,
        }),
        Some(other) => other,
        None => Need::Alone(Alone {
            effect: Effect::Write,
            pins: false,
            soils: true,
        }),
    }
}

/// What a request does that begins with these words, if it may be sent to a node before the rest is
/// there. Its later words must not matter, and nobody may have to look at them again.
pub(crate) fn may_pass(table: &Table, part: &[u8], is_admin: bool) -> Option<Effect> {
    let mut words = Arguments::of(part);
    let name = words.next()?;
    let second = words.next();
    let command = find_command(table, name, second)?;
    let is_plain = command.handling == Handling::Share
        && command.handling_of(Arguments::of(part)) == Handling::Share;
    let is_let = is_admin || !command.is_gated;
    let effect = match &*command.name {
        // Its channel is all that matters.
        "publish" | "spublish" => Effect::Count,
        _ if counts_subscribers(command) => return None,
        _ => Effect::Write,
    };
    let has_channel = effect != Effect::Count || second.is_some();
    (is_plain && is_let && has_channel && !command.is_container).then_some(effect)
}

fn need_of(command: &Command, request: &[u8], is_admin: bool) -> Need {
    if command.is_gated && !is_admin {
        return Need::Permission;
    }
    let words = Arguments::of(request);
    let effect = || match command.class_of(words) {
        Class::Blocking => Effect::Block,
        Class::Read => Effect::Read,
        Class::Keyless | Class::Keyed if counts_subscribers(command) => Effect::Count,
        _ => Effect::Write,
    };
    let alone = |pins, soils| {
        Need::Alone(Alone {
            effect: effect(),
            pins,
            soils,
        })
    };
    match command.handling_of(words) {
        Handling::Share => Need::Share(lane(command), effect()),
        Handling::Lease => alone(false, false),
        Handling::Unaudited => alone(false, true),
        Handling::Pin => alone(true, false),
        Handling::Stream => Need::Alone(Alone {
            effect: Effect::Stream,
            pins: false,
            soils: false,
        }),
        Handling::Session(SessionCommand::Subscribe) if is_for_invalidations(words) => {
            Need::Alone(Alone {
                effect: Effect::Stream,
                pins: false,
                soils: false,
            })
        }
        Handling::Session(command) => need_of_session(command),
        Handling::Refuse if is_of_another_protocol(command.name.as_bytes()) => Need::HangUp,
        Handling::Refuse => Need::Refusal,
    }
}

/// What lines of HTTP begin with. Not every node names them among its commands.
fn is_of_another_protocol(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"post") || name.eq_ignore_ascii_case(b"host:")
}

/// Whether it is answered with how many listen.
fn counts_subscribers(command: &Command) -> bool {
    matches!(
        &*command.name,
        "publish" | "spublish" | "pubsub|numsub" | "pubsub|shardnumsub"
    )
}

/// Invalidations come to one connection, and not to all that listen.
fn is_for_invalidations(mut words: Arguments<'_>) -> bool {
    words.any(|word| word == INVALIDATIONS)
}

fn need_of_session(command: SessionCommand) -> Need {
    match command {
        // They leave nothing behind, and the node's answer is the true one.
        SessionCommand::Ping | SessionCommand::Echo | SessionCommand::Unwatch => {
            Need::Share(Lane::Fast, Effect::Read)
        }
        SessionCommand::Command(_) => Need::Share(Lane::Slow, Effect::Read),
        // Without MULTI before them, they are refused.
        SessionCommand::Exec | SessionCommand::Discard => Need::Share(Lane::Fast, Effect::Read),
        SessionCommand::Asking | SessionCommand::ReadOnly | SessionCommand::ReadWrite => {
            Need::Alone(Alone {
                effect: Effect::Read,
                pins: true,
                soils: false,
            })
        }
        SessionCommand::Watch => Need::Alone(Alone {
            effect: Effect::Watch,
            pins: false,
            soils: false,
        }),
        SessionCommand::Wait | SessionCommand::WaitAof => Need::Alone(Alone {
            effect: Effect::Wait,
            pins: false,
            soils: false,
        }),
        // What a new connection is: it changes something only on a lease that is there.
        SessionCommand::Client(ClientCommand::Tracking) => Need::Alone(Alone {
            effect: Effect::Read,
            pins: false,
            soils: false,
        }),
        SessionCommand::Client(ClientCommand::Help) => Need::Share(Lane::Fast, Effect::Read),
        // It must not stand behind what is paused.
        SessionCommand::Client(ClientCommand::Pause | ClientCommand::Unpause) => {
            Need::Alone(Alone {
                effect: Effect::Pause,
                pins: false,
                soils: false,
            })
        }
        other => Need::Session(other),
    }
}

fn lane(command: &Command) -> Lane {
    if command.is_fast {
        Lane::Fast
    } else {
        Lane::Slow
    }
}

/// A transaction that lies whole in a client's input and can be sent as one piece.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Unit {
    /// How long it is.
    pub len: usize,
    /// How many requests it is made of.
    pub replies: u32,
    /// The slowest lane of its commands.
    pub lane: Lane,
}

/// Requests in a transaction that is sent as one piece, at most.
const UNIT_REQUESTS_MAX: u32 = 4096;

/// Finds the end of the transaction that `bytes` begin with, if all of it is there and all of it
/// may be shared.
pub(crate) fn find_unit(
    table: &Table,
    bytes: &[u8],
    bulk_bytes_max: usize,
    is_admin: bool,
) -> Option<Unit> {
    let mut unit = Unit {
        len: 0,
        replies: 0,
        lane: Lane::Fast,
    };
    while unit.replies < UNIT_REQUESTS_MAX {
        let rest = &bytes[unit.len..];
        let Ok(Found::Whole { len, count }) = Finder::default().find(rest, bulk_bytes_max) else {
            return None;
        };
        let mut words = Arguments::of(&rest[..len]);
        let command = find_command(table, words.next()?, words.next())?;
        unit.len += len;
        unit.replies += 1;
        match command.handling {
            // Whether it will be taken is certain only if its words are as they must be.
            Handling::Session(SessionCommand::Multi) if unit.replies == 1 && count == 1 => {}
            Handling::Session(SessionCommand::Exec | SessionCommand::Discard) if count == 1 => {
                return Some(unit);
            }
            _ => match need_of(command, &rest[..len], is_admin) {
                Need::Share(Lane::Slow, _) => unit.lane = Lane::Slow,
                Need::Share(Lane::Fast, _) if !is_watching(command) => {}
                _ => return None,
            },
        }
    }
    None
}

/// UNWATCH in a transaction and EXEC or MULTI in the wrong place are for a lease to find out.
fn is_watching(command: &Command) -> bool {
    matches!(
        command.handling,
        Handling::Session(SessionCommand::Unwatch | SessionCommand::Exec | SessionCommand::Discard)
    )
}
