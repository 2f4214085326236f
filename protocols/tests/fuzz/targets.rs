//! The decoders, each with what must hold of it.
//!
//! Holds one function for each: it takes any bytes, panics if a promise is broken, and answers how
//! many parts were accepted. It must not know how the bytes came about. Its invariant: what is
//! accepted is encoded again and compared wherever an encoder exists.

use std::sync::LazyLock;

use manifold_protocols::postgres::authentication::scram::{Exchange, Verdict, Verifier};
use manifold_protocols::postgres::authentication::{md5, userlist};
use manifold_protocols::postgres::backend::{self, Authentication, Message as FromNode};
use manifold_protocols::postgres::frame::{
    FrameError, HEADER_LEN, Header, decode_backend_header, decode_frontend_header,
};
use manifold_protocols::postgres::frontend::{self, Message as FromClient};
use manifold_protocols::postgres::sql::lexer::{Kind, Lexer};
use manifold_protocols::postgres::sql::shape::{Outcome, shape};
use manifold_protocols::postgres::startup::{self, Startup};
use manifold_protocols::postgres::{Strings, options};
use manifold_protocols::redis::cluster::{SLOTS, slot};
use manifold_protocols::redis::command::{Class, Command, Handling, Table};

/// A decoder with its checks.
#[derive(Clone, Copy)]
pub struct Target {
    /// Its folder in the corpus.
    pub name: &'static str,
    /// Whether its inputs are runs of messages.
    pub has_frames: bool,
    /// Decodes, checks, and answers how many parts were accepted.
    pub run: fn(&[u8]) -> usize,
}

/// All decoders.
pub const TARGETS: [Target; 10] = [
    Target {
        name: "backend",
        has_frames: true,
        run: run_backend,
    },
    Target {
        name: "command",
        has_frames: false,
        run: run_command,
    },
    Target {
        name: "frontend",
        has_frames: true,
        run: run_frontend,
    },
    Target {
        name: "keys",
        has_frames: false,
        run: run_keys,
    },
    Target {
        name: "options",
        has_frames: false,
        run: run_options,
    },
    Target {
        name: "scram",
        has_frames: false,
        run: run_scram,
    },
    Target {
        name: "secret",
        has_frames: false,
        run: run_secret,
    },
    Target {
        name: "sql",
        has_frames: false,
        run: run_sql,
    },
    Target {
        name: "startup",
        has_frames: false,
        run: run_startup,
    },
    Target {
        name: "userlist",
        has_frames: false,
        run: run_userlist,
    },
];

/// Bytes that a message may have here.
const LEN_MAX: usize = 100_000;

type DecodeHeader = fn(&[u8], usize) -> Result<Option<Header>, FrameError>;

/// The first message and what follows it, once it is complete.
fn next_frame(bytes: &[u8], decode_header: DecodeHeader) -> Option<(Header, &[u8], &[u8])> {
    let header = decode_header(bytes, LEN_MAX).ok()??;
    assert!((HEADER_LEN..=LEN_MAX).contains(&header.len));
    let (frame, rest) = bytes.split_at_checked(header.len)?;
    for end in 0..HEADER_LEN {
        assert_eq!(decode_header(&bytes[..end], LEN_MAX), Ok(None));
    }
    Some((header, &frame[HEADER_LEN..], rest))
}

/// What a node answers to COMMAND: the table must find what it holds, and share what is audited only.
fn run_command(bytes: &[u8]) -> usize {
    let Ok(table) = Table::from_reply(bytes) else {
        return 0;
    };
    assert!(Table::from_reply(&bytes[..bytes.len() - 1]).is_err());
    let words = ["a", "b", "1", "streams", "c", "store", "keys", "d"];
    for command in &table {
        let found = table.find(command.name.as_bytes(), None);
        let is_long = command.name.len() > 64;
        assert_eq!(found.is_none(), is_long, "{}", command.name);
        assert!(is_long || found == Some(command));
        check_request(command, words.map(str::as_bytes).into_iter());
    }
    table.iter().count()
}

/// A request a line, its words with one blank between them.
fn run_keys(bytes: &[u8]) -> usize {
    static TABLE: LazyLock<Table> = LazyLock::new(Table::builtin);
    let lines = bytes.split(|byte| *byte == b'\n');
    let count_keys = |line: &[u8]| {
        let mut words = line.split(|byte| *byte == b' ');
        let request = words.clone();
        let command = TABLE.find(words.next()?, words.next())?;
        Some(check_request(command, request))
    };
    lines.filter_map(count_keys).sum()
}

/// Keys are words of the request, each at most once for each place; answers how many there are.
fn check_request<'a>(command: &Command, words: impl Iterator<Item = &'a [u8]> + Clone) -> usize {
    let handling = command.handling_of(words.clone());
    assert!(command.is_audited || handling != Handling::Share);
    let class = command.class_of(words.clone());
    assert!(handling != Handling::Share || class != Class::Blocking);
    assert!(command.takes(command.arity.unsigned_abs() as usize));
    let all = words.clone().collect::<Vec<_>>();
    let is_word = |key: &&[u8]| {
        assert!(slot(key) < SLOTS);
        all.iter().any(|word| std::ptr::eq(*word, *key))
    };
    let mut channels = command.channels(words.clone());
    assert!(channels.all(|channel| is_word(&channel)));
    let Ok(mut keys) = command.keys(words) else {
        return 0;
    };
    let count = keys.clone().count();
    assert!(count <= all.len() * command.keys.len());
    assert!(keys.all(|key| is_word(&key)));
    count
}

fn run_frontend(mut bytes: &[u8]) -> usize {
    let mut accepted = 0;
    while let Some((header, body, rest)) = next_frame(bytes, decode_frontend_header) {
        let _ = frontend::decode_password(body);
        let _ = frontend::decode_sasl_initial(body);
        if let Ok(message) = frontend::decode(header.tag, body) {
            let mut out = Vec::new();
            encode_frontend(message, &mut out);
            assert_eq!(out, bytes[..header.len], "{message:?}");
            accepted += 1;
        }
        bytes = rest;
    }
    accepted
}

fn encode_frontend(message: FromClient<'_>, out: &mut Vec<u8>) {
    match message {
        FromClient::Bind(bind) => {
            frontend::encode_bind(out, bind.portal, bind.statement, bind.rest);
        }
        FromClient::Close(target) => frontend::encode_close(out, target.kind, target.name),
        FromClient::CopyData(data) => encode_raw(out, b'd', data),
        FromClient::CopyDone => encode_raw(out, b'c', &[]),
        FromClient::CopyFail(reason) => frontend::encode_copy_fail(out, reason),
        FromClient::Describe(target) => frontend::encode_describe(out, target.kind, target.name),
        FromClient::Execute(execute) => {
            frontend::encode_execute(out, execute.portal, execute.rows_max);
        }
        FromClient::Flush => frontend::encode_flush(out),
        FromClient::FunctionCall(body) => encode_raw(out, b'F', body),
        FromClient::Parse(parse) => {
            frontend::encode_parse(out, parse.name, parse.text, parse.types);
        }
        FromClient::Password(data) => frontend::encode_sasl_response(out, data),
        FromClient::Query(text) => frontend::encode_query(out, text),
        FromClient::Sync => frontend::encode_sync(out),
        FromClient::Terminate => frontend::encode_terminate(out),
    }
}

fn encode_raw(out: &mut Vec<u8>, tag: u8, body: &[u8]) {
    out.push(tag);
    out.extend_from_slice(&(body.len() as u32 + 4).to_be_bytes());
    out.extend_from_slice(body);
}

fn run_backend(mut bytes: &[u8]) -> usize {
    let mut accepted = 0;
    while let Some((header, body, rest)) = next_frame(bytes, decode_backend_header) {
        if let Ok(message) = backend::decode(header.tag, body) {
            let mut out = Vec::new();
            if encode_backend(message, body, &mut out) {
                assert_eq!(out, bytes[..header.len], "{message:?}");
            }
            accepted += 1;
        }
        bytes = rest;
    }
    accepted
}

/// Encodes a message again; answers whether there is an encoder for exactly these bytes.
fn encode_backend(message: FromNode<'_>, body: &[u8], out: &mut Vec<u8>) -> bool {
    match message {
        FromNode::Authentication(step) => return encode_authentication(step, out),
        FromNode::BackendKeyData { pid, secret } => {
            backend::encode_backend_key_data(out, pid, secret);
        }
        FromNode::BindComplete => backend::encode_bind_complete(out),
        FromNode::CloseComplete => backend::encode_close_complete(out),
        FromNode::CommandComplete(tag) => backend::encode_command_complete(out, tag),
        FromNode::DataRow => {
            let values = backend::columns(body).collect::<Vec<_>>();
            backend::encode_data_row_text(out, &values);
        }
        FromNode::EmptyQuery => backend::encode_empty_query(out),
        FromNode::ErrorResponse(fields) | FromNode::NoticeResponse(fields) => {
            let text = |(code, text): (u8, &[u8])| [&[code], text, &[0]].concat();
            let all = fields.iter().flat_map(text).chain([0]).collect::<Vec<_>>();
            assert_eq!(all, body);
            return false;
        }
        FromNode::NegotiateProtocolVersion { minor, options } => {
            backend::encode_negotiate_protocol_version(out, minor, &collect(options));
            return body.starts_with(&[0, 3]);
        }
        FromNode::NoData => backend::encode_no_data(out),
        FromNode::ParameterStatus { name, value } => {
            backend::encode_parameter_status(out, name, value);
        }
        FromNode::ParseComplete => backend::encode_parse_complete(out),
        FromNode::ReadyForQuery(status) => backend::encode_ready_for_query(out, status),
        _ => return false,
    }
    true
}

fn encode_authentication(step: Authentication<'_>, out: &mut Vec<u8>) -> bool {
    match step {
        Authentication::CleartextPassword => backend::encode_authentication_cleartext(out),
        Authentication::Md5Password { salt } => backend::encode_authentication_md5(out, salt),
        Authentication::Ok => backend::encode_authentication_ok(out),
        Authentication::Other(_) => return false,
        Authentication::Sasl { mechanisms } => {
            backend::encode_authentication_sasl(out, &collect(mechanisms));
        }
        Authentication::SaslContinue(data) => {
            backend::encode_authentication_sasl_continue(out, data);
        }
        Authentication::SaslFinal(data) => backend::encode_authentication_sasl_final(out, data),
    }
    true
}

fn collect(strings: Strings<'_>) -> Vec<&[u8]> {
    strings.collect()
}

fn run_startup(mut bytes: &[u8]) -> usize {
    let mut accepted = 0;
    while let Ok(Some((packet, len))) = startup::decode(bytes, 10_000) {
        let (given, rest) = bytes.split_at(len);
        assert_eq!(startup::decode(&given[..len - 1], 10_000), Ok(None));
        let mut out = Vec::new();
        match packet {
            Startup::Cancel { pid, secret } => frontend::encode_cancel(&mut out, pid, secret),
            Startup::GssEncRequest => out.extend_from_slice(b"\0\0\0\x08\x04\xd2\x16\x30"),
            Startup::SslRequest => frontend::encode_ssl_request(&mut out),
            Startup::Start(start) => {
                let parameters = start.parameters().collect::<Vec<_>>();
                frontend::encode_startup(&mut out, start.major, start.minor, &parameters);
            }
        }
        assert_eq!(out, given);
        bytes = rest;
        accepted += 1;
    }
    accepted
}

fn run_options(bytes: &[u8]) -> usize {
    let Ok(settings) = options::decode(bytes) else {
        return 0;
    };
    let mut text = Vec::new();
    for (name, value) in &settings {
        text.extend_from_slice(b" -c ");
        let bytes = name.iter().chain(b"=").chain(value);
        text.extend(bytes.flat_map(|byte| [b'\\', *byte]));
    }
    assert_eq!(options::decode(&text).as_ref(), Ok(&settings));
    settings.len()
}

/// The first line is a client's first message, the rest its final one.
fn run_scram(bytes: &[u8]) -> usize {
    let end = bytes
        .iter()
        .position(|byte| *byte == b'\n')
        .unwrap_or(bytes.len());
    let (first, last) = (&bytes[..end], bytes.get(end + 1..).unwrap_or_default());
    let verifier = Verifier::decode(include_bytes!("../corpus/secret/scram.txt"));
    let mut exchange = Exchange::new(verifier.expect("the corpus holds a verifier"), [0; 18]);
    let Ok(answer) = exchange.handle_client_first(first) else {
        return 0;
    };
    assert!(answer.starts_with(b"r=") && answer.ends_with(b",i=4096"));
    let mut mock = Exchange::mock(b"nobody", &[1; 32], [0; 18]);
    assert!(mock.handle_client_first(first).is_ok());
    assert!(!matches!(
        mock.handle_client_final(last),
        Ok(Verdict::Accepted { .. })
    ));
    let Ok(Verdict::Accepted { server_final, .. }) = exchange.handle_client_final(last) else {
        return 0;
    };
    assert!(server_final.starts_with(b"v="));
    // Nothing else opens it than what was computed with the password.
    let known: [&[u8]; 2] = [
        include_bytes!("../corpus/scram/no-binding.txt"),
        include_bytes!("../corpus/scram/binding-unused.txt"),
    ];
    assert!(known.contains(&bytes));
    1
}

fn run_secret(bytes: &[u8]) -> usize {
    let hash = md5::Hash::decode(bytes);
    if let Some(hash) = &hash {
        assert_eq!(hash.encode(), bytes);
    }
    let verifier = Verifier::decode(bytes);
    if let Ok(verifier) = &verifier {
        let text = verifier.encode();
        assert_eq!(Verifier::decode(text.as_bytes()).as_ref(), Ok(verifier));
    }
    usize::from(hash.is_some()) + usize::from(verifier.is_ok())
}

fn run_sql(bytes: &[u8]) -> usize {
    let mut end = 0;
    let mut is_malformed = false;
    for token in Lexer::new(bytes) {
        assert!(token.start >= end && !token.text.is_empty());
        end = token.start + token.text.len();
        assert_eq!(&bytes[token.start..end], token.text);
        is_malformed |= token.kind == Kind::Malformed;
    }
    let mut out = Vec::new();
    let outcome = shape(bytes, &mut out);
    assert_eq!(outcome == Outcome::Malformed, is_malformed);
    if outcome != Outcome::Shaped {
        assert!(out.is_empty());
        return 0;
    }
    let mut again = Vec::new();
    assert_eq!(shape(&out, &mut again), Outcome::Shaped);
    assert_eq!(again, out, "a shape is its own shape");
    assert_eq!(Lexer::new(&out).count(), Lexer::new(bytes).count());
    1
}

fn run_userlist(bytes: &[u8]) -> usize {
    let Ok(entries) = userlist::decode(bytes) else {
        return 0;
    };
    let quoted = |text: &[u8]| {
        let doubled = text
            .iter()
            .flat_map(|byte| std::iter::repeat_n(*byte, 1 + usize::from(*byte == b'"')));
        [b"\"".as_slice(), &doubled.collect::<Vec<_>>(), b"\""].concat()
    };
    let line = |entry: &userlist::Entry| [quoted(&entry.user), quoted(&entry.secret)].join(&b' ');
    let lines = entries.iter().map(line).collect::<Vec<_>>();
    assert_eq!(userlist::decode(&lines.join(&b'\n')).as_ref(), Ok(&entries));
    entries.len()
}
