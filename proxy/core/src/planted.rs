//! Bugs on purpose, for the simulator to prove that its checker finds them.
//!
//! Without the feature `planted-bugs` there are none, and every question after one is a constant.
//! Invariant: nothing but tests builds with the feature.

/// A bug that can be planted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Bug {
    /// A cancel is believed whatever secret it shows.
    BelieveCancel,
    /// A node of a cluster is not told that it may have a key already.
    ForgetAsking,
    /// The requests of a client that goes are taken out of the pipe, though their replies will
    /// come.
    ForgetDiscard,
    /// While a cancel is on its way, other requests follow the one that it is meant for.
    ForgetFence,
    /// A session goes to another database, and its upstream does not.
    ForgetSelect,
    /// A node that fell silent is not given up.
    ForgetSilent,
    /// A settings difference is not sent to an upstream that changes lanes.
    ForgetSwitch,
    /// A session that a client has left behind is not wiped.
    ForgetReset,
    /// One of the subscriptions is not asked for again when the upstream is a new one.
    ForgetTopic,
    /// A leased upstream is shared all the same.
    ShareLease,
    /// An id finds whatever is at its place now.
    ReuseSlotWithoutGeneration,
    /// A write whose outcome is unknown is run again.
    RetryWrite,
    /// What a node of a cluster has sent away is overtaken by what its session sends next.
    OvertakeStray,
    /// The requests of a transaction are sent one by one among those of others.
    SplitUnit,
    /// A reply goes to whoever asked next.
    SwapReplies,
}

impl Bug {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::BelieveCancel,
        Self::ForgetAsking,
        Self::ForgetDiscard,
        Self::ForgetFence,
        Self::ForgetReset,
        Self::ForgetSelect,
        Self::ForgetSilent,
        Self::ForgetSwitch,
        Self::ForgetTopic,
        Self::OvertakeStray,
        Self::ReuseSlotWithoutGeneration,
        Self::RetryWrite,
        Self::ShareLease,
        Self::SplitUnit,
        Self::SwapReplies,
    ];
}

/// The bug of a shard, if one is planted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Planted {
    #[cfg(feature = "planted-bugs")]
    bug: Option<Bug>,
}

impl Planted {
    /// Plants a bug.
    #[cfg(feature = "planted-bugs")]
    pub fn plant(&mut self, bug: Bug) {
        self.bug = Some(bug);
    }

    /// Whether this bug is planted.
    #[cfg(feature = "planted-bugs")]
    pub fn is(self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    /// Whether this bug is planted: never.
    #[cfg(not(feature = "planted-bugs"))]
    pub const fn is(self, _bug: Bug) -> bool {
        false
    }
}
