//! Messages that clients send.
//!
//! Holds their decoding, as strict as PostgreSQL's own, and their encoding. It must not know what a
//! statement does. Its invariant: a decoded message does not break a connection it is forwarded on.

mod encode;

pub use super::reader::MessageError;
use super::reader::Reader;
pub use encode::{
    encode_bind, encode_cancel, encode_close, encode_copy_fail, encode_describe, encode_execute,
    encode_flush, encode_parse, encode_password, encode_query, encode_sasl_initial,
    encode_sasl_response, encode_ssl_request, encode_startup, encode_sync, encode_terminate,
};

/// One message of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// Gives values to a statement's parameters.
    Bind(Bind<'a>),
    /// Forgets a statement or portal.
    Close(Target<'a>),
    /// A piece of a copy's data.
    CopyData(&'a [u8]),
    /// The end of a copy's data.
    CopyDone,
    /// Breaks a copy off, with the reason.
    CopyFail(&'a [u8]),
    /// Asks what a statement or portal returns.
    Describe(Target<'a>),
    /// Runs a portal.
    Execute(Execute<'a>),
    /// Asks for the replies so far.
    Flush,
    /// Calls a function by its object id; the body as it came.
    FunctionCall(&'a [u8]),
    /// Prepares a statement.
    Parse(Parse<'a>),
    /// An answer to an authentication request; its form depends on the request.
    Password(&'a [u8]),
    /// Runs a text by the simple protocol.
    Query(&'a [u8]),
    /// Ends a request of the extended protocol.
    Sync,
    /// Says good-bye.
    Terminate,
}

/// The fields of a Bind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bind<'a> {
    /// The portal's name; empty for the unnamed one.
    pub portal: &'a [u8],
    /// The statement's name; empty for the unnamed one.
    pub statement: &'a [u8],
    /// Everything behind the statement's name: formats, values, result formats.
    pub rest: &'a [u8],
    /// How many parameters have a value here.
    pub parameters: u16,
}

/// The fields of an Execute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Execute<'a> {
    /// The portal's name; empty for the unnamed one.
    pub portal: &'a [u8],
    /// After how many rows to suspend; zero and below mean never.
    pub rows_max: i32,
}

/// The fields of a Parse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parse<'a> {
    /// The statement's name; empty for the unnamed one.
    pub name: &'a [u8],
    /// The statement.
    pub text: &'a [u8],
    /// The count word and the object ids of the parameters' types.
    pub types: &'a [u8],
}

/// The first answer of a client to a SASL request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SaslInitial<'a> {
    /// The mechanism that the client chose.
    pub mechanism: &'a [u8],
    /// The mechanism's first message, if the client sent one at once.
    pub data: Option<&'a [u8]>,
}

/// What a Close or Describe is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target<'a> {
    /// Which name space.
    pub kind: TargetKind,
    /// The name; empty for the unnamed one.
    pub name: &'a [u8],
}

/// The two name spaces of the extended protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetKind {
    /// Bound statements, ready to run.
    Portal,
    /// Prepared statements.
    Statement,
}

impl TargetKind {
    /// As it goes over the wire.
    #[inline]
    pub const fn byte(self) -> u8 {
        match self {
            Self::Portal => b'P',
            Self::Statement => b'S',
        }
    }
}

/// Decodes the body of a message whose header was accepted.
#[inline]
pub fn decode(tag: u8, body: &[u8]) -> Result<Message<'_>, MessageError> {
    match tag {
        b'B' => decode_bind(body).map(Message::Bind),
        b'C' => decode_target(body).map(Message::Close),
        b'D' => decode_target(body).map(Message::Describe),
        b'E' => decode_execute(body).map(Message::Execute),
        b'F' => decode_function_call(body).map(Message::FunctionCall),
        b'H' => decode_empty(body, Message::Flush),
        b'P' => decode_parse(body).map(Message::Parse),
        b'Q' => decode_text(body).map(Message::Query),
        b'S' => decode_empty(body, Message::Sync),
        b'X' => decode_empty(body, Message::Terminate),
        b'c' => decode_empty(body, Message::CopyDone),
        b'd' => Ok(Message::CopyData(body)),
        b'f' => decode_text(body).map(Message::CopyFail),
        b'p' => Ok(Message::Password(body)),
        _ => Err(MessageError::UnknownTag(tag)),
    }
}

/// The body of a password message as a clear or hashed password, without its terminator.
pub fn decode_password(body: &[u8]) -> Result<&[u8], MessageError> {
    decode_text(body).map_err(|_| MessageError::Password)
}

/// The body of a password message as the first answer to a SASL request.
pub fn decode_sasl_initial(body: &[u8]) -> Result<SaslInitial<'_>, MessageError> {
    let mut reader = Reader::new(body);
    let mechanism = reader.string()?;
    let data = reader.value()?;
    reader.finish()?;
    Ok(SaslInitial { mechanism, data })
}

#[inline]
fn decode_bind(body: &[u8]) -> Result<Bind<'_>, MessageError> {
    let mut reader = Reader::new(body);
    let portal = reader.string()?;
    let statement = reader.string()?;
    let rest = reader.rest();
    // Whether their number fits is for the node to say.
    reader.formats()?;
    let parameters = reader.u16()?;
    for _ in 0..parameters {
        reader.value()?;
    }
    reader.formats()?;
    reader.finish()?;
    Ok(Bind {
        portal,
        statement,
        rest,
        parameters,
    })
}

#[inline]
fn decode_target(body: &[u8]) -> Result<Target<'_>, MessageError> {
    let mut reader = Reader::new(body);
    let kind = reader.u8()?;
    let name = reader.string()?;
    reader.finish()?;
    let kind = match kind {
        b'P' => TargetKind::Portal,
        b'S' => TargetKind::Statement,
        _ => return Err(MessageError::Target(kind)),
    };
    Ok(Target { kind, name })
}

#[inline]
fn decode_execute(body: &[u8]) -> Result<Execute<'_>, MessageError> {
    let mut reader = Reader::new(body);
    let portal = reader.string()?;
    let rows_max = reader.i32()?;
    reader.finish()?;
    Ok(Execute { portal, rows_max })
}

fn decode_function_call(body: &[u8]) -> Result<&[u8], MessageError> {
    let mut reader = Reader::new(body);
    reader.u32()?;
    let formats = reader.formats()?;
    let arguments = reader.u16()?;
    if formats > 1 && formats != arguments {
        return Err(MessageError::ArgumentFormats { formats, arguments });
    }
    for _ in 0..arguments {
        reader.value()?;
    }
    let result_format = reader.u16()?;
    if result_format > 1 {
        return Err(MessageError::Format(result_format));
    }
    reader.finish()?;
    Ok(body)
}

#[inline]
fn decode_parse(body: &[u8]) -> Result<Parse<'_>, MessageError> {
    let mut reader = Reader::new(body);
    let name = reader.string()?;
    let text = reader.string()?;
    let types = reader.rest();
    let count = reader.u16()?;
    reader.take(usize::from(count) * 4)?;
    reader.finish()?;
    Ok(Parse { name, text, types })
}

#[inline]
fn decode_text(body: &[u8]) -> Result<&[u8], MessageError> {
    let mut reader = Reader::new(body);
    let text = reader.string()?;
    reader.finish()?;
    Ok(text)
}

#[inline]
fn decode_empty<'a>(body: &[u8], message: Message<'a>) -> Result<Message<'a>, MessageError> {
    Reader::new(body).finish()?;
    Ok(message)
}
