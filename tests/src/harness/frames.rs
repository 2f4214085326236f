//! The frames of protocol 3.0 as bytes: what a client sends, and where a node's frames end.
//!
//! Independent of the proxy's own codecs, so that both would have to be wrong in the same way.
//! Encoders take whatever they are given: tests send wrong things on purpose.

/// A frame that a node sent: a type byte and a body.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Frame {
    /// The type byte.
    pub tag: u8,
    /// What follows the length.
    pub body: Vec<u8>,
}

impl Frame {
    /// The frame that a buffer begins with, if it is there whole, and how many bytes it takes.
    pub fn decode(buffer: &[u8]) -> Option<(Self, usize)> {
        let length = u32::from_be_bytes(buffer.get(1..5)?.try_into().ok()?) as usize;
        assert!(
            length >= 4,
            "a frame of type {:?} and length {length}",
            char::from(buffer[0])
        );
        let body = buffer.get(5..length + 1)?;
        Some((
            Self {
                tag: buffer[0],
                body: body.to_vec(),
            },
            length + 1,
        ))
    }
}

/// A frame with a type byte.
pub fn frame(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![tag];
    bytes.extend(length_of(body.len() + 4).to_be_bytes());
    bytes.extend(body);
    bytes
}

/// A length as frames carry it.
fn length_of(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("tests keep below 4 GiB")
}

/// A count as frames carry it.
fn count_of(items: usize) -> [u8; 2] {
    u16::try_from(items)
        .expect("tests keep below 65 536 items")
        .to_be_bytes()
}

/// A text with its terminator.
fn text(value: &str) -> Vec<u8> {
    [value.as_bytes(), b"\0"].concat()
}

/// A frame without a type byte: the first one of a connection.
fn first(code: u32, body: &[u8]) -> Vec<u8> {
    [
        &length_of(body.len() + 8).to_be_bytes(),
        &code.to_be_bytes()[..],
        body,
    ]
    .concat()
}

/// The startup packet of a protocol version with its parameters.
pub fn startup(version: u32, parameters: &[(String, String)]) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, value) in parameters {
        body.extend(text(name));
        body.extend(text(value));
    }
    body.push(0);
    first(version, &body)
}

/// Asks for TLS.
pub fn ssl_request() -> Vec<u8> {
    first(80_877_103, &[])
}

/// Asks for GSSAPI encryption.
pub fn gssenc_request() -> Vec<u8> {
    first(80_877_104, &[])
}

/// Asks to cancel what the session with this key runs.
pub fn cancel_request(pid: u32, secret: u32) -> Vec<u8> {
    first(
        80_877_102,
        &[pid.to_be_bytes(), secret.to_be_bytes()].concat(),
    )
}

/// A simple query.
pub fn query(sql: &str) -> Vec<u8> {
    frame(b'Q', &text(sql))
}

/// Prepares a statement; types of 0 are left to the node.
pub fn parse(name: &str, sql: &str, types: &[u32]) -> Vec<u8> {
    let mut body = [text(name), text(sql), count_of(types.len()).to_vec()].concat();
    body.extend(types.iter().flat_map(|oid| oid.to_be_bytes()));
    frame(b'P', &body)
}

/// Binds text parameters and asks for text results.
pub fn bind(portal: &str, statement: &str, values: &[Option<&str>]) -> Vec<u8> {
    let values: Vec<_> = values
        .iter()
        .map(|value| value.map(str::as_bytes))
        .collect();
    bind_formats(portal, statement, &[], &values, &[])
}

/// Binds parameters in given formats (0 text, 1 binary) and asks for results in given formats.
pub fn bind_formats(
    portal: &str,
    statement: &str,
    formats: &[u16],
    values: &[Option<&[u8]>],
    results: &[u16],
) -> Vec<u8> {
    let mut body = [
        text(portal),
        text(statement),
        count_of(formats.len()).to_vec(),
    ]
    .concat();
    body.extend(formats.iter().flat_map(|format| format.to_be_bytes()));
    body.extend(count_of(values.len()));
    for value in values {
        match value {
            Some(bytes) => {
                body.extend(length_of(bytes.len()).to_be_bytes());
                body.extend(*bytes);
            }
            None => body.extend((-1_i32).to_be_bytes()),
        }
    }
    body.extend(count_of(results.len()));
    body.extend(results.iter().flat_map(|format| format.to_be_bytes()));
    frame(b'B', &body)
}

/// Asks what a statement takes and returns.
pub fn describe_statement(name: &str) -> Vec<u8> {
    frame(b'D', &[b"S".to_vec(), text(name)].concat())
}

/// Asks what a portal returns.
pub fn describe_portal(name: &str) -> Vec<u8> {
    frame(b'D', &[b"P".to_vec(), text(name)].concat())
}

/// Runs a portal for at most so many rows; 0 means all.
pub fn execute(portal: &str, rows_max: u32) -> Vec<u8> {
    frame(
        b'E',
        &[text(portal), rows_max.to_be_bytes().to_vec()].concat(),
    )
}

/// Forgets a statement.
pub fn close_statement(name: &str) -> Vec<u8> {
    frame(b'C', &[b"S".to_vec(), text(name)].concat())
}

/// Forgets a portal.
pub fn close_portal(name: &str) -> Vec<u8> {
    frame(b'C', &[b"P".to_vec(), text(name)].concat())
}

/// Ends a unit of the extended protocol.
pub fn sync() -> Vec<u8> {
    frame(b'S', &[])
}

/// Asks for what has been answered so far.
pub fn flush() -> Vec<u8> {
    frame(b'H', &[])
}

/// Says goodbye.
pub fn terminate() -> Vec<u8> {
    frame(b'X', &[])
}

/// A piece of COPY data.
pub fn copy_data(data: &[u8]) -> Vec<u8> {
    frame(b'd', data)
}

/// The end of COPY data.
pub fn copy_done() -> Vec<u8> {
    frame(b'c', &[])
}

/// Gives a COPY up.
pub fn copy_fail(reason: &str) -> Vec<u8> {
    frame(b'f', &text(reason))
}

/// Calls a function by its number with text arguments.
pub fn function_call(oid: u32, arguments: &[&str]) -> Vec<u8> {
    let mut body = [oid.to_be_bytes().to_vec(), count_of(0).to_vec()].concat();
    body.extend(count_of(arguments.len()));
    for argument in arguments {
        body.extend(length_of(argument.len()).to_be_bytes());
        body.extend(argument.as_bytes());
    }
    body.extend(count_of(0));
    frame(b'F', &body)
}

/// Parse, Bind, Describe and Execute of the unnamed statement with text parameters, and Sync.
pub fn extended(sql: &str, values: &[Option<&str>]) -> Vec<u8> {
    [
        parse("", sql, &[]),
        bind("", "", values),
        describe_portal(""),
        execute("", 0),
        sync(),
    ]
    .concat()
}

/// Bind and Execute of a prepared statement with text parameters, and Sync.
pub fn run_prepared(name: &str, values: &[Option<&str>]) -> Vec<u8> {
    [bind("", name, values), execute("", 0), sync()].concat()
}
