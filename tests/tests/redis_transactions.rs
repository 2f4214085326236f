//! Transactions, watched keys and commands that wait: what a client does alone with the node.
//!
//! Every script is compared with the node's own answers; afterwards nothing of it may show to
//! anybody else.

use std::time::Duration;

use manifold_protocols::redis::resp::element::Elements;
use manifold_tests::harness::resp::{command, commands};
use manifold_tests::harness::{Duet, Resp, Scene, compare_both, compare_redis};

/// Nothing of a transaction is left where others are.
fn expect_clean(scene: &Scene) {
    let mut clients: Vec<_> = (0..6).map(|_| scene.client("later")).collect();
    for client in &mut clients {
        client.ask_all(&[
            "EXEC",
            "DISCARD",
            "GET clean",
            "HGETALL none",
            "CLIENT GETNAME",
        ]);
    }
    for client in &mut clients {
        client.ask_all(&["MULTI", "SET clean 1", "DISCARD", "BLPOP none 0.01"]);
    }
}

#[test]
fn runs_transactions_in_pieces() {
    compare_both(|scene, one| {
        one.ask_all(&[
            "MULTI",
            "SET a 1",
            "INCR a",
            "LPUSH a x",
            "GET a",
            "EXEC",
            "GET a",
            "MULTI",
            "EXEC",
            "MULTI",
            "SET a 5",
            "DISCARD",
            "GET a",
            "EXEC",
            "DISCARD",
            "MULTI",
            "MULTI",
            "INCR a",
            "EXEC",
            "MULTI",
            "NOSUCH",
            "INCR a",
            "EXEC",
            "MULTI",
            "GET",
            "EXEC",
            "MULTI",
            "EXEC x",
            "EXEC",
            "MULTI x",
            "MULTI",
            "DISCARD x",
            "DISCARD",
            "MULTI",
            "WATCH a",
            "EXEC",
            "MULTI",
            "UNWATCH",
            "EXEC",
            "MULTI",
            "HGETALL none",
            "DEBUG PROTOCOL map",
            "EXEC",
            "MULTI",
            "BLPOP none 0",
            "EXEC",
            "MULTI",
            "PING",
            "ECHO x",
            "COMMAND COUNT",
            "EXEC",
        ]);
        expect_clean(scene);
    });
}

#[test]
fn runs_transactions_of_one_write() {
    compare_both(|scene, one| {
        for lines in [
            &["MULTI", "SET a 1", "INCR a", "EXEC"][..],
            &["MULTI", "EXEC"],
            &["MULTI", "INCR a", "DISCARD"],
            &["MULTI", "LPUSH a x", "INCR a", "EXEC"],
            &["MULTI", "NOSUCH", "INCR a", "EXEC"],
            &["MULTI", "GET", "EXEC"],
            &["MULTI", "MULTI", "INCR a", "EXEC"],
            &["MULTI", "WATCH a", "EXEC"],
            &["MULTI", "UNWATCH", "INCR a", "EXEC"],
            &["MULTI", "INCR a", "EXEC x", "EXEC"],
            &["MULTI", "BLPOP none 0", "INCR a", "EXEC"],
            &["MULTI", "KEYS *", "GET a", "SORT none", "EXEC"],
            &[
                "MULTI", "PING", "ECHO x", "EXEC", "GET a", "MULTI", "INCR a", "EXEC",
            ],
            &["GET a", "MULTI", "INCR a", "EXEC", "GET a", "EXEC"],
            &["MULTI", "INCR a", "EXEC", "MULTI", "INCR a"],
            &["EXEC"],
            &["INCR a", "MULTI", "INCR a", "DISCARD", "INCR a"],
        ] {
            one.say(&commands(lines), lines.len());
        }
        expect_clean(scene);
    });
}

#[test]
fn runs_an_empty_argument_in_a_transaction() {
    compare_both(|scene, one| {
        one.ask("MULTI");
        one.ask_of(&[b""]);
        one.ask("EXEC");
        one.say(b"multi\r\nset a 'x y'\r\n\r\n*0\r\nget a\r\nexec\r\n", 4);
        expect_clean(scene);
    });
}

#[test]
fn keeps_what_a_transaction_does_to_its_session() {
    compare_both(|scene, one| {
        one.ask_all(&[
            "SET a zero",
            "MULTI",
            "SELECT 1",
            "SET a one",
            "GET a",
            "EXEC",
            "GET a",
        ]);
        expect_clean(scene);
        one.ask_all(&[
            "SELECT 0",
            "GET a",
            "MULTI",
            "SELECT 99",
            "GET a",
            "EXEC",
            "GET a",
        ]);
        let lines = [
            "MULTI",
            "SELECT 2",
            "SET a two",
            "EXEC",
            "GET a",
            "SELECT 0",
            "GET a",
        ];
        one.say(&commands(&lines), lines.len());
        one.ask_all(&["MULTI", "SELECT 1", "DISCARD", "GET a"]);
        expect_clean(scene);
        one.ask_all(&[
            "MULTI",
            "CLIENT SETNAME me",
            "CLIENT GETNAME",
            "EXEC",
            "CLIENT GETNAME",
        ]);
        expect_clean(scene);
    });
}

#[test]
fn keeps_the_version_that_a_transaction_chose() {
    compare_redis(|scene| {
        let mut one = scene.client("one");
        one.ask_all(&[
            "MULTI",
            "HELLO 3",
            "HGETALL none",
            "EXEC",
            "HGETALL none",
            "GET none",
        ]);
        expect_clean(scene);
        one.ask_all(&["HELLO 2", "HGETALL none"]);
    });
}

/// What is the same of all that a session is told of itself: its own number, name and database.
fn told(replies: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(replies);
    let fields = text.split([' ', '\r', '\n']);
    let names = ["name=", "db=", "user=", "resp=", "flags=", "multi="];
    let known = fields.filter(|field| names.iter().any(|name| field.starts_with(name)));
    known.map(str::to_owned).collect()
}

#[test]
fn tells_of_the_session_inside_of_a_transaction() {
    compare_both(|scene, one| {
        let before = one.resp.ask("CLIENT ID");
        one.ask_all(&["MULTI", "CLIENT GETNAME", "EXEC", "CLIENT SETNAME me"]);
        one.ask_all(&["MULTI", "SET a 1", "NOSUCH", "CLIENT ID", "EXEC"]);
        let lines = ["MULTI", "CLIENT GETNAME", "GET a", "EXEC", "GET a"];
        one.say(&commands(&lines), lines.len());
        one.ask_all(&["MULTI", "CLIENT ID", "MULTI", "DISCARD", "MULTI"]);
        let lines = [
            "GET a",
            "CLIENT GETNAME",
            "CLIENT ID",
            "CLIENT INFO",
            "HELLO",
            "CLIENT SETNAME you",
            "SELECT 3",
            "HELLO 3 SETNAME",
            "CLIENT GETNAME",
            "CLIENT INFO",
            "HELLO 3",
            "CLIENT INFO",
            "CLIENT ID",
            "GET a",
        ];
        one.ask_all(&lines);
        let reply = one.resp.ask("EXEC");
        let elements: Vec<_> = Elements::of(&reply).expect("a list").collect();
        let has = |place: usize, part: &str| {
            let element = String::from_utf8_lossy(elements[place]);
            assert!(element.contains(part), "{part:?} in {element:?}");
        };
        let own = String::from_utf8(before.clone()).expect("a number");
        for place in [2, 12] {
            assert_eq!(elements[place], before, "element {place}");
        }
        for place in [4, 10] {
            has(place, &format!("$2\r\nid\r\n{own}"));
        }
        for place in [3, 9, 11] {
            has(place, &format!("id={} ", own[1..].trim_end()));
        }
        scene.note(&told(&reply).join(" "));
        one.ask_all(&["CLIENT GETNAME", "GET a"]);
        assert_eq!(one.resp.ask("CLIENT ID"), before);
        expect_clean(scene);
    });
}

#[test]
fn touches_no_other_session_from_inside_of_a_transaction() {
    Duet::default().play(|scene| {
        if !scene.is_proxied {
            return;
        }
        let mut one = Resp::open(scene.address).expect("accepted");
        for line in ["CLIENT KILL ID 1", "CLIENT UNBLOCK 1", "CLIENT LIST"] {
            one.expect("MULTI", "+OK\r\n");
            let refusal = String::from_utf8(one.ask(line)).expect("text");
            assert!(refusal.contains("inside of MULTI"), "{refusal}");
            assert!(one.ask("EXEC").starts_with(b"-EXECABORT"));
        }
    });
}

#[test]
fn leaves_amid_a_transaction() {
    compare_both(|scene, one| {
        one.ask_all(&["MULTI", "SET clean oops"]);
        one.begin(&command("QUIT"));
        one.hear_end();
        expect_clean(scene);
        let mut two = scene.client("two");
        two.ask_all(&["WATCH clean", "MULTI", "SET clean oops"]);
        two.resp.end_sending();
        two.hear_end();
        let mut three = scene.client("three");
        three.ask_all(&["MULTI", "SET clean oops"]);
        three.resp.vanish();
        expect_clean(scene);
    });
}

#[test]
fn fails_a_transaction_whose_keys_have_changed() {
    compare_both(|scene, one| {
        let mut other = scene.client("other");
        one.ask_all(&["SET a 1", "WATCH a", "GET a"]);
        other.ask("SET a 2");
        one.ask_all(&["MULTI", "SET a 3", "EXEC", "GET a"]);
        one.ask_all(&["WATCH a b", "MULTI", "SET a 4", "EXEC", "GET a"]);
        one.ask("WATCH a");
        other.ask("SET a 5");
        one.ask_all(&["UNWATCH", "MULTI", "SET a 6", "EXEC", "GET a"]);
        one.ask("WATCH a");
        other.ask("SET a 7");
        one.ask_all(&["MULTI", "DISCARD", "MULTI", "SET a 8", "EXEC"]);
        one.ask_all(&["WATCH a", "SELECT 1", "SET a own", "SELECT 0"]);
        one.ask_all(&["MULTI", "GET a", "EXEC", "WATCH", "WATCH a"]);
        other.ask("SET a 9");
        let lines = ["MULTI", "GET a", "EXEC", "GET a"];
        one.say(&commands(&lines), lines.len());
        one.ask_all(&["WATCH a", "SET a mine", "MULTI", "EXEC"]);
        expect_clean(scene);
    });
}

#[test]
fn watches_in_another_database_than_it_writes() {
    compare_both(|scene, one| {
        let mut other = scene.client("other");
        one.ask_all(&["SELECT 2", "WATCH a", "SELECT 3"]);
        other.ask_all(&["SELECT 2", "SET a 1"]);
        one.ask_all(&["MULTI", "SET b 1", "EXEC", "EXISTS b"]);
        one.ask_all(&["SELECT 2", "GET a"]);
        expect_clean(scene);
    });
}

#[test]
fn waits_for_elements_and_gives_up_in_time() {
    compare_both(|scene, one| {
        one.ask_all(&[
            "BLPOP none 0.01",
            "BRPOP none 0.01",
            "BLMOVE none x LEFT RIGHT 0.01",
            "BLMPOP 0.01 1 none LEFT",
            "BZPOPMIN none 0.01",
            "BZMPOP 0.01 1 none MIN",
            "BRPOPLPUSH none x 0.01",
            "XREAD BLOCK 10 STREAMS none $",
            "BLPOP none -1",
            "BLPOP none x",
            "BLPOP none",
            "RPUSH l a b c",
            "BLPOP l 0",
            "BLMPOP 0 1 l RIGHT",
            "ZADD z 1 a",
            "BZPOPMAX z 0",
            "SET s 1",
            "BLPOP s 0",
            "XADD x 1-1 f v",
            "XREAD BLOCK 0 STREAMS x 0",
            "LRANGE l 0 -1",
            "BLPOP l 1",
        ]);
        one.say(&commands(&["BLPOP none 0.01", "SET a 1", "GET a"]), 3);
        expect_clean(scene);
    });
}

#[test]
fn wakes_those_who_wait_in_their_order() {
    compare_both(|scene, one| {
        let mut waiting: Vec<_> = (0..3).map(|_| scene.client("waiting")).collect();
        for (number, client) in waiting.iter_mut().enumerate() {
            client.begin(&commands(&["BLPOP l m 0", "PING"]));
            scene.await_blocked(number as u64 + 1);
        }
        one.ask_all(&["RPUSH l a b", "RPUSH m c d", "LRANGE m 0 -1"]);
        for client in &mut waiting {
            client.hear();
            client.hear();
        }
        let mut reader = scene.client("reader");
        reader.begin(&command("XREAD BLOCK 0 STREAMS x $"));
        scene.await_blocked(1);
        one.ask("XADD x 5-5 f v");
        reader.hear();
    });
}

#[test]
fn takes_no_element_for_a_client_that_has_left() {
    compare_both(|scene, one| {
        let mut gone = scene.client("gone");
        gone.begin(&command("BLPOP l 0"));
        scene.await_blocked(1);
        gone.resp.vanish();
        scene.await_blocked(0);
        one.ask_all(&["RPUSH l a", "LRANGE l 0 -1"]);
        let mut half = scene.client("half");
        half.begin(&command("BLPOP m 0"));
        scene.await_blocked(1);
        half.resp.end_sending();
        half.hear_end();
        scene.await_blocked(0);
        one.ask_all(&["RPUSH m a", "LRANGE m 0 -1"]);
        expect_clean(scene);
    });
}

#[test]
fn waits_in_the_database_of_the_session() {
    compare_redis(|scene| {
        let mut one = scene.client("one");
        one.ask("SELECT 5");
        one.begin(&command("BLPOP l 0"));
        scene.await_blocked(1);
        let mut other = scene.client("other");
        other.ask_all(&["RPUSH l zero"]);
        one.hear_nothing(Duration::from_millis(50));
        other.ask_all(&["SELECT 5", "RPUSH l five"]);
        one.hear();
        other.ask_all(&["SELECT 0", "LRANGE l 0 -1"]);
    });
}
