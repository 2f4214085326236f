//! The `[dns]` table: who is asked for names.

use std::net::{IpAddr, SocketAddr};

use toml::de::DeTable;

use super::problem::Problems;
use super::section::{Section, Source, Written};

/// Every key of `[dns]`.
pub const KEYS: &[&str] = &["nameservers"];

/// The port of name servers that are written without one.
const PORT_DEFAULT: u16 = 53;

const EXAMPLE: &str = "nameservers = [\"127.0.0.1:5353\", \"10.0.0.2\"]";

/// Reads the table: the name servers that are asked instead of those of this host.
pub fn read(source: &Source, table: &DeTable<'_>, problems: &mut Problems) -> Box<[SocketAddr]> {
    let mut section = Section::new(source, table, "[dns]");
    let written = section.take_list::<String>("nameservers", problems);
    section.finish(&[], problems);
    let written = written.unwrap_or_default().into_iter();
    written.filter_map(|text| parse(text, problems)).collect()
}

fn parse(text: Written<String>, problems: &mut Problems) -> Option<SocketAddr> {
    let address = text.value.parse::<SocketAddr>();
    let address = address.or_else(|_| {
        let ip = text.value.parse::<IpAddr>();
        ip.map(|ip| SocketAddr::new(ip, PORT_DEFAULT))
    });
    address
        .map_err(|_| {
            // A name would have to be looked up first.
            let message = format!("nameservers: {:?} is no address", text.value);
            problems.error(text.place, message, EXAMPLE);
        })
        .ok()
}
