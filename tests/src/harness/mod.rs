//! Real parts for end-to-end tests: PostgreSQL, the proxy, and a client that speaks raw frames.
//!
//! A test runs one script against PostgreSQL directly and through the proxy on each driver, and
//! compares what the client saw, frame by frame ([`compare`]). Knows nothing of the proxy's inside.
//! Invariant: whatever a test started has ended when the test binary has.

pub mod frames;
pub mod login;
pub mod node;
pub mod place;
pub mod process;
pub mod proxy;
pub mod reply;
pub mod stage;
pub mod transcript;
pub mod wire;

pub use frames::Frame;
pub use login::Login;
pub use node::{Node, NodeOptions};
pub use place::{Place, places};
pub use process::{Folder, Process};
pub use proxy::{Driver, Proxy, ProxyOptions};
pub use reply::{Fields, Reply};
pub use stage::{Actor, Setup, Stage, compare, compare_with};
pub use wire::{Target, Wire};
