//! Every bound of the proxy, in one place.
//!
//! Whoever reaches one gets an error that names it by the name it has here. Sizes are bytes.

use core::time::Duration;

/// The bounds that hold for one shard and for each of its services.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Clients connected to this shard at once; one more is told 53300.
    pub clients_max: u32,
    /// A startup packet, all of it. PostgreSQL's own bound is 10 000 bytes.
    pub startup_bytes_max: usize,
    /// The time from accepting a client to the end of its login.
    pub login_time_max: Duration,
    /// A request that is buffered whole before any of it is sent on; a larger one is streamed on a
    /// lease, for Redis as soon as its first words and lengths are there.
    pub request_bytes_max: usize,
    /// A Redis request that is kept until it is whole whatever its size: of a session of a cluster,
    /// or of a kind that is not shared. A larger one is refused.
    pub whole_bytes_max: usize,
    /// One message from a client; a larger one is an error. PostgreSQL's own bound is 1 GiB - 1.
    pub message_bytes_max: usize,
    /// One message from a node that has to be seen whole (errors, row descriptions, settings).
    pub node_message_bytes_max: usize,
    /// Unsent bytes of a client above which no more of its requests are read.
    pub output_high: usize,
    /// Unsent bytes of a client above which it is closed, unless the upstream is its own: then
    /// reading from the node pauses. What a Redis node has answered with a quarter of this is asked
    /// on a lease the next time.
    pub reply_bytes_max: usize,
    /// Unsent bytes of a Redis client with subscriptions above which it is closed, as a node does
    /// by its `client-output-buffer-limit`; one published message, too.
    pub subscriber_bytes_max: usize,
    /// Unread bytes of a client that are kept while its requests wait; reading pauses above.
    pub input_high: usize,
    /// Requests in flight on one upstream.
    pub pipe_depth_max: usize,
    /// Unsent bytes towards a node above which an upstream takes no more requests.
    pub upstream_output_high: usize,
    /// How long a request may wait for an upstream.
    pub queue_wait_max: Duration,
    /// How long requests wait for a node that can take them while there is none; not counted in
    /// `queue_wait_max`.
    pub hold_max: Duration,
    /// How long connecting to a node may take.
    pub connect_time_max: Duration,
    /// Prepared statements kept on one upstream; the least recently used is closed.
    pub upstream_statements_max: usize,
    /// Prepared statements of one client; one more is an error.
    pub client_statements_max: usize,
    /// Statement texts remembered by a shard with what they do.
    pub texts_max: usize,
    /// Bytes of statement text remembered by a shard.
    pub texts_bytes_max: usize,
    /// An upstream that nobody has used for so long is closed.
    pub upstream_idle_max: Duration,
    /// Users and databases remembered that nobody uses, so that the next one has to ask less.
    pub identities_idle_max: usize,
    /// How long a login that the node granted without a challenge is believed.
    pub trust_memory: Duration,
    /// How long a shared request may be late before its followers are issued again elsewhere.
    pub stall_time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            clients_max: 20_000,
            startup_bytes_max: 10_000,
            login_time_max: Duration::from_secs(60),
            request_bytes_max: 1 << 20,
            whole_bytes_max: 64 << 20,
            message_bytes_max: (1 << 30) - 1,
            node_message_bytes_max: 16 << 20,
            output_high: 256 << 10,
            reply_bytes_max: 16 << 20,
            subscriber_bytes_max: 32 << 20,
            input_high: 256 << 10,
            pipe_depth_max: 256,
            upstream_output_high: 1 << 20,
            queue_wait_max: Duration::from_secs(120),
            hold_max: Duration::from_secs(30),
            connect_time_max: Duration::from_secs(5),
            upstream_statements_max: 1_000,
            client_statements_max: 10_000,
            texts_max: 20_000,
            texts_bytes_max: 32 << 20,
            upstream_idle_max: Duration::from_secs(600),
            identities_idle_max: 1_000,
            trust_memory: Duration::from_secs(30),
            stall_time: Duration::from_millis(20),
        }
    }
}
