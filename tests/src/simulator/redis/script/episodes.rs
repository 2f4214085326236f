//! The kinds of episodes: short runs of requests that belong together.
//!
//! Each leaves a script where it can go on. Knows no replies: an episode whose first request failed
//! goes on all the same, as a careless application would.

use super::Script;
use crate::simulator::redis::connection::USERS;

type Episode = fn(&mut Script);

/// All kinds.
pub(super) const KINDS: [Episode; 21] = [
    strings,
    lists,
    hashes,
    block,
    feed,
    whole,
    split,
    discard,
    watch,
    select,
    authenticate,
    hello,
    reset,
    mute,
    names,
    listen,
    publish,
    unblock,
    errors,
    odd_transaction,
    burst,
];

/// One request on a string.
fn one(script: &mut Script) {
    let key = script.key();
    let key = format!("{key}#@");
    let filler = if script.prng.chance(script.taste.large) {
        "x".repeat(*script.prng.pick(&[3_000, 70_000]))
    } else {
        String::new()
    };
    let value = format!("v:@{filler}");
    match script.prng.below(13) {
        0..=2 => script.push_token(&["GET", &key]),
        3..=4 => script.push_token(&["SET", &key, &value]),
        5 => script.push_token(&["INCR", &key]),
        6 => script.push_token(&["APPEND", &key, "+@"]),
        7 if script.taste.is_spread => script.push_token(&["DEL", &key, "&s0", "&s2"]),
        7 => script.push_token(&["DEL", &key]),
        8 => script.push_token(&["MGET", &key, "&s0", "&s1"]),
        9 => script.push_token(&["getset", &key, &value]),
        10 => script.push_token(&["STRLEN", &key]),
        11 => script.push_token(&["SETNX", &key, &value]),
        _ => script.push_token(&["MSET", &key, &value, "&s2", &value]),
    }
}

fn strings(script: &mut Script) {
    for _ in 0..script.prng.between(1, 5) {
        script.turn();
        one(script);
    }
}

fn burst(script: &mut Script) {
    let before = script.ready.len();
    for _ in 0..script.prng.between(2, 12) {
        script.turn();
        one(script);
    }
    script.join(before);
}

fn lists(script: &mut Script) {
    for _ in 0..script.prng.between(1, 4) {
        script.turn();
        let key = format!("%l{}#@", script.prng.below(2));
        match script.prng.below(6) {
            0 => script.push_token(&["LPUSH", &key, "e:@"]),
            1 => script.push_token(&["RPUSH", &key, "e:@", "f:@"]),
            2 => script.push_token(&["LPOP", &key]),
            3 => script.push_token(&["RPOP", &key]),
            4 => script.push_token(&["LRANGE", &key, "0", "-1"]),
            _ => script.push_token(&["LLEN", &key]),
        }
    }
}

fn hashes(script: &mut Script) {
    let field = format!("f{}", script.prng.below(3));
    script.push_token(&["HSET", "%h#@", &field, "v:@"]);
    script.push_token(&["HGETALL", "%h#@"]);
}

fn block(script: &mut Script) {
    let verb = *script.prng.pick(&["BLPOP", "BRPOP"]);
    let timeout = *script.prng.pick(&["0.01", "0.05", "0.5", "2", "0"]);
    let key = format!("%l{}#@", script.prng.below(2));
    let before = script.ready.len();
    match script.prng.below(3) {
        0 => script.push_token(&[verb, &key, "%l2", timeout]),
        _ => script.push_token(&[verb, &key, timeout]),
    }
    one(script);
    if script.prng.chance(500) {
        script.join(before);
    }
}

fn feed(script: &mut Script) {
    for list in 0..3 {
        let key = format!("%l{list}#@");
        let verb = *script.prng.pick(&["LPUSH", "RPUSH"]);
        script.push_token(&[verb, &key, "e:@"]);
    }
}

/// What stands between MULTI and EXEC.
fn inner(script: &mut Script) {
    script.is_bound = true;
    for _ in 0..script.prng.between(1, 4) {
        match script.prng.below(12) {
            0 => script.push_token(&["LPUSH", "%l0#@", "e:@"]),
            1 => script.push_token(&["PUBLISH", "c0", "m#@"]),
            2 => script.push_token(&["LPUSH", "%s0#@", "e:@"]),
            3 => script.push(&["PING"]),
            _ => one(script),
        }
    }
}

fn whole(script: &mut Script) {
    let before = script.ready.len();
    for _ in 0..script.prng.between(1, 2) {
        script.push(&["MULTI"]);
        inner(script);
        script.push(&["EXEC"]);
    }
    script.join(before);
}

fn split(script: &mut Script) {
    script.push(&["MULTI"]);
    inner(script);
    script.push(&["EXEC"]);
    one(script);
}

fn discard(script: &mut Script) {
    let before = script.ready.len();
    script.push(&["MULTI"]);
    inner(script);
    script.push(&["DISCARD"]);
    if script.prng.chance(500) {
        script.join(before);
    }
}

/// What is only possible on a connection that nobody else has.
fn odd_transaction(script: &mut Script) {
    let before = script.ready.len();
    script.push(&["MULTI"]);
    inner(script);
    match script.prng.below(6) {
        // Of a transaction at one of many nodes, that is no part.
        0 if script.taste.is_spread => one(script),
        0 => {
            let database = script.prng.below(script.taste.databases).to_string();
            script.push(&["SELECT", &database]);
            one(script);
        }
        1 => script.push_token(&["BLPOP", "%l0#@", "0"]),
        2 => script.push(&["MULTI"]),
        3 => script.push_token(&["WATCH", "%s0#@"]),
        4 => script.push_token(&["NOSUCH", "#@"]),
        _ => script.push_token(&["GET", "%s0#@", "more"]),
    }
    if script.prng.chance(200) {
        return reset(script);
    }
    script.push(&["EXEC"]);
    if script.prng.chance(500) {
        script.join(before);
    }
    one(script);
    if script.prng.chance(300) {
        let end = *script.prng.pick(&["EXEC", "DISCARD", "UNWATCH"]);
        script.push(&[end]);
    }
}

fn watch(script: &mut Script) {
    script.is_bound = true;
    let before = script.ready.len();
    let key = format!("%s{}", script.prng.below(3));
    script.push_token(&["WATCH", &format!("{key}#@"), "%s1"]);
    script.push_token(&["GET", &format!("{key}#@")]);
    match script.prng.below(6) {
        0 => return script.push(&["UNWATCH"]),
        1 => one(script),
        2 => script.push_token(&["BLPOP", "%l0#@", "0.02"]),
        3 => return reset(script),
        _ => {}
    }
    script.push(&["MULTI"]);
    script.push_token(&["SET", &format!("{key}#@"), "v:@"]);
    let end = *script.prng.pick(&["EXEC", "EXEC", "EXEC", "DISCARD"]);
    script.push(&[end]);
    if script.prng.chance(300) {
        script.join(before);
    }
    one(script);
}

fn select(script: &mut Script) {
    let before = script.ready.len();
    let database = script.prng.below(script.taste.databases).to_string();
    script.push(&["SELECT", &database]);
    strings(script);
    if script.prng.chance(300) {
        let other = *script.prng.pick(&["0", "99", "x"]);
        script.push(&["SELECT", other]);
        one(script);
    }
    if script.prng.chance(500) {
        script.join(before);
    }
}

fn authenticate(script: &mut Script) {
    let (user, password) = *script.prng.pick(&USERS);
    let password = if script.prng.chance(150) {
        "wrong"
    } else {
        password
    };
    script.push(&["AUTH", user, password]);
    strings(script);
}

fn hello(script: &mut Script) {
    let version = *script.prng.pick(&["2", "3"]);
    let (user, password) = *script.prng.pick(&USERS);
    match script.prng.below(5) {
        0 => script.push(&["HELLO", version, "AUTH", user, password]),
        1 => script.push(&["HELLO", version, "AUTH", user, "wrong"]),
        2 => script.push(&["HELLO"]),
        _ => script.push(&["HELLO", version]),
    }
    script.push_token(&["GET", "%s9#@"]);
    hashes(script);
}

fn reset(script: &mut Script) {
    script.push(&["RESET"]);
    script.log_in();
    one(script);
}

fn mute(script: &mut Script) {
    if !script.taste.mutes {
        return one(script);
    }
    let before = script.ready.len();
    if script.prng.chance(500) {
        script.push(&["CLIENT", "REPLY", "SKIP"]);
        one(script);
    } else {
        script.push(&["CLIENT", "REPLY", "OFF"]);
        strings(script);
        script.push(&["CLIENT", "REPLY", "ON"]);
    }
    if script.prng.chance(500) {
        script.join(before);
    }
    one(script);
}

fn names(script: &mut Script) {
    let name = format!("name-of-{}", script.client);
    match script.prng.below(5) {
        0 => script.push(&["CLIENT", "NO-EVICT", "on"]),
        1 => script.push(&["WAIT", "0", "0"]),
        2 => script.push(&["ECHO", &name]),
        3 => script.push(&["PING", &name]),
        _ => script.push(&["CLIENT", "SETNAME", &name]),
    }
    script.push(&["CLIENT", "GETNAME"]);
    script.push(&["CLIENT", "ID"]);
}

/// A subscription of some kind: how it begins, how it ends, and to what.
const TOPICS: [[&str; 3]; 7] = [
    ["SUBSCRIBE", "UNSUBSCRIBE", "c0"],
    ["SUBSCRIBE", "UNSUBSCRIBE", "c1"],
    ["SUBSCRIBE", "UNSUBSCRIBE", "c2"],
    ["PSUBSCRIBE", "PUNSUBSCRIBE", "c*"],
    ["PSUBSCRIBE", "PUNSUBSCRIBE", "*1"],
    ["SSUBSCRIBE", "SUNSUBSCRIBE", "d0"],
    ["SSUBSCRIBE", "SUNSUBSCRIBE", "d1"],
];

fn listen(script: &mut Script) {
    let [begin, end, name] = *script.prng.pick(&TOPICS);
    match script.prng.below(4) {
        0 if begin == "SUBSCRIBE" => script.push(&[begin, name, "c2", name]),
        _ => script.push(&[begin, name]),
    }
    for _ in 0..script.prng.below(4) {
        match script.prng.below(4) {
            0 => publish(script),
            1 => script.push(&["PING"]),
            _ => one(script),
        }
    }
    match script.prng.below(6) {
        0 => {}
        1 => script.push(&[end]),
        2 => script.push(&["RESET"]),
        _ => script.push(&[end, name]),
    }
}

fn publish(script: &mut Script) {
    for _ in 0..script.prng.between(1, 4) {
        match script.prng.below(5) {
            0 => {
                let channel = *script.prng.pick(&["d0", "d1"]);
                script.push_token(&["SPUBLISH", channel, "m#@"]);
            }
            _ => {
                let channel = *script.prng.pick(&["c0", "c1", "c2"]);
                script.push_token(&["PUBLISH", channel, "m#@"]);
            }
        }
    }
}

/// The number of somebody is put in when the request is sent.
fn unblock(script: &mut Script) {
    script.push(&["CLIENT", "ID"]);
    let how = *script.prng.pick(&["TIMEOUT", "ERROR"]);
    for _ in 0..script.prng.between(1, 3) {
        script.push(&["CLIENT", "UNBLOCK", "?", how]);
    }
}

fn errors(script: &mut Script) {
    match script.prng.below(6) {
        0 => script.push_token(&["NOSUCH", "x#@"]),
        1 => script.push_token(&["GET", "%s0#@", "more"]),
        2 => script.push_token(&["LPUSH", "%s0#@", "e:@"]),
        3 => script.push_token(&["INCR", "%l0#@"]),
        4 => script.push(&["EXEC"]),
        _ => script.push(&["DISCARD"]),
    }
    one(script);
}
