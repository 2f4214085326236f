//! Commands that came after Redis 7.0, direct and through the proxy: the same replies.
//!
//! Goal: what a newer server has works through the proxy, and what an older one lacks is refused in
//! that server's own words. Method: the same words on whatever server MANIFOLD_REDIS_SERVER names;
//! tests/run has a section that names newer ones. Knows nothing of what the replies should be.

use manifold_tests::harness::process::free_port;
use manifold_tests::harness::resp::commands;
use manifold_tests::harness::{Duet, RedisNode, Scene, Voice, compare_both, compare_redis};

#[test]
fn tests_the_version_that_it_was_told_to_test() {
    let Ok(name) = std::env::var("MANIFOLD_REDIS_NAME") else {
        // Debian's own may be any.
        return;
    };
    let (kind, version) = name.split_once('-').expect("a kind and a version");
    let node = RedisNode::plain();
    let field = match kind {
        "valkey" => "valkey_version",
        _ => "redis_version",
    };
    assert_eq!(node.info(field), version);
}

#[test]
fn lets_fields_of_hashes_expire_as_the_node_does() {
    compare_both(|_, one| {
        one.ask_all(&[
            "HSET h a 1 b 2 c 3 d 4",
            "HEXPIRE h 1000 FIELDS 2 a b",
            "HEXPIRE h 1000 NX FIELDS 2 a missing",
            "HPEXPIRE h 1000000 XX FIELDS 1 a",
            "HEXPIREAT h 33333333333 FIELDS 1 b",
            "HPEXPIREAT h 33333333333000 GT FIELDS 1 c",
            "HEXPIRETIME h FIELDS 2 b c",
            "HPEXPIRETIME h FIELDS 1 b",
            "HPERSIST h FIELDS 2 b d",
            "HTTL h FIELDS 2 b d",
            "HPTTL h FIELDS 1 d",
            "HTTL missing FIELDS 1 a",
            "HEXPIRE h 10 FIELDS 3 a b",
            "HEXPIRE h ten FIELDS 1 a",
            "HEXPIRE h",
            "HPEXPIRE h 20 FIELDS 1 d",
        ]);
        std::thread::sleep(std::time::Duration::from_millis(200));
        one.ask_all(&["HGET h d", "HEXISTS h d", "HLEN h"]);
    });
}

#[test]
fn reads_and_writes_hashes_together_with_their_time_as_the_node_does() {
    compare_both(|_, one| {
        one.ask_all(&[
            "HSETEX h EX 1000 FIELDS 2 a 1 b 2",
            "HSETEX h FNX FIELDS 1 a 3",
            "HSETEX h FXX KEEPTTL FIELDS 1 a 4",
            "HSETEX h EX 0 FIELDS 1 a 1",
            "HSETEX h FIELDS 2 a 1",
            "HGETEX h FIELDS 2 a missing",
            "HGETEX h PERSIST FIELDS 1 a",
            "HGETEX h PX 100000 EX 1 FIELDS 1 a",
            "HGETEX h EXAT 33333333333 FIELDS 1 b",
            "HEXPIRETIME h FIELDS 2 a b",
            "HGETDEL h FIELDS 2 a missing",
            "HGETDEL h FIELDS 1 b",
            "EXISTS h",
            "HGETDEL h FIELDS 0",
        ]);
    });
}

#[test]
fn compares_and_writes_strings_as_the_node_does() {
    compare_both(|_, one| {
        one.ask_all(&[
            "SET a 1",
            "SET a 2 IFEQ 1",
            "SET a 3 IFEQ 1",
            "SET a 3 IFEQ 2 GET",
            "SET a 4 NX GET",
            "DELIFEQ a 2",
            "DELIFEQ a 3",
            "DELIFEQ a 3",
            "DELEX a IFEQ 3",
            "DIGEST a",
            "MSETEX 2 a 1 b 2 EXAT 33333333333",
            "MSETEX 2 a 1 b 2 NX",
            "MSETEX 3 a 1 b 2",
            "MSETEX x a 1",
            "MSETEX 1 {a}c 1 XX PX 1",
            "MGET a b {a}c",
            "EXPIRETIME a",
        ]);
    });
}

#[test]
fn removes_from_streams_as_the_node_does() {
    compare_both(|_, one| {
        one.ask_all(&[
            "XADD s 1-1 a 1",
            "XADD s 1-2 a 2",
            "XADD s 1-3 a 3",
            "XGROUP CREATE s g 0",
            "XREADGROUP GROUP g c COUNT 2 STREAMS s >",
            "XACKDEL s g KEEPREF IDS 1 1-1",
            "XACKDEL s g ACKED IDS 2 1-2 9-9",
            "XDELEX s DELREF IDS 1 1-3",
            "XDELEX s IDS 2 1-3",
            "XADD s KEEPREF MAXLEN 1 2-1 a 4",
            "XTRIM s MAXLEN 0 ACKED",
            "XLEN s",
            "XPENDING s g",
        ]);
    });
}

#[test]
fn finds_vectors_as_the_node_does() {
    compare_both(|_, one| {
        one.ask_all(&[
            "VADD v VALUES 2 1.0 0.0 east SETATTR {\"n\":1}",
            "VADD v VALUES 2 0.0 1.0 north",
            "VADD v CAS VALUES 2 0.7 0.7 between",
            "VADD v VALUES 3 1 1 1 deep",
            "VCARD v",
            "VDIM v",
            "VSIM v VALUES 2 0.9 0.1 WITHSCORES COUNT 2",
            "VSIM v ELE north COUNT 1",
            "VISMEMBER v east",
            "VGETATTR v east",
            "VSETATTR v north {\"n\":2}",
            "VREM v between",
            "VREM v between",
            "VCARD v",
            "VEMB missing a",
            "VRANDMEMBER missing",
            "TYPE v",
        ]);
    });
}

#[test]
fn marks_sessions_as_the_node_does() {
    compare_both(|scene, one| {
        one.ask_all(&[
            "CLIENT SETINFO LIB-NAME tests",
            "CLIENT SETINFO lib-ver 1.0",
            "CLIENT SETINFO LIB-NAME a\tb",
            "CLIENT SETINFO OTHER x",
            "CLIENT SETINFO LIB-NAME",
            "CLIENT NO-TOUCH on",
            "CLIENT NO-TOUCH maybe",
            "SET a 1",
            "CLIENT NO-TOUCH off",
            "CLIENT CAPA redirect",
            "CLIENT CAPA other unknown",
            "CLIENT IMPORT-SOURCE on",
            "CLIENT IMPORT-SOURCE off",
        ]);
        one.ask("RESET");
        scene.client("other").ask_all(&[
            "CLIENT NO-TOUCH on",
            "GET a",
            "CLIENT MAINT_NOTIFICATIONS OFF",
        ]);
    });
}

#[test]
fn reads_filters_of_clients_as_the_node_does() {
    compare_both(|_, one| {
        one.ask_all(&[
            "CLIENT KILL MAXAGE 100000",
            "CLIENT KILL ID 999999 999998",
            "CLIENT KILL SKIPME maybe",
            "CLIENT LIST ID 999999",
            "CLIENT LIST USER nobody",
            "CLIENT LIST NAME nobody",
            "CLIENT LIST NOT-A-FILTER x",
        ]);
    });
}

#[test]
fn tells_of_slots_and_slow_commands_as_the_node_does() {
    let bus = format!("cluster-port {}", free_port());
    for settings in [&[][..], &["cluster-enabled yes", &bus][..]] {
        Duet::with(settings).play(|scene| {
            scene.client("one").ask_all(&[
                "CLUSTER SLOT-STATS SLOTSRANGE 0 1",
                "CLUSTER SLOT-STATS ORDERBY key-count LIMIT 1",
                "CLUSTER GETSLOTMIGRATIONS",
                "CLUSTER CANCELSLOTMIGRATIONS",
                "CLUSTER FLUSHSLOT 5",
                "CLUSTER KEYSLOT a",
                "CLUSTER NOTHING",
                "COMMANDLOG LEN slow",
                "COMMANDLOG GET 1 large-reply",
                "COMMANDLOG RESET large-request",
                "COMMANDLOG GET 1 wrong",
                "CLUSTERSCAN 0",
                "SCRIPT SHOW missing",
                "WAITAOF 0 0 10",
                "WAITAOF 1 0 10",
                "WAITAOF 0 x 10",
            ]);
        });
    }
}

/// Transactions with commands of newer servers, unknown ones among them.
fn transact(_: &mut Scene, one: &mut Voice) {
    one.ask_all(&[
        "WATCH h",
        "MULTI",
        "HSETEX h EX 1000 FIELDS 1 a 1",
        "HTTL h FIELDS 1 a",
        "SET s 1",
        "DELIFEQ s 1",
        "EXEC",
        "MULTI",
        "CLIENT NO-TOUCH on",
        "CLIENT SETINFO LIB-NAME tests",
        "CLIENT CAPA redirect",
        "EXEC",
        "MULTI",
        "WATCH a",
        "EXEC",
        "MULTI",
        "MULTI",
        "EXEC",
        "MULTI",
        "WAITAOF 0 0 1",
        "EXEC",
        "GET a",
    ]);
}

#[test]
fn runs_transactions_of_newer_commands_as_the_node_does() {
    compare_both(transact);
}

#[test]
fn answers_pipelines_of_newer_commands_in_order() {
    compare_both(|_, one| {
        let lines = [
            "HSETEX h EX 1000 FIELDS 2 a 1 b 2",
            "CLIENT NO-TOUCH on",
            "HGETEX h PERSIST FIELDS 1 a",
            "VCARD v",
            "MSETEX 1 a 1",
            "CLIENT NO-TOUCH off",
            "HTTL h FIELDS 2 a b",
            "DELIFEQ a 1",
            "CLIENT SETINFO LIB-NAME tests",
            "PING",
        ];
        one.say(&commands(&lines), lines.len());
    });
}

#[test]
fn forbids_newer_commands_as_the_node_does() {
    let limited =
        Duet::with(&["user small on >small ~h* resetchannels -@all +@hash +client|setname"]);
    limited.play(|scene| {
        scene.client("one").ask_all(&[
            "AUTH small small",
            "HSETEX h EX 1000 FIELDS 1 a 1",
            "HTTL h FIELDS 1 a",
            "HTTL other FIELDS 1 a",
            "DELIFEQ h a",
            "MSETEX 1 h 1",
            "VCARD h",
            "CLIENT NO-TOUCH on",
            "CLIENT SETINFO LIB-NAME tests",
            "CLIENT CAPA redirect",
            "COMMANDLOG LEN slow",
        ]);
    });
}

#[test]
fn counts_words_of_newer_commands_as_the_node_does() {
    compare_redis(|scene| {
        scene.client("one").ask_all(&[
            "HEXPIRE",
            "HGETEX h",
            "HSETEX",
            "HGETDEL",
            "DELIFEQ a",
            "MSETEX",
            "VADD v",
            "VSIM",
            "XDELEX s",
            "XACKDEL",
            "WAITAOF 1",
            "CLIENT NO-TOUCH",
            "CLIENT CAPA",
            "CLIENT SETINFO",
            "CLUSTER SLOT-STATS",
            "COMMANDLOG",
            "COMMANDLOG NOTHING",
            "CLUSTERSCAN",
        ]);
    });
}
