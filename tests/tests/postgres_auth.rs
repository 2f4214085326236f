//! Logging in: relayed to the node in each of its ways, or checked against a users file.

use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use manifold_tests::harness::{
    Folder, Login, Node, NodeOptions, Place, ProxyOptions, Target, Wire, places,
};

/// A node that asks every user in another way.
fn node() -> &'static Node {
    static NODE: OnceLock<Node> = OnceLock::new();
    NODE.get_or_init(|| {
        let access = [
            "host all plain all password",
            "host all hashed all md5",
            "host all scrammed all scram-sha-256",
            "host all refused all reject",
            "host all peered all ident",
        ];
        let access = access.iter().map(|line| (*line).to_owned()).collect();
        let node = Node::start(&NodeOptions {
            access,
            ..Default::default()
        });
        node.execute(
            "set password_encryption = 'md5'; create role hashed login password 'secret md5'; \
             set password_encryption = 'scram-sha-256'; \
             create role scrammed login password 'secret scram'; \
             create role plain login password 'secret plain'; \
             create role refused login; create role peered login; create role trusted login; \
             create role expired login password 'x' valid until '2001-01-01'; \
             create role nologin; create role single login connection limit 0",
        );
        node
    })
}

/// The users that have a password.
const USERS: &[(&str, &str)] = &[
    ("plain", "secret plain"),
    ("hashed", "secret md5"),
    ("scrammed", "secret scram"),
];

/// Logs in with a password.
fn enter(target: &Target, user: &str, password: &str) -> Result<Wire, (String, String)> {
    Wire::login(target, &Login::new(user, "postgres").password(password)).map_err(|reply| {
        let error = reply.error().unwrap_or_default();
        let field = |letter| error.get(&letter).cloned().unwrap_or_default();
        (field('C'), field('M'))
    })
}

/// Places in front of the node, the node itself among them.
fn all_places(options: &ProxyOptions) -> Vec<Place> {
    places(node(), options)
}

#[test]
fn relays_the_login_to_a_node_that_asks() {
    for place in all_places(&ProxyOptions::default()) {
        for (user, password) in USERS {
            let mut wires: Vec<Wire> = (0..2)
                .map(|_| enter(&place.target, user, password).expect("the right password"))
                .collect();
            for wire in &mut wires {
                assert_eq!(wire.value("select current_user"), *user);
                assert_eq!(wire.value("select session_user"), *user);
                wire.query("begin");
                assert_eq!(wire.value("select current_user"), *user);
                wire.query("commit");
            }
        }
    }
}

#[test]
fn refuses_a_wrong_password_in_the_nodes_words() {
    for place in all_places(&ProxyOptions::default()) {
        for (user, password) in USERS {
            for wrong in [
                "",
                "wrong",
                &format!("{password} "),
                &password.to_uppercase(),
            ] {
                let direct = enter(&node().target(), user, wrong).expect_err("a wrong password");
                let proxied = enter(&place.target, user, wrong).expect_err("a wrong password");
                assert_eq!(proxied, direct, "{user} with {wrong:?}");
                assert!(proxied.0.starts_with("28"), "{proxied:?}");
            }
            let mut wire = enter(&place.target, user, password).expect("the right password");
            assert_eq!(wire.value("select 1"), "1");
        }
    }
}

#[test]
fn refuses_whom_the_node_refuses() {
    for place in all_places(&ProxyOptions::default()) {
        for user in ["refused", "nologin", "nobody_known", "single"] {
            let direct = enter(&node().target(), user, "x").expect_err("not let in");
            let proxied = enter(&place.target, user, "x").expect_err("not let in");
            assert_eq!(proxied, direct, "{user}");
        }
    }
}

#[test]
fn passes_trust_on_to_loopback_clients() {
    for place in all_places(&ProxyOptions {
        connections_max: 2,
        ..Default::default()
    }) {
        let mut wires: Vec<Wire> = (0..6)
            .map(|_| Wire::login(&place.target, &Login::new("trusted", "postgres")).expect("trust"))
            .collect();
        for wire in &mut wires {
            assert_eq!(wire.value("select current_user"), "trusted");
        }
        let Some(proxy) = &place.proxy else { continue };
        let unix = Target::Unix(proxy.socket());
        let mut wire = Wire::login(&unix, &Login::new("trusted", "postgres")).expect("trust");
        assert_eq!(wire.value("select current_user"), "trusted");
    }
}

#[test]
fn never_runs_one_user_as_another() {
    for place in all_places(&ProxyOptions {
        connections_max: 4,
        ..Default::default()
    }) {
        thread::scope(|scope| {
            for number in 0..9 {
                let target = &place.target;
                scope.spawn(move || {
                    let (user, password) = USERS[number % USERS.len()];
                    for _ in 0..4 {
                        let mut wire = enter(target, user, password).expect("the right password");
                        for _ in 0..5 {
                            assert_eq!(wire.value("select current_user"), user);
                        }
                    }
                });
            }
        });
    }
}

#[test]
fn checks_clients_against_a_users_file() {
    let folder = Folder::new("users");
    let mut admin = node().admin("postgres");
    let hash = admin.value("select rolpassword from pg_authid where rolname = 'hashed'");
    let text = format!(
        "\"plain\" \"secret plain\"\n\"hashed\" \"{hash}\"\n; a comment\n\"scrammed\" \"secret scram\"\n\
         \"trusted\" \"a \"\"quoted\"\" one\"\n"
    );
    for place in all_places(&ProxyOptions::with_users(&folder, &text)) {
        if place.proxy.is_none() {
            continue;
        }
        for (user, password) in USERS
            .iter()
            .copied()
            .chain([("trusted", "a \"quoted\" one")])
        {
            let mut wire = enter(&place.target, user, password).expect("the right password");
            assert_eq!(wire.value("select current_user"), user);
            let mut other = enter(&place.target, user, password).expect("the right password");
            assert_eq!(other.value("select 1"), "1");
            let wrong = enter(&place.target, user, "wrong").expect_err("a wrong password");
            assert_eq!(wrong.0, "28P01");
            // In the words of the node, which asks all of them but one.
            if user != "trusted" {
                let direct = enter(&node().target(), user, "wrong").expect_err("wrong");
                assert_eq!(wrong, direct);
            }
        }
        // Who is unknown is told what who is wrong is told.
        let unknown = enter(&place.target, "nobody_known", "x").expect_err("unknown");
        let wrong = enter(&place.target, "plain", "x").expect_err("wrong");
        assert_eq!(unknown.0, wrong.0);
        assert_eq!(unknown.1.replace("nobody_known", "plain"), wrong.1);
        let unlisted = enter(&place.target, "refused", "x").expect_err("not in the file");
        assert_eq!(unlisted.0, "28P01");
    }
}

#[test]
fn makes_room_for_logins_that_need_an_upstream_of_their_own() {
    // SCRAM and md5 leave no secret with the proxy, so each login has to open its upstream; one for
    // each of their users stays, and the third serves the others in turn.
    for place in all_places(&ProxyOptions {
        connections_max: 3,
        ..Default::default()
    }) {
        let mut wires: Vec<Wire> = Vec::new();
        for (user, password) in USERS.repeat(3) {
            wires.push(enter(&place.target, user, password).expect("room is made"));
            thread::sleep(Duration::from_millis(5));
        }
        for wire in &mut wires {
            assert_eq!(wire.value("select 1"), "1");
        }
    }
}

#[test]
fn refuses_a_login_that_could_only_go_on_at_the_cost_of_others() {
    for place in all_places(&ProxyOptions {
        connections_max: 2,
        limits: vec!["login_time_max = \"3s\"".to_owned()],
        ..Default::default()
    }) {
        if place.proxy.is_none() {
            continue;
        }
        let mut inside = USERS[1..]
            .iter()
            .map(|(user, password)| enter(&place.target, user, password).expect("there is room"))
            .collect::<Vec<Wire>>();
        for password in ["wrong", "secret plain"] {
            let (sqlstate, message) =
                enter(&place.target, "plain", password).expect_err("there is no room");
            assert_eq!(sqlstate, "53300", "{message}");
            assert!(
                message.contains("\"test\"") && message.contains("within 3 s"),
                "{message}"
            );
        }
        for (wire, (user, _)) in inside.iter_mut().zip(&USERS[1..]) {
            assert_eq!(wire.value("select current_user"), *user);
        }
        inside.pop();
        let mut late = enter(&place.target, "plain", "secret plain").expect("there is room again");
        assert_eq!(late.value("select 1"), "1");
    }
}
