//! A shard's loop over a real driver: what a panic in its core does, and whose answers it takes.
//!
//! A core has no fault to call up at will, so the tests plant a panic where the loop calls it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{Receiver, sync_channel};

use manifold_core::auth::{Auth, Users};
use manifold_core::event::{Address, Lead, Message};
use manifold_core::ids::{DatabaseId, ListenerId, ServiceId, ShardId};
use manifold_core::limits::Limits;
use manifold_core::permits::Permits;
use manifold_core::proof::{Reason, Verdict};
use manifold_core::topology::{Protocol, Service, Target};
use manifold_drivers::{Config, Kind, ListenAddress, bind};
use tokio::sync::mpsc;

use super::super::mailbox::{Mailbox, mailbox};
use super::super::outside::Ways;
use super::super::snapshot::Board;
use super::*;
use crate::classify::Request;

/// Connections to the node that all shards together may hold.
const CONNECTIONS_MAX: u32 = 4;

/// A shard without its thread.
struct Stage {
    turn: Turn,
    driver: Driver,
    address: SocketAddr,
    own: Mailbox,
    requests: Receiver<Request>,
    board: Board,
    /// Another shard's ledger.
    others: Permits,
}

impl Stage {
    fn new() -> Self {
        let mut driver = Driver::open(Kind::Epoll, &Config::default()).unwrap();
        let listener = bind(
            &ListenAddress::Tcp("127.0.0.1:0".parse().unwrap()),
            false,
            16,
        )
        .unwrap();
        let ListenAddress::Tcp(address) = listener.address().unwrap() else {
            panic!("TCP")
        };
        driver.listen(ListenerId(0), listener).unwrap();
        let (own, inbox) = mailbox(driver.doorbell());
        let (classifier, requests) = sync_channel(1);
        let (lookups, _) = mpsc::channel(1);
        let mailboxes = [own.clone()].into();
        let ways = Ways {
            mailboxes,
            classifier,
            lookups,
        };
        let others = Permits::new(CONNECTIONS_MAX);
        let outside = Outside::new(ShardId(0), ways);
        let board = Board::default();
        let publisher = Publisher::new(board.clone(), Driver::now());
        let turn = Turn::new(
            settings(&others),
            inbox,
            outside,
            publisher,
            Spin::of_unpinned(),
        );
        Self {
            turn,
            driver,
            address,
            own,
            requests,
            board,
            others,
        }
    }

    /// Passes until something holds.
    fn pass_until(&mut self, mut holds: impl FnMut(&mut Self) -> bool) {
        for _ in 0..10_000 {
            if holds(self) {
                return;
            }
            self.turn
                .answers
                .push(Answer::Resolved(ServiceId(0), Lead::Unknown));
            self.turn.pass(&mut self.driver);
        }
        panic!("it never came to be");
    }

    fn clients(&mut self) -> u64 {
        self.turn.core.run(|shard| shard.stats().clients)
    }

    fn connect(&mut self) -> TcpStream {
        let before = self.clients();
        let client = TcpStream::connect(self.address).unwrap();
        self.pass_until(|stage| stage.clients() > before);
        client
    }

    fn panic(&mut self) {
        self.turn.core.run::<()>(|_| panic!("planted"));
        self.turn.pass(&mut self.driver);
    }
}

fn settings(permits: &Permits) -> Settings {
    let service = Service {
        id: ServiceId(0),
        name: "app".into(),
        listeners: vec![ListenerId(0)],
        target: Target::Address(Address::Ip("127.0.0.1:1".parse().unwrap())),
        protocol: Protocol::Postgres,
        is_admin: false,
        auth: Auth::Relay,
        users: Arc::new(Users::default()),
        shards: 1,
        permits: Arc::new(permits.share()),
        audience: Arc::default(),
        wants_primary: false,
        part_of: None,
        cluster: None,
    };
    let services = vec![service];
    Settings {
        shards: 1,
        id: ShardId(0),
        seed: 1,
        limits: Limits::default(),
        services,
    }
}

#[test]
fn disconnects_clients_and_begins_anew_when_the_core_panics() {
    let mut stage = Stage::new();
    let mut client = stage.connect();
    client.write_all(b"\0\0").unwrap();
    stage.panic();
    assert!(!stage.turn.core.has_panicked());
    assert_eq!(stage.clients(), 0);
    // The end, or a reset because of what it had not read.
    assert!(matches!(client.read(&mut [0; 8]), Ok(0) | Err(_)));
    stage.connect();
    assert_eq!(stage.clients(), 1);
    stage
        .turn
        .publisher
        .publish(&mut stage.turn.core, &stage.driver, Driver::now());
    assert_eq!(stage.board.read().panics, 1);
}

#[test]
fn returns_the_permits_of_its_own_core_only_when_it_panics() {
    let mut stage = Stage::new();
    let own = stage.turn.settings.services[0].permits.clone();
    assert!(own.take() && own.take() && stage.others.take());
    own.set_wanting(false, true);
    stage.panic();
    assert_eq!(stage.others.free(), CONNECTIONS_MAX - 1);
    assert!(!stage.others.is_wanted());
}

#[test]
fn keeps_the_seed_of_no_core_that_panicked() {
    let mut stage = Stage::new();
    stage.panic();
    assert_ne!(stage.turn.settings.seed, 1);
}

#[test]
fn sends_nothing_that_was_asked_for_before_a_panic_in_the_same_pass() {
    let operations = |panics: bool| {
        let mut core = Core::new(settings(&Permits::new(1)));
        core.run(|shard| shard.handle_event(Driver::now(), Event::Drain { deadline_ms: 0 }));
        if panics {
            core.run::<()>(|_| panic!("planted"));
        }
        std::iter::from_fn(|| core.run(|shard| shard.poll_operation())).count()
    };
    assert_ne!(operations(false), 0);
    assert_eq!(operations(true), 0);
}

#[test]
fn takes_a_driver_that_refuses_an_operation_for_a_fault_of_the_core() {
    let mut stage = Stage::new();
    stage.connect();
    let conn = (7, 7).into();
    stage
        .turn
        .carry_out(&mut stage.driver, Operation::Close { conn });
    assert!(stage.turn.core.has_panicked());
    stage.turn.pass(&mut stage.driver);
    assert!(!stage.turn.core.has_panicked());
    stage.connect();
}

#[test]
fn asks_the_classifier_under_another_name_in_another_life() {
    let mut stage = Stage::new();
    let asker = |stage: &mut Stage| {
        let operation = Operation::Classify {
            ticket: 3,
            database: DatabaseId(0),
            text: Arc::from(*b"x"),
        };
        stage.turn.carry_out(&mut stage.driver, operation);
        let Ok(Request::Classify { shard, .. }) = stage.requests.try_recv() else {
            panic!("it asks")
        };
        shard
    };
    let first = asker(&mut stage);
    stage.panic();
    let second = asker(&mut stage);
    assert_ne!(first, second);
    assert_eq!(Life::of_asker(first), (ShardId(0), Life::FIRST));
    assert_eq!(Life::of_asker(second), (ShardId(0), Life::FIRST.next()));
}

#[test]
fn answers_itself_when_nobody_can_be_asked() {
    let mut stage = Stage::new();
    let classify = |ticket| Operation::Classify {
        ticket,
        database: DatabaseId(0),
        text: Arc::from(*b"x"),
    };
    for ticket in 0..2 {
        stage.turn.carry_out(&mut stage.driver, classify(ticket));
    }
    let [Answer::Classified(1, verdict)] = &stage.turn.answers[..] else {
        panic!("one question had room: {:?}", stage.turn.answers)
    };
    assert_eq!(**verdict, Verdict::opaque(Reason::Complexity));
    stage.turn.answers.clear();
    // Its receiver is gone.
    let resolve = Operation::Resolve {
        service: ServiceId(0),
    };
    stage.turn.carry_out(&mut stage.driver, resolve);
    assert!(matches!(
        &stage.turn.answers[..],
        [Answer::Resolved(ServiceId(0), Lead::Unknown)]
    ));
}

#[test]
fn reads_all_letters_although_one_pass_takes_only_some() {
    let mut stage = Stage::new();
    for pid in 0..1_000 {
        let service = ServiceId(pid % 2);
        let message = Message::ConnectionsWanted { service };
        stage.own.send(Letter::FromShard(message));
    }
    stage.own.send(Letter::Drain(0));
    stage.turn.run(&mut stage.driver);
}

#[test]
fn ends_by_itself_when_its_core_does_not_finish_draining() {
    let mut stage = Stage::new();
    stage.turn.drain_until = Some(Driver::now() + Duration::from_millis(20));
    stage.turn.run(&mut stage.driver);
    assert!(stage.turn.is_drained);
}
