//! Commands that are known by name, because they touch what a connection remembers.
//!
//! Holds the names. It must not know what a session answers to them. Its invariant: no two names
//! mean the same.

/// A command whose state is the session's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is named as its command")]
pub enum SessionCommand {
    Asking,
    Auth,
    Client(ClientCommand),
    Command(Introspection),
    Discard,
    Echo,
    Exec,
    Hello,
    Multi,
    PSubscribe,
    PUnsubscribe,
    Ping,
    Quit,
    ReadOnly,
    ReadWrite,
    Reset,
    SSubscribe,
    SUnsubscribe,
    Select,
    Subscribe,
    Unsubscribe,
    Unwatch,
    Wait,
    WaitAof,
    Watch,
}

/// A subcommand of CLIENT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is named as its subcommand")]
pub enum ClientCommand {
    Caching,
    GetName,
    GetRedir,
    Help,
    Id,
    Info,
    Kill,
    List,
    /// CLIENT MAINT_NOTIFICATIONS. Few nodes have it, but client libraries ask for it unbidden.
    MaintNotifications,
    NoEvict,
    NoTouch,
    Pause,
    Reply,
    SetInfo,
    SetName,
    Tracking,
    TrackingInfo,
    Unblock,
    Unpause,
}

/// COMMAND and its subcommands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is named as its subcommand")]
pub enum Introspection {
    /// COMMAND alone.
    All,
    Count,
    Docs,
    GetKeys,
    GetKeysAndFlags,
    Help,
    Info,
    List,
}

impl SessionCommand {
    /// The command of a name in lower case.
    pub(super) fn named(name: &str) -> Option<Self> {
        if let Some(subcommand) = name.strip_prefix("client|") {
            return ClientCommand::named(subcommand).map(Self::Client);
        }
        if let Some(subcommand) = name.strip_prefix("command|") {
            return Introspection::named(subcommand).map(Self::Command);
        }
        Some(match name {
            "asking" => Self::Asking,
            "auth" => Self::Auth,
            "command" => Self::Command(Introspection::All),
            "discard" => Self::Discard,
            "echo" => Self::Echo,
            "exec" => Self::Exec,
            "hello" => Self::Hello,
            "multi" => Self::Multi,
            "ping" => Self::Ping,
            "psubscribe" => Self::PSubscribe,
            "punsubscribe" => Self::PUnsubscribe,
            "quit" => Self::Quit,
            "readonly" => Self::ReadOnly,
            "readwrite" => Self::ReadWrite,
            "reset" => Self::Reset,
            "select" => Self::Select,
            "ssubscribe" => Self::SSubscribe,
            "subscribe" => Self::Subscribe,
            "sunsubscribe" => Self::SUnsubscribe,
            "unsubscribe" => Self::Unsubscribe,
            "unwatch" => Self::Unwatch,
            "wait" => Self::Wait,
            "waitaof" => Self::WaitAof,
            "watch" => Self::Watch,
            _ => return None,
        })
    }
}

impl ClientCommand {
    fn named(subcommand: &str) -> Option<Self> {
        Some(match subcommand {
            "caching" => Self::Caching,
            "getname" => Self::GetName,
            "getredir" => Self::GetRedir,
            "help" => Self::Help,
            "id" => Self::Id,
            "info" => Self::Info,
            "kill" => Self::Kill,
            "list" => Self::List,
            "maint_notifications" => Self::MaintNotifications,
            "no-evict" => Self::NoEvict,
            "no-touch" => Self::NoTouch,
            "pause" => Self::Pause,
            "reply" => Self::Reply,
            "setinfo" => Self::SetInfo,
            "setname" => Self::SetName,
            "tracking" => Self::Tracking,
            "trackinginfo" => Self::TrackingInfo,
            "unblock" => Self::Unblock,
            "unpause" => Self::Unpause,
            _ => return None,
        })
    }
}

impl Introspection {
    fn named(subcommand: &str) -> Option<Self> {
        Some(match subcommand {
            "count" => Self::Count,
            "docs" => Self::Docs,
            "getkeys" => Self::GetKeys,
            "getkeysandflags" => Self::GetKeysAndFlags,
            "help" => Self::Help,
            "info" => Self::Info,
            "list" => Self::List,
            _ => return None,
        })
    }
}
