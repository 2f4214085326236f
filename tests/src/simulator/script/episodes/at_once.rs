//! Transactions that are sent at once, from BEGIN to COMMIT and sometimes beyond.
//!
//! Knows no replies: what fails on the way does not stop what was sent behind it. Invariant: the
//! episode ends outside of any transaction.

use super::{
    SETTINGS, push_begin, push_end, push_seen, push_set, push_touch, push_write, set, written,
};
use crate::simulator::request::Messages;
use crate::simulator::script::Script;

pub(super) fn at_once(script: &mut Script) {
    for _ in 0..script.prng.between(1, 3) {
        let before = script.ready.len();
        for _ in 0..script.prng.between(1, 2) {
            match script.prng.below(5) {
                0 => one_query(script),
                1 => one_group(script),
                2 => halves(script),
                _ => several(script),
            }
        }
        match script.prng.below(6) {
            0 => set(script),
            1 => push_write(script),
            2 => push_seen(script, "timezone"),
            _ => {}
        }
        let count = script.ready.len() - before;
        let sent = script.ready.iter_mut().skip(before);
        for unit in sent.take(count.saturating_sub(1)) {
            unit.is_followed = true;
        }
        script.push_plain("rollback", "ROLLBACK");
    }
    written(script);
}

/// Every statement in a request of its own.
fn several(script: &mut Script) {
    push_begin(script);
    for _ in 0..script.prng.below(4) {
        match script.prng.below(12) {
            0 => script.push_token("fail", |token| format!("SELECT fail({token})")),
            1 => {
                let (name, values) = *script.prng.pick(&SETTINGS);
                push_set(script, name, values[0], "LOCAL ");
                push_seen(script, name);
            }
            2 => script.push_plain("savepoint", "SAVEPOINT one"),
            3 => script.push_plain("savepoint", "ROLLBACK TO one"),
            4 => script.push_token("late", |token| format!("INSERT INTO late VALUES ({token})")),
            5 => {
                let row = script.prng.below(3);
                push_touch(script, row);
            }
            6 => written(script),
            7 => script.push_token("token", |token| format!("SELECT token({token})")),
            _ => push_write(script),
        }
    }
    if script.prng.chance(900) {
        push_end(script);
    }
}

/// All of it in one text.
fn one_query(script: &mut Script) {
    let (one, two) = (script.token(), script.token());
    let inner = match script.prng.below(4) {
        0 => format!("SELECT fail('{two}')"),
        1 => format!("SELECT token('{two}')"),
        2 => format!("INSERT INTO late VALUES ('{two}')"),
        _ => format!("INSERT INTO ledger VALUES ('{two}')"),
    };
    let text = format!("BEGIN; INSERT INTO ledger VALUES ('{one}'); {inner}; COMMIT");
    let messages = Messages::default().query(&text);
    script.push("one query", messages, vec![one, two]);
}

/// All of it before one Sync.
fn one_group(script: &mut Script) {
    let mut tokens = Vec::new();
    let mut messages = run(Messages::default(), "BEGIN", &[]);
    for _ in 0..script.prng.between(1, 3) {
        messages = inner(script, messages, &mut tokens);
    }
    messages = run(messages, "COMMIT", &[]);
    script.push("one group", messages.sync(), tokens);
}

/// The first half before one Sync, the rest before another.
fn halves(script: &mut Script) {
    let mut tokens = Vec::new();
    let messages = run(Messages::default(), "BEGIN", &[]);
    let messages = inner(script, messages, &mut tokens);
    script.push("first half", messages.sync(), tokens);
    let mut tokens = Vec::new();
    let messages = inner(script, Messages::default(), &mut tokens);
    let messages = run(messages, "COMMIT", &[]);
    script.push("second half", messages.sync(), tokens);
}

fn inner(script: &mut Script, messages: Messages, tokens: &mut Vec<String>) -> Messages {
    let token = script.token();
    let text = *script.prng.pick(&[
        "SELECT token($1)",
        "SELECT written($1)",
        "SELECT fail($1)",
        "INSERT INTO ledger VALUES ($1)",
        "INSERT INTO ledger VALUES ($1)",
        "INSERT INTO late VALUES ($1)",
    ]);
    let messages = run(messages, text, &[&token]);
    tokens.push(token);
    messages
}

fn run(messages: Messages, text: &str, values: &[&str]) -> Messages {
    let messages = messages.parse("", text).bind("", "", values);
    messages.execute("", 0)
}
