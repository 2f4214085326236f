//! What formats of JSON share: an object, and the place that two of its fields say.
//!
//! Pure. Invariant: what peers wrote is never believed to have a shape; a field of another type is
//! one that is missing, and is said so.

use serde_json::{Map, Value};

use super::plain;
use crate::source::Place;

/// An object.
pub type Object = Map<String, Value>;

/// Reads an object.
pub fn object(bytes: &[u8]) -> Result<Object, Box<str>> {
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err("it is no JSON object".into()),
        // The message has a line and a column, and nothing of what is there.
        Err(error) => Err(format!("it is no JSON: {error}").into()),
    }
}

/// The text in a field.
pub fn text<'a>(object: &'a Object, name: &str) -> Option<&'a str> {
    object.get(name)?.as_str()
}

/// The number in a field, be it written as text.
pub fn number(object: &Object, name: &str) -> Option<u64> {
    let value = object.get(name)?;
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

/// The place that a field for the host and `port` say.
pub fn place(object: &Object, host: &str) -> Result<Place, Box<str>> {
    let host = text(object, host).ok_or_else(|| format!("it has no {host:?}"))?;
    let port = number(object, "port").ok_or("it has no \"port\"")?;
    plain::place(host, port)
}
