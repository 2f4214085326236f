//! What drivers and object mappers really send, as recorded from the habits of five of them.
//!
//! Each client is one of five kinds. After its login it sets what its kind sets, prepares named
//! statements, and then takes turns: three reads, a transaction of three statements, two autocommit
//! writes on a table with a serial key and a PL/pgSQL trigger, and what a pool sends when the
//! connection goes back to it. A batch is what such a driver sends before it waits.

use super::script::Random;
use crate::harness::frames::{bind, describe_portal, execute, parse, query, run_prepared, sync};

/// The tables that the application needs; run once, directly.
pub const SCHEMA: &str = "
DROP TABLE IF EXISTS items, journal;
CREATE TABLE items (
    id serial PRIMARY KEY,
    owner int NOT NULL,
    note text NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE journal (id bigserial PRIMARY KEY, owner int NOT NULL, what text NOT NULL);
CREATE INDEX ON items (owner);
CREATE OR REPLACE FUNCTION set_updated_at() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.updated_at = now();
    RETURN NEW;
END $$;
CREATE TRIGGER items_updated_at BEFORE UPDATE ON items
    FOR EACH ROW EXECUTE FUNCTION set_updated_at();
INSERT INTO items (owner, note) SELECT n, 'first' FROM generate_series(1, 2000) AS n;
ANALYZE items;
";

/// The named statements of every client.
const STATEMENTS: [(&str, &str); 6] = [
    (
        "read",
        "SELECT abalance FROM pgbench_accounts WHERE aid = $1",
    ),
    (
        "mine",
        "SELECT id, note, updated_at FROM items WHERE owner = $1 ORDER BY id LIMIT 1",
    ),
    (
        "add",
        "INSERT INTO items (owner, note) VALUES ($1, $2) RETURNING id",
    ),
    ("touch", "UPDATE items SET note = $2 WHERE id = $1"),
    ("log", "INSERT INTO journal (owner, what) VALUES ($1, $2)"),
    ("drop", "DELETE FROM items WHERE owner = $1 AND id > 2000"),
];

/// Who speaks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    /// Settings by SET at connect, named statements, nothing on return.
    ActiveRecord,
    /// Startup parameters, named statements, a reset in one long query on return.
    Asyncpg,
    /// Settings by set_config, simple queries with literals, ROLLBACK on return.
    Django,
    /// Extended SETs at connect, BEGIN by a prepared statement, nothing on return.
    Jdbc,
    /// Unnamed statements, DISCARD ALL on return.
    Npgsql,
}

/// One client's place in its turns.
#[derive(Clone, Debug)]
pub struct Application {
    /// Who speaks.
    kind: Kind,
    /// The client's number, from 0: its rows are its own.
    number: u32,
    /// The batch that comes next.
    step: u32,
}

/// Batches of one turn.
const STEPS: u32 = 11;

impl Application {
    /// The client with this number.
    pub fn new(number: u32) -> Self {
        let kinds = [
            Kind::ActiveRecord,
            Kind::Asyncpg,
            Kind::Django,
            Kind::Jdbc,
            Kind::Npgsql,
        ];
        Self {
            kind: kinds[number as usize % kinds.len()],
            number,
            step: 0,
        }
    }

    /// The startup parameters of its kind.
    pub fn parameters(number: u32) -> Vec<(String, String)> {
        let own = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        match Self::new(number).kind {
            Kind::ActiveRecord | Kind::Npgsql => vec![own("client_encoding", "UTF8")],
            Kind::Asyncpg => vec![
                own("client_encoding", "UTF8"),
                own("application_name", "worker"),
            ],
            Kind::Django => vec![own("client_encoding", "UTF8")],
            Kind::Jdbc => vec![
                own("client_encoding", "UTF8"),
                own("DateStyle", "ISO"),
                own("TimeZone", "UTC"),
                own("extra_float_digits", "2"),
            ],
        }
    }

    /// The SETs and the named statements.
    pub fn preparation(&self) -> (Vec<u8>, u32) {
        let settings: &[&str] = match self.kind {
            Kind::ActiveRecord => &[
                "SET client_min_messages TO 'warning'",
                "SET standard_conforming_strings = on",
                "SET intervalstyle = iso_8601",
                "SET SESSION timezone TO 'UTC'",
            ],
            Kind::Asyncpg | Kind::Npgsql => &[],
            Kind::Django => &["SELECT set_config('TimeZone', 'UTC', false)"],
            Kind::Jdbc => &[
                "SET extra_float_digits = 3",
                "SET application_name = 'PostgreSQL JDBC Driver'",
            ],
        };
        let mut out = Vec::new();
        let mut ready = 0;
        for text in settings {
            match self.kind {
                Kind::Jdbc => append_unnamed(text, &[], &mut out),
                _ => out.extend(query(text)),
            }
            ready += 1;
        }
        if self.has_named() {
            for (name, text) in STATEMENTS {
                out.extend(parse(name, text, &[]));
            }
            out.extend(sync());
            ready += 1;
        }
        (out, ready)
    }

    /// Appends the next batch.
    pub fn append_next(&mut self, random: &mut Random, out: &mut Vec<u8>) -> u32 {
        let owner = (self.number + 1).to_string();
        let key = random.up_to(1_000_000).to_string();
        let step = self.step;
        self.step = (step + 1) % STEPS;
        match step {
            0 | 1 => self.append("read", &[&key], out),
            2 => self.append("mine", &[&owner], out),
            3 => self.append_word("BEGIN", out),
            4 => self.append("read", &[&key], out),
            5 => self.append("touch", &[&owner, "seen"], out),
            6 => self.append("log", &[&owner, "visited"], out),
            7 => self.append_word("COMMIT", out),
            8 => self.append("add", &[&owner, "new"], out),
            9 if random.up_to(16) == 1 => self.append("drop", &[&owner], out),
            9 => self.append("touch", &[&owner, "changed"], out),
            _ => return self.append_return(out),
        }
        1
    }

    /// Whether statements have names.
    fn has_named(&self) -> bool {
        !matches!(self.kind, Kind::Django | Kind::Npgsql)
    }

    /// One statement with its values, in the way of the kind.
    fn append(&self, name: &str, values: &[&str], out: &mut Vec<u8>) {
        let found = STATEMENTS.iter().find(|(known, _)| *known == name);
        let text = found.expect("a known name").1;
        match self.kind {
            Kind::ActiveRecord | Kind::Asyncpg | Kind::Jdbc => {
                let values: Vec<_> = values.iter().map(|value| Some(*value)).collect();
                out.extend(run_prepared(name, &values));
            }
            Kind::Django => out.extend(query(&with_literals(text, values))),
            Kind::Npgsql => append_unnamed(text, values, out),
        }
    }

    /// BEGIN or COMMIT.
    fn append_word(&self, word: &str, out: &mut Vec<u8>) {
        match self.kind {
            Kind::Jdbc => append_unnamed(word, &[], out),
            _ => out.extend(query(word)),
        }
    }

    /// What the pool sends when the connection goes back to it.
    fn append_return(&self, out: &mut Vec<u8>) -> u32 {
        let text = match self.kind {
            Kind::ActiveRecord | Kind::Jdbc => "SELECT 1",
            Kind::Asyncpg => "SELECT pg_advisory_unlock_all(); CLOSE ALL; UNLISTEN *; RESET ALL;",
            Kind::Django => "ROLLBACK",
            Kind::Npgsql => "DISCARD ALL",
        };
        out.extend(query(text));
        1
    }
}

/// An unnamed statement: Parse, Bind, Describe, Execute, Sync.
fn append_unnamed(text: &str, values: &[&str], out: &mut Vec<u8>) {
    let values: Vec<_> = values.iter().map(|value| Some(*value)).collect();
    out.extend(parse("", text, &[]));
    out.extend(bind("", "", &values));
    out.extend(describe_portal(""));
    out.extend(execute("", 0));
    out.extend(sync());
}

/// The text with its parameters written in as literals, as a driver without server-side parameters
/// does it.
fn with_literals(text: &str, values: &[&str]) -> String {
    let mut text = text.to_owned();
    for (index, value) in values.iter().enumerate() {
        let literal = match value.parse::<u64>() {
            Ok(number) => number.to_string(),
            Err(_) => format!("'{value}'"),
        };
        text = text.replace(&format!("${}", index + 1), &literal);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_values_into_text() {
        let text = with_literals("UPDATE t SET a = $2 WHERE b = $1", &["12", "x"]);
        assert_eq!(text, "UPDATE t SET a = 'x' WHERE b = 12");
    }

    #[test]
    fn comes_back_to_its_start_after_one_turn() {
        let mut random = Random::new(1);
        for number in 0..5 {
            let mut application = Application::new(number);
            for step in 0..STEPS {
                assert_eq!(application.step, step);
                let mut out = Vec::new();
                assert_eq!(application.append_next(&mut random, &mut out), 1);
                assert!(out.len() > 5);
            }
            assert_eq!(application.step, 0);
        }
    }
}
