//! The lexer against PostgreSQL's rules, one by one, and against arbitrary bytes.

use proptest::prelude::*;

use super::Kind::*;
use super::*;

fn tokens(text: &str) -> Vec<(Kind, &str)> {
    let text = text.as_bytes();
    let show = |token: Token<'static>| (token.kind, std::str::from_utf8(token.text).unwrap());
    Lexer::new(text.to_vec().leak()).map(show).collect()
}

fn kinds(text: &str) -> Vec<Kind> {
    Lexer::new(text.as_bytes())
        .map(|token| token.kind)
        .collect()
}

#[test]
fn splits_words_when_unquoted_or_quoted() {
    let text = "Select _a$1 \"b\"\"c\" U&\"d\" é u &v e n";
    let expected = [
        (Word, "Select"),
        (Word, "_a$1"),
        (QuotedIdentifier, "\"b\"\"c\""),
        (UnicodeIdentifier, "U&\"d\""),
        (Word, "é"),
        (Word, "u"),
        (Operator, "&"),
        (Word, "v"),
        (Word, "e"),
        (Word, "n"),
    ];
    assert_eq!(tokens(text), expected);
}

#[test]
fn splits_strings_when_prefixed() {
    let text = r"'a''b' E'\'' e'a''\\' B'01' x'fF' N'n' U&'\0061' u&'' ae'x' '\'";
    let expected = [
        (String, "'a''b'"),
        (EscapeString, r"E'\''"),
        (EscapeString, r"e'a''\\'"),
        (BitString, "B'01'"),
        (HexString, "x'fF'"),
        (NationalString, "N'n'"),
        (UnicodeString, r"U&'\0061'"),
        (UnicodeString, "u&''"),
        (Word, "ae"),
        (String, "'x'"),
        (String, r"'\'"),
    ];
    assert_eq!(tokens(text), expected);
}

#[test]
fn splits_dollar_strings_when_tags_match() {
    let text = "$$a'$b$$$ $é1$ $$ $e$ $é1$x$$y$$";
    let expected = [
        (DollarString, "$$a'$b$$"),
        (Malformed, "$"),
        (DollarString, "$é1$ $$ $e$ $é1$"),
        (Word, "x$$y$$"),
    ];
    assert_eq!(tokens(text), expected);
    assert_eq!(tokens("$a$aa$a$"), [(DollarString, "$a$aa$a$")]);
    assert_eq!(kinds("1$$x$$"), [Integer, DollarString]);
    assert_eq!(kinds("$1$$x$$"), [Parameter, DollarString]);
    assert_eq!(kinds("$1a$ $1a$"), [Malformed, Malformed]);
}

#[test]
fn joins_strings_when_parts_are_on_other_lines() {
    let joined = [
        "'a'\n'b'",
        "'a' \t\r 'b'",
        "'a' -- c'c\n 'b'",
        "'a'--c\r--d\n\n'b'",
        "E'a'\n'\\''",
        "b'0'\n'1'",
        "U&'a'\n'b'",
    ];
    for text in joined {
        assert_eq!(tokens(text).len(), 1, "{text}");
    }
    let apart = [
        "'a' 'b'",
        "'a' /*\n*/ 'b'",
        "'a'\nE'b'",
        "'a'\n/**/'b'",
        "'a'\n$$b$$",
    ];
    for text in apart {
        assert_eq!(tokens(text).len(), 2, "{text}");
    }
    // Bits know no doubled quote.
    assert_eq!(kinds("b'0''1'"), [BitString, String]);
    assert_eq!(kinds("x'f'''"), [HexString, String]);
    assert_eq!(kinds("'a' - - 'b'"), [String, Operator, Operator, String]);
    assert_eq!(kinds("'a' -- 'b'"), [String]);
    assert_eq!(kinds("'a'\n--\n"), [String]);
}

#[test]
fn splits_numbers_as_postgres_does() {
    let integers = ["0", "1", "1_000", "0x1F", "0X_f", "0b01", "0o17", "00"];
    for text in integers {
        assert_eq!(tokens(text), [(Integer, text)]);
    }
    let decimals = [
        "1.",
        ".5",
        "1.5",
        "1e5",
        "1E-5",
        "1.e+5",
        ".5e5",
        "1_0.0_1e1_0",
    ];
    for text in decimals {
        assert_eq!(tokens(text), [(Decimal, text)]);
    }
    let malformed = [
        "1a", "1_", "1__0", "1e", "1.5e5x", "0x", "0xg", "0b2a", "1.a", "1._5", "$1a", "1é",
        "0x1F$1", "1e5$1", "1_0$1", ".5_0$a$", "0x1F$$", "1._5$1",
    ];
    for text in malformed {
        assert_eq!(tokens(text), [(Malformed, text)]);
    }
    assert_eq!(kinds("1..10"), [Integer, Punctuation, Integer]);
    assert_eq!(kinds("1...5"), [Integer, Punctuation, Decimal]);
    assert_eq!(kinds("1.5.3"), [Decimal, Decimal]);
    assert_eq!(kinds("a.5"), [Word, Decimal]);
    assert_eq!(kinds("-1"), [Operator, Integer]);
    assert_eq!(kinds("$12 $1"), [Parameter, Parameter]);
    let expected = [Integer, Parameter, Decimal, Parameter, Decimal, Parameter];
    assert_eq!(kinds("1$1 1e+5$1 .5$2"), expected);
    // PostgreSQL 14 and before read the letters as an alias, later ones as an error.
    assert_eq!(tokens("1e+"), [(Malformed, "1e"), (Operator, "+")]);
}

#[test]
fn cuts_operators_as_postgres_does() {
    let operators = |text| {
        tokens(text)
            .into_iter()
            .map(|(_, text)| text)
            .collect::<Vec<_>>()
    };
    assert_eq!(operators("<="), ["<="]);
    assert_eq!(operators("<-"), ["<", "-"]);
    assert_eq!(operators("*-+-"), ["*", "-", "+", "-"]);
    assert_eq!(operators("@-"), ["@-"]);
    assert_eq!(operators("-@"), ["-@"]);
    assert_eq!(operators("+*-1"), ["+*", "-", "1"]);
    assert_eq!(operators("<--x\n>"), ["<", ">"]);
    assert_eq!(operators("@-/*x*/-"), ["@-", "-"]);
    assert_eq!(
        operators("a::b:=c=>d..:[1:2]"),
        [
            "a", "::", "b", ":=", "c", "=>", "d", "..", ":", "[", "1", ":", "2", "]"
        ]
    );
    assert_eq!(operators("?|`#%^"), ["?|`#%^"]);
}

#[test]
fn skips_comments_when_nested() {
    assert_eq!(
        tokens("a--b\nc/*d/*e*/f*/g--"),
        [(Word, "a"), (Word, "c"), (Word, "g")]
    );
    assert_eq!(kinds("/*/*/"), [Malformed]);
    assert_eq!(kinds("/*/**/*/a"), [Word]);
    assert_eq!(kinds("/***/a"), [Word]);
    assert_eq!(kinds("/*/a"), [Malformed]);
    assert_eq!(kinds("*/ a"), [Operator, Word]);
}

#[test]
fn marks_rest_as_malformed_when_unfinished() {
    for text in [
        "'a", "E'a\\'", "E'\\", "\"a", "$$a$", "$a$$$", "/* /**/", "N'a''", "U&\"a",
    ] {
        assert_eq!(
            tokens(&format!("x {text}")),
            [(Word, "x"), (Malformed, text)]
        );
    }
    for text in ["\\", "{", "\u{b}", "\0", "$", "\"\"", "\u{7f}"] {
        assert_eq!(tokens(&format!("x {text} y"))[1], (Malformed, text));
    }
}

proptest! {
    // A failure prints its input, which then becomes a test of its own.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn covers_text_when_bytes_are_arbitrary(
        text in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..64),
            "[-/*'\"$aeUu&0.1_\\\\\n :+@]{0,40}".prop_map(|text| text.into_bytes()),
        ],
    ) {
        let mut end = 0;
        for token in Lexer::new(&text) {
            prop_assert!(token.start >= end);
            prop_assert!(!token.text.is_empty());
            prop_assert_eq!(&text[token.start..token.start + token.text.len()], token.text);
            end = token.start + token.text.len();
        }
    }

    #[test]
    fn yields_same_token_when_lexed_alone(text in "[-/*'\"$aeUu&0.1_\\\\\n :+@]{0,40}") {
        for token in Lexer::new(text.as_bytes()).filter(|token| token.kind != Malformed) {
            let alone = Lexer::new(token.text).map(|token| (token.kind, token.text.len()));
            prop_assert_eq!(alone.collect::<Vec<_>>(), [(token.kind, token.text.len())]);
        }
    }
}
