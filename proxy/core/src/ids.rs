//! Names of things: small numbers that cannot be mixed up.
//!
//! Ids of things that come and go carry a generation, so that a late event for what has gone is
//! recognised and ignored rather than taken for its successor.

/// Defines an id with a generation.
macro_rules! generational {
    ($($(#[$doc:meta])* $name:ident)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub struct $name {
            /// The place in its table.
            pub index: u32,
            /// How often that place had been used before; 24 bits, it wraps.
            pub generation: u32,
        }

        impl From<(u32, u32)> for $name {
            fn from((index, generation): (u32, u32)) -> Self {
                Self { index, generation }
            }
        }

        impl From<$name> for (u32, u32) {
            fn from(id: $name) -> Self {
                (id.index, id.generation)
            }
        }
    )*};
}

/// Defines an id that lives as long as its table.
macro_rules! permanent {
    ($($(#[$doc:meta])* $name:ident)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub struct $name(pub u32);

        impl $name {
            /// The place in its table.
            pub fn index(self) -> usize {
                self.0 as usize
            }
        }
    )*};
}

generational! {
    /// A connection of either side, as core and driver both name it.
    ConnId
    /// A client: a downstream socket and its session.
    ClientId
    /// A (service, user, database).
    IdentityId
    /// A lane: an identity with one fingerprint.
    LaneId
    /// A pool: what Redis sessions that may share an upstream have in common.
    PoolId
    /// An upstream: one connection to a node.
    UpstreamId
}

permanent! {
    /// A database of a service, whose catalog proves statements; interned by the shard.
    DatabaseId
    /// A listening address as configured.
    ListenerId
    /// A service as configured.
    ServiceId
    /// A shard.
    ShardId
}
