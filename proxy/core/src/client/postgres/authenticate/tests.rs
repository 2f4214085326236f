//! Logins of every kind, as events and operations.
//!
//! Each test says who asks whom for what, and looks at both ends: what the client was told and which
//! connections the node has.

use std::sync::Arc;

use manifold_protocols::postgres::authentication::md5::Hash;
use manifold_protocols::postgres::authentication::scram::Verifier;

use super::stage::{Asks, Stage};
use crate::auth::{Auth, Secret, Users};
use crate::event::Event;
use crate::ids::ServiceId;
use crate::proof::Statement;
use crate::random::Random;

const ASKING: [(&str, Asks); 3] = [
    ("clear", Asks::Cleartext),
    ("hashed", Asks::Md5),
    ("scrammed", Asks::Scram),
];

const OTHER_HOST: &str = "10.1.2.3:1000";

fn relay(connections_max: u32, asks: &[(&'static str, Asks)]) -> Stage {
    Stage::new(Auth::Relay, Users::default(), connections_max, asks)
}

fn users(secrets: &[(&str, Secret)]) -> Users {
    let by_name = secrets
        .iter()
        .map(|(name, secret)| (name.as_bytes().into(), secret.clone()));
    Users::new(by_name.collect())
}

fn plain(password: &str) -> Secret {
    Secret::Plain(password.as_bytes().into())
}

fn md5(name: &str, password: &str) -> Secret {
    let hash = Hash::derive(password.as_bytes(), name.as_bytes()).encode();
    Secret::Md5(String::from_utf8(hash.to_vec()).unwrap().into())
}

fn scram(password: &str, salt: &[u8]) -> Secret {
    Secret::Scram(
        Verifier::derive(password.as_bytes(), salt, 10)
            .encode()
            .into(),
    )
}

/// The only error of a client that was refused.
fn error(stage: &Stage, client: usize) -> (&str, &str) {
    let client = &stage.clients[client];
    assert!(client.is_closed && !client.is_ready, "{client:?}");
    assert_eq!(client.errors.len(), 1, "{client:?}");
    (&client.errors[0].0, &client.errors[0].1)
}

fn is_in(stage: &Stage, client: usize) -> bool {
    let client = &stage.clients[client];
    client.is_ready && !client.is_closed && client.errors.is_empty()
}

#[test]
fn relays_login_when_node_asks() {
    for (name, asked) in [
        ("clear", "cleartext"),
        ("hashed", "md5"),
        ("scrammed", "SCRAM-SHA-256"),
    ] {
        let mut stage = relay(8, &ASKING);
        for count in 1..=2 {
            let client = stage.login_from(OTHER_HOST, name, Some(&format!("{name} secret")));
            assert!(is_in(&stage, client), "{name}: {:?}", stage.clients[client]);
            assert_eq!(stage.clients[client].asked, [asked]);
            assert_eq!(stage.open(), count, "each login brings its upstream");
        }
        stage.query(1);
        assert_eq!(stage.clients[1].answers, 1);
    }
}

#[test]
fn relays_refusal_when_password_is_wrong() {
    for (name, _) in ASKING {
        let mut stage = relay(8, &ASKING);
        let first = stage.login(name, &format!("{name} secret"));
        let wrong = stage.login(name, "wrong");
        let expected = format!("the node says no to \"{name}\"");
        assert_eq!(error(&stage, wrong), ("28P01", expected.as_str()));
        assert_eq!(
            stage.open(),
            1,
            "the upstream of the refused login is closed"
        );
        assert_eq!(stage.held(), 1, "and its permit is back");
        // Nobody else has to wait for it.
        let next = stage.login(name, &format!("{name} secret"));
        assert!(is_in(&stage, first) && is_in(&stage, next));
        assert!(
            !stage.log.iter().any(|line| line.contains("wrong")),
            "{:?}",
            stage.log
        );
    }
}

#[test]
fn refuses_trusted_client_when_it_is_of_another_host() {
    let mut stage = relay(8, &[("free", Asks::Nothing)]);
    let far = stage.login_from(OTHER_HOST, "free", None);
    assert_eq!(error(&stage, far).0, "28000");
    let near = stage.login_from("127.0.0.1:1", "free", None);
    assert!(is_in(&stage, near));
    assert_eq!(stage.open(), 1, "what was granted is remembered");
    let far = stage.login_from("[::ffff:10.0.0.1]:5", "free", None);
    assert_eq!(error(&stage, far).0, "28000");
    assert!(stage.clients[far].asked.is_empty());
}

#[test]
fn tells_client_what_node_says_when_it_is_unknown_or_not_relayed() {
    let mut stage = relay(8, &[("ident", Asks::Ident), ("plus", Asks::ScramPlus)]);
    let unknown = stage.login("nobody", "x");
    assert_eq!(
        error(&stage, unknown),
        ("28000", "role \"nobody\" does not exist")
    );
    for name in ["ident", "plus"] {
        let client = stage.login(name, "x");
        let (sqlstate, message) = error(&stage, client);
        assert_eq!(sqlstate, "28000");
        assert!(message.contains("cannot be relayed"), "{message}");
    }
    assert_eq!((stage.open(), stage.held()), (0, 0));
}

#[test]
fn closes_upstream_when_client_leaves_in_mid_login() {
    for (name, _) in ASKING {
        let mut stage = relay(1, &ASKING);
        let client = stage.login_from("127.0.0.1:1", name, None);
        assert_eq!((stage.open(), stage.held()), (1, 1));
        stage.leave(client);
        assert!(stage.clients[client].is_closed);
        assert_eq!((stage.open(), stage.held()), (0, 0));
        let next = stage.login(name, &format!("{name} secret"));
        assert!(is_in(&stage, next));
    }
}

#[test]
fn refuses_client_when_it_sends_something_else_than_a_password() {
    let listed = users(&[("hashed", md5("hashed", "x")), ("clear", plain("x"))]);
    let stages = [
        relay(2, &ASKING),
        Stage::new(Auth::Users, listed, 2, &ASKING),
    ];
    for mut stage in stages {
        for name in ["hashed", "clear"] {
            let client = stage.login_from("127.0.0.1:1", name, None);
            stage.send(client, b"Q\0\0\0\x05\0");
            let expected = "expected password response, got message type 81";
            assert_eq!(error(&stage, client), ("08P01", expected));
        }
        assert_eq!((stage.open(), stage.held()), (0, 0));
        let client = stage.login_from("127.0.0.1:1", "hashed", None);
        stage.send(client, b"p\xff\xff\xff\xff");
        assert_eq!(error(&stage, client).0, "08P01");
        let client = stage.login_from("127.0.0.1:1", "hashed", None);
        stage.send(client, b"p\0\0\0\x05x");
        assert_eq!(
            error(&stage, client),
            ("08P01", "invalid password packet size")
        );
    }
}

#[test]
fn takes_password_when_it_comes_in_pieces() {
    let mut stage = relay(2, &ASKING);
    let client = stage.login_from("127.0.0.1:1", "clear", None);
    for byte in b"p\0\0\0\x11clear secret\0" {
        assert!(!stage.clients[client].is_ready);
        stage.send(client, &[*byte]);
    }
    assert!(is_in(&stage, client), "{:?}", stage.clients[client]);
}

#[test]
fn ends_clients_when_last_upstream_is_lost_and_nothing_can_open_another() {
    for (name, _) in &ASKING[1..] {
        let mut stage = relay(8, &ASKING);
        let client = stage.login(name, &format!("{name} secret"));
        let other = stage.login("clear", "clear secret");
        stage.crash();
        let (sqlstate, message) = stage.clients[client].errors[0].clone();
        assert_eq!(sqlstate, "08006");
        assert!(message.contains("no secret"), "{message}");
        assert!(stage.clients[client].is_closed);
        assert!(is_in(&stage, other), "whose password is known stays");
        let lines = stage
            .log
            .iter()
            .filter(|line| line.contains("reconnect"))
            .count();
        assert_eq!(lines, 1, "{:?}", stage.log);
        let again = stage.login(name, &format!("{name} secret"));
        stage.wait(100);
        assert!(is_in(&stage, again));
    }
}

#[test]
fn opens_another_when_a_relayed_password_is_known() {
    let mut stage = relay(8, &ASKING);
    let client = stage.login("clear", "clear secret");
    stage.crash();
    assert_eq!(stage.open(), 0);
    stage.query(client);
    stage.wait(100);
    assert_eq!(
        stage.clients[client].answers, 1,
        "{:?}",
        stage.clients[client]
    );
    // What the proxy knows is no client's proof.
    let wrong = stage.login("clear", "wrong");
    assert_eq!(error(&stage, wrong).0, "28P01");
    assert_eq!(stage.clients[wrong].asked, ["cleartext"]);
}

#[test]
fn forgets_relayed_password_when_node_refuses_it() {
    let mut stage = relay(8, &ASKING);
    let client = stage.login("clear", "clear secret");
    stage.crash();
    stage.users.get_mut("clear").unwrap().password = "changed";
    stage.query(client);
    stage.wait(5_000);
    assert!(stage.clients[client].is_closed);
    assert_eq!(stage.sessions.len(), 2, "it is tried once");
    let next = stage.login("clear", "changed");
    assert!(is_in(&stage, next));
}

#[test]
fn makes_room_when_logins_need_upstreams_of_their_own() {
    let mut stage = relay(1, &ASKING);
    let first = stage.login("hashed", "hashed secret");
    // The only upstream is the first client's: it is given up late, and for a login of the same
    // user nobody has to reconnect.
    let second = stage.login("hashed", "hashed secret");
    assert!(!stage.clients[second].is_ready);
    stage.wait(1_500);
    assert!(is_in(&stage, first) && is_in(&stage, second));
    assert_eq!((stage.open(), stage.held()), (1, 1));
}

#[test]
fn keeps_upstream_when_others_can_be_replaced() {
    let mut stage = relay(3, &[("free", Asks::Nothing), ("hashed", Asks::Md5)]);
    let free = stage.login("free", "");
    let hashed = stage.login("hashed", "hashed secret");
    let second = stage.login("hashed", "hashed secret");
    stage.wait(10);
    let third = stage.login("hashed", "hashed secret");
    assert!(
        [free, hashed, second, third]
            .iter()
            .all(|&client| is_in(&stage, client))
    );
    assert_eq!(stage.open(), 3);
    stage.query(free);
    stage.wait(2_000);
    assert_eq!(stage.clients[free].answers, 1);
}

#[test]
fn keeps_idle_upstream_when_it_is_the_last_of_clients() {
    let mut stage = relay(4, &ASKING);
    let client = stage.login("hashed", "hashed secret");
    let gone = stage.login("hashed", "hashed secret");
    stage.leave(gone);
    assert_eq!(stage.open(), 2);
    stage.wait(1_300_000);
    assert_eq!(stage.open(), 1);
    assert!(is_in(&stage, client));
}

#[test]
fn gives_slow_login_up_when_others_wait() {
    let mut stage = relay(1, &ASKING);
    let slow = stage.login_from("127.0.0.1:1", "hashed", None);
    stage.wait(20_000);
    assert!(!stage.clients[slow].is_closed, "nobody else is there");
    let next = stage.login("clear", "clear secret");
    stage.wait(11_000);
    assert_eq!(error(&stage, slow).0, "08P01");
    assert!(is_in(&stage, next));
}

#[test]
fn ends_login_when_it_lasts_too_long() {
    let mut stage = relay(1, &ASKING);
    let slow = stage.login_from("127.0.0.1:1", "hashed", None);
    stage.wait(61_000);
    assert_eq!(error(&stage, slow).0, "08P01");
    assert_eq!((stage.open(), stage.held()), (0, 0));
}

#[test]
fn closes_upstream_when_node_breaks_the_rules() {
    let mut stage = relay(4, &[("soon", Asks::TooSoon), ("silent", Asks::Silence)]);
    let client = stage.login_from("127.0.0.1:1", "soon", None);
    assert_eq!(error(&stage, client).0, "08006");
    assert_eq!((stage.open(), stage.held()), (0, 0));
    let client = stage.login("silent", "x");
    stage.wait(61_000);
    assert!(stage.clients[client].is_closed && !stage.clients[client].is_ready);
}

#[test]
fn checks_users_when_their_secrets_are_of_any_kind() {
    let listed = users(&[
        ("clear", plain("clear secret")),
        ("hashed", md5("hashed", "hashed secret")),
        ("scrammed", scram("scrammed secret", b"0123456789abcdef")),
        ("free", scram("free secret", b"fedcba9876543210")),
    ]);
    let asks = [ASKING.as_slice(), &[("free", Asks::Nothing)]].concat();
    let mut stage = Stage::new(Auth::Users, listed, 8, &asks);
    let methods = ["SCRAM-SHA-256", "md5", "SCRAM-SHA-256", "SCRAM-SHA-256"];
    for ((name, _), method) in asks.iter().zip(methods) {
        let password = format!("{name} secret");
        for _ in 0..2 {
            let client = stage.login_from(OTHER_HOST, name, Some(&password));
            assert!(is_in(&stage, client), "{name}: {:?}", stage.clients[client]);
            assert_eq!(stage.clients[client].asked, [method]);
        }
        let wrong = stage.login(name, "wrong");
        let expected = format!("password authentication failed for user \"{name}\"");
        assert_eq!(error(&stage, wrong), ("28P01", expected.as_str()));
    }
    assert_eq!(stage.open(), 4, "one for each user is enough");
    stage.crash();
    for (place, (name, _)) in asks.iter().enumerate() {
        stage.query(place * 3);
        stage.wait(100);
        assert_eq!(
            stage.clients[place * 3].answers,
            1,
            "{name} is opened again"
        );
    }
}

#[test]
fn treats_unknown_user_like_wrong_password() {
    let listed = users(&[("clear", plain("clear secret"))]);
    let mut stage = Stage::new(Auth::Users, listed, 8, &ASKING);
    for _ in 0..2 {
        let unknown = stage.login("nobody", "x");
        let wrong = stage.login("clear", "x");
        let (sqlstate, message) = error(&stage, unknown);
        assert_eq!(
            (sqlstate, message.replace("nobody", "clear").as_str()),
            error(&stage, wrong)
        );
        assert_eq!(stage.clients[unknown].asked, stage.clients[wrong].asked);
        let challenges = [&stage.clients[unknown].sasl, &stage.clients[wrong].sasl];
        let lens = challenges.map(|sasl| sasl.iter().map(Vec::len).collect::<Vec<_>>());
        assert_eq!(lens[0], lens[1]);
    }
    // The same salt at every try, for either.
    let salt = |place: usize| {
        let text = String::from_utf8(stage.clients[place].sasl[0].clone()).unwrap();
        text.split(',').nth(1).unwrap().to_owned()
    };
    assert_eq!((salt(0), salt(1)), (salt(2), salt(3)));
    assert_ne!(salt(0), salt(1));
    assert_eq!(stage.sessions.len(), 0, "the node hears of neither");
}

#[test]
fn shows_the_same_salts_after_a_restart() {
    let verifier = scram("stored secret", b"0123456789abcdef");
    let salts = |seed: u64, password: &str, stored: &Secret| {
        let listed = users(&[("clear", plain(password)), ("stored", stored.clone())]);
        let mut stage = Stage::new(Auth::Users, listed, 8, &ASKING);
        stage.shard.seed = seed;
        stage.shard.random = Random::new(seed, stage.shard.id);
        ["nobody", "clear", "stored"].map(|name| {
            let client = stage.login(name, "x");
            let text = String::from_utf8(stage.clients[client].sasl[0].clone()).unwrap();
            text.split(',').nth(1).unwrap().to_owned()
        })
    };
    let before = salts(1, "clear secret", &verifier);
    assert_eq!(salts(2, "clear secret", &verifier), before);
    // Nothing about a password can be learned from them.
    assert_eq!(salts(2, "another", &verifier), before);
    // They cannot be foreseen by who does not know the file.
    let other = salts(2, "clear secret", &scram("other", b"fedcba9876543210"));
    assert!(other.iter().zip(&before).all(|(one, other)| one != other));
}

#[test]
fn goes_by_the_new_file_when_users_change() {
    let listed = users(&[
        ("clear", plain("clear secret")),
        ("hashed", md5("hashed", "hashed secret")),
    ]);
    let mut stage = Stage::new(Auth::Users, listed, 8, &ASKING);
    let [clear, hashed] =
        ["clear", "hashed"].map(|name| stage.login(name, &format!("{name} secret")));
    stage.users.get_mut("clear").unwrap().password = "changed";
    let changed = users(&[
        ("clear", plain("changed")),
        ("scrammed", plain("scrammed secret")),
    ]);
    let event = Event::Users {
        service: ServiceId(0),
        users: Arc::new(changed),
    };
    stage.shard.handle_event(stage.now, event);
    // Those who are in stay, and the proxy logs them in by the new password.
    stage.crash();
    stage.query(clear);
    stage.query(hashed);
    stage.wait(100);
    assert_eq!(stage.clients[clear].answers, 1);
    assert_eq!(stage.clients[hashed].answers, 1);
    for (name, password, lets_in) in [
        ("clear", "clear secret", false),
        ("clear", "changed", true),
        ("hashed", "hashed secret", false),
        ("scrammed", "scrammed secret", true),
    ] {
        let client = stage.login(name, password);
        assert_eq!(is_in(&stage, client), lets_in, "{name} with {password}");
        if !lets_in {
            assert_eq!(error(&stage, client).0, "28P01");
        }
    }
}

#[test]
fn names_service_when_secret_does_not_fit_what_node_asks() {
    let listed = users(&[
        ("clear", md5("clear", "clear secret")),
        ("hashed", scram("hashed secret", b"0123456789abcdef")),
        ("scrammed", scram("scrammed secret", b"another salt 123")),
    ]);
    let mut stage = Stage::new(Auth::Users, listed, 8, &ASKING);
    for (name, _) in ASKING {
        let client = stage.login(name, &format!("{name} secret"));
        let (sqlstate, message) = error(&stage, client);
        assert_eq!(sqlstate, "28000");
        assert!(
            message.contains("service \"app\"") && message.contains(name),
            "{message}"
        );
    }
    assert_eq!((stage.open(), stage.held()), (0, 0));
}

#[test]
fn asks_nobody_when_service_trusts() {
    let asks = [("free", Asks::Nothing), ("hashed", Asks::Md5)];
    let mut stage = Stage::new(Auth::Trust, Users::default(), 8, &asks);
    let client = stage.login_from(OTHER_HOST, "free", None);
    assert!(is_in(&stage, client));
    let client = stage.login_from(OTHER_HOST, "hashed", None);
    assert_eq!(error(&stage, client).0, "28000");
    assert!(stage.clients[client].asked.is_empty());
}

#[test]
fn lets_login_in_when_all_upstreams_are_busy() {
    for meaning in [Statement::Read, Statement::Write, Statement::Call] {
        let mut stage = relay(2, &ASKING);
        stage.meaning = meaning.clone();
        let log_in = |_| stage.login("hashed", "hashed secret");
        let busy: Vec<usize> = (0..6).map(log_in).collect();
        stage.wait(3_000);
        assert!(busy.iter().all(|&client| is_in(&stage, client)));
        stage.holds_answers = true;
        for &client in &busy {
            stage.query(client);
        }
        let next = stage.login("scrammed", "scrammed secret");
        for _ in 0..30 {
            let before: Vec<usize> = stage.clients.iter().map(|client| client.answers).collect();
            stage.wait(100);
            stage.answer_one_each();
            // Each keeps a query under way.
            for &client in &busy {
                for _ in before[client]..stage.clients[client].answers {
                    stage.query(client);
                }
            }
        }
        assert!(
            is_in(&stage, next),
            "{meaning:?}: {:?}",
            stage.clients[next]
        );
        assert!(busy.iter().all(|&client| is_in(&stage, client)));
        assert!(stage.held() <= 2);
    }
}

#[test]
fn lets_nobody_in_because_the_proxy_knows_the_password() {
    let mut stage = relay(2, &ASKING);
    let client = stage.login("clear", "clear secret");
    stage.crash();
    stage.wait(1_000);
    // One login at a time has an upstream here, so the next one waits for it.
    let slow = stage.login_from("127.0.0.1:1", "clear", None);
    let wrong = stage.login("clear", "wrong");
    assert!(stage.clients[wrong].asked.is_empty());
    stage.query(client);
    assert_eq!(stage.clients[client].answers, 1, "the password is known");
    assert!(!stage.clients[wrong].is_ready);
    stage.leave(slow);
    stage.wait(2_000);
    assert_eq!(error(&stage, wrong).0, "28P01");
}

#[test]
fn opens_nothing_beyond_what_logins_brought_when_no_secret_is_there() {
    let mut stage = relay(3, &[("hashed", Asks::Md5)]);
    stage.meaning = Statement::Begin;
    let clients: Vec<usize> = (0..5)
        .map(|_| stage.login("hashed", "hashed secret"))
        .collect();
    // All but the last are closed when nobody has used them for long; the permits are free.
    stage.wait(3_000_000);
    assert!(clients.iter().all(|&client| is_in(&stage, client)));
    assert_eq!((stage.open(), stage.held()), (1, 1));
    let sessions = stage.sessions.len();
    stage.holds_answers = true;
    for &client in &clients {
        stage.query(client);
    }
    for _ in 0..20 {
        stage.wait(100);
        stage.answer_one_each();
    }
    assert_eq!(stage.sessions.len(), sessions, "nothing was tried");
    let answers = clients.iter().map(|&client| stage.clients[client].answers);
    assert_eq!(answers.collect::<Vec<_>>(), [1; 5]);
}

#[test]
fn closes_upstream_when_node_does_not_prove_itself() {
    let listed = users(&[("unproven", plain("unproven secret"))]);
    let mut stage = Stage::new(Auth::Users, listed, 4, &[("unproven", Asks::ScramUnproven)]);
    let client = stage.login("unproven", "unproven secret");
    stage.wait(10_000);
    assert_eq!(error(&stage, client).0, "08006");
    assert_eq!((stage.open(), stage.held()), (0, 0));
}
