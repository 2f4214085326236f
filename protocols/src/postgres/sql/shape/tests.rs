//! The shape against its promises.

use proptest::prelude::*;

use super::*;

fn shaped(text: &str) -> String {
    let mut out = b"before ".to_vec();
    assert_eq!(shape(text.as_bytes(), &mut out), Outcome::Shaped, "{text}");
    String::from_utf8(out)
        .unwrap()
        .strip_prefix("before ")
        .unwrap()
        .to_owned()
}

#[test]
fn replaces_literals_when_of_any_kind() {
    let text = "SELECT 'a', E'\\'', $$x$$, U&'y', N'n', B'0', X'f', 1, 0x1f, 1.5, .5e-3 , $1";
    let expected = "select '' , '' , '' , '' , n'' , b'' , x'' , 0 , 0 , 0. , 0. , $1";
    assert_eq!(shaped(text), expected);
}

#[test]
fn keeps_identifiers_when_quoted() {
    assert_eq!(
        shaped("Select \"A\"\"b\".C From É"),
        "select \"A\"\"b\" . c from É"
    );
    assert_ne!(shaped("select \"select\""), shaped("select select"));
}

#[test]
fn ignores_space_and_comments() {
    let expected = "select a + - 0 from t where b <> ''";
    for text in [
        "select a+-1 from t where b<>'x'",
        "SELECT\ta + - 2\r\nFROM t -- c\nWHERE b <> 'y'",
        "  select/**/a/* /* 'x */ */+-3/**/from t where b<>\n'x'\n'y'  ",
    ] {
        assert_eq!(shaped(text), expected);
    }
    assert_eq!(shaped(" -- nothing"), "");
}

#[test]
fn differs_when_tokens_differ() {
    let texts = [
        "select - 1",
        "select 1",
        "select -1.0",
        "select ''",
        "select '' ''",
        "select a",
        "select \"a\"",
        "select @-1",
        "select @ -1",
        "select a.b",
        "select a..b",
        "select $1",
        "select $2",
        "select ?",
        "select (1)",
        "select 1;",
        "select x''",
        "select x ''",
    ];
    for (index, one) in texts.iter().enumerate() {
        for other in &texts[..index] {
            assert_ne!(shaped(one), shaped(other), "{one} and {other}");
        }
    }
}

#[test]
fn keeps_escape_character_when_it_changes_an_identifier() {
    let shape = shaped("select U&\"d!0061\" UESCAPE '!', '!'");
    assert_eq!(shape, "select U&\"d!0061\" uescape '!' , ''");
    for escape in ["'?'", "E'!'", "$$!$$", "E'?'"] {
        assert_ne!(
            shape,
            shaped(&format!("select U&\"d!0061\" UESCAPE {escape}, '!'"))
        );
    }
    // Found by the test of essences below.
    assert_ne!(shaped("uescape E'\\''"), shaped("uescape ''"));
}

#[test]
fn appends_nothing_when_malformed() {
    for text in ["select 'a", "select 1a", "select /*", "select \\"] {
        let mut out = b"before".to_vec();
        assert_eq!(shape(text.as_bytes(), &mut out), Outcome::Malformed);
        assert_eq!(out, b"before");
    }
}

#[test]
fn refuses_text_when_beyond_bounds() {
    let bounds = Bounds {
        bytes_max: 40,
        nesting_max: 2,
        operators_max: 3,
    };
    let outcome = |text: &str| shape_within(text.as_bytes(), &bounds, &mut Vec::new());
    assert_eq!(outcome("((1)), [[1]]"), Outcome::Shaped);
    assert_eq!(outcome("([(1)])"), Outcome::TooComplex);
    assert_eq!(outcome("1+1+1::a"), Outcome::Shaped);
    assert_eq!(outcome("1+1+1+1+1"), Outcome::TooComplex);
    assert_eq!(outcome("not not not not not not not a"), Outcome::Shaped);
    assert_eq!(outcome(&"a ".repeat(16)), Outcome::TooComplex);
    assert_eq!(outcome(&" ".repeat(40)), Outcome::Shaped);
    assert_eq!(outcome(&" ".repeat(41)), Outcome::TooComplex);
}

#[test]
fn allocates_nothing_when_room_is_enough() {
    let text = b"(((((((('x'";
    let mut out = Vec::with_capacity(text.len() * 2);
    let room = (out.as_ptr(), out.capacity());
    assert_eq!(shape(text, &mut out), Outcome::Shaped);
    assert_eq!((out.as_ptr(), out.capacity()), room);
}

/// What a shape has to tell apart: kinds of literals, and words and marks by their bytes.
fn essence(text: &[u8]) -> Vec<(Kind, Vec<u8>)> {
    let mut is_escape = false;
    let mut essence = Vec::new();
    for token in Lexer::new(text) {
        let text = token.text.to_ascii_lowercase();
        let item = match token.kind {
            Kind::Word => (token.kind, text.clone()),
            _ if is_escape => (token.kind, token.text.to_vec()),
            Kind::DollarString | Kind::EscapeString | Kind::UnicodeString => (Kind::String, vec![]),
            Kind::String => (Kind::String, vec![]),
            Kind::BitString | Kind::HexString | Kind::NationalString => (token.kind, vec![]),
            Kind::Integer | Kind::Decimal => (token.kind, vec![]),
            _ => (token.kind, token.text.to_vec()),
        };
        is_escape = token.kind == Kind::Word && text == b"uescape";
        essence.push(item);
    }
    essence
}

/// Pieces of SQL; joined with nothing between them they make awkward neighbours.
fn sql() -> impl Strategy<Value = String> {
    let pieces = prop::sample::select(vec![
        "select", "From", "a", "E", "u", "U&", "uescape", "'", "''", "'x'", "E'\\''", "\"A\"",
        "$$", "$1", "$a$", "1", "0", "0.", ".5", "1e5", "x'f'", "b'0'", "n''", " ", "\n", "--",
        "/*", "*/", "-", "+", "@", "<", "=", "::", ":", ".", "..", "(", ")", "[", ",", ";", "é",
        "_", "?", "&",
    ]);
    prop::collection::vec(pieces, 0..16).prop_map(|pieces| pieces.concat())
}

proptest! {
    // A failure prints its input, which then becomes a test of its own.
    #![proptest_config(ProptestConfig {
        cases: 5_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// Together: shapes are equal if and only if the essences are. The essence can be read back
    /// from the shape, and the shape is a function of the essence.
    #[test]
    fn keeps_essence_and_nothing_else(text in sql()) {
        let mut out = Vec::new();
        match shape(text.as_bytes(), &mut out) {
            Outcome::Malformed => {
                let essence = essence(text.as_bytes());
                prop_assert!(essence.iter().any(|(kind, _)| *kind == Kind::Malformed));
            }
            outcome => {
                prop_assert_eq!(outcome, Outcome::Shaped);
                prop_assert_eq!(essence(&out), essence(text.as_bytes()));
                let mut again = Vec::new();
                prop_assert_eq!(shape(&out, &mut again), Outcome::Shaped);
                prop_assert_eq!(&again, &out);
                // One space between tokens and none around them.
                let tokens = Lexer::new(&out).map(|token| token.text).collect::<Vec<_>>();
                prop_assert_eq!(tokens.join(&b' '), out);
            }
        }
    }

    #[test]
    fn never_panics_when_bytes_are_arbitrary(text in prop::collection::vec(any::<u8>(), 0..64)) {
        let mut out = Vec::new();
        let outcome = shape(&text, &mut out);
        prop_assert!(out.len() < text.len() * 2 + 1);
        prop_assert!(outcome == Outcome::Shaped || out.is_empty());
    }
}
