//! What clients are told when the proxy itself has something to say.
//!
//! Every text names the service, the limit or the setting and what can be done. Holds no logic of
//! when. Invariant: the SQLSTATE is one that PostgreSQL uses for the same situation.

use std::borrow::Cow;

use manifold_protocols::postgres::authentication::scram::ScramError;
use manifold_protocols::postgres::backend::{ErrorFields, Severity, encode_error};
use manifold_protocols::postgres::frame::FrameError;
use manifold_protocols::postgres::frontend::MessageError;

/// An error that the proxy reports in its own name.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// FATAL closes the connection.
    pub is_fatal: bool,
    /// Five characters.
    pub sqlstate: &'static str,
    /// What happened.
    pub message: String,
    /// What can be done.
    pub hint: Option<Cow<'static, str>>,
}

impl Refusal {
    fn error(sqlstate: &'static str, message: String) -> Self {
        Self {
            is_fatal: false,
            sqlstate,
            message,
            hint: None,
        }
    }

    /// The same, but the connection ends.
    pub fn fatal(mut self) -> Self {
        self.is_fatal = true;
        self
    }

    fn hint(mut self, hint: impl Into<Cow<'static, str>>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Bytes that are no message.
    pub fn frame(error: &FrameError) -> Self {
        let refusal = Self::error("08P01", error.to_string()).fatal();
        match error {
            FrameError::TooLong { .. } => refusal.hint("The limit is message_bytes_max."),
            _ => refusal,
        }
    }

    /// A message with something wrong inside.
    pub fn message(error: &MessageError) -> Self {
        Self::error("08P01", error.to_string())
    }

    /// A startup packet that is none.
    pub fn startup(problem: &str) -> Self {
        Self::error("08P01", problem.to_owned()).fatal()
    }

    /// A protocol version other than 3.
    pub fn version(major: u16, minor: u16) -> Self {
        let message =
            format!("unsupported frontend protocol {major}.{minor}: server supports 3.0 to 3.0");
        Self::error("0A000", message).fatal()
    }

    /// No user name in the startup packet.
    pub fn no_user() -> Self {
        let message = "no PostgreSQL user name specified in startup packet".to_owned();
        Self::error("28000", message).fatal()
    }

    /// Replication connections cannot be shared.
    pub fn replication(service: &str) -> Self {
        let message = format!("service \"{service}\" does not take replication connections");
        Self::error("0A000", message)
            .fatal()
            .hint("Connect to the node directly.")
    }

    /// `clients_max` is reached.
    pub fn too_many_clients(service: &str, clients_max: u32) -> Self {
        let message = format!("sorry, too many clients already for service \"{service}\"");
        let hint = format!("The limit clients_max is {clients_max} on this shard.");
        Self::error("53300", message).fatal().hint(hint)
    }

    /// The login took longer than `login_time_max`.
    pub fn login_too_slow(service: &str) -> Self {
        let message = format!("login to service \"{service}\" was not finished in time");
        Self::error("08P01", message)
            .fatal()
            .hint("The limit is login_time_max.")
    }

    /// Nothing free for a login for longer than `login_time_max`.
    pub fn login_waited_too_long(service: &str, seconds: u64) -> Self {
        let message = format!(
            "service \"{service}\": no connection to the node became free for this login within \
             {seconds} s"
        );
        Self::error("53300", message).fatal().hint(
            "The limits are connections_max and login_time_max; a connection that only another \
             user's login could bring back is not closed for a login. auth = \"users\" lets the \
             proxy log in by itself.",
        )
    }

    /// A login that the node granted because of the proxy's own address.
    pub fn not_local(service: &str) -> Self {
        let message = format!(
            "service \"{service}\": the node asks for no password because the proxy connects \
             from a \
             trusted address, and that trust is not extended to clients of other hosts"
        );
        Self::error("28000", message)
            .fatal()
            .hint("Let the node ask for a password, or set auth = \"trust\" or auth = \"users\".")
    }

    /// The node asks for something that cannot be relayed.
    pub fn unsupported_authentication(service: &str, method: &str) -> Self {
        let message = format!(
            "service \"{service}\": the node asks for {method} authentication, which cannot be \
             relayed"
        );
        Self::error("28000", message).fatal()
    }

    /// The node asks for a secret, and there is none that would do.
    pub fn no_secret(service: &str, user: &[u8]) -> Self {
        let user = String::from_utf8_lossy(user);
        let message = format!(
            "service \"{service}\": the node asks for the password of user \"{user}\" and the \
             proxy \
             has none that fits"
        );
        Self::error("28000", message).fatal().hint(
            "Put the password itself into the users file, or let the node trust the proxy, or set \
             auth = \"relay\".",
        )
    }

    /// Something else where a password had to come.
    pub fn no_password(tag: u8) -> Self {
        let message = format!("expected password response, got message type {tag}");
        Self::error("08P01", message).fatal()
    }

    /// A mechanism that was not offered.
    pub fn wrong_mechanism() -> Self {
        let message = "client selected an invalid SASL authentication mechanism".to_owned();
        Self::error("08P01", message).fatal()
    }

    /// The client broke the rules of SCRAM.
    pub fn scram(error: &ScramError) -> Self {
        let sqlstate = if error.sqlstate() == *b"0A000" {
            "0A000"
        } else {
            "08P01"
        };
        Self::error(sqlstate, error.to_string()).fatal()
    }

    /// The last upstream is gone and only a login can bring another.
    pub fn bereft(service: &str) -> Self {
        let message = format!(
            "service \"{service}\": the connection to the node is gone, and the proxy has no \
             secret \
             with which to open another"
        );
        Self::error("08006", message)
            .fatal()
            .hint("Connect again. auth = \"users\" lets the proxy log in by itself.")
    }

    /// A wrong password, or an unknown user: the same words.
    pub fn wrong_password(user: &[u8]) -> Self {
        let user = String::from_utf8_lossy(user);
        let message = format!("password authentication failed for user \"{user}\"");
        Self::error("28P01", message).fatal()
    }

    /// Nothing free for longer than `queue_wait_max`.
    pub fn waited_too_long(service: &str, seconds: u64) -> Self {
        let message = format!(
            "service \"{service}\": no connection to the node became free within {seconds} s"
        );
        Self::error("53300", message)
            .hint("The limits are connections_max and queue_wait_max; leases hold connections.")
    }

    /// The node cannot be reached.
    pub fn unreachable(service: &str, why: &str) -> Self {
        let message = format!("service \"{service}\": the node cannot be reached: {why}");
        Self::error("08006", message)
    }

    /// The connection to the node was lost; nothing was done.
    pub fn lost(service: &str) -> Self {
        let message = format!("service \"{service}\": the connection to the node was lost");
        Self::error("08006", message)
    }

    /// The connection to the node was lost while a write was in flight.
    pub fn unknown_outcome(service: &str) -> Self {
        let message = format!(
            "service \"{service}\": the connection to the node was lost while the request was \
             running; \
             its outcome is unknown"
        );
        Self::error("08007", message)
            .hint("It may have been committed. Look before you send it again.")
    }

    /// The client did not read its replies.
    pub fn slow_reader(service: &str) -> Self {
        let message = format!("service \"{service}\": unread replies exceed reply_bytes_max");
        Self::error("53400", message).fatal()
    }

    /// currval or lastval in a session that has shared its upstreams so far.
    pub fn sequence_unknown(service: &str) -> Self {
        let message = format!(
            "service \"{service}\": currval and lastval are not known, because this session has \
             shared its connections so far"
        );
        Self::error("0A000", message).hint(
            "From now on writing sessions of this user keep theirs. Better: INSERT … RETURNING.",
        )
    }

    /// A cancel reached a request that had not been sent, or whose reply nobody waits for.
    pub fn cancelled() -> Self {
        Self::error(
            "57014",
            "canceling statement due to user request".to_owned(),
        )
    }

    /// The proxy is going down.
    pub fn shutdown() -> Self {
        let message = "terminating connection due to administrator command".to_owned();
        Self::error("57P01", message).fatal()
    }

    /// A request that said it leaves nothing behind has left a transaction open.
    pub fn broken_promise(service: &str) -> Self {
        let message = format!(
            "service \"{service}\": the request left its connection in a state that was not \
             foreseen; \
             it was rolled back"
        );
        Self::error("XX000", message)
    }

    /// Appends the ErrorResponse.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let fields = ErrorFields {
            severity: if self.is_fatal {
                Severity::Fatal
            } else {
                Severity::Error
            },
            sqlstate: self
                .sqlstate
                .as_bytes()
                .try_into()
                .expect("five characters"),
            message: &self.message,
            detail: None,
            hint: self.hint.as_deref(),
        };
        encode_error(out, &fields);
    }
}
