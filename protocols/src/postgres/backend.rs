//! Messages that nodes send.
//!
//! Holds their decoding, as far as anybody reads them, and the encoding of those that the proxy
//! answers itself. It must not know whose reply it is. Its invariant: a message that decodes keeps
//! the format in all its fields, so that the iterators over it need no errors.

mod encode;
mod fields;

use super::reader::Reader;
pub use super::reader::{MessageError, Strings};
pub use encode::{
    Column, ErrorFields, Severity, encode_authentication_cleartext, encode_authentication_md5,
    encode_authentication_ok, encode_authentication_sasl, encode_authentication_sasl_continue,
    encode_authentication_sasl_final, encode_backend_key_data, encode_bind_complete,
    encode_close_complete, encode_command_complete, encode_data_row_text, encode_empty_query,
    encode_error, encode_negotiate_protocol_version, encode_no_data, encode_notice,
    encode_parameter_status, encode_parse_complete, encode_ready_for_query, encode_row_description,
    encode_row_description_text,
};
pub use fields::Fields;

/// One message of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// A step of the login.
    Authentication(Authentication<'a>),
    /// What a cancel request must carry.
    BackendKeyData {
        /// The process.
        pid: u32,
        /// 4 to 256 bytes.
        secret: &'a [u8],
    },
    /// A Bind was accepted.
    BindComplete,
    /// A Close was done.
    CloseComplete,
    /// A statement ended well; its tag, such as `INSERT 0 1`.
    CommandComplete(&'a [u8]),
    /// Both sides may send copy data from here on.
    CopyBoth,
    /// A piece of a copy's data.
    CopyData,
    /// The end of a copy's data.
    CopyDone,
    /// The node waits for copy data.
    CopyIn,
    /// Copy data follows.
    CopyOut,
    /// A row.
    DataRow,
    /// The statement was empty.
    EmptyQuery,
    /// A statement or the connection failed.
    ErrorResponse(Fields<'a>),
    /// The result of a function call.
    FunctionCallResponse,
    /// The node speaks an older protocol or does not know an option.
    NegotiateProtocolVersion {
        /// The newest minor version of major version 3 that it speaks.
        minor: u16,
        /// Names of the protocol options that it does not know.
        options: Strings<'a>,
    },
    /// The statement returns no rows.
    NoData,
    /// A remark.
    NoticeResponse(Fields<'a>),
    /// A notification from another session.
    NotificationResponse {
        /// The process that sent it.
        pid: u32,
        /// Its channel.
        channel: &'a [u8],
        /// Its payload.
        payload: &'a [u8],
    },
    /// The types of a statement's parameters.
    ParameterDescription,
    /// A setting's new value.
    ParameterStatus {
        /// The setting.
        name: &'a [u8],
        /// Its value, as the node spells it.
        value: &'a [u8],
    },
    /// A Parse was accepted.
    ParseComplete,
    /// An Execute stopped at its row limit.
    PortalSuspended,
    /// The request is over.
    ReadyForQuery(Status),
    /// The columns that follow; the body as it came.
    RowDescription(&'a [u8]),
}

/// A step of the login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authentication<'a> {
    /// The node wants the password as it is.
    CleartextPassword,
    /// The node wants the password hashed.
    Md5Password {
        /// Random bytes that go into the hash.
        salt: [u8; 4],
    },
    /// The login is done.
    Ok,
    /// A method that nobody here speaks, by its number.
    Other(i32),
    /// The node offers SASL mechanisms.
    Sasl {
        /// Their names, the preferred one first.
        mechanisms: Strings<'a>,
    },
    /// A mechanism's next message.
    SaslContinue(&'a [u8]),
    /// A mechanism's last message.
    SaslFinal(&'a [u8]),
}

/// Where a session stands between requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// In a transaction block that failed.
    Failed,
    /// In no transaction block.
    Idle,
    /// In a transaction block.
    InTransaction,
}

impl Status {
    /// From the wire.
    #[inline]
    pub const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            b'E' => Some(Self::Failed),
            b'I' => Some(Self::Idle),
            b'T' => Some(Self::InTransaction),
            _ => None,
        }
    }

    /// As it goes over the wire.
    #[inline]
    pub const fn byte(self) -> u8 {
        match self {
            Self::Failed => b'E',
            Self::Idle => b'I',
            Self::InTransaction => b'T',
        }
    }
}

/// Decodes the body of a message whose header was accepted.
pub fn decode(tag: u8, body: &[u8]) -> Result<Message<'_>, MessageError> {
    match tag {
        b'1' => decode_empty(body, Message::ParseComplete),
        b'2' => decode_empty(body, Message::BindComplete),
        b'3' => decode_empty(body, Message::CloseComplete),
        b'A' => decode_notification(body),
        b'C' => decode_command_complete(body),
        b'D' => decode_data_row(body),
        b'E' => Fields::decode(body).map(Message::ErrorResponse),
        b'G' => decode_copy(body, Message::CopyIn),
        b'H' => decode_copy(body, Message::CopyOut),
        b'I' => decode_empty(body, Message::EmptyQuery),
        b'K' => decode_key(body),
        b'N' => Fields::decode(body).map(Message::NoticeResponse),
        b'R' => decode_authentication(body).map(Message::Authentication),
        b'S' => decode_parameter_status(body)
            .map(|(name, value)| Message::ParameterStatus { name, value }),
        b'T' => decode_row_description(body),
        b'V' => decode_function_result(body),
        b'W' => decode_copy(body, Message::CopyBoth),
        b'Z' => decode_ready(body).map(Message::ReadyForQuery),
        b'c' => decode_empty(body, Message::CopyDone),
        b'd' => Ok(Message::CopyData),
        b'n' => decode_empty(body, Message::NoData),
        b's' => decode_empty(body, Message::PortalSuspended),
        b't' => decode_parameter_description(body),
        b'v' => decode_negotiation(body),
        _ => Err(MessageError::UnknownTag(tag)),
    }
}

/// The body of a ReadyForQuery.
#[inline]
pub fn decode_ready(body: &[u8]) -> Result<Status, MessageError> {
    let mut reader = Reader::new(body);
    let byte = reader.u8()?;
    reader.finish()?;
    Status::from_byte(byte).ok_or(MessageError::Status(byte))
}

/// The body of a ParameterStatus: the setting and its value.
#[inline]
pub fn decode_parameter_status(body: &[u8]) -> Result<(&[u8], &[u8]), MessageError> {
    let mut reader = Reader::new(body);
    let name = reader.string()?;
    let value = reader.string()?;
    reader.finish()?;
    Ok((name, value))
}

/// The values of a DataRow's body that [`decode`] accepted; `None` stands for NULL.
pub fn columns(body: &[u8]) -> Columns<'_> {
    let mut reader = Reader::new(body);
    let left = reader.u16().unwrap_or(0);
    Columns { reader, left }
}

/// Walks over the values of one row. A body that breaks the format ends early.
#[derive(Clone)]
pub struct Columns<'a> {
    reader: Reader<'a>,
    left: u16,
}

impl<'a> Iterator for Columns<'a> {
    type Item = Option<&'a [u8]>;

    fn next(&mut self) -> Option<Option<&'a [u8]>> {
        self.left = self.left.checked_sub(1)?;
        let value = self.reader.value();
        if value.is_err() {
            self.left = 0;
        }
        value.ok()
    }
}

fn decode_empty<'a>(body: &[u8], message: Message<'a>) -> Result<Message<'a>, MessageError> {
    Reader::new(body).finish()?;
    Ok(message)
}

fn decode_notification(body: &[u8]) -> Result<Message<'_>, MessageError> {
    let mut reader = Reader::new(body);
    let pid = reader.u32()?;
    let channel = reader.string()?;
    let payload = reader.string()?;
    reader.finish()?;
    Ok(Message::NotificationResponse {
        pid,
        channel,
        payload,
    })
}

fn decode_command_complete(body: &[u8]) -> Result<Message<'_>, MessageError> {
    let mut reader = Reader::new(body);
    let tag = reader.string()?;
    reader.finish()?;
    Ok(Message::CommandComplete(tag))
}

fn decode_data_row(body: &[u8]) -> Result<Message<'_>, MessageError> {
    let mut reader = Reader::new(body);
    for _ in 0..reader.u16()? {
        reader.value()?;
    }
    reader.finish()?;
    Ok(Message::DataRow)
}

fn decode_copy<'a>(body: &[u8], message: Message<'a>) -> Result<Message<'a>, MessageError> {
    let mut reader = Reader::new(body);
    let format = reader.u8()?;
    if format > 1 {
        return Err(MessageError::Format(format.into()));
    }
    reader.formats()?;
    reader.finish()?;
    Ok(message)
}

fn decode_key(body: &[u8]) -> Result<Message<'_>, MessageError> {
    let mut reader = Reader::new(body);
    let pid = reader.u32()?;
    let secret = reader.rest();
    match secret.len() {
        0..4 => Err(MessageError::Truncated),
        4..=256 => Ok(Message::BackendKeyData { pid, secret }),
        _ => Err(MessageError::Overlong),
    }
}

fn decode_authentication(body: &[u8]) -> Result<Authentication<'_>, MessageError> {
    let mut reader = Reader::new(body);
    let method = reader.i32()?;
    Ok(match method {
        0 | 3 => {
            reader.finish()?;
            if method == 0 {
                Authentication::Ok
            } else {
                Authentication::CleartextPassword
            }
        }
        5 => {
            let salt = reader.u32()?.to_be_bytes();
            reader.finish()?;
            Authentication::Md5Password { salt }
        }
        10 => Authentication::Sasl {
            mechanisms: Strings::decode_terminated(reader.rest())?,
        },
        11 => Authentication::SaslContinue(reader.rest()),
        12 => Authentication::SaslFinal(reader.rest()),
        _ => Authentication::Other(method),
    })
}

fn decode_row_description(body: &[u8]) -> Result<Message<'_>, MessageError> {
    /// Table, column, type, type's length, modifier and format behind each name.
    const COLUMN_LEN: usize = 4 + 2 + 4 + 2 + 4 + 2;
    let mut reader = Reader::new(body);
    for _ in 0..reader.u16()? {
        reader.string()?;
        reader.take(COLUMN_LEN)?;
    }
    reader.finish()?;
    Ok(Message::RowDescription(body))
}

fn decode_function_result(body: &[u8]) -> Result<Message<'_>, MessageError> {
    let mut reader = Reader::new(body);
    reader.value()?;
    reader.finish()?;
    Ok(Message::FunctionCallResponse)
}

fn decode_parameter_description(body: &[u8]) -> Result<Message<'_>, MessageError> {
    let mut reader = Reader::new(body);
    let count = reader.u16()?;
    reader.take(usize::from(count) * 4)?;
    reader.finish()?;
    Ok(Message::ParameterDescription)
}

fn decode_negotiation(body: &[u8]) -> Result<Message<'_>, MessageError> {
    let mut reader = Reader::new(body);
    // PostgreSQL sends the whole version here, whatever the field's name in its documentation.
    let [_, _, high, low] = reader.u32()?.to_be_bytes();
    let count = reader.u32()?;
    let options = Strings::decode_counted(reader.rest(), count)?;
    Ok(Message::NegotiateProtocolVersion {
        minor: u16::from_be_bytes([high, low]),
        options,
    })
}
