//! What the proxy itself says to Redis clients.
//!
//! Each text names the service, the limit or the setting, and what to do. Errors that a node would
//! give have the node's own words. Invariant: every text is one line.

use core::time::Duration;

use manifold_protocols::redis::resp::request::Malformed;

/// An error of the proxy's own.
fn error(text: &str) -> Vec<u8> {
    debug_assert!(!text.contains(['\r', '\n']), "an error is one line");
    format!("-ERR {text}\r\n").into_bytes()
}

/// What a node says, too.
pub(crate) fn of_node(text: impl core::fmt::Display) -> Vec<u8> {
    format!("-{text}\r\n").into_bytes()
}

/// What a node says, too, with a word of the request in it, as a node copies it: up to a zero, and
/// on one line.
pub(crate) fn quoting(before: &str, word: &[u8], after: &str) -> Vec<u8> {
    let word = word.split(|&byte| byte == 0).next().unwrap_or_default();
    let word: Vec<u8> = word
        .iter()
        .map(|&byte| {
            if matches!(byte, b'\r' | b'\n') {
                b' '
            } else {
                byte
            }
        })
        .collect();
    let parts: [&[u8]; 5] = [b"-", before.as_bytes(), &word, after.as_bytes(), b"\r\n"];
    parts.concat()
}

/// The node may have run it.
pub(crate) fn outcome_unknown(service: &str) -> Vec<u8> {
    error(&format!(
        "service \"{service}\": the connection to the node was lost before it answered; the \
         command may have been executed"
    ))
}

/// The node got only a part of it.
pub(crate) fn not_whole(service: &str) -> Vec<u8> {
    error(&format!(
        "service \"{service}\": the connection to the node was lost before the command was whole; \
         it has not been executed"
    ))
}

/// It has been sent to a node that has its slot no more, and nobody has it now.
pub(crate) fn sent_away(service: &str) -> Vec<u8> {
    error(&format!(
        "service \"{service}\": the slot of the key has gone to another node while the command was \
         on its way; it has not been executed, and is too big (request_bytes_max) to be sent again"
    ))
}

/// It is too big to be kept whole, and is of a kind that has to be.
pub(crate) fn too_big(service: &str, limit: usize) -> Vec<u8> {
    error(&format!(
        "service \"{service}\": the command has more than {limit} bytes (whole_bytes_max), and is \
         not of a kind that is passed on while it comes; it has not been executed"
    ))
}

/// It waited for too long.
pub(crate) fn waited_too_long(service: &str, time: Duration, missing: Option<&str>) -> Vec<u8> {
    error(&format!(
        "service \"{service}\": no connection to the node was to be had for {} s \
         (queue_wait_max); {}",
        time.as_secs(),
        missing.unwrap_or("it may be down, or connections_max too low")
    ))
}

/// There was no node for it for too long.
pub(crate) fn held_too_long(
    service: &str,
    missing: &str,
    since: Duration,
    limit: Duration,
) -> Vec<u8> {
    error(&format!(
        "service \"{service}\": no node could take the command for {} s (hold_max is {} s): \
         {missing}; it has not been executed",
        since.as_secs(),
        limit.as_secs()
    ))
}

/// Administrative commands are not let through.
pub(crate) fn denied(service: &str, command: &str) -> Vec<u8> {
    error(&format!(
        "service \"{service}\": {} acts on the whole node and is not let through; set admin = \
         \"allow\" for this service to change that",
        command.to_ascii_uppercase().replace('|', " ")
    ))
}

/// A command that cannot work through a proxy.
pub(crate) fn refused(service: &str, command: &str) -> Vec<u8> {
    error(&format!(
        "service \"{service}\": {} needs a connection of its own to the node; connect to the node \
         itself for it",
        command.to_ascii_uppercase().replace('|', " ")
    ))
}

/// A subscription takes an upstream of its own, and there are too few.
pub(crate) fn no_room_to_subscribe(service: &str, connections_max: u32, needed: u32) -> Vec<u8> {
    error(&format!(
        "service \"{service}\": connections_max is {connections_max}, and a subscription needs a \
         connection beside those for commands; set connections_max to {needed} or more"
    ))
}

/// Subscriptions are not the business of a transaction here.
pub(crate) fn no_subscription_in_multi(service: &str, command: &str) -> Vec<u8> {
    error(&format!(
        "service \"{service}\": {} inside of MULTI is not possible through the proxy; do it before \
         MULTI or after EXEC",
        command.to_ascii_uppercase()
    ))
}

/// What a session with subscriptions and the old protocol may not do, in a node's words.
pub(crate) fn is_subscribed(command: &str, has_shards: bool) -> Vec<u8> {
    let shards = if has_shards { "(P|S)" } else { "(P)" };
    of_node(format_args!(
        "ERR Can't execute '{command}': only {shards}SUBSCRIBE / {shards}UNSUBSCRIBE / PING / QUIT \
         / RESET are allowed in this context"
    ))
}

/// EXEC says what any other command would say as the reason of its own failure.
pub(crate) fn exec_while_subscribed(has_arity: bool, has_shards: bool) -> Vec<u8> {
    let why = match has_arity {
        true => is_subscribed("exec", has_shards),
        false => arity("exec"),
    };
    let why = String::from_utf8_lossy(&why);
    let why = why.trim_start_matches("-ERR ").trim_end();
    of_node(format_args!(
        "EXECABORT Transaction discarded because of: {why}"
    ))
}

/// Nobody has said who it is.
pub(crate) fn not_authenticated() -> Vec<u8> {
    of_node("NOAUTH Authentication required.")
}

/// Not who it says it is.
pub(crate) fn wrong_password() -> Vec<u8> {
    of_node("WRONGPASS invalid username-password pair or user is disabled.")
}

/// More clients than may be.
pub(crate) fn too_many_clients() -> Vec<u8> {
    of_node("ERR max number of clients reached")
}

/// What is configured as a cluster is none.
pub(crate) fn no_cluster(service: &str) -> Vec<u8> {
    error(&format!(
        "service \"{service}\": its node is not part of a cluster; write redis:// instead of \
         redis+cluster:// in its upstream"
    ))
}

/// A connection tracks keys at one node, and a session has many.
pub(crate) fn no_tracking(service: &str) -> Vec<u8> {
    error(&format!(
        "service \"{service}\": CLIENT TRACKING is not possible across the nodes of a cluster; \
         connect to a node itself for it"
    ))
}

/// Of a transaction at a node, what a session is made of is no part.
pub(crate) fn no_session_in_multi(service: &str, command: &str) -> Vec<u8> {
    error(&format!(
        "service \"{service}\": {} inside of MULTI is not possible across the nodes of a cluster; \
         do it before MULTI or after EXEC",
        command.escape_debug().to_string().to_ascii_uppercase()
    ))
}

/// What a node says to keys that are not all at one place.
pub(crate) const CROSSSLOT: &[u8] = b"-CROSSSLOT Keys in request don't hash to the same slot\r\n";

/// What a node says where nobody has a slot.
pub(crate) const SLOT_NOT_SERVED: &[u8] = b"-CLUSTERDOWN Hash slot not served\r\n";

/// The slot of a key went to another node while a transaction was queued, or while requests that
/// came later were run.
pub(crate) const MOVED_AMID: &[u8] =
    b"-TRYAGAIN The slot of this key is on its way to another node\r\n";

/// A cursor does not leave room for the node that it is of.
pub(crate) const CURSOR_TOO_LARGE: &[u8] =
    b"-ERR the cursor of this node is too large to be told from another's\r\n";

/// The proxy goes down.
pub(crate) fn shutdown(service: &str) -> Vec<u8> {
    error(&format!(
        "service \"{service}\": the proxy is shutting down"
    ))
}

/// What is no request, in a node's words.
pub(crate) fn malformed(what: Malformed) -> Vec<u8> {
    let text = format!("-ERR {what}\r\n");
    // A byte that is named stands there as it came.
    let bytes = text.chars().map(u8::try_from);
    bytes.map(|byte| byte.unwrap_or(b'?')).collect()
}

/// Nothing is to be had without a password, in a node's words.
pub(crate) const LOCKED: &[u8] = b"-NOAUTH Authentication required.\r\n";

/// What EXEC is told then.
pub(crate) const LOCKED_EXEC: &[u8] =
    b"-EXECABORT Transaction discarded because of: NOAUTH Authentication required.\r\n";

/// The wrong count of words, in a node's words.
pub(crate) fn arity(command: &str) -> Vec<u8> {
    of_node(format_args!(
        "ERR wrong number of arguments for '{command}' command"
    ))
}
