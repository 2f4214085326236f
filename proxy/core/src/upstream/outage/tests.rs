//! Who waits while no node takes requests, for how long, and what becomes of it.
//!
//! Users are let in without a question, so that only nodes matter.

use std::net::SocketAddr;

use manifold_protocols::postgres::backend::{self, ErrorFields, Severity};

use crate::auth::{Auth, Users};
use crate::client::postgres::authenticate::stage::{Asks, Stage};
use crate::event::{Address, Event, Lead};
use crate::ids::{ConnId, ServiceId};
use crate::proof::Statement;
use crate::topology::Target;

fn at(port: u16) -> Address {
    Address::Ip(SocketAddr::from(([127, 0, 0, 1], port)))
}

/// In front of several nodes, of which a primary is wanted.
fn stage(lead: Lead) -> Stage {
    let mut stage = Stage::new(Auth::Trust, Users::default(), 4, &[("app", Asks::Nothing)]);
    stage.meaning = Statement::Read;
    let service = &mut stage.shard.services[0];
    service.wants_primary = true;
    service.target = Target::Name("nodes".into());
    say(&mut stage, lead);
    stage
}

/// A source says who leads.
fn say(stage: &mut Stage, lead: Lead) {
    let service = ServiceId(0);
    let event = Event::Resolved { service, lead };
    stage.shard.handle_event(stage.now, event);
    stage.wait(1);
}

/// Connections to a node that are open.
fn open_to(stage: &Stage, port: u16) -> Vec<ConnId> {
    let leads_there = |address: Option<&Address>| address == Some(&at(port));
    let open = stage.sessions.iter().filter(|(_, it)| !it.is_closed);
    let there = open.filter(|(_, it)| leads_there(it.address.as_ref()));
    there.map(|(&conn, _)| conn).collect()
}

#[test]
fn gives_a_standby_no_request_and_waits_until_it_is_primary() {
    let mut stage = stage(Lead::Among(vec![at(1)]));
    stage.is_standby = true;
    let client = stage.login("app", "");
    stage.wait(10_000);
    assert!(!stage.clients[client].is_ready, "no primary let it in");
    stage.is_standby = false;
    stage.wait(100);
    assert!(stage.clients[client].is_ready);
    stage.query(client);
    assert_eq!(stage.clients[client].answers, 1);
    assert_eq!(stage.clients[client].errors, []);
}

#[test]
fn holds_a_request_for_hold_max_and_says_what_is_missing() {
    let mut stage = stage(Lead::Among(vec![at(1)]));
    let client = stage.login("app", "");
    stage.query(client);
    assert_eq!(stage.clients[client].answers, 1);
    stage.is_away = true;
    stage.crash();
    stage.query(client);
    stage.wait(29_000);
    assert_eq!(stage.clients[client].errors, []);
    stage.wait(2_000);
    let (code, text) = stage.clients[client].errors[0].clone();
    assert_eq!(code, "08006");
    for part in [
        "app",
        "127.0.0.1:1: connection refused",
        "no primary for 3",
        "hold_max",
    ] {
        assert!(text.contains(part), "{text}");
    }
    // Whoever comes now is told so at the next look.
    stage.query(client);
    stage.wait(200);
    assert_eq!(stage.clients[client].errors.len(), 2);
    stage.is_away = false;
    stage.wait(2_000);
    let answers = stage.clients[client].answers;
    stage.query(client);
    stage.wait(200);
    assert_eq!(stage.clients[client].answers, answers + 1);
    assert_eq!(stage.clients[client].errors.len(), 2);
}

#[test]
fn does_not_count_an_outage_as_queueing() {
    let mut stage = stage(Lead::Among(vec![at(1)]));
    stage.shard.limits.queue_wait_max = core::time::Duration::from_secs(5);
    let client = stage.login("app", "");
    stage.query(client);
    stage.is_away = true;
    stage.crash();
    stage.query(client);
    stage.wait(20_000);
    stage.is_away = false;
    stage.wait(200);
    assert_eq!(stage.clients[client].answers, 2);
    assert_eq!(stage.clients[client].errors, []);
}

#[test]
fn opens_nothing_while_nobody_leads_and_goes_on_where_somebody_does() {
    let mut stage = stage(Lead::Among(vec![at(1)]));
    let client = stage.login("app", "");
    stage.query(client);
    assert_eq!(open_to(&stage, 1).len(), 1);
    say(&mut stage, Lead::Nobody);
    stage.wait(2_000);
    assert_eq!(stage.open(), 0, "what is there drains");
    stage.query(client);
    let before = stage.shard.stats.upstreams_opened;
    stage.wait(5_000);
    assert_eq!(stage.shard.stats.upstreams_opened, before);
    assert_eq!((stage.open(), stage.clients[client].answers), (0, 1));
    say(&mut stage, Lead::Among(vec![at(2)]));
    stage.wait(10);
    assert_eq!(open_to(&stage, 2).len(), 1);
    assert_eq!(stage.clients[client].answers, 2);
    assert_eq!(stage.clients[client].errors, []);
}

#[test]
fn sends_a_read_again_whose_columns_came_with_the_last_words() {
    let mut stage = stage(Lead::Among(vec![at(1)]));
    let client = stage.login("app", "");
    stage.query(client);
    stage.holds_answers = true;
    stage.query(client);
    let [conn] = open_to(&stage, 1)[..] else {
        panic!("one connection serves one client")
    };
    let mut bytes = Vec::new();
    // RowDescription without columns, and the end.
    bytes.extend_from_slice(&[b'T', 0, 0, 0, 6, 0, 0]);
    let fields = ErrorFields::new(Severity::Fatal, *b"57P01", "terminating connection");
    backend::encode_error(&mut bytes, &fields);
    let bytes = bytes.as_mut_slice();
    let event = Event::Received { conn, bytes };
    stage.shard.handle_event(stage.now, event);
    stage.holds_answers = false;
    stage.wait(1_000);
    assert_eq!(stage.clients[client].errors, []);
    assert_eq!(stage.clients[client].answers, 2);
}

#[test]
fn tries_one_connection_at_a_time_while_none_succeeds() {
    let mut stage = stage(Lead::Among(vec![at(1)]));
    // Each of them needs a connection of its own.
    stage.meaning = Statement::Write;
    let clients: Vec<usize> = (0..8).map(|_| stage.login("app", "")).collect();
    stage.is_away = true;
    stage.crash();
    for &client in &clients {
        stage.query(client);
    }
    let before = stage.shard.stats.upstreams_opened;
    stage.wait(1_000);
    let tried = stage.shard.stats.upstreams_opened - before;
    assert!((10..=50).contains(&tried), "{tried} in a second");
    // It accepts, and says nothing.
    stage.is_away = false;
    let asks = |stage: &mut Stage, asks| stage.users.get_mut("app").expect("a user").asks = asks;
    asks(&mut stage, Asks::Silence);
    stage.wait(1_000);
    assert_eq!(stage.open(), 1);
    asks(&mut stage, Asks::Nothing);
    stage.wait(6_000);
    assert!(clients.iter().all(|&it| stage.clients[it].answers == 1));
}

#[test]
fn says_that_no_node_leads_though_none_was_ever_known() {
    let mut stage = stage(Lead::Unknown);
    let client = stage.login("app", "");
    say(&mut stage, Lead::Nobody);
    stage.wait(31_000);
    let (_, text) = stage.clients[client].errors[0].clone();
    assert!(text.contains("no node leads"), "{text}");
}
