//! What no client should send: the node's own words for it, and the end of the connection after
//! everything before it is answered.
//!
//! Texts are compared with the node's, whatever they are. Nobody else notices anything.

use std::time::Duration;

use manifold_tests::harness::resp::command;
use manifold_tests::harness::{Scene, compare_redis};

/// Bytes that end a connection, behind something that is answered.
fn compare_ends(inputs: &[&[u8]]) {
    compare_redis(|scene| {
        let mut bystander = scene.client("bystander");
        for input in inputs {
            let mut one = scene.client("one");
            one.begin(&[&command("SET a 1")[..], input].concat());
            one.hear();
            one.hear_end();
            bystander.ask("GET a");
        }
    });
}

#[test]
fn ends_clients_with_the_words_of_the_node() {
    compare_ends(&[
        b"*a\r\n",
        b"*2147483648\r\n",
        b"*01\r\n",
        b"*1x\r\n",
        b"* 1\r\n",
        b"*\r\n",
        b"*9223372036854775808\r\n",
        b"*1\r\nfoo\r\n",
        b"*1\r\n\r\n",
        b"*1\r\n*1\r\n",
        b"*1\r\n:1\r\n",
        b"*1\r\n\xff\r\n",
        b"*1\r\n\n\r\n",
        b"*1\r\n$-1\r\n",
        b"*1\r\n$536870913\r\n",
        b"*1\r\n$x\r\n",
        b"*1\r\n$\r\n",
        b"*1\r\n$01\r\n",
        b"*2\r\n$3\r\nGET\r\nx1\r\n",
        b"set a 'x\r\n",
        b"set a \"x\r\n",
        b"set a \"x\"y\r\n",
        b"set a 'x'y\r\n",
        b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$-5\r\nxx\r\n",
    ]);
}

#[test]
fn ends_clients_whose_lines_never_end() {
    let long = |first: &[u8]| [first, &[b'1'; 70 << 10]].concat();
    compare_redis(|scene| {
        for first in [
            &b"*"[..],
            b"a",
            b"*1\r\n$",
            b"*2\r\n$3\r\nGET\r\n$",
            b"*1\r\n1",
        ] {
            let mut one = scene.client("one");
            // The rest may come to nobody.
            let _ = one.resp.try_send(&long(first));
            one.hear_end();
        }
    });
}

#[test]
fn ends_what_looks_like_another_protocol() {
    // Some browser was led here: the node says nothing and closes.
    compare_redis(|scene| {
        for input in [
            &b"POST / HTTP/1.1\r\nHost: x\r\n\r\nset a 1\r\n"[..],
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
            b"post\r\nset a 5\r\n",
            b"host: x\r\nset a 6\r\n",
            b"*1\r\n$4\r\nPOST\r\n*1\r\n$4\r\nPING\r\n",
            b"*2\r\n$5\r\nhost:\r\n$1\r\nx\r\n",
        ] {
            let mut one = scene.client("one");
            one.begin(input);
            one.hear_end();
        }
        scene.client("after").ask("GET a");
    });
}

#[test]
fn takes_what_is_odd_and_no_error() {
    compare_redis(|scene| {
        let mut one = scene.client("one");
        for input in [
            &b"PING\r\n"[..],
            b"PING\n",
            b"  PING  \r\n",
            b"\r\nPING\r\n",
            b"\n\n\nPING\n",
            b"*0\r\nPING\r\n",
            b"*-1\r\n*-9\r\nPING\r\n",
            b"SET \"a b\" 'c d'\r\n",
            b"GET 'a b'\r\n",
            b"SET hex \"\\x41\\n\\\"q\\\"\\t\\z\"\r\n",
            b"GET hex\r\n",
            b"SET 'it\\'s' \"\"\r\n",
            b"GET 'it\\'s'\r\n",
            b"*1\r\n$4\r\npingXY",
            b"*1\rX$4\r\nping\r\n",
            b"*2\r\n$4\r\nECHO\r\n$0\r\n\r\n",
            b"*1\r\n$0\r\n\r\n",
            b"$4\r\nping\r\n",
        ] {
            one.begin(input);
            one.hear();
        }
    });
}

#[test]
fn answers_everything_before_what_is_wrong() {
    compare_redis(|scene| {
        let mut one = scene.client("one");
        let mut bytes = Vec::new();
        for number in 0..200 {
            bytes.extend(command(&format!("ECHO {number}")));
            bytes.extend(command("KEYS none"));
        }
        bytes.extend(b"*1\r\n$oops\r\n");
        bytes.extend(command("SET never run"));
        one.begin(&bytes);
        one.hear_end();
        let mut after = scene.client("after");
        after.ask("EXISTS never");
    });
}

#[test]
fn ends_clients_amid_a_transaction() {
    compare_redis(|scene| {
        let mut one = scene.client("one");
        one.ask_all(&["SET a 1", "MULTI", "INCR a"]);
        one.begin(b"*1\r\n+oops\r\n");
        one.hear_end();
        scene.client("after").ask_all(&["GET a", "INCR a"]);
    });
}

#[test]
fn waits_for_the_end_of_a_line_that_a_zero_hides() {
    compare_redis(|scene| {
        for input in [
            &b"PING\0\r\nPING\r\n"[..],
            b"*\x001\r\n",
            b"*1\r\n$\x004\r\nPING\r\n",
        ] {
            let mut one = scene.client("one");
            one.begin(input);
            one.hear_nothing(Duration::from_millis(50));
            let _ = one.resp.try_send(&[b'x'; 70 << 10]);
            one.hear_end();
        }
    });
}

/// A request of which the last byte never comes.
fn leave_half(scene: &Scene, bytes: &[u8]) {
    let mut one = scene.client("one");
    one.begin(bytes);
    one.hear_nothing(Duration::from_millis(30));
    one.resp.end_sending();
    one.hear_end();
}

#[test]
fn closes_without_a_word_when_half_a_request_is_all() {
    compare_redis(|scene| {
        leave_half(scene, b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$100\r\nxxx");
        leave_half(scene, b"*1");
        leave_half(scene, b"PING");
        scene.client("after").ask("EXISTS a");
    });
}

#[test]
fn survives_names_that_are_no_commands() {
    compare_redis(|scene| {
        let mut one = scene.client("one");
        one.ask_of(&[b""]);
        one.ask_of(&[b"\x00\x01\xff"]);
        one.ask_of(&[b"get|set", b"a"]);
        one.ask_of(&[b"client|id"]);
        one.ask_of(&[b"CLIENT"]);
        one.ask_of(&[b"CLIENT", b"NOPE"]);
        one.ask_of(&[b"CLIENT", b""]);
        one.ask_of(&[b"CONFIG", b"NOPE", b"a"]);
        one.ask_of(&[b"line\r\nbreak", b"a\r\nb"]);
        one.ask_of(&[&[b'n'; 500], &[b'a'; 500]]);
        one.ask_of(&[b"XGROUP", b"CREATE"]);
        one.ask_of(&[b"HELLO|x"]);
        one.ask("PING");
    });
}
