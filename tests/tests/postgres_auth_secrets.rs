//! What becomes of the secrets of logins: who can be logged in again without them, who has to
//! reconnect, and that nothing is left of logins that were never finished.

use std::fs;
use std::process::Command;
use std::time::Duration;

use manifold_tests::harness::frames::{frame, startup};
use manifold_tests::harness::node::bin;
use manifold_tests::harness::process::wait_for;
use manifold_tests::harness::{
    Folder, Login, Node, NodeOptions, Place, ProxyOptions, Target, Wire, places,
};

/// The users, their passwords and how the node asks for them.
const USERS: [(&str, &str, &str); 3] = [
    ("plain", "secret plain", "password"),
    ("hashed", "secret md5", "md5"),
    ("scrammed", "secret scram", "scram-sha-256"),
];

/// A node of the test's own that asks every user in another way.
fn node() -> Node {
    let mut access: Vec<String> = USERS
        .iter()
        .map(|(user, _, method)| format!("host all {user} all {method}"))
        .collect();
    access.push("host all expired all scram-sha-256".to_owned());
    let node = Node::start(&NodeOptions {
        access,
        ..Default::default()
    });
    node.execute(
        "set password_encryption = 'md5'; create role hashed login password 'secret md5'; \
         set password_encryption = 'scram-sha-256'; \
         create role scrammed login password 'secret scram'; \
         create role plain login password 'secret plain'; \
         create role expired login password 'x' valid until '2001-01-01'",
    );
    node
}

/// SQLSTATE and message of a refusal.
type Words = (String, String);

/// Logs in with a password.
fn enter(target: &Target, user: &str, password: &str) -> Result<Wire, Words> {
    enter_database(target, user, password, "postgres")
}

/// Logs in to a database.
fn enter_database(
    target: &Target,
    user: &str,
    password: &str,
    database: &str,
) -> Result<Wire, Words> {
    Wire::login(target, &Login::new(user, database).password(password)).map_err(|reply| {
        let error = reply.error().unwrap_or_default();
        let field = |letter| error.get(&letter).cloned().unwrap_or_default();
        (field('C'), field('M'))
    })
}

/// How many sessions the node has for those who are no superuser.
fn sessions(node: &Node) -> usize {
    let count = node
        .admin("postgres")
        .value("select count(*) from pg_stat_activity where usename <> 'postgres'");
    count.parse().expect("a number")
}

#[test]
fn refuses_in_the_nodes_words_whatever_the_way_of_asking() {
    let node = node();
    for place in places(&node, &ProxyOptions::default()) {
        for (user, password, _) in USERS {
            let direct = enter_database(&node.target(), user, password, "no_such")
                .expect_err("there is no such database");
            let proxied = enter_database(&place.target, user, password, "no_such")
                .expect_err("there is no such database");
            assert_eq!(proxied, direct, "{user}");
            assert_eq!(proxied.0, "3D000");
        }
        let direct = enter(&node.target(), "expired", "x").expect_err("long ago");
        let proxied = enter(&place.target, "expired", "x").expect_err("long ago");
        assert_eq!(proxied, direct);
    }
}

#[test]
fn relays_over_a_unix_socket() {
    let node = node();
    for place in places(&node, &ProxyOptions::default()) {
        let Some(proxy) = &place.proxy else { continue };
        for (user, password, _) in USERS {
            let target = Target::Unix(proxy.socket());
            let mut wire = enter(&target, user, password).expect("the right password");
            assert_eq!(wire.value("select current_user"), user);
            assert_eq!(enter(&target, user, "wrong").expect_err("wrong").0, "28P01");
        }
    }
}

#[test]
fn logs_psql_in() {
    let node = node();
    for place in places(&node, &ProxyOptions::default()) {
        let Target::Tcp(address) = &place.target else {
            unreachable!("places are on loopback")
        };
        let psql = |user: &str, password: Option<&str>| {
            let mut command = Command::new(bin("psql"));
            command
                .args(["-XAtw", "-h", "127.0.0.1", "-U", user, "-d", "postgres"])
                .args(["-p", &address.port().to_string()])
                .args(["-c", "select current_user"])
                .env_remove("PGPASSWORD");
            if let Some(password) = password {
                command.env("PGPASSWORD", password);
            }
            let output = command.output().expect("psql runs");
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
            (text(&output.stdout), text(&output.stderr))
        };
        for (user, password, _) in USERS {
            assert_eq!(psql(user, Some(password)), (user.to_owned(), String::new()));
            let (_, said) = psql(user, None);
            assert!(said.contains("no password supplied"), "{said}");
            let (_, said) = psql(user, Some("wrong"));
            assert!(said.contains("password authentication failed"), "{said}");
        }
    }
}

#[test]
fn leaves_nothing_behind_when_logins_are_not_finished() {
    let node = node();
    let options = ProxyOptions {
        connections_max: 2,
        ..Default::default()
    };
    for place in places(&node, &options) {
        for round in 0..12 {
            let (user, ..) = USERS[round % USERS.len()];
            let login = Login::new(user, "postgres");
            let mut wire = Wire::open(&place.target).expect("it accepts");
            wire.send(&startup(3 << 16, &login.parameters));
            if round % 2 == 0 {
                assert_eq!(wire.frame().tag, b'R', "it is asked");
            }
            wire.vanish();
        }
        let mut wire = enter(&place.target, "scrammed", "secret scram").expect("there is room");
        assert_eq!(wire.value("select 1"), "1");
        drop(wire);
        let left = wait_for(Duration::from_secs(10), || {
            (sessions(&node) <= 2).then_some(())
        });
        assert!(
            left.is_some() || place.proxy.is_none(),
            "{}",
            sessions(&node)
        );
    }
}

#[test]
fn refuses_what_is_no_password() {
    let node = node();
    for place in places(&node, &ProxyOptions::default()) {
        for (user, ..) in USERS {
            for (bytes, message) in [
                (frame(b'Q', b"select 1\0"), "expected password response"),
                (vec![b'p', 0xff, 0xff, 0xff, 0xff], "invalid"),
            ] {
                let login = Login::new(user, "postgres");
                let mut wire = Wire::open(&place.target).expect("it accepts");
                wire.send(&startup(3 << 16, &login.parameters));
                assert_eq!(wire.frame().tag, b'R', "it is asked");
                wire.send(&bytes);
                let reply = wire.until_end();
                if place.proxy.is_some() {
                    let error = reply.error().expect("it is told why");
                    assert_eq!(error[&'C'], "08P01");
                    assert!(error[&'M'].contains(message), "{:?}", error[&'M']);
                }
            }
        }
    }
}

/// Waits until a client that has lost its only upstream was told.
fn told_to_reconnect(wire: &mut Wire) {
    let reply = wire.until_end();
    let error = reply.error().expect("it is told why");
    assert_eq!(
        (error[&'S'].as_str(), error[&'C'].as_str()),
        ("FATAL", "08006")
    );
    assert!(error[&'M'].contains("no secret"), "{:?}", error[&'M']);
}

/// A query that is answered, if not at once.
fn answered(place: &Place, wire: &mut Wire) {
    let value = wait_for(Duration::from_secs(20), || {
        let reply = wire.query("select 7");
        reply.error().is_none().then(|| reply.value())
    });
    let log = place.proxy.as_ref().map(|proxy| proxy.log());
    assert_eq!(value.as_deref(), Some("7"), "{log:?}");
}

#[test]
fn asks_clients_to_reconnect_where_no_secret_is_left() {
    let node = node();
    for place in places(&node, &ProxyOptions::default()) {
        let Some(proxy) = &place.proxy else { continue };
        let mut wires: Vec<Wire> = USERS
            .iter()
            .map(|(user, password, _)| {
                let mut wire = enter(&place.target, user, password).expect("the right password");
                assert_eq!(wire.value("select current_user"), *user);
                wire
            })
            .collect();
        node.crash();
        told_to_reconnect(&mut wires[1]);
        told_to_reconnect(&mut wires[2]);
        node.launch();
        // The password that was relayed opens another.
        answered(&place, &mut wires[0]);
        assert_eq!(wires[0].value("select current_user"), "plain");
        for (user, password, _) in &USERS[1..] {
            let entered = wait_for(Duration::from_secs(20), || {
                enter(&place.target, user, password).ok()
            });
            let mut wire = entered.expect("the node is back");
            assert_eq!(wire.value("select current_user"), *user);
        }
        let log = proxy.log();
        for (_, password, _) in USERS {
            assert!(!log.contains(password), "{log}");
        }
    }
}

#[test]
fn forgets_a_relayed_password_that_was_changed() {
    let node = node();
    for place in places(&node, &ProxyOptions::default()) {
        let mut wire = enter(&place.target, "plain", "secret plain").expect("right");
        assert_eq!(wire.value("select 1"), "1");
        node.execute("alter role plain password 'another'");
        let old = enter(&place.target, "plain", "secret plain").expect_err("changed");
        assert_eq!(old.0, "28P01");
        let mut new = enter(&place.target, "plain", "another").expect("the new one");
        assert_eq!(new.value("select current_user"), "plain");
        assert_eq!(wire.value("select 2"), "2");
        node.execute("alter role plain password 'secret plain'");
    }
}

#[test]
fn logs_in_with_a_verifier_that_is_the_nodes() {
    let node = node();
    let folder = Folder::new("users");
    let verifier = node
        .admin("postgres")
        .value("select rolpassword from pg_authid where rolname = 'scrammed'");
    let other = node.admin("postgres").value(
        "select replace(rolpassword, '$4096:', '$4097:') from pg_authid where rolname = 'plain'",
    );
    let text = format!("\"scrammed\" \"{verifier}\"\n\"plain\" \"{other}\"\n");
    for place in places(&node, &ProxyOptions::with_users(&folder, &text)) {
        if place.proxy.is_none() {
            continue;
        }
        let mut wire = enter(&place.target, "scrammed", "secret scram").expect("right");
        assert_eq!(wire.value("select current_user"), "scrammed");
        let wrong = enter(&place.target, "scrammed", "wrong").expect_err("wrong");
        assert_eq!(wrong.0, "28P01");
        node.crash();
        node.launch();
        answered(&place, &mut wire);
        let refused = enter(&place.target, "plain", "secret plain").expect_err("a verifier");
        // Its rounds are not those that its keys were made with.
        assert_eq!(refused.0, "28P01");
    }
}

#[test]
fn logs_all_users_of_a_file_in_again_when_the_node_restarts() {
    let node = node();
    let folder = Folder::new("users");
    let text: String = USERS
        .iter()
        .map(|(user, password, _)| format!("\"{user}\" \"{password}\"\n"))
        .collect();
    for place in places(&node, &ProxyOptions::with_users(&folder, &text)) {
        if place.proxy.is_none() {
            continue;
        }
        let mut wires: Vec<Wire> = USERS
            .iter()
            .map(|(user, password, _)| enter(&place.target, user, password).expect("right"))
            .collect();
        assert_eq!(
            sessions(&node),
            USERS.len(),
            "one upstream for each is enough"
        );
        node.crash();
        node.launch();
        for (wire, (user, ..)) in wires.iter_mut().zip(USERS) {
            answered(&place, wire);
            assert_eq!(wire.value("select current_user"), user);
        }
    }
}

/// What the proxy is told with SIGHUP.
const HANG_UP: i32 = 1;

#[test]
fn reads_the_users_file_again_on_sighup() {
    let node = node();
    let folder = Folder::new("users");
    let file = folder.join("userlist.txt");
    let options = ProxyOptions::with_users(&folder, "\"plain\" \"secret plain\"\n");
    for place in places(&node, &options) {
        let Some(proxy) = &place.proxy else { continue };
        fs::write(&file, "\"plain\" \"secret plain\"\n").expect("ours to write");
        proxy.signal(HANG_UP);
        let count = |text: &str| proxy.log().matches(text).count();
        let reloaded = |text: &str, times: usize| {
            let is_there = || (count(text) == times).then_some(());
            assert!(
                wait_for(Duration::from_secs(10), is_there).is_some(),
                "{text:?}:\n{}",
                proxy.log()
            );
        };
        reloaded("has been read again", 1);
        let mut early = enter(&place.target, "plain", "secret plain").expect("it is listed");
        enter(&place.target, "scrammed", "secret scram").expect_err("it is not listed");

        fs::write(&file, "\"scrammed\" \"secret scram\"\n").expect("ours to write");
        proxy.signal(HANG_UP);
        reloaded("has been read again", 2);
        // The letters to the shards are on their way when the line is written.
        let late = wait_for(Duration::from_secs(10), || {
            enter(&place.target, "scrammed", "secret scram").ok()
        });
        assert_eq!(late.expect("it is listed").value("select 1"), "1");
        let gone = enter(&place.target, "plain", "secret plain").expect_err("it is not listed");
        assert_eq!(gone.0, "28P01");
        assert_eq!(early.value("select current_user"), "plain");

        fs::write(&file, "; nobody\n\"scrammed \"secret scram\"\n").expect("ours to write");
        proxy.signal(HANG_UP);
        reloaded("not reloaded: ", 1);
        let log = proxy.log();
        let line = log.lines().find(|line| line.contains("not reloaded"));
        assert!(
            line.is_some_and(|line| line.contains("userlist.txt:2: ") && line.contains("WARN"))
        );
        assert!(log.contains("hint: a line is"), "{log}");
        assert!(!log.contains("secret scram"), "{log}");
        enter(&place.target, "scrammed", "secret scram").expect("the old file stays");
    }
}
