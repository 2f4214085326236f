//! The grammar of the language.
//!
//! Knows how texts are written, not what they do. Invariant: what it does not know is an error.

use manifold_core::proof::{CATALOG_QUERY, CATALOG_VERSION_QUERY};

use super::lexeme::{Lexeme, split};
use super::{Advisory, Argument, Read, Sql};

/// The text is not of the language.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Syntax;

/// The statements of a text, in order.
pub fn parse(text: &[u8]) -> Result<Vec<Sql>, Syntax> {
    let text = core::str::from_utf8(text).map_err(|_| Syntax)?;
    if text == CATALOG_QUERY {
        return Ok(vec![Sql::Catalog]);
    }
    if text == CATALOG_VERSION_QUERY {
        return Ok(vec![Sql::CatalogVersion]);
    }
    let lexemes = split(text).ok_or(Syntax)?;
    let pieces = lexemes.split(|lexeme| *lexeme == Lexeme::Sign(';'));
    pieces
        .filter(|piece| !piece.is_empty())
        .map(|piece| statement(&view(piece)))
        .collect()
}

/// A lexeme in a form that patterns can name.
#[derive(Clone, Copy, Debug)]
enum Item<'a> {
    Word(&'a str),
    Text(&'a str),
    Number(u32),
    Parameter(usize),
    Sign(char),
}

use Item::{Number, Parameter, Sign, Text, Word};

fn view(lexemes: &[Lexeme]) -> Vec<Item<'_>> {
    let item = |lexeme| match lexeme {
        &Lexeme::Number(number) => Number(number),
        &Lexeme::Parameter(number) => Parameter(number),
        &Lexeme::Sign(sign) => Sign(sign),
        Lexeme::Text(text) => Text(text),
        Lexeme::Word(word) => Word(word),
    };
    lexemes.iter().map(item).collect()
}

fn statement(items: &[Item<'_>]) -> Result<Sql, Syntax> {
    let Some(Word(first)) = items.first() else {
        return Err(Syntax);
    };
    match *first {
        "SELECT" => select(&items[1..]),
        "INSERT" | "UPDATE" | "LOCK" | "ALTER" | "VACUUM" | "DO" | "COPY" => write(items),
        "SET" | "RESET" | "SHOW" => setting(items),
        "CREATE" | "DROP" | "LISTEN" | "UNLISTEN" | "NOTIFY" | "DISCARD" => session(items),
        "PREPARE" | "EXECUTE" | "DEALLOCATE" | "DECLARE" | "FETCH" | "CLOSE" => named(items),
        _ => transaction(items),
    }
}

fn select(items: &[Item<'_>]) -> Result<Sql, Syntax> {
    if let [Word("TOKEN"), Word("FROM"), Word(name)] = items {
        return temporary(name).map(Sql::ReadTemp);
    }
    let [Word(function), Sign('('), inside @ .., Sign(')')] = items else {
        return Err(Syntax);
    };
    if let Some(read) = reading(function, inside) {
        return Ok(Sql::Read {
            read,
            token: argument(inside.first())?,
        });
    }
    match (*function, inside) {
        ("PG_CATALOG.CURRENT_SETTING", _) => current_settings(items),
        (
            "SET_CONFIG" | "PG_CATALOG.SET_CONFIG",
            &[Text(name), Sign(','), Text(value), Sign(','), Word(local)],
        ) => Ok(Sql::Set {
            name: name.to_ascii_lowercase(),
            value: value.to_owned(),
            local: local == "TRUE",
            call: true,
        }),
        ("PG_ADVISORY_LOCK", &[Number(key)]) => Ok(Sql::Advisory {
            act: Advisory::Lock,
            key,
        }),
        ("PG_TRY_ADVISORY_LOCK", &[Number(key)]) => Ok(Sql::Advisory {
            act: Advisory::Try,
            key,
        }),
        ("PG_ADVISORY_UNLOCK", &[Number(key)]) => Ok(Sql::Advisory {
            act: Advisory::Unlock,
            key,
        }),
        ("PG_ADVISORY_UNLOCK_ALL", []) => Ok(Sql::UnlockAll),
        ("PG_BACKEND_PID", []) => Ok(Sql::Pid),
        _ => Err(Syntax),
    }
}

fn current_settings(items: &[Item<'_>]) -> Result<Sql, Syntax> {
    let mut names = Vec::new();
    let mut rest = items;
    loop {
        let [
            Word("PG_CATALOG.CURRENT_SETTING"),
            Sign('('),
            Text(name),
            Sign(','),
            Word("TRUE"),
            Sign(')'),
            after @ ..,
        ] = rest
        else {
            return Err(Syntax);
        };
        names.push((*name).to_owned());
        match after {
            [] => return Ok(Sql::Current(names)),
            [Sign(','), after @ ..] => rest = after,
            _ => return Err(Syntax),
        }
    }
}

fn reading(function: &str, inside: &[Item<'_>]) -> Option<Read> {
    Some(match (function, inside) {
        ("TOKEN", [_]) => Read::Token,
        ("SEEN", [_, Sign(','), Text(name)]) => Read::Seen(name.to_ascii_lowercase()),
        ("BIG", [_, Sign(','), Number(rows)]) => Read::Big(*rows),
        ("SLOW", [_, Sign(','), Number(wait_ms)]) => Read::Slow(*wait_ms),
        ("CRAWL", [_, Sign(','), Number(wait_ms)]) => Read::Crawl(*wait_ms),
        ("FAIL", [_]) => Read::Fail,
        ("NOTE", [_]) => Read::Note,
        ("WRITTEN", [_]) => Read::Written,
        ("BOARD", [_]) => Read::Board,
        (function, [_]) => Read::Star(star(function)?),
        _ => return None,
    })
}

fn argument(item: Option<&Item<'_>>) -> Result<Argument, Syntax> {
    match item {
        Some(Text(text)) => Ok(Argument::Literal((*text).to_owned())),
        Some(Parameter(number)) => Ok(Argument::Parameter(*number)),
        _ => Err(Syntax),
    }
}

fn write(items: &[Item<'_>]) -> Result<Sql, Syntax> {
    match items {
        [
            Word("INSERT"),
            Word("INTO"),
            Word(table),
            Word("VALUES"),
            Sign('('),
            value,
            Sign(')'),
            rest @ ..,
        ] => {
            let token = argument(Some(value))?;
            match (*table, rest) {
                ("LEDGER", []) => Ok(Sql::Insert {
                    token,
                    returning: false,
                }),
                ("LEDGER", [Word("RETURNING"), Word("TOKEN")]) => Ok(Sql::Insert {
                    token,
                    returning: true,
                }),
                ("LATE", []) => Ok(Sql::Late { token }),
                (name, []) => Ok(Sql::FillTemp {
                    name: temporary(name)?,
                    token,
                }),
                _ => Err(Syntax),
            }
        }
        [
            Word("UPDATE"),
            Word("TALLY"),
            Word("SET"),
            Word("TOKEN"),
            Sign('='),
            value,
            Word("WHERE"),
            Word("ID"),
            Sign('='),
            Number(row),
        ] => Ok(Sql::Touch {
            token: argument(Some(value))?,
            row: *row,
        }),
        [Word("LOCK"), Word("TABLE"), Word("BOARD")] => Ok(Sql::Lock),
        [
            Word("ALTER"),
            Word("TABLE"),
            Word(table),
            Word("ADD"),
            value,
        ] => {
            let client = star(table).ok_or(Syntax)?;
            Ok(Sql::Alter {
                client,
                token: argument(Some(value))?,
            })
        }
        [Word("VACUUM")] => Ok(Sql::Vacuum),
        [Word("DO"), Word("RESET"), Word(name)] => Ok(Sql::Hide(lower(name))),
        [Word("DO"), value] => Ok(Sql::Do {
            token: argument(Some(value))?,
        }),
        [Word("COPY"), Word("LEDGER"), Word("FROM"), Word("STDIN")] => Ok(Sql::CopyIn),
        [
            Word("COPY"),
            Sign('('),
            Word("SELECT"),
            Word("TOKEN"),
            Sign('('),
            value,
            Sign(')'),
            Sign(')'),
            Word("TO"),
            Word("STDOUT"),
        ] => Ok(Sql::CopyOut {
            token: argument(Some(value))?,
        }),
        _ => Err(Syntax),
    }
}

fn transaction(items: &[Item<'_>]) -> Result<Sql, Syntax> {
    Ok(match items {
        [Word("BEGIN")] | [Word("START"), Word("TRANSACTION")] => Sql::Begin,
        [Word("COMMIT" | "END")] => Sql::Commit { chain: false },
        [Word("COMMIT"), Word("AND"), Word("CHAIN")] => Sql::Commit { chain: true },
        [Word("ROLLBACK" | "ABORT")] => Sql::Rollback { chain: false },
        [Word("ROLLBACK"), Word("AND"), Word("CHAIN")] => Sql::Rollback { chain: true },
        [Word("SAVEPOINT"), Word(name)] => Sql::Savepoint(lower(name)),
        [Word("RELEASE"), Word(name)] => Sql::Release(lower(name)),
        [Word("ROLLBACK"), Word("TO"), Word(name)] => Sql::RollbackTo(lower(name)),
        _ => return Err(Syntax),
    })
}

fn setting(items: &[Item<'_>]) -> Result<Sql, Syntax> {
    Ok(match items {
        [Word("RESET"), Word("ALL")] => Sql::ResetAll,
        [Word("RESET"), Word(name) | Text(name)] => Sql::Reset(lower(name)),
        [Word("RESET"), Text(class), Sign('.'), Text(name)] => {
            Sql::Reset(format!("{}.{}", lower(class), lower(name)))
        }
        [Word("SHOW"), Word(name)] => Sql::Show(lower(name)),
        [Word("SET"), Word("LOCAL"), rest @ ..] => assignment(rest, true)?,
        [Word("SET"), Word("SESSION"), rest @ ..] | [Word("SET"), rest @ ..] => {
            assignment(rest, false)?
        }
        _ => return Err(Syntax),
    })
}

fn assignment(items: &[Item<'_>], local: bool) -> Result<Sql, Syntax> {
    let [Word(name), Sign('=') | Word("TO"), value] = items else {
        return Err(Syntax);
    };
    let value = match value {
        Word("DEFAULT") if !local => return Ok(Sql::Reset(lower(name))),
        Word(word) => lower(word),
        Text(text) => (*text).to_owned(),
        Number(number) => number.to_string(),
        Parameter(_) | Sign(_) => return Err(Syntax),
    };
    Ok(Sql::Set {
        name: lower(name),
        value,
        local,
        call: false,
    })
}

fn session(items: &[Item<'_>]) -> Result<Sql, Syntax> {
    Ok(match items {
        [Word("CREATE"), Word("TEMP"), Word("TABLE"), Word(name)] => {
            Sql::CreateTemp(temporary(name)?)
        }
        [Word("DROP"), Word("TABLE"), Word(name)] => Sql::DropTemp(temporary(name)?),
        [Word("LISTEN"), Word(name)] => Sql::Listen(lower(name)),
        [Word("UNLISTEN"), Word(name)] => Sql::Unlisten(lower(name)),
        [Word("UNLISTEN"), Sign('*')] => Sql::UnlistenAll,
        [Word("NOTIFY"), Word(name), Sign(','), Text(payload)] => Sql::Notify {
            channel: lower(name),
            payload: (*payload).to_owned(),
        },
        [Word("DISCARD"), Word("ALL")] => Sql::DiscardAll,
        _ => return Err(Syntax),
    })
}

fn named(items: &[Item<'_>]) -> Result<Sql, Syntax> {
    Ok(match items {
        [Word("PREPARE"), Word(name), Word("AS"), inner @ ..] => Sql::Prepare {
            name: lower(name),
            inner: Box::new(statement(inner)?),
        },
        [Word("EXECUTE"), Word(name)] => Sql::Execute {
            name: lower(name),
            values: Vec::new(),
        },
        [
            Word("EXECUTE"),
            Word(name),
            Sign('('),
            Text(value),
            Sign(')'),
        ] => Sql::Execute {
            name: lower(name),
            values: vec![(*value).to_owned()],
        },
        [Word("DEALLOCATE"), Word("ALL")] => Sql::DeallocateAll,
        [Word("DEALLOCATE"), Word(name)] => Sql::Deallocate(lower(name)),
        [
            Word("DECLARE"),
            Word(name),
            Word("CURSOR"),
            Word("FOR"),
            inner @ ..,
        ] => Sql::Declare {
            name: lower(name),
            hold: false,
            inner: Box::new(statement(inner)?),
        },
        [
            Word("DECLARE"),
            Word(name),
            Word("CURSOR"),
            Word("WITH"),
            Word("HOLD"),
            Word("FOR"),
            inner @ ..,
        ] => Sql::Declare {
            name: lower(name),
            hold: true,
            inner: Box::new(statement(inner)?),
        },
        [Word("FETCH"), Word(name)] => Sql::Fetch(lower(name)),
        [Word("CLOSE"), Word("ALL")] => Sql::CloseAll,
        [Word("CLOSE"), Word(name)] => Sql::CloseCursor(lower(name)),
        _ => return Err(Syntax),
    })
}

fn lower(word: &str) -> String {
    word.to_ascii_lowercase()
}

/// The client whose own table this is.
fn star(word: &str) -> Option<String> {
    word.strip_prefix("STAR_").map(lower)
}

/// The name of a temporary table; all of them begin with `temp_`.
fn temporary(word: &str) -> Result<String, Syntax> {
    if word.starts_with("TEMP_") {
        Ok(lower(word))
    } else {
        Err(Syntax)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Sql {
        let mut found = parse(text.as_bytes()).expect(text);
        assert_eq!(found.len(), 1, "{text}");
        found.remove(0)
    }

    #[test]
    fn reads_tokens_from_literals_and_parameters() {
        let literal = Sql::Read {
            read: Read::Token,
            token: Argument::Literal("c1-2".into()),
        };
        assert_eq!(one("SELECT token('c1-2')"), literal);
        assert_eq!(one("SELECT token($1)").parameters(), 1);
        assert_eq!(
            one("INSERT INTO ledger VALUES ($1) RETURNING token").parameters(),
            1
        );
    }

    #[test]
    fn splits_several_statements_and_drops_empty_ones() {
        let found = parse(b"BEGIN; SELECT token('a') ;; COMMIT AND CHAIN;").unwrap();
        assert_eq!(found.len(), 3);
        assert_eq!(found[2], Sql::Commit { chain: true });
        assert_eq!(parse(b" -- nothing\n"), Ok(Vec::new()));
    }

    #[test]
    fn refuses_what_it_does_not_know() {
        assert_eq!(parse(b"SELECT unknown('x')"), Err(Syntax));
        assert_eq!(parse(b"INSERT INTO other VALUES ('x')"), Err(Syntax));
        assert_eq!(parse(b"SELECT 'open"), Err(Syntax));
    }

    #[test]
    fn reads_settings_in_every_spelling() {
        let set = |name: &str, value: &str, local, call| Sql::Set {
            name: name.into(),
            value: value.into(),
            local,
            call,
        };
        assert_eq!(
            one("SET work_mem = '8MB'"),
            set("work_mem", "8MB", false, false)
        );
        assert_eq!(
            one("SET LOCAL app.tenant TO 7"),
            set("app.tenant", "7", true, false)
        );
        assert_eq!(
            one("SELECT set_config('App.Tenant', 'x', false)"),
            set("app.tenant", "x", false, true)
        );
        assert_eq!(
            one("SET work_mem TO DEFAULT"),
            Sql::Reset("work_mem".into())
        );
    }
}
