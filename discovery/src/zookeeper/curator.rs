//! Curator's service discovery: each child is an instance of one service.
//!
//! Pure. Invariant: an instance that is switched off is no node.

use serde_json::Value;

use super::json;
use super::view::Znode;
use crate::source::Node;

/// Reads an instance.
pub fn instance(znode: &Znode) -> Result<Option<Node>, Box<str>> {
    let instance = json::object(&znode.data)?;
    if instance.get("enabled") == Some(&Value::Bool(false)) {
        return Ok(None);
    }
    Ok(Some(Node::at(json::place(&instance, "address")?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Option<String>, Box<str>> {
        let data = text.as_bytes().to_vec();
        let znode = Znode {
            data,
            ..Znode::default()
        };
        Ok(instance(&znode)?.map(|node| node.place.to_string()))
    }

    #[test]
    fn reads_an_instance() {
        let text = r#"{"name":"db","id":"1f9a","address":"10.0.0.1","port":5432,"sslPort":null,
            "payload":{"@class":"a.B"},"registrationTimeUTC":1325129459728,
            "serviceType":"DYNAMIC","uriSpec":null,"enabled":true}"#;
        assert_eq!(read(text), Ok(Some("10.0.0.1:5432".into())));
        assert_eq!(read(&text.replace("true", "false")), Ok(None));
    }

    #[test]
    fn refuses_garbage() {
        for text in [
            "",
            "7",
            "{}",
            r#"{"address":"h","port":null}"#,
            r#"{"port":1}"#,
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
