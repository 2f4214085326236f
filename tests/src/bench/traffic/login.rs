//! Logs a client in and prepares its statements, one client after another, before the clock runs.
//!
//! Only what an open door needs: the benchmark's PostgreSQL trusts everybody on loopback.

use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::scan::Scanner;
use crate::harness::frames;

/// How long a login or a preparation may take.
const TIME_MAX: Duration = Duration::from_secs(60);

/// Connects and, with startup parameters, logs in.
pub fn connect(address: SocketAddr, parameters: &[(String, String)]) -> Result<TcpStream> {
    let mut stream = TcpStream::connect_timeout(&address, TIME_MAX)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(TIME_MAX))?;
    if !parameters.is_empty() {
        exchange(&mut stream, &frames::startup(3 << 16, parameters), 1)?;
    }
    Ok(stream)
}

/// Sends requests and waits for their last ReadyForQuery; an error message is an error.
pub fn exchange(stream: &mut TcpStream, requests: &[u8], ready: u32) -> Result<()> {
    stream.write_all(requests)?;
    let mut scanner = Scanner::default();
    let mut bytes = [0; 4096];
    let mut left = ready;
    while left > 0 {
        let count = stream.read(&mut bytes)?;
        let seen = scanner.take(&bytes[..count]);
        if seen.errors > 0 {
            return Err(Error::other(scanner.error_text()));
        }
        if count == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        left = left.saturating_sub(seen.ready);
    }
    Ok(())
}
