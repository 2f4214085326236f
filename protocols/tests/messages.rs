//! Encoders and decoders against each other and against crate postgres-protocol.
//!
//! Goal: what one side writes the other reads, however the bytes are cut. Method: messages with
//! random fields are encoded here and there, compared, decoded and compared again.

use bytes::BytesMut;
use manifold_protocols::postgres::backend::{
    self, Authentication, ErrorFields, Message as FromNode, Severity, Status,
};
use manifold_protocols::postgres::frame::{
    HEADER_LEN, Header, decode_backend_header, decode_frontend_header,
};
use manifold_protocols::postgres::frontend::{
    self, Bind, Execute, Message as FromClient, MessageError, Parse, Target, TargetKind,
};
use manifold_protocols::postgres::startup::{self, Startup, StartupError};
use postgres_protocol::IsNull;
use postgres_protocol::message::{backend as other_backend, frontend as other_frontend};
use proptest::prelude::*;

const LEN_MAX: usize = 1 << 20;

/// The one message in `bytes`, after checking that no shorter piece of it has a header that
/// differs.
fn from_client(bytes: &[u8]) -> FromClient<'_> {
    let header = Header {
        tag: bytes[0],
        len: bytes.len(),
    };
    for end in 0..=bytes.len() {
        let expected = (end >= HEADER_LEN).then_some(header);
        assert_eq!(decode_frontend_header(&bytes[..end], LEN_MAX), Ok(expected));
    }
    frontend::decode(header.tag, &bytes[HEADER_LEN..]).unwrap()
}

fn from_node(bytes: &[u8]) -> FromNode<'_> {
    let header = Header {
        tag: bytes[0],
        len: bytes.len(),
    };
    assert_eq!(decode_backend_header(bytes, LEN_MAX), Ok(Some(header)));
    backend::decode(header.tag, &bytes[HEADER_LEN..]).unwrap()
}

fn encoded(encode: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    // What is there already must stay, and lengths must not count it.
    let mut out = b"before".to_vec();
    encode(&mut out);
    assert!(out.starts_with(b"before"));
    out.split_off(6)
}

fn encoded_by_other(encode: impl FnOnce(&mut BytesMut)) -> Vec<u8> {
    let mut out = BytesMut::new();
    encode(&mut out);
    out.to_vec()
}

fn text() -> impl Strategy<Value = String> {
    "[a-zé'%\\n]{0,20}"
}

fn values() -> impl Strategy<Value = Vec<Option<Vec<u8>>>> {
    prop::collection::vec(
        prop::option::of(prop::collection::vec(any::<u8>(), 0..10)),
        0..5,
    )
}

/// Formats for this many values: none, one for all, or one each.
fn formats(count: usize) -> impl Strategy<Value = Vec<i16>> {
    prop::sample::select(vec![0, 1, count])
        .prop_flat_map(|count| prop::collection::vec(0..2_i16, count))
}

fn values_with_formats() -> impl Strategy<Value = (Vec<Option<Vec<u8>>>, Vec<i16>)> {
    values().prop_flat_map(|values| {
        let formats = formats(values.len());
        (Just(values), formats)
    })
}

/// The part of a Bind behind the names.
fn bind_rest(formats: &[i16], values: &[Option<Vec<u8>>], results: &[i16]) -> Vec<u8> {
    let mut rest = Vec::new();
    let codes = |rest: &mut Vec<u8>, codes: &[i16]| {
        rest.extend((codes.len() as u16).to_be_bytes());
        rest.extend(codes.iter().flat_map(|code| code.to_be_bytes()));
    };
    codes(&mut rest, formats);
    rest.extend((values.len() as u16).to_be_bytes());
    for value in values {
        let len = value.as_ref().map_or(-1, |value| value.len() as i32);
        rest.extend(len.to_be_bytes());
        rest.extend(value.iter().flatten());
    }
    codes(&mut rest, results);
    rest
}

proptest! {
    // A failure prints its input, which then becomes a test of its own.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn binds_like_other_encoder(
        portal in text(),
        statement in text(),
        (values, formats) in values_with_formats(),
        results in prop::collection::vec(0..2_i16, 0..4),
    ) {
        let rest = bind_rest(&formats, &values, &results);
        let (portal_bytes, statement_bytes) = (portal.as_bytes(), statement.as_bytes());
        let ours = encoded(|out| frontend::encode_bind(out, portal_bytes, statement_bytes, &rest));
        let write = |value: &Option<Vec<u8>>, out: &mut BytesMut| match value {
            None => Ok(IsNull::Yes),
            Some(value) => {
                out.extend_from_slice(value);
                Ok(IsNull::No)
            }
        };
        let theirs = encoded_by_other(|out| {
            let result = other_frontend::bind(
                &portal, &statement, formats.clone(), &values, write, results.clone(), out,
            );
            assert!(result.is_ok());
        });
        prop_assert_eq!(&ours, &theirs);
        let bind = Bind {
            portal: portal_bytes,
            statement: statement_bytes,
            rest: &rest,
            parameters: values.len() as u16,
        };
        prop_assert_eq!(from_client(&ours), FromClient::Bind(bind));
        // A byte less or more is no Bind.
        for wrong in [&ours[HEADER_LEN..ours.len() - 1], &[&ours[HEADER_LEN..], b"x"].concat()] {
            prop_assert!(frontend::decode(b'B', wrong).is_err());
        }
    }

    #[test]
    fn parses_like_other_encoder(
        name in text(),
        statement in text(),
        types in prop::collection::vec(any::<u32>(), 0..5),
    ) {
        let count = (types.len() as u16).to_be_bytes();
        let tail = count.into_iter().chain(types.iter().flat_map(|oid| oid.to_be_bytes()));
        let tail = tail.collect::<Vec<_>>();
        let ours = encoded(|out| {
            frontend::encode_parse(out, name.as_bytes(), statement.as_bytes(), &tail);
        });
        let theirs = encoded_by_other(|out| {
            other_frontend::parse(&name, &statement, types, out).unwrap();
        });
        prop_assert_eq!(&ours, &theirs);
        let parse = Parse { name: name.as_bytes(), text: statement.as_bytes(), types: &tail };
        prop_assert_eq!(from_client(&ours), FromClient::Parse(parse));
    }

    #[test]
    fn encodes_named_messages_like_other_encoder(name in text(), rows_max in any::<i32>()) {
        let bytes = name.as_bytes();
        for kind in [TargetKind::Portal, TargetKind::Statement] {
            let target = Target { kind, name: bytes };
            let ours = encoded(|out| frontend::encode_describe(out, kind, bytes));
            let theirs = encoded_by_other(|out| {
                other_frontend::describe(kind.byte(), &name, out).unwrap();
            });
            prop_assert_eq!(&ours, &theirs);
            prop_assert_eq!(from_client(&ours), FromClient::Describe(target));
            let ours = encoded(|out| frontend::encode_close(out, kind, bytes));
            let theirs = encoded_by_other(|out| {
                other_frontend::close(kind.byte(), &name, out).unwrap();
            });
            prop_assert_eq!(&ours, &theirs);
            prop_assert_eq!(from_client(&ours), FromClient::Close(target));
        }
        let ours = encoded(|out| frontend::encode_execute(out, bytes, rows_max));
        let theirs =
            encoded_by_other(|out| other_frontend::execute(&name, rows_max, out).unwrap());
        prop_assert_eq!(&ours, &theirs);
        let execute = Execute { portal: bytes, rows_max };
        prop_assert_eq!(from_client(&ours), FromClient::Execute(execute));
        let ours = encoded(|out| frontend::encode_query(out, bytes));
        let theirs = encoded_by_other(|out| other_frontend::query(&name, out).unwrap());
        prop_assert_eq!(&ours, &theirs);
        prop_assert_eq!(from_client(&ours), FromClient::Query(bytes));
        let ours = encoded(|out| frontend::encode_copy_fail(out, bytes));
        let theirs = encoded_by_other(|out| other_frontend::copy_fail(&name, out).unwrap());
        prop_assert_eq!(&ours, &theirs);
        prop_assert_eq!(from_client(&ours), FromClient::CopyFail(bytes));
    }

    #[test]
    fn encodes_passwords_like_other_encoder(
        password in "[a-z]{0,10}",
        data in prop::collection::vec(any::<u8>(), 0..20),
    ) {
        let bytes = password.as_bytes();
        let ours = encoded(|out| frontend::encode_password(out, bytes));
        let theirs =
            encoded_by_other(|out| other_frontend::password_message(bytes, out).unwrap());
        prop_assert_eq!(&ours, &theirs);
        prop_assert_eq!(frontend::decode_password(&ours[HEADER_LEN..]), Ok(bytes));
        let ours = encoded(|out| frontend::encode_sasl_initial(out, bytes, &data));
        let theirs = encoded_by_other(|out| {
            other_frontend::sasl_initial_response(&password, &data, out).unwrap();
        });
        prop_assert_eq!(&ours, &theirs);
        let initial = frontend::decode_sasl_initial(&ours[HEADER_LEN..]).unwrap();
        prop_assert_eq!((initial.mechanism, initial.data), (bytes, Some(data.as_slice())));
        let ours = encoded(|out| frontend::encode_sasl_response(out, &data));
        let theirs = encoded_by_other(|out| other_frontend::sasl_response(&data, out).unwrap());
        prop_assert_eq!(&ours, &theirs);
        prop_assert_eq!(from_client(&ours), FromClient::Password(&data));
    }

    #[test]
    fn starts_like_other_encoder(
        parameters in prop::collection::vec(("[a-z_]{1,10}", text()), 0..5),
    ) {
        let bytes = parameters.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        let bytes = bytes.collect::<Vec<_>>();
        let ours = encoded(|out| frontend::encode_startup(out, 3, 0, &bytes));
        let strings = parameters.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let theirs = encoded_by_other(|out| {
            other_frontend::startup_message(strings, out).unwrap();
        });
        prop_assert_eq!(&ours, &theirs);
        for end in 0..ours.len() {
            prop_assert_eq!(startup::decode(&ours[..end], LEN_MAX), Ok(None));
        }
        let longer = [&ours[..], b"more"].concat();
        let Ok(Some((Startup::Start(start), len))) = startup::decode(&longer, LEN_MAX) else {
            return Err(TestCaseError::fail("not a start"));
        };
        prop_assert_eq!((len, start.major, start.minor), (ours.len(), 3, 0));
        prop_assert_eq!(start.parameters().collect::<Vec<_>>(), bytes);
    }

    #[test]
    fn never_panics_when_body_is_arbitrary(
        tag in any::<u8>(),
        body in prop::collection::vec(prop_oneof![Just(0), Just(1), any::<u8>()], 0..40),
    ) {
        let _ = frontend::decode(tag, &body);
        let _ = backend::decode(tag, &body);
        let _ = startup::decode(&body, LEN_MAX);
        prop_assert!(backend::columns(&body).count() <= usize::from(u16::MAX));
    }

    #[test]
    fn writes_rows_that_other_decoder_reads(values in values()) {
        use fallible_iterator::FallibleIterator as _;
        let slices = values.iter().map(Option::as_deref).collect::<Vec<_>>();
        let ours = encoded(|out| backend::encode_data_row_text(out, &slices));
        prop_assert_eq!(from_node(&ours), FromNode::DataRow);
        prop_assert_eq!(backend::columns(&ours[HEADER_LEN..]).collect::<Vec<_>>(), slices);
        let Some(other_backend::Message::DataRow(row)) =
            other_backend::Message::parse(&mut BytesMut::from(&ours[..])).unwrap()
        else {
            return Err(TestCaseError::fail("not a row"));
        };
        let ranges = row.ranges().collect::<Vec<_>>().unwrap();
        let read = ranges.into_iter().map(|range| range.map(|range| row.buffer()[range].to_vec()));
        prop_assert_eq!(read.collect::<Vec<_>>(), values);
    }

    #[test]
    fn writes_errors_that_other_decoder_reads(message in text(), detail in text()) {
        use fallible_iterator::FallibleIterator as _;
        let fields = ErrorFields {
            detail: Some(&detail),
            ..ErrorFields::new(Severity::Fatal, *b"08P01", &message)
        };
        let ours = encoded(|out| backend::encode_error(out, &fields));
        let FromNode::ErrorResponse(read) = from_node(&ours) else {
            return Err(TestCaseError::fail("not an error"));
        };
        prop_assert!(read.is_fatal());
        prop_assert_eq!(read.sqlstate(), b"08P01");
        prop_assert_eq!(read.message(), message.as_bytes());
        prop_assert_eq!(read.field(b'D'), Some(detail.as_bytes()));
        prop_assert_eq!(read.field(b'H'), None);
        let Some(other_backend::Message::ErrorResponse(body)) =
            other_backend::Message::parse(&mut BytesMut::from(&ours[..])).unwrap()
        else {
            return Err(TestCaseError::fail("not an error"));
        };
        let codes = body.fields().map(|field| Ok(field.type_())).collect::<Vec<_>>().unwrap();
        prop_assert_eq!(codes, b"SVCMD");
    }
}

#[test]
fn encodes_fixed_messages_like_other_encoder() {
    type Ours = fn(&mut Vec<u8>);
    type Theirs = fn(&mut BytesMut);
    let cases: [(Ours, Theirs, FromClient<'_>); 3] = [
        (
            frontend::encode_sync,
            other_frontend::sync,
            FromClient::Sync,
        ),
        (
            frontend::encode_flush,
            other_frontend::flush,
            FromClient::Flush,
        ),
        (
            frontend::encode_terminate,
            other_frontend::terminate,
            FromClient::Terminate,
        ),
    ];
    for (ours, theirs, message) in cases {
        let bytes = encoded(ours);
        assert_eq!(bytes, encoded_by_other(theirs));
        assert_eq!(from_client(&bytes), message);
    }
    let ours = encoded(frontend::encode_ssl_request);
    assert_eq!(ours, encoded_by_other(other_frontend::ssl_request));
    assert_eq!(
        startup::decode(&ours, 100),
        Ok(Some((Startup::SslRequest, 8)))
    );
    let ours = encoded(|out| frontend::encode_cancel(out, 7, &9_u32.to_be_bytes()));
    assert_eq!(
        ours,
        encoded_by_other(|out| other_frontend::cancel_request(7, 9, out))
    );
    let expected = Startup::Cancel {
        pid: 7,
        secret: &[0, 0, 0, 9],
    };
    assert_eq!(startup::decode(&ours, 100), Ok(Some((expected, 16))));
}

#[test]
fn rejects_client_message_when_malformed() {
    let cases: [(u8, &[u8], MessageError); 14] = [
        (b'B', b"a\0b\0\0\x01\0\x02\0\0\0\0", MessageError::Format(2)),
        (
            b'B',
            b"a\0b\0\0\0\0\x01\xff\xff\xff\xfe\0\0",
            MessageError::Truncated,
        ),
        (
            b'B',
            b"a\0b\0\0\0\0\x01\0\0\0\x09x\0\0",
            MessageError::Truncated,
        ),
        (b'B', b"a\0b", MessageError::Unterminated),
        (b'C', b"Xname\0", MessageError::Target(b'X')),
        (b'D', b"Sname", MessageError::Unterminated),
        (b'E', b"\0\0\0\0", MessageError::Truncated),
        (
            b'F',
            b"\0\0\0\x01\0\x02\0\0\0\0\0\0\0\0",
            MessageError::ArgumentFormats {
                formats: 2,
                arguments: 0,
            },
        ),
        (b'F', b"\0\0\0\x01\0\0\0\0\0\x05", MessageError::Format(5)),
        (b'P', b"\0\0\0\x01\0\0\0", MessageError::Truncated),
        (b'Q', b"a\0b\0", MessageError::Overlong),
        (b'Q', b"a", MessageError::Unterminated),
        (b'S', b"a", MessageError::Overlong),
        (b'!', b"", MessageError::UnknownTag(b'!')),
    ];
    for (tag, body, error) in cases {
        assert_eq!(
            frontend::decode(tag, body),
            Err(error),
            "{}",
            body.escape_ascii()
        );
    }
}

#[test]
fn rejects_startup_when_it_is_another_protocol() {
    let decode = |bytes| startup::decode(bytes, 10_000).unwrap_err();
    assert!(matches!(decode(b"GET "), StartupError::TooLong { .. }));
    assert!(matches!(
        decode(b"\x16\x03\x01\x02"),
        StartupError::TooLong { .. }
    ));
    assert_eq!(decode(b"\0\0\0\x07"), StartupError::TooShort { len: 7 });
    assert_eq!(
        decode(b"\0\0\0\x09\0\x02\0\0"),
        StartupError::Version { major: 2, minor: 0 }
    );
    assert_eq!(decode(b"\0\0\0\x08\0\x03\0\0"), StartupError::Malformed);
    assert_eq!(
        decode(b"\0\0\0\x09\x04\xd2\x16\x2f\0"),
        StartupError::Malformed
    );
    assert_eq!(
        decode(b"\0\0\0\x0f\x04\xd2\x16\x2e\0\0\0\x01abc"),
        StartupError::Malformed
    );
    for list in [
        b"user\0al\0x",
        b"user\0al\0\0\0"[..9].try_into().unwrap(),
        b"user\0al\0a",
    ] {
        let mut packet = vec![0, 0, 0, 8 + list.len() as u8, 0, 3, 0, 0];
        packet.extend_from_slice(list);
        let is_whole = list.ends_with(b"\0\0");
        assert_eq!(
            startup::decode(&packet, 100).is_ok(),
            is_whole,
            "{}",
            list.escape_ascii()
        );
    }
}

#[test]
fn decodes_replies_when_encoded_here() {
    let cases = [
        (
            encoded(backend::encode_parse_complete),
            FromNode::ParseComplete,
        ),
        (
            encoded(backend::encode_bind_complete),
            FromNode::BindComplete,
        ),
        (
            encoded(backend::encode_close_complete),
            FromNode::CloseComplete,
        ),
        (encoded(backend::encode_no_data), FromNode::NoData),
        (encoded(backend::encode_empty_query), FromNode::EmptyQuery),
        (
            encoded(|out| backend::encode_command_complete(out, b"SELECT 1")),
            FromNode::CommandComplete(b"SELECT 1"),
        ),
        (
            encoded(|out| backend::encode_parameter_status(out, b"TimeZone", b"UTC")),
            FromNode::ParameterStatus {
                name: b"TimeZone",
                value: b"UTC",
            },
        ),
        (
            encoded(|out| backend::encode_backend_key_data(out, 7, b"abcd")),
            FromNode::BackendKeyData {
                pid: 7,
                secret: b"abcd",
            },
        ),
        (
            encoded(|out| backend::encode_authentication_md5(out, *b"salt")),
            FromNode::Authentication(Authentication::Md5Password { salt: *b"salt" }),
        ),
        (
            encoded(backend::encode_authentication_ok),
            FromNode::Authentication(Authentication::Ok),
        ),
    ];
    for (bytes, message) in cases {
        assert_eq!(from_node(&bytes), message);
        let mut bytes = BytesMut::from(&bytes[..]);
        assert!(other_backend::Message::parse(&mut bytes).unwrap().is_some());
        assert!(bytes.is_empty(), "the other decoder must consume all of it");
    }
    for status in [Status::Idle, Status::InTransaction, Status::Failed] {
        let bytes = encoded(|out| backend::encode_ready_for_query(out, status));
        assert_eq!(from_node(&bytes), FromNode::ReadyForQuery(status));
        assert_eq!(Status::from_byte(status.byte()), Some(status));
    }
    assert_eq!(backend::decode_ready(b"X"), Err(MessageError::Status(b'X')));
}

#[test]
fn lists_mechanisms_and_options_when_encoded_here() {
    let bytes = encoded(|out| backend::encode_authentication_sasl(out, &[b"A", b"B"]));
    let FromNode::Authentication(Authentication::Sasl { mechanisms }) = from_node(&bytes) else {
        panic!("not a SASL request");
    };
    assert_eq!(mechanisms.collect::<Vec<_>>(), [b"A", b"B"]);
    let bytes = encoded(|out| backend::encode_negotiate_protocol_version(out, 2, &[b"_pq_.a"]));
    let FromNode::NegotiateProtocolVersion { minor, options } = from_node(&bytes) else {
        panic!("not a negotiation");
    };
    assert_eq!(minor, 2);
    assert_eq!(options.collect::<Vec<_>>(), [b"_pq_.a"]);
}

#[test]
fn describes_rows_that_other_decoder_reads() {
    use fallible_iterator::FallibleIterator as _;
    let bytes = encoded(|out| backend::encode_row_description_text(out, &["a", "bé"]));
    assert_eq!(
        from_node(&bytes),
        FromNode::RowDescription(&bytes[HEADER_LEN..])
    );
    let message = other_backend::Message::parse(&mut BytesMut::from(&bytes[..])).unwrap();
    let Some(other_backend::Message::RowDescription(body)) = message else {
        panic!("not a description");
    };
    let fields = body.fields().map(|field| {
        Ok((
            field.name().to_owned(),
            field.type_oid(),
            field.type_size(),
            field.format(),
        ))
    });
    let expected = [("a".to_owned(), 25, -1, 0), ("bé".to_owned(), 25, -1, 0)];
    assert_eq!(fields.collect::<Vec<_>>().unwrap(), expected);
}

#[test]
fn cuts_error_text_when_it_holds_a_terminator() {
    let fields = ErrorFields::new(Severity::Error, *b"42601", "before\0after");
    let bytes = encoded(|out| backend::encode_error(out, &fields));
    let FromNode::ErrorResponse(read) = from_node(&bytes) else {
        panic!("not an error");
    };
    assert_eq!(read.message(), b"before");
    assert!(!read.is_fatal());
}
