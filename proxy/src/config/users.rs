//! The users file, in the form of PgBouncer's `userlist.txt`.
//!
//! Tells what kind each secret is: a password, `md5` with 32 hex digits, or a SCRAM verifier as
//! PostgreSQL stores it. The syntax of a line is known to `protocols`.
//!
//! Invariant: no problem that is noted here repeats a secret.

use std::collections::BTreeMap;
use std::sync::Arc;

use manifold_core::auth::{Secret, Users};
use manifold_protocols::postgres::authentication::md5;
use manifold_protocols::postgres::authentication::scram::Verifier;
use manifold_protocols::postgres::authentication::userlist::{self, Entry};

use super::problem::{Place, Problems};

/// What a text begins with that PostgreSQL takes for a SCRAM verifier.
const SCRAM_PREFIX: &[u8] = b"SCRAM-SHA-256$";

/// Reads a whole users file, line by line, so that one bad line does not hide another.
pub fn parse(name: &Arc<str>, bytes: &[u8], problems: &mut Problems) -> Users {
    let mut users = BTreeMap::new();
    for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let place = Place {
            source: name.clone(),
            line: Some(index + 1),
        };
        match userlist::decode(line) {
            Ok(entries) => {
                for entry in entries {
                    add(entry, place.clone(), &mut users, problems);
                }
            }
            Err(error) => problems.error(
                place,
                error.reason.to_string(),
                "a line is \"user\" \"secret\", with quotes inside doubled",
            ),
        }
    }
    Users::new(users)
}

/// Takes one user in.
fn add(
    entry: Entry,
    place: Place,
    users: &mut BTreeMap<Box<[u8]>, Secret>,
    problems: &mut Problems,
) {
    let user = String::from_utf8_lossy(&entry.user).into_owned();
    if entry.secret.is_empty() {
        let message = format!("user {user:?} has an empty secret and cannot log in");
        return problems.warn(place, message, "PostgreSQL refuses empty passwords, too");
    }
    let Some(secret) = classify(&entry.secret) else {
        let message = format!("the SCRAM verifier of user {user:?} is malformed");
        let hint = "copy rolpassword from pg_authid as it is: SCRAM-SHA-256$iterations:salt$keys";
        return problems.error(place, message, hint);
    };
    if users.insert(entry.user.into(), secret).is_some() {
        problems.warn(
            place,
            format!("user {user:?} stands here twice"),
            "the last line counts",
        );
    }
}

/// Tells passwords, md5 hashes and SCRAM verifiers apart; none for a verifier that is not well
/// formed, because nobody has such a password.
fn classify(secret: &[u8]) -> Option<Secret> {
    let text = String::from_utf8_lossy(secret);
    if md5::Hash::decode(secret).is_some() {
        return Some(Secret::Md5(text.into()));
    }
    if secret.starts_with(SCRAM_PREFIX) {
        return Verifier::decode(secret)
            .ok()
            .map(|_| Secret::Scram(text.into()));
    }
    Some(Secret::Plain(secret.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const VERIFIER: &str = "SCRAM-SHA-256$4096:c2FsdHNhbHQ=$\
                            AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:\
                            AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

    fn read(text: &str) -> (Users, Vec<String>) {
        let mut problems = Problems::default();
        let users = parse(&"u.txt".into(), text.as_bytes(), &mut problems);
        (
            users,
            problems
                .into_sorted()
                .iter()
                .map(ToString::to_string)
                .collect(),
        )
    }

    #[test]
    fn tells_the_kinds_of_secret_apart() {
        let hash = "md50123456789abcdef0123456789abcdef";
        let text = format!(
            "; remark\n\n\"a\" \"pass\" \"more\" words\n\"b\"\t\"{hash}\"\r\n \
             \"c\" \"{VERIFIER}\"\n"
        );
        let (users, problems) = read(&text);
        assert_eq!(problems, Vec::<String>::new());
        let secret = |name: &str| users.secret(name.as_bytes()).unwrap();
        assert!(*secret("a") == Secret::Plain(b"pass".as_slice().into()));
        assert!(*secret("b") == Secret::Md5(hash.into()));
        assert!(*secret("c") == Secret::Scram(VERIFIER.into()));
        assert_eq!(users.iter().count(), 3);
    }

    #[test]
    fn takes_a_password_for_a_password_when_it_only_resembles_a_hash() {
        let (users, _) =
            read("\"a\" \"md5 is weak\"\n\"b\" \"md5X123456789abcdef0123456789abcdef\"");
        assert!(
            users
                .iter()
                .all(|(_, secret)| matches!(secret, Secret::Plain(_)))
        );
    }

    #[test]
    fn undoubles_quotes_when_a_field_has_them() {
        let (users, problems) = read("\"o\"\"neil\" \"a\"\"b\"\"\"\n");
        assert_eq!(problems, Vec::<String>::new());
        let secret = users.secret(b"o\"neil").unwrap();
        assert!(*secret == Secret::Plain(b"a\"b\"".as_slice().into()));
    }

    #[test]
    fn says_the_line_and_never_the_secret_when_a_line_is_wrong() {
        let text = "user pw\n\"a\"\n\"a\" \"x\n\"b\" \"SCRAM-SHA-256$hidden\"\n\"c\" \"hidden\"\n\
                    \"c\" \"hidden\"\n\"d\" \"\"\n\"\" \"hidden\"\n";
        let (users, problems) = read(text);
        let firsts: Vec<_> = problems.iter().map(|p| p.lines().next().unwrap()).collect();
        assert_eq!(
            firsts,
            [
                "u.txt:1: a line begins with a quoted user name or with a semicolon",
                "u.txt:2: a quoted secret must follow the user name",
                "u.txt:3: a quote is not closed",
                "u.txt:4: the SCRAM verifier of user \"b\" is malformed",
                "u.txt:6: warning: user \"c\" stands here twice",
                "u.txt:7: warning: user \"d\" has an empty secret and cannot log in",
                "u.txt:8: the user name is empty",
            ]
        );
        assert!(problems.iter().all(|problem| !problem.contains("hidden")));
        assert_eq!(users.iter().count(), 1);
    }
}
