//! What every Redis client does: the same bytes come back as without the proxy.
//!
//! Every kind of command, in both versions of the protocol, in one piece and in many.

use manifold_tests::harness::resp::{command, commands, request};
use manifold_tests::harness::{Scene, Voice, compare_both, compare_redis};

/// Commands that a client sends one after the other, in both versions.
fn compare_lines(lines: &[&str]) {
    compare_both(|_, one| one.ask_all(lines));
}

#[test]
fn answers_commands_on_strings_as_the_node_does() {
    compare_lines(&[
        "PING",
        "PING hello",
        "PING a b",
        "ECHO hello",
        "ECHO",
        "SET a 1",
        "GET a",
        "get A",
        "GET none",
        "INCR a",
        "INCRBYFLOAT a 0.5",
        "INCR a",
        "APPEND a xyz",
        "STRLEN a",
        "GETRANGE a 0 -1",
        "SETRANGE a 2 __",
        "SET b 2 GET",
        "SET b 3 GET",
        "SET b 4 NX",
        "SET b 5 NX XX",
        "MSET c 1 d 2 e 3",
        "MGET a b none c",
        "MSETNX c 1 f 2",
        "GETDEL c",
        "GETEX d EX 100",
        "PERSIST d",
        "SETEX g 0 v",
        "LCS a b",
        "SUBSTR a 0 1",
        "OBJECT ENCODING b",
        "OBJECT NOPE b",
        "OBJECT HELP",
        "TYPE a",
        "EXISTS a b c none",
        "DEL a b none",
        "UNLINK d e",
        "DBSIZE",
        "NOSUCH",
        "NOSUCH with some arguments",
        "GET",
        "GET a b",
    ]);
}

#[test]
fn answers_commands_on_hashes_lists_and_sets_as_the_node_does() {
    compare_lines(&[
        "HSET h f 1 g 2",
        "HGETALL h",
        "HGETALL none",
        "HMGET h f none",
        "HRANDFIELD h 5 WITHVALUES",
        "HINCRBY h f 5",
        "HINCRBYFLOAT h g 1.25",
        "HSCAN h 0",
        "HKEYS h",
        "HVALS h",
        "HDEL h f",
        "LPUSH l a b c",
        "RPUSH l d",
        "LRANGE l 0 -1",
        "LPOS l c",
        "LPOS l none",
        "LINSERT l BEFORE a x",
        "LMPOP 1 l LEFT COUNT 2",
        "LMPOP 1 none LEFT",
        "LPOP l 9",
        "LPOP none",
        "LPOP none 2",
        "SADD s 1 2 3",
        "SMEMBERS s",
        "SISMEMBER s 1",
        "SMISMEMBER s 1 9",
        "SPOP none 3",
        "SADD t 3 4",
        "SINTER s t",
        "SINTERCARD 2 s t",
        "SUNIONSTORE u s t",
        "SSCAN u 0",
        "SET a 1",
        "LPUSH a 1",
        "HSET a 1 2",
        "SORT s DESC",
        "SORT l BY x_* GET #",
        "COPY s v",
        "RENAME none x",
    ]);
}

#[test]
fn answers_commands_on_sorted_sets_and_streams_as_the_node_does() {
    compare_lines(&[
        "ZADD z 1 a 2 b 3.5 c",
        "ZADD z XX INCR 1 none",
        "ZADD z NX XX 1 a",
        "ZSCORE z c",
        "ZSCORE z none",
        "ZMSCORE z a none",
        "ZRANGE z 0 -1 WITHSCORES",
        "ZRANGE z (1 +inf BYSCORE WITHSCORES",
        "ZREVRANGE z 0 -1 WITHSCORES",
        "ZPOPMIN z",
        "ZPOPMAX z 2",
        "ZPOPMIN none",
        "ZADD z 1 a",
        "ZINCRBY z 1.5 a",
        "ZADD z inf b",
        "ZRANDMEMBER z 5 WITHSCORES",
        "ZRANK z a",
        "ZUNION 1 z WITHSCORES",
        "ZMPOP 1 z MIN",
        "XADD x 1-1 f v",
        "XADD x 1-1 f v",
        "XADD x 2-1 f v g w",
        "XRANGE x - +",
        "XREAD COUNT 5 STREAMS x 0",
        "XREAD COUNT 5 STREAMS x $",
        "XGROUP CREATE x g 0",
        "XGROUP CREATE x g 0",
        "XREADGROUP GROUP g c COUNT 1 STREAMS x >",
        "XPENDING x g",
        "XACK x g 1-1",
        "XLEN x",
        "XINFO GROUPS x",
        "XAUTOCLAIM x g d 0 0",
        "GEOADD geo 13.361389 38.115556 p 15.087269 37.502669 c",
        "GEODIST geo p c km",
        "GEOPOS geo p none",
        "GEOSEARCH geo FROMLONLAT 15 37 BYRADIUS 200 km ASC WITHCOORD WITHDIST",
        "SETBIT bits 7 1",
        "BITCOUNT bits",
        "BITFIELD bits GET u8 0 OVERFLOW FAIL INCRBY u2 6 3",
        "BITPOS bits 1",
        "PFADD p a b c",
        "PFCOUNT p",
    ]);
}

#[test]
fn answers_scripts_and_functions_as_the_node_does() {
    compare_both(|_, one| {
        let of = |voice: &mut Voice, words: &[&str]| {
            let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
            voice.ask_of(&words);
        };
        of(one, &["EVAL", "return {KEYS[1], ARGV[1]}", "1", "k", "v"]);
        of(
            one,
            &["EVAL", "return redis.call('SET', KEYS[1], 1)", "1", "k"],
        );
        of(
            one,
            &["EVAL", "return redis.error_reply('MINE it is')", "0"],
        );
        of(one, &["EVAL", "return redis.call('NOPE')", "0"]);
        of(one, &["EVAL", "this is no lua", "0"]);
        of(one, &["EVAL", "redis.setresp(3) return {double=1.5}", "0"]);
        of(one, &["EVAL", "return {1, 2.9, 'x', false, {3, {4}}}", "0"]);
        of(
            one,
            &[
                "EVAL",
                "redis.call('SELECT', 3) return redis.call('SET', 'k', 3)",
                "0",
            ],
        );
        one.ask_all(&[
            "GET k",
            "EVALSHA 0123456789012345678901234567890123456789 0",
        ]);
        of(one, &["SCRIPT", "LOAD", "return ARGV[1]"]);
        one.ask("EVALSHA 098e0f0d1448c0a81dafe820f66d460eb09263da 0 x");
        one.ask("SCRIPT EXISTS 098e0f0d1448c0a81dafe820f66d460eb09263da");
        let library = "#!lua name=mine\nredis.register_function('f', function(k, a) return a end)";
        of(one, &["FUNCTION", "LOAD", library]);
        one.ask_all(&[
            "FCALL f 0 a b",
            "FCALL none 0",
            "FUNCTION LIST",
            "SCRIPT FLUSH",
        ]);
    });
}

#[test]
fn answers_every_kind_of_value_in_both_versions() {
    compare_both(|_, one| {
        for kind in [
            "string", "integer", "double", "null", "array", "set", "map", "bignum", "true",
            "false", "verbatim",
        ] {
            one.ask(&format!("DEBUG PROTOCOL {kind}"));
        }
        // The attribute comes before its value, in one version only.
        one.ask("DEBUG PROTOCOL attrib");
        one.ask("PING");
    });
}

#[test]
fn answers_iterations_and_what_is_known_of_keys_as_the_node_does() {
    compare_both(|_, one| {
        for number in 0..50 {
            one.ask(&format!("SET key:{number} {number}"));
        }
        one.ask_all(&[
            "DBSIZE",
            "SCAN 0 MATCH key:17 COUNT 1000",
            "SCAN x",
            "KEYS key:4",
            "EXPIREAT key:1 4102444800",
            "EXPIRETIME key:1",
            "PEXPIRETIME key:2",
            "TTL none",
            "MEMORY USAGE none",
            "COMMAND COUNT",
            "COMMAND INFO get nope",
            "COMMAND GETKEYS MSET a 1 b 2",
            "COMMAND GETKEYS GET",
            "COMMAND DOCS get",
            "COMMAND LIST FILTERBY PATTERN xra*",
            "CONFIG GET maxmemory",
            "CONFIG SET nope 1",
            "LOLWUT VERSION 5 1 1 1",
            "ACL WHOAMI",
            "SWAPDB 0 1",
            "DBSIZE",
            "FLUSHALL",
            "DBSIZE",
            "WAIT 0 0",
            "PUBLISH nobody hears",
        ]);
    });
}

#[test]
fn answers_many_requests_of_one_write_in_order() {
    compare_both(|_, one| {
        let lines = [
            "SET a 1",
            "INCR a",
            "KEYS *",
            "GET a",
            "LPUSH a x",
            "NOSUCH",
            "BLPOP none 0.01",
            "GET a",
            "MULTI",
            "INCR a",
            "EXEC",
            "SELECT 1",
            "GET a",
            "SELECT 0",
            "GET a",
            "SORT l",
            "CLIENT GETNAME",
            "CLIENT SETNAME x",
            "CLIENT GETNAME",
            "PING",
        ];
        one.say(&commands(&lines), lines.len());
    });
}

#[test]
fn answers_10000_requests_of_one_write_in_order() {
    compare_redis(|scene| {
        let mut one = scene.client("one");
        let bytes: Vec<u8> = (0..10_000)
            .flat_map(|number| match number % 5 {
                0 => command("INCR n"),
                1 => command(&format!("SET k{} {number}", number % 100)),
                2 => command("LRANGE none 0 -1"),
                3 => command(&format!("ECHO {number}")),
                _ => command(&format!("GET k{}", (number + 50) % 100)),
            })
            .collect();
        let mut socket = one.resp.socket();
        std::thread::scope(|scope| {
            scope.spawn(|| std::io::Write::write_all(&mut socket, &bytes).expect("it is read"));
            (0..10_000).for_each(|_| drop(one.hear()));
        });
    });
}

#[test]
fn takes_requests_byte_by_byte() {
    compare_both(|_, one| {
        let lines = [
            "SET a hello",
            "GET a",
            "MULTI",
            "INCR n",
            "EXEC",
            "HGETALL h",
        ];
        for byte in commands(&lines) {
            one.resp.send(&[byte]);
        }
        lines.iter().for_each(|_| drop(one.hear()));
    });
}

#[test]
fn takes_and_gives_arguments_of_many_sizes() {
    compare_redis(|scene| {
        let mut one = scene.client("one");
        for size in [0, 1, 511, 4096, 16_383, 65_536, 300_000, 1 << 20, 5 << 20] {
            let value: Vec<u8> = (0..size).map(|at| (at % 251) as u8).collect();
            one.ask_of(&[b"SET", b"big", &value]);
            one.ask("STRLEN big");
            one.ask("GET big");
        }
        let many: Vec<Vec<u8>> = (0..20_000)
            .map(|at| format!("m{at}").into_bytes())
            .collect();
        let mut words: Vec<&[u8]> = vec![b"SADD", b"set"];
        words.extend(many.iter().map(Vec::as_slice));
        one.ask_of(&words);
        words[0] = b"SMISMEMBER";
        one.ask_of(&words);
        one.ask_of(&[b"SET", b"\x00\xff\r\n $*", b"\r\n\r\n"]);
        one.ask_of(&[b"GET", b"\x00\xff\r\n $*"]);
    });
}

#[test]
fn answers_big_requests_and_small_ones_behind_them_in_order() {
    compare_redis(|scene| {
        let mut one = scene.client("one");
        let value = vec![b'x'; 2 << 20];
        let mut bytes = request(&[b"SET", b"big", &value]);
        bytes.extend(commands(&["STRLEN big", "GET big", "KEYS *", "GET none"]));
        one.begin(&bytes);
        (0..5).for_each(|_| drop(one.hear()));
    });
}

/// Says so much at once, says that there will be no more, and is answered.
fn half_close(scene: &Scene, lines: &[&str]) {
    let mut one = scene.client("one");
    one.begin(&commands(lines));
    one.resp.end_sending();
    one.hear_end();
}

#[test]
fn answers_what_was_sent_before_the_last_byte() {
    compare_redis(|scene| {
        half_close(scene, &["SET a 1", "INCR a", "KEYS *", "GET a"]);
        half_close(scene, &["MULTI", "INCR a", "EXEC"]);
        half_close(
            scene,
            &["SELECT 1", "SET a 5", "CLIENT SETNAME x", "CLIENT GETNAME"],
        );
        half_close(scene, &["GET a", "SELECT 1", "GET a"]);
        half_close(scene, &[]);
    });
}

#[test]
fn says_goodbye_when_the_client_does() {
    compare_both(|scene, one| {
        one.begin(&commands(&["SET a 1", "QUIT", "SET a 2"]));
        one.hear_end();
        scene.client("after").ask("GET a");
        let mut inline = scene.client("inline");
        inline.begin(b"quit\r\nset a 3\r\n");
        inline.hear_end();
        scene.client("after").ask("GET a");
    });
}
