//! One suite for both drivers: real sockets on loopback, and the smallest core that can keep to
//! the seam. What holds here is what the core may rely on, whichever driver it runs on.

mod accepting;
mod closing;
mod connecting;
mod core;
mod crowds;
mod pausing;
mod recovering;
mod streaming;
mod waking;

use std::io::{self, Read};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use manifold_drivers::{Kind, Wanted, choose};

/// Runs every test with both drivers; with io_uring only where the kernel offers it.
macro_rules! conformance {
    ($($module:ident: $($test:ident)*;)*) => {
        mod epoll {
            $(mod $module {
                $(#[test] fn $test() { crate::$module::$test(crate::Kind::Epoll) })*
            })*
        }
        mod io_uring {
            $(mod $module {
                $(#[test] fn $test() {
                    if crate::has_io_uring() {
                        crate::$module::$test(crate::Kind::IoUring)
                    }
                })*
            })*
        }
    };
}

conformance! {
    accepting:
        refuses_clients_after_accepting_was_turned_off
        leaves_no_client_hanging_when_accepting_is_turned_off
        leaves_a_shared_port_to_others_after_accepting_was_turned_off
        closes_rejected_clients
        tells_listeners_and_peers_apart;
    closing:
        returns_the_buffer_when_closed_with_a_blocked_send
        returns_the_buffer_when_closed_in_the_pass_of_the_send
        fails_and_returns_the_buffer_when_the_peer_leaves_a_blocked_send
        closes_with_bytes_not_received
        delivers_what_was_sent_before_the_close
        never_delivers_bytes_of_an_earlier_use_of_an_index
        closes_while_connecting
        closes_in_the_pass_of_the_connect
        survives_a_close_that_nobody_may_ask_for
        lets_go_of_every_socket_when_dropped;
    connecting:
        connects_and_converses_over_tcp
        connects_and_converses_over_a_unix_socket
        reports_a_refused_connect
        reports_a_unix_path_that_leads_nowhere
        returns_a_buffer_sent_to_what_has_failed;
    crowds:
        serves_a_thousand_clients
        recovers_from_want_of_receive_buffers
        loses_nothing_when_completions_overflow
        gives_quiet_clients_their_turn_beside_a_noisy_one;
    pausing:
        loses_nothing_when_paused_in_the_middle_of_a_stream
        goes_on_after_pause_and_resume_in_one_pass
        brings_nothing_and_rests_while_paused
        brings_the_end_after_resuming
        goes_on_sending_while_paused;
    recovering:
        begins_anew_after_the_core_has_panicked
        begins_anew_with_everything_in_flight
        stays_closed_to_clients_after_close_all;
    streaming:
        echoes_bytes_in_order
        receives_more_than_fits_into_the_socket
        sends_more_than_fits_into_the_socket
        sends_on_after_the_peer_has_ended
        delivers_bytes_before_the_end_that_came_with_them
        reports_a_reset_once;
    waking:
        wakes_when_another_driver_rings
        wakes_when_another_thread_rings
        keeps_a_ring_until_the_next_wait
        waits_as_long_as_it_is_told
        spins_before_it_sleeps
        delivers_at_once_what_has_arrived
        gathers_events_but_not_for_long
        submits_before_it_spins;
}

/// Where the kernel offers no io_uring, its half of the suite says so and passes.
fn has_io_uring() -> bool {
    match choose(Wanted::Auto).unwrap() {
        (Kind::IoUring, _) => true,
        (Kind::Epoll, reason) => {
            eprintln!("NOT TESTED with io_uring: {reason}");
            false
        }
    }
}

/// Bytes whose order can be checked: no two stretches of them are alike, and neither are those of
/// two seeds.
fn pattern(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    for (n, word) in (seed << 32..).zip(bytes.chunks_mut(8)) {
        let pattern = n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes();
        word.copy_from_slice(&pattern[..word.len()]);
    }
    bytes
}

/// A client that gives up rather than hang.
fn client(address: SocketAddr) -> TcpStream {
    let client = TcpStream::connect(address).unwrap();
    client.set_read_timeout(Some(core::PATIENCE)).unwrap();
    client.set_write_timeout(Some(core::PATIENCE)).unwrap();
    client
}

/// Reads exactly so much.
fn read(mut stream: impl Read, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    stream.read_exact(&mut bytes).unwrap();
    bytes
}

/// Waits until the other side has ended, in whichever way, and says what it sent before.
fn read_to_end(mut stream: impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Err(error) if error.kind() != io::ErrorKind::ConnectionReset => panic!("{error}"),
        _ => bytes,
    }
}

/// Long enough for whatever is under way on loopback to arrive.
const MOMENT: Duration = Duration::from_millis(60);

/// A directory of the test's own, gone at its end.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("manifold-drivers-{}-{count}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
