//! What a session of Redis has of its own: database, user, version, name, and which replies it wants.
//!
//! Every script is compared with the node's own answers, and nobody's state shows in another's.

use std::time::Duration;

use manifold_tests::harness::resp::commands;
use manifold_tests::harness::{Duet, RedisOptions, compare_both, compare_redis};

#[test]
fn goes_to_other_databases_and_back() {
    compare_both(|scene, one| {
        one.ask_all(&[
            "SET a zero",
            "SELECT 1",
            "GET a",
            "SET a one",
            "SELECT 15",
            "SET a fifteen",
            "SELECT 0",
            "GET a",
            "SELECT 1",
            "GET a",
            "DBSIZE",
            "SELECT 16",
            "GET a",
            "SELECT -1",
            "GET a",
            "SELECT 99999999999",
            "SELECT x",
            "SELECT",
            "SELECT 1 2",
            "SELECT 01",
            "GET a",
            "SELECT 2147483647",
            "SELECT 2147483648",
            "MOVE a 2",
            "SELECT 2",
            "GET a",
            "COPY a a DB 3",
            "SELECT 3",
            "GET a",
            "SWAPDB 0 3",
            "GET a",
        ]);
        let mut other = scene.client("other");
        other.ask_all(&["GET a", "SELECT 15", "GET a", "SELECT 0", "GET a"]);
        one.ask("GET a");
    });
}

#[test]
fn keeps_the_databases_of_sessions_apart() {
    compare_redis(|scene| {
        let mut clients: Vec<_> = (0..8).map(|_| scene.client("client")).collect();
        for round in 0..3 {
            for (number, client) in clients.iter_mut().enumerate() {
                client.ask(&format!("SELECT {}", (number + round) % 4));
                client.ask(&format!("SET mine {number}"));
            }
            clients
                .iter_mut()
                .for_each(|client| drop(client.ask("GET mine")));
        }
    });
}

#[test]
fn names_sessions_and_forgets_names_on_reset() {
    compare_both(|scene, one| {
        one.ask_all(&[
            "CLIENT GETNAME",
            "CLIENT SETNAME me",
            "CLIENT GETNAME",
            "CLIENT SETNAME",
            "SELECT 1",
            "CLIENT GETNAME",
            "CLIENT SETNAME a b",
            "CLIENT GETNAME",
        ]);
        one.ask_of(&[b"CLIENT", b"SETNAME", b"with space"]);
        one.ask_of(&[b"CLIENT", b"SETNAME", b"with\nline"]);
        one.ask_of(&[b"CLIENT", b"SETNAME", b"\x80"]);
        one.ask_all(&["CLIENT GETNAME", "CLIENT GETNAME x"]);
        one.ask_of(&[b"CLIENT", b"SETNAME", b""]);
        one.ask("CLIENT GETNAME");
        let mut other = scene.client("other");
        other.ask("CLIENT GETNAME");
        one.ask_all(&["CLIENT SETNAME again", "RESET", "CLIENT GETNAME", "SET a 1"]);
        other.ask("GET a");
    });
}

#[test]
fn answers_what_a_session_says_of_itself() {
    compare_both(|_, one| {
        one.ask_all(&[
            "CLIENT NO-EVICT on",
            "CLIENT NO-EVICT off",
            "CLIENT NO-EVICT maybe",
            "CLIENT NO-EVICT",
            "CLIENT GETREDIR",
            "CLIENT ID x",
            "CLIENT HELP",
            "CLIENT NOPE",
            "CLIENT REPLY",
            "CLIENT REPLY MAYBE",
            "CLIENT REPLY ON",
            "CLIENT SETINFO LIB-NAME x",
            "CLIENT NO-TOUCH on",
            "CLIENT UNBLOCK x",
            "CLIENT UNBLOCK 999999",
            "CLIENT CACHING YES",
            "CLIENT TRACKINGINFO",
            "PING",
        ]);
    });
}

#[test]
fn gives_every_session_a_number_of_its_own() {
    compare_redis(|scene| {
        let mut numbers = std::collections::BTreeSet::new();
        let mut clients: Vec<_> = (0..20).map(|_| scene.client("client")).collect();
        for client in &mut clients {
            let number = client.resp.ask("CLIENT ID");
            assert_eq!(client.resp.ask("CLIENT ID"), number);
            client.resp.ask("SELECT 1");
            assert_eq!(client.resp.ask("CLIENT ID"), number, "it moved");
            assert!(numbers.insert(number), "two clients of one number");
        }
    });
}

#[test]
fn says_hello_in_every_way() {
    compare_redis(|scene| {
        let mut one = scene.client("one");
        one.ask_all(&[
            "HELLO",
            "HELLO 3",
            "HGETALL none",
            "HELLO",
            "HELLO 2",
            "HGETALL none",
            "HELLO 4",
            "HELLO 1",
            "HELLO x",
            "HELLO 3 SETNAME me",
            "CLIENT GETNAME",
            "HELLO 2 SETNAME",
            "HELLO 3 AUTH",
            "HELLO 3 AUTH a",
            "HELLO 3 AUTH default x",
            "HELLO 3 AUTH nobody x",
            "HELLO 3 NOPE",
            "HELLO 3 SETNAME you AUTH default x NOPE",
            "CLIENT GETNAME",
            "HELLO 2 AUTH nobody x SETNAME you",
            "CLIENT GETNAME",
            "HGETALL none",
            "HELLO 3 SETNAME a SETNAME b",
            "CLIENT GETNAME",
            "hello 2 setname lower",
            "CLIENT GETNAME",
            "HELLO 99999999999999999999",
        ]);
        one.ask_of(&[b"HELLO", b"3", b"SETNAME", b"a b"]);
        one.ask_all(&[
            "HGETALL none",
            "HELLO 3",
            "SELECT 2",
            "HGETALL none",
            "RESET",
            "HGETALL none",
        ]);
        let mut other = scene.client("other");
        other.ask_all(&["HGETALL none", "CLIENT GETNAME"]);
    });
}

/// A node with a password for everybody and two users.
fn locked() -> Duet {
    Duet {
        node: RedisOptions {
            settings: [
                "requirepass secret",
                "user reader on >read ~r:* &* +get +select +hello +ping +multi +exec +watch +acl|whoami",
                "user writer on >write ~* &* +@all -flushall",
                "user off off >off ~* +@all",
            ]
            .map(str::to_owned)
            .to_vec(),
            password: Some("secret".to_owned()),
        },
        ..Duet::default()
    }
}

#[test]
fn asks_for_a_password_as_the_node_does() {
    locked().play(|scene| {
        let mut one = scene.client("one");
        one.ask_all(&[
            "GET a",
            "PING",
            "SELECT 1",
            "MULTI",
            "EXEC",
            "CLIENT ID",
            "CLIENT SETNAME x",
            "HELLO",
            "HELLO 3",
            "AUTH wrong",
            "AUTH",
            "AUTH a b c",
            "AUTH default wrong",
            "GET a",
            "AUTH secret",
            "GET a",
            "CLIENT GETNAME",
            "AUTH wrong",
            "GET a",
            "AUTH default secret",
            "GET a",
            "SET a 1",
            "RESET",
            "GET a",
            "AUTH secret",
            "GET a",
        ]);
        let mut other = scene.client("other");
        other.ask("GET a");
        other.ask("NOSUCH");
        other.ask("COMMAND COUNT");
        other.say(&commands(&["GET a", "AUTH secret", "GET a"]), 3);
        scene.client("hello").ask_all(&[
            "HELLO 3 AUTH default wrong",
            "HELLO 3 AUTH default secret SETNAME me",
            "GET a",
            "CLIENT GETNAME",
            "HGETALL none",
        ]);
        let mut quitter = scene.client("quitter");
        quitter.begin(&commands(&["GET a", "QUIT"]));
        quitter.hear_end();
    });
}

#[test]
fn lets_users_do_what_they_may_and_no_more() {
    locked().play(|scene| {
        let mut admin = scene.client("admin");
        admin.ask_all(&["AUTH secret", "SET r:a 1", "SET b 2"]);
        let mut reader = scene.client("reader");
        reader.ask_all(&[
            "AUTH reader wrong",
            "GET r:a",
            "AUTH reader read",
            "GET r:a",
            "GET b",
            "SET r:a 2",
            "ACL WHOAMI",
            "SELECT 1",
            "GET r:a",
            "SELECT 0",
            "GET r:a",
            "KEYS *",
            "BLPOP r:a 1",
            "MULTI",
            "SET r:a 5",
            "EXEC",
            "HELLO 3",
            "GET r:a",
            "HELLO 3 AUTH off off",
            "GET r:a",
            "HELLO 2 AUTH writer write",
            "SET b 3",
            "ACL WHOAMI",
            "FLUSHALL",
            "AUTH reader read",
            "SET b 4",
            "QUIT",
        ]);
        reader.hear_end();
        admin.ask_all(&["GET b", "ACL WHOAMI"]);
        let mut stranger = scene.client("stranger");
        stranger.ask_all(&["GET b", "AUTH writer read", "GET b"]);
    });
}

#[test]
fn moves_between_users_amid_a_pipeline() {
    locked().play(|scene| {
        let lines = [
            "AUTH secret",
            "SET b 1",
            "AUTH reader read",
            "SET b 2",
            "GET b",
            "AUTH writer write",
            "SELECT 3",
            "SET b 3",
            "AUTH writer wrong",
            "GET b",
            "SELECT 0",
            "GET b",
            "HELLO 3",
            "HGETALL none",
            "RESET",
            "GET b",
        ];
        scene.client("one").say(&commands(&lines), lines.len());
    });
}

#[test]
fn gives_no_replies_to_who_wants_none() {
    compare_both(|scene, one| {
        one.begin(&commands(&[
            "CLIENT REPLY OFF",
            "SET a 1",
            "GET a",
            "KEYS *",
            "NOSUCH",
        ]));
        one.begin(&commands(&[
            "SELECT 1",
            "SET a 2",
            "CLIENT SETNAME x",
            "MULTI",
            "INCR n",
            "EXEC",
        ]));
        one.hear_nothing(Duration::from_millis(60));
        one.ask("CLIENT REPLY ON");
        one.ask_all(&["GET a", "CLIENT GETNAME", "GET n"]);
        one.begin(&commands(&["CLIENT REPLY SKIP", "SET a 3", "GET a"]));
        one.hear();
        one.begin(&commands(&[
            "CLIENT REPLY SKIP",
            "CLIENT REPLY SKIP",
            "GET a",
            "INCR a",
        ]));
        one.hear();
        one.begin(&commands(&[
            "CLIENT REPLY OFF",
            "CLIENT REPLY SKIP",
            "GET a",
            "GET a",
        ]));
        one.hear_nothing(Duration::from_millis(60));
        one.begin(&commands(&[
            "CLIENT REPLY SKIP",
            "CLIENT REPLY ON",
            "GET a",
        ]));
        one.hear();
        one.hear();
        scene.client("other").ask("GET a");
    });
}

#[test]
fn skips_the_reply_to_a_transaction_or_a_wait() {
    compare_both(|_, one| {
        one.begin(&commands(&[
            "CLIENT REPLY SKIP",
            "BLPOP none 0.01",
            "GET a",
        ]));
        one.hear();
        one.begin(&commands(&[
            "CLIENT REPLY SKIP",
            "SELECT 1",
            "SET a one",
            "GET a",
        ]));
        one.hear();
        one.hear();
        one.begin(&commands(&[
            "CLIENT REPLY SKIP",
            "MULTI",
            "GET a",
            "EXEC",
            "GET a",
        ]));
        one.hear();
        one.hear();
        one.hear();
        one.begin(&commands(&["CLIENT REPLY SKIP", "HELLO 3", "HGETALL none"]));
        one.hear();
    });
}

#[test]
fn begins_anew_after_reset() {
    compare_both(|scene, one| {
        one.ask_all(&[
            "SELECT 3",
            "SET a 3",
            "CLIENT SETNAME x",
            "RESET",
            "GET a",
            "CLIENT GETNAME",
        ]);
        one.ask_all(&[
            "HELLO 3",
            "RESET",
            "HGETALL none",
            "RESET",
            "RESET x",
            "RESET",
        ]);
        one.ask_all(&[
            "MULTI", "INCR n", "RESET", "GET n", "EXEC", "MULTI", "SELECT 3", "RESET", "GET a",
        ]);
        one.ask_all(&["WATCH a", "RESET"]);
        scene.client("other").ask("SET a 9");
        one.ask_all(&["MULTI", "PING", "EXEC"]);
        one.begin(&commands(&["CLIENT REPLY OFF", "RESET"]));
        one.hear();
        one.ask("PING");
    });
}
