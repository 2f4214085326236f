//! The kinds of episodes: short runs of requests that belong together.
//!
//! Each leaves a script where it can go on. Knows no replies: an episode whose first request
//! failed goes on all the same, as a careless application would.

mod at_once;

use super::{Messages, Script, Unit};

type Episode = fn(&mut Script);

/// All kinds, by name.
pub const KINDS: [(&str, Episode); 34] = [
    ("read", read),
    ("seen", seen),
    ("written", written),
    ("write", write),
    ("touch", touch),
    ("transaction", transaction),
    ("rollback", rollback),
    ("row locks", row_locks),
    ("board lock", board_lock),
    ("late", late),
    ("set", set),
    ("set local", set_local),
    ("show", show),
    ("reset", reset),
    ("temporary", temporary),
    ("advisory", advisory),
    ("own advisory", own_advisory),
    ("named", named),
    ("split unnamed", split_unnamed),
    ("flush", flush),
    ("row limit", row_limit),
    ("several executes", several_executes),
    ("several statements", several_statements),
    ("sql prepare", sql_prepare),
    ("cursor", cursor),
    ("hold cursor", hold_cursor),
    ("copy", copy),
    ("errors", errors),
    ("odds", odds),
    ("listen", listen),
    ("savepoint", savepoint),
    ("slow", slow),
    ("star", star),
    ("at once", at_once::at_once),
];

const SETTINGS: [(&str, [&str; 3]); 9] = [
    ("work_mem", ["1MB", "8MB", "64MB"]),
    ("datestyle", ["SQL", "DMY", "Postgres, YMD"]),
    ("timezone", ["Asia/Tokyo", "Europe/Paris", "America/Lima"]),
    ("application_name", ["alpha", "it's", ""]),
    ("app.tenant", ["1", "2", "3"]),
    ("search_path", ["one", "one, two", "public"]),
    ("client_min_messages", ["warning", "error", "notice"]),
    ("extra_float_digits", ["0", "3", "1"]),
    ("statement_timeout", ["30s", "60s", "0"]),
];

fn read(script: &mut Script) {
    for _ in 0..script.prng.between(1, 4) {
        let rows = script.prng.between(0, u64::from(script.taste.big_rows_max));
        match script.prng.below(8) {
            0 => script.push_token("big", |token| format!("SELECT big({token}, {rows})")),
            1 => script.push_token("note", |token| format!("SELECT note({token})")),
            2 => script.push_token("board", |token| format!("SELECT board({token})")),
            _ => script.push_token("token", |token| format!("SELECT token({token})")),
        }
    }
}

fn slow(script: &mut Script) {
    let wait_ms = script.prng.between(0, u64::from(script.taste.slow_ms_max));
    let function = *script.prng.pick(&["slow", "crawl"]);
    script.push_token("slow", |token| {
        format!("SELECT {function}({token}, {wait_ms})")
    });
}

fn push_seen(script: &mut Script, name: &str) {
    script.push_token("seen", |token| format!("SELECT seen({token}, '{name}')"));
}

fn seen(script: &mut Script) {
    let (name, _) = *script.prng.pick(&SETTINGS);
    push_seen(script, name);
}

fn written(script: &mut Script) {
    script.push_token("written", |token| format!("SELECT written({token})"));
}

fn push_write(script: &mut Script) {
    let returning = *script.prng.pick(&["", " RETURNING token"]);
    script.push_token("insert", |token| {
        format!("INSERT INTO ledger VALUES ({token}){returning}")
    });
}

fn write(script: &mut Script) {
    push_write(script);
    if script.prng.chance(500) {
        written(script);
    }
}

fn push_touch(script: &mut Script, row: u64) {
    script.push_token("touch", |token| {
        format!("UPDATE tally SET token = {token} WHERE id = {row}")
    });
}

fn touch(script: &mut Script) {
    let row = script.prng.below(3);
    push_touch(script, row);
}

fn push_begin(script: &mut Script) {
    let text = *script.prng.pick(&["BEGIN", "begin", "START TRANSACTION"]);
    script.push_plain("begin", text);
}

fn push_end(script: &mut Script) {
    let text = *script.prng.pick(&["COMMIT", "COMMIT", "END", "ROLLBACK"]);
    script.push_plain("end", text);
}

fn transaction(script: &mut Script) {
    push_begin(script);
    for _ in 0..script.prng.below(4) {
        match script.prng.below(5) {
            0 => push_write(script),
            1 => written(script),
            2 => seen(script),
            3 => script.push_token("fail", |token| format!("SELECT fail({token})")),
            _ => script.push_token("token", |token| format!("SELECT token({token})")),
        }
    }
    if script.prng.chance(100) {
        script.push_plain("chain", "COMMIT AND CHAIN");
        push_write(script);
    }
    push_end(script);
    written(script);
}

fn rollback(script: &mut Script) {
    push_begin(script);
    push_write(script);
    let (name, values) = *script.prng.pick(&SETTINGS);
    push_set(script, name, values[0], "");
    script.push_plain("rollback", "ROLLBACK");
    push_seen(script, name);
    written(script);
}

fn row_locks(script: &mut Script) {
    push_begin(script);
    for row in 0..3 {
        if script.prng.chance(600) {
            push_touch(script, row);
        }
    }
    push_end(script);
}

fn board_lock(script: &mut Script) {
    push_begin(script);
    script.push_plain("lock", "LOCK TABLE board");
    script.push_token("token", |token| format!("SELECT token({token})"));
    push_end(script);
}

fn late(script: &mut Script) {
    let inside = script.prng.chance(500);
    if inside {
        push_begin(script);
    }
    script.push_token("late", |token| format!("INSERT INTO late VALUES ({token})"));
    if inside {
        script.push_plain("commit", "COMMIT");
    }
    written(script);
}

fn push_set(script: &mut Script, name: &str, value: &str, scope: &str) {
    let value = value.replace('\'', "''");
    let text = match script.prng.below(4) {
        0 if !name.contains('_') => format!("SET {scope}{} TO '{value}'", name.to_uppercase()),
        1 if scope.is_empty() => format!("SELECT set_config('{name}', '{value}', false)"),
        _ => format!("SET {scope}{name} = '{value}'"),
    };
    script.push_plain("set", &text);
}

fn set(script: &mut Script) {
    let (name, values) = *script.prng.pick(&SETTINGS);
    let value = *script.prng.pick(&values);
    push_set(script, name, value, "");
    for _ in 0..script.prng.between(1, 3) {
        push_seen(script, name);
    }
    match script.prng.below(4) {
        0 => script.push_plain("show", &format!("SHOW {name}")),
        1 => script.push_plain("reset", &format!("RESET {name}")),
        2 => script.push_token("note", |token| format!("SELECT note({token})")),
        _ => push_seen(script, name),
    }
    push_seen(script, name);
}

fn set_local(script: &mut Script) {
    let (name, values) = *script.prng.pick(&SETTINGS);
    let value = *script.prng.pick(&values);
    push_begin(script);
    push_set(script, name, value, "LOCAL ");
    push_seen(script, name);
    push_end(script);
    push_seen(script, name);
}

fn show(script: &mut Script) {
    let name = *script
        .prng
        .pick(&["work_mem", "DateStyle", "TIMEZONE", "server_version"]);
    script.push_plain("show", &format!("SHOW {name}"));
}

fn reset(script: &mut Script) {
    let text = *script.prng.pick(&[
        "RESET ALL",
        "DISCARD ALL",
        "DEALLOCATE ALL",
        "CLOSE ALL",
        "UNLISTEN *",
        "CLOSE ALL; UNLISTEN *; RESET ALL",
        "RESET work_mem",
        "SET timezone TO DEFAULT",
    ]);
    if text == "CLOSE ALL; UNLISTEN *; RESET ALL" {
        script.push(text, Messages::default().query(text), Vec::new());
    } else {
        script.push_plain("reset", text);
    }
    if matches!(text, "DISCARD ALL" | "DEALLOCATE ALL") && script.prng.chance(700) {
        script.prepared.clear();
    }
}

/// A RESET that only the node sees. To begin with: inside a transaction that began on an upstream
/// of everybody's it would go back to the node's defaults.
pub(super) fn hide(script: &mut Script) {
    let (name, values) = *script.prng.pick(&SETTINGS[..3]);
    if script.prng.chance(500) {
        push_set(script, name, values[0], "");
    }
    script.push_plain("hide", &format!("DO RESET {name}"));
    push_seen(script, name);
}

fn temporary(script: &mut Script) {
    let table = *script.prng.pick(&["temp_a", "temp_b"]);
    script.push_plain("create", &format!("CREATE TEMP TABLE {table}"));
    for _ in 0..script.prng.between(1, 3) {
        script.push_token("fill", |token| {
            format!("INSERT INTO {table} VALUES ({token})")
        });
        script.push_plain("read", &format!("SELECT token FROM {table}"));
    }
    let text = match script.prng.below(3) {
        0 => "DISCARD ALL".to_owned(),
        1 => format!("DROP TABLE {table}"),
        _ => return,
    };
    script.prepared.clear();
    script.push_plain("drop", &text);
}

fn advisory(script: &mut Script) {
    let key = script.prng.below(2);
    script.push_plain("lock", &format!("SELECT pg_advisory_lock({key})"));
    script.push_token("token", |token| format!("SELECT token({token})"));
    if script.prng.chance(300) {
        push_touch(script, 1);
    }
    script.push_plain("unlock", &format!("SELECT pg_advisory_unlock({key})"));
}

/// Locks that nobody else has a reason to hold: a lock left behind by a session shows.
fn own_advisory(script: &mut Script) {
    let number: u64 = script.client[1..].parse().unwrap_or(0);
    let key = 1000 + number;
    script.push_plain("try", &format!("SELECT pg_try_advisory_lock({key})"));
    script.push_token("token", |token| format!("SELECT token({token})"));
    script.push_plain("unlock", &format!("SELECT pg_advisory_unlock({key})"));
    script.push_plain("try", &format!("SELECT pg_try_advisory_lock({key})"));
    script.push_plain("discard", "SELECT pg_advisory_unlock_all()");
}

fn named(script: &mut Script) {
    let name = script.name("n");
    let text = *script.prng.pick(&[
        "SELECT token($1)",
        "SELECT seen($1, 'timezone')",
        "INSERT INTO ledger VALUES ($1)",
    ]);
    let parse = Messages::default()
        .parse(&name, text)
        .describe(b'S', &name)
        .sync();
    script.push("parse", parse, Vec::new());
    for _ in 0..script.prng.between(1, 3) {
        let token = script.token();
        let messages = Messages::default()
            .bind("", &name, &[&token])
            .execute("", 0)
            .sync();
        script.push("bind", messages, vec![token]);
    }
    match script.prng.below(3) {
        0 => script.push(
            "close",
            Messages::default().close(b'S', &name).sync(),
            Vec::new(),
        ),
        1 => {
            script.push_plain("deallocate", &format!("DEALLOCATE {name}"));
            let token = script.token();
            let messages = Messages::default()
                .bind("", &name, &[&token])
                .execute("", 0)
                .sync();
            script.push("bind", messages, vec![token]);
        }
        _ => script.push(
            "parse",
            Messages::default().parse(&name, text).sync(),
            Vec::new(),
        ),
    }
}

fn split_unnamed(script: &mut Script) {
    let messages = Messages::default()
        .parse("", "SELECT token($1)")
        .describe(b'S', "")
        .sync();
    script.push("parse", messages, Vec::new());
    if script.prng.chance(300) {
        // A Query drops the unnamed statement, so that the Bind fails.
        script.push(
            "query",
            Messages::default().query("SHOW work_mem"),
            Vec::new(),
        );
    }
    for _ in 0..2 {
        let token = script.token();
        let messages = Messages::default()
            .bind("", "", &[&token])
            .execute("", 0)
            .sync();
        script.push("bind", messages, vec![token]);
    }
}

fn flush(script: &mut Script) {
    let token = script.token();
    let first = Messages::default()
        .parse("", "SELECT token($1)")
        .describe(b'S', "")
        .bare(b'H');
    let second = Messages::default()
        .bind("", "", &[&token])
        .execute("", 0)
        .sync();
    let parts = vec![first.0, second.0];
    script.ready.push_back(Unit {
        name: "flush",
        parts,
        tokens: vec![token],
        ..Unit::default()
    });
}

fn row_limit(script: &mut Script) {
    let token = script.token();
    let text = format!("SELECT big('{token}', 5)");
    let portal = *script.prng.pick(&["", "p"]);
    let messages = Messages::default().parse("", &text).bind(portal, "", &[]);
    let messages = messages
        .execute(portal, 2)
        .execute(portal, 0)
        .execute(portal, 0)
        .sync();
    script.push("row limit", messages, vec![token]);
}

fn several_executes(script: &mut Script) {
    let mut messages = Messages::default();
    let mut tokens = Vec::new();
    for _ in 0..script.prng.between(2, 4) {
        let token = script.token();
        let text = *script.prng.pick(&[
            "SELECT token($1)",
            "INSERT INTO ledger VALUES ($1)",
            "SELECT written($1)",
            "SELECT fail($1)",
        ]);
        messages = messages
            .parse("", text)
            .bind("", "", &[&token])
            .describe(b'P', "");
        messages = messages.execute("", 0);
        tokens.push(token);
    }
    script.push("several executes", messages.sync(), tokens);
    written(script);
}

fn several_statements(script: &mut Script) {
    let (one, two) = (script.token(), script.token());
    let text = match script.prng.below(6) {
        0 => format!("SELECT token('{one}'); SELECT token('{two}')"),
        1 => format!("INSERT INTO ledger VALUES ('{one}'); SELECT fail('{two}')"),
        2 => format!("BEGIN; INSERT INTO ledger VALUES ('{one}'); COMMIT; SELECT token('{two}')"),
        3 => format!("SET work_mem = '8MB'; SELECT seen('{one}', 'work_mem'); RESET work_mem"),
        4 => format!("INSERT INTO ledger VALUES ('{one}'); INSERT INTO late VALUES ('{two}')"),
        _ => format!("SELECT token('{one}'); BEGIN; SELECT token('{two}')"),
    };
    let leaves_open = text.ends_with("BEGIN; SELECT token('")
        || (text.contains("BEGIN;") && !text.contains("COMMIT;"));
    script.push(
        "several statements",
        Messages::default().query(&text),
        vec![one, two],
    );
    if leaves_open {
        push_write(script);
        push_end(script);
    }
}

fn sql_prepare(script: &mut Script) {
    let name = script.name("q");
    script.push_plain("prepare", &format!("PREPARE {name} AS SELECT token($1)"));
    for _ in 0..2 {
        let token = script.token();
        let text = format!("EXECUTE {name} ('{token}')");
        script.push("execute", Messages::default().query(&text), vec![token]);
    }
    if script.prng.chance(700) {
        script.push_plain("deallocate", &format!("DEALLOCATE {name}"));
    }
}

fn cursor(script: &mut Script) {
    let token = script.token();
    push_begin(script);
    let text = format!("DECLARE cur CURSOR FOR SELECT big('{token}', 3)");
    script.push("declare", Messages::default().query(&text), vec![token]);
    script.push_plain("fetch", "FETCH cur");
    if script.prng.chance(500) {
        script.push_plain("close", "CLOSE cur");
    }
    push_end(script);
    script.push_plain("fetch", "FETCH cur");
}

fn hold_cursor(script: &mut Script) {
    let token = script.token();
    let text = format!("DECLARE held CURSOR WITH HOLD FOR SELECT big('{token}', 3)");
    script.push("declare", Messages::default().query(&text), vec![token]);
    script.push_plain("fetch", "FETCH held");
    script.push_token("token", |token| format!("SELECT token({token})"));
    script.push_plain("fetch", "FETCH held");
    let text = *script.prng.pick(&["CLOSE held", "CLOSE ALL"]);
    script.push_plain("close", text);
}

fn copy(script: &mut Script) {
    if script.prng.chance(300) {
        let token = script.token();
        let text = format!("COPY (SELECT token('{token}')) TO STDOUT");
        script.push("copy out", Messages::default().query(&text), vec![token]);
        return;
    }
    let tokens = [script.token(), script.token()];
    let messages = Messages::default().query("COPY ledger FROM STDIN");
    let lines = tokens.iter().fold(Messages::default(), |lines, token| {
        lines.copy_data(&format!("{token}\n"))
    });
    let rest = if script.prng.chance(700) {
        lines.bare(b'c')
    } else {
        lines.copy_fail("no more")
    };
    let parts = if script.prng.chance(500) {
        vec![messages.0, rest.0]
    } else {
        vec![[messages.0, rest.0].concat()]
    };
    script.ready.push_back(Unit {
        name: "copy in",
        parts,
        tokens: tokens.into(),
        ..Unit::default()
    });
    written(script);
}

fn errors(script: &mut Script) {
    let messages = match script.prng.below(6) {
        0 => Messages::default().query("SELEC nonsense"),
        1 => Messages::default()
            .parse("", "nonsense")
            .bind("", "", &[])
            .execute("", 0)
            .sync(),
        2 => Messages::default()
            .bind("", "nowhere", &["x"])
            .execute("", 0)
            .sync(),
        3 => Messages::default().execute("nowhere", 0).sync(),
        4 => Messages::default().describe(b'S', "nowhere").sync(),
        _ => Messages::default().query("SET no_such_setting = 1"),
    };
    script.push("error", messages, Vec::new());
    script.push_token("fail", |token| format!("SELECT fail({token})"));
    script.push_token("token", |token| format!("SELECT token({token})"));
}

fn odds(script: &mut Script) {
    match script.prng.below(7) {
        0 => script.push(
            "empty",
            Messages::default().query(" -- nothing"),
            Vec::new(),
        ),
        1 => script.push("sync", Messages::default().sync(), Vec::new()),
        2 => script.push(
            "function call",
            Messages::default().function_call(1),
            Vec::new(),
        ),
        3 => script.push("vacuum", Messages::default().query("VACUUM"), Vec::new()),
        4 => script.push_token("do", |token| format!("DO {token}")),
        5 => script.push_plain("commit", "COMMIT"),
        _ => {
            let messages = Messages::default()
                .parse("", "")
                .bind("", "", &[])
                .execute("", 0);
            script.push("empty", messages.sync(), Vec::new());
        }
    }
}

fn listen(script: &mut Script) {
    script.push_plain("listen", "LISTEN news");
    let token = script.token();
    let text = format!("NOTIFY news, '{token}'");
    script.push("notify", Messages::default().query(&text), Vec::new());
    script.push_token("token", |token| format!("SELECT token({token})"));
    if script.prng.chance(700) {
        let text = *script.prng.pick(&["UNLISTEN news", "UNLISTEN *"]);
        script.push_plain("unlisten", text);
    }
}

fn savepoint(script: &mut Script) {
    push_begin(script);
    push_write(script);
    script.push_plain("savepoint", "SAVEPOINT one");
    push_write(script);
    if script.prng.chance(500) {
        script.push_token("fail", |token| format!("SELECT fail({token})"));
    }
    let text = *script.prng.pick(&["ROLLBACK TO one", "RELEASE one"]);
    script.push_plain("savepoint", text);
    written(script);
    push_end(script);
    written(script);
}

fn star(script: &mut Script) {
    let client = script.client.clone();
    let select = |token: &str| format!("SELECT star_{client}({token})");
    script.push_token("star", select);
    script.push_token("alter", |token| {
        format!("ALTER TABLE star_{client} ADD {token}")
    });
    script.push_token("star", select);
}
