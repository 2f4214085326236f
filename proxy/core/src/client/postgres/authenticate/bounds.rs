//! What logins may cost others: names that pile up, connections taken away, turns never given.
//!
//! Looks at the shard's tables where nothing outside shows the bound.

use super::stage::{Asks, Stage};
use crate::auth::{Auth, Users};
use crate::proof::Statement;

fn relay(connections_max: u32, asks: &[(&'static str, Asks)]) -> Stage {
    Stage::new(Auth::Relay, Users::default(), connections_max, asks)
}

/// Names, identities, places of databases, lanes, errands: what a name may leave behind.
fn left(stage: &Stage) -> [usize; 6] {
    let shard = &stage.shard;
    let (identities, databases) = shard.register.lens();
    let connections = &shard.connections[0];
    [
        identities,
        databases,
        shard.identities.len(),
        shard.lanes.len(),
        shard.lanes_by_key.len(),
        connections.errands.len() + connections.waiting.len(),
    ]
}

/// Users that the node lets in.
fn many(count: usize, asks: Asks) -> Vec<(&'static str, Asks)> {
    let name = |number| &*Box::leak(format!("user{number}").into_boxed_str());
    (0..count).map(|number| (name(number), asks)).collect()
}

#[test]
fn forgets_names_when_their_logins_come_to_nothing() {
    for auth in [Auth::Relay, Auth::Trust, Auth::Users] {
        let mut stage = Stage::new(auth, Users::default(), 4, &[]);
        for number in 0..3_000 {
            let client = stage.login_from("127.0.0.1:1", &format!("stranger{number}"), None);
            stage.leave(client);
            assert!(stage.clients[client].is_closed);
            assert_eq!(left(&stage), [0; 6], "{auth:?}");
        }
        assert!(stage.shard.databases.len() <= 1, "places are used again");
    }
}

#[test]
fn forgets_names_when_clients_leave_in_mid_login() {
    let mut stage = relay(4, &many(500, Asks::Md5));
    for number in 0..500 {
        let client = stage.login_from("127.0.0.1:1", &format!("user{number}"), None);
        assert_eq!(left(&stage)[0], 1);
        stage.leave(client);
        assert_eq!(left(&stage), [0; 6]);
    }
}

#[test]
fn remembers_only_so_many_names_when_nobody_uses_them() {
    let count = 2_000;
    let mut stage = relay(4, &many(count, Asks::Cleartext));
    stage.shard.limits.identities_idle_max = 50;
    let mut databases = 0;
    for number in 0..count {
        let user = format!("user{number}");
        let client = stage.login(&user, &format!("{user} secret"));
        // An earlier one's idle upstream makes room in the next pass.
        stage.wait(10);
        assert!(stage.clients[client].is_ready, "{user}");
        stage.query(client);
        stage.leave(client);
        databases = databases.max(stage.shard.databases.len());
        // Those with an upstream are in use.
        assert!(left(&stage)[0] <= 50 + 4 + 1, "{:?}", left(&stage));
    }
    assert!(databases <= 50 + 4 + 2, "{databases}");
    stage.wait(3_000_000);
    assert_eq!(stage.open(), 0);
    assert_eq!(left(&stage), [50, 50, 50, 0, 0, 0]);
    // Whoever comes back is let in as before, known or not.
    for user in ["user0", "user1999"] {
        let client = stage.login(user, &format!("{user} secret"));
        assert!(stage.clients[client].is_ready, "{user}");
        stage.query(client);
        assert_eq!(stage.clients[client].answers, 1);
    }
}

#[test]
fn keeps_name_when_a_client_has_it_and_no_upstream() {
    let mut stage = relay(1, &[("free", Asks::Nothing), ("other", Asks::Nothing)]);
    stage.shard.limits.identities_idle_max = 0;
    stage.meaning = Statement::Write;
    let client = stage.login("free", "");
    let other = stage.login("other", "");
    stage.wait(100);
    stage.query(other);
    stage.wait(100);
    stage.query(client);
    stage.wait(100);
    assert_eq!(
        (stage.clients[client].answers, stage.clients[other].answers),
        (1, 1)
    );
    assert_eq!(left(&stage)[0], 2);
}

#[test]
fn closes_no_last_connection_of_others_when_a_login_has_proven_nothing() {
    let asks = [
        ("one", Asks::Md5),
        ("two", Asks::Scram),
        ("three", Asks::Md5),
    ];
    let mut stage = relay(2, &asks);
    let inside = ["one", "two"].map(|name| stage.login(name, &format!("{name} secret")));
    for password in ["wrong", "three secret"] {
        let outside = stage.login("three", password);
        stage.wait(50_000);
        assert!(!stage.clients[outside].is_closed, "it may still get a turn");
        stage.wait(15_000);
        let (sqlstate, message) = &stage.clients[outside].errors[0];
        assert_eq!(sqlstate, "53300");
        assert!(
            message.contains("service \"app\"") && message.contains("60 s"),
            "{message}"
        );
        assert!(stage.clients[outside].is_closed);
    }
    for client in inside {
        stage.query(client);
        assert_eq!(stage.clients[client].answers, 1, "{:?}", stage.log);
    }
    // With its last client goes whatever kept the connection.
    let outside = stage.login("three", "three secret");
    stage.wait(5_000);
    stage.leave(inside[0]);
    stage.wait(2_000);
    assert!(stage.clients[outside].is_ready);
    assert!(stage.held() <= 2);
}

#[test]
fn closes_no_last_connection_when_it_is_busy_and_a_login_waits() {
    let mut stage = relay(
        2,
        &[("one", Asks::Md5), ("two", Asks::Md5), ("x", Asks::Md5)],
    );
    stage.meaning = Statement::Write;
    let inside = ["one", "one", "two"].map(|name| {
        let client = stage.login(name, &format!("{name} secret"));
        stage.wait(100);
        client
    });
    assert!(inside.iter().all(|&client| stage.clients[client].is_ready));
    stage.holds_answers = true;
    let outside = stage.login("x", "x secret");
    for _ in 0..50 {
        inside.iter().for_each(|&client| stage.query(client));
        stage.wait(100);
        stage.answer_one_each();
    }
    let lost = inside
        .iter()
        .filter(|&&client| stage.clients[client].is_closed);
    assert_eq!(lost.count(), 0, "{:?}", stage.log);
    assert!(!stage.clients[outside].is_ready);
}

/// A client keeps two requests under way, until `done` or so many answers; says whether it is done.
fn press(
    stage: &mut Stage,
    busy: usize,
    answers_max: usize,
    mut done: impl FnMut(&Stage) -> bool,
) -> bool {
    stage.holds_answers = true;
    stage.query(busy);
    stage.query(busy);
    for _ in 0..answers_max {
        stage.wait(10);
        if done(stage) {
            return true;
        }
        let before = stage.clients[busy].answers;
        stage.answer_one_each();
        for _ in before..stage.clients[busy].answers {
            stage.query(busy);
        }
    }
    false
}

#[test]
fn gives_others_their_turn_when_a_client_always_has_more_to_send() {
    for meaning in [Statement::Begin, Statement::Write, Statement::Read] {
        let mut stage = relay(1, &[("free", Asks::Nothing), ("next", Asks::Nothing)]);
        stage.meaning = meaning.clone();
        let busy = stage.login("free", "");
        let other = stage.login("free", "");
        stage.query(busy);
        stage.holds_answers = true;
        stage.query(other);
        let is_answered = |stage: &Stage| stage.clients[other].answers > 0;
        assert!(press(&mut stage, busy, 20, is_answered), "{meaning:?}");
        // The first look at the catalog's version ends as well, which would give others a chance.
        press(&mut stage, busy, 30, |_| false);
        let next = stage.login("next", "");
        let is_in = |stage: &Stage| stage.clients[next].is_ready;
        assert!(press(&mut stage, busy, 20, is_in), "{meaning:?}");
    }
}

#[test]
fn lets_a_lease_go_on_when_nobody_waits() {
    let mut stage = relay(1, &[("free", Asks::Nothing)]);
    stage.meaning = Statement::Begin;
    let busy = stage.login("free", "");
    let is_done = |stage: &Stage| stage.clients[busy].answers == 50;
    assert!(press(&mut stage, busy, 60, is_done));
    // A look at the catalog may come between, now and then.
    assert!(stage.shard.stats().leases <= 2, "one lease for all of it");
}
