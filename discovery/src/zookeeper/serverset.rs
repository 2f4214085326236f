//! Finagle's ServerSets: each child `member_0000000007` is one member.
//!
//! Pure. Invariant: only who says to be alive is a node.

use super::json;
use super::view::Znode;
use crate::source::Node;

/// What the name of a member begins with; a `vector_` holds weights.
pub const PREFIX: &str = "member_";

/// Reads a member, by its service endpoint or the additional one of this name.
pub fn member(znode: &Znode, endpoint: Option<&str>) -> Result<Option<Node>, Box<str>> {
    let member = json::object(&znode.data)?;
    match json::text(&member, "status") {
        Some("ALIVE") => {}
        Some(_) => return Ok(None),
        None => return Err("it has no \"status\"".into()),
    }
    let found = match endpoint {
        None => member.get("serviceEndpoint"),
        Some(name) => member
            .get("additionalEndpoints")
            .and_then(|it| it.get(name)),
    };
    let found = found.and_then(|it| it.as_object());
    let name = endpoint.unwrap_or("serviceEndpoint");
    let found = found.ok_or_else(|| format!("it has no endpoint {name:?}"))?;
    Ok(Some(Node::at(json::place(found, "host")?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMBER: &str = r#"{"serviceEndpoint":{"host":"h","port":31943},
        "additionalEndpoints":{"http":{"host":"h","port":31944}},
        "status":"ALIVE","shard":0,"metadata":{"a":"b"}}"#;

    fn read(text: &str, endpoint: Option<&str>) -> Result<Option<String>, Box<str>> {
        let data = text.as_bytes().to_vec();
        let znode = Znode {
            data,
            ..Znode::default()
        };
        let node = member(&znode, endpoint)?;
        Ok(node.map(|node| node.place.to_string()))
    }

    #[test]
    fn reads_the_endpoint_that_is_meant() {
        assert_eq!(read(MEMBER, None), Ok(Some("h:31943".into())));
        assert_eq!(read(MEMBER, Some("http")), Ok(Some("h:31944".into())));
        let wrong = read(MEMBER, Some("tls")).unwrap_err();
        assert_eq!(&*wrong, "it has no endpoint \"tls\"");
    }

    #[test]
    fn leaves_out_who_is_not_alive() {
        for status in [
            "DEAD", "STARTING", "STOPPING", "STOPPED", "WARNING", "UNKNOWN",
        ] {
            assert_eq!(read(&MEMBER.replace("ALIVE", status), None), Ok(None));
        }
    }

    #[test]
    fn refuses_garbage() {
        for text in [
            "",
            "[]",
            "{}",
            r#"{"status":"ALIVE"}"#,
            r#"{"status":"ALIVE","serviceEndpoint":{"host":"h"}}"#,
            r#"{"status":"ALIVE","serviceEndpoint":{"host":7,"port":1}}"#,
            r#"{"status":"ALIVE","serviceEndpoint":{"host":"h","port":-1}}"#,
            r#"{"status":"ALIVE","serviceEndpoint":"h:1"}"#,
        ] {
            assert!(read(text, None).is_err(), "{text}");
        }
        assert!(read(&"[".repeat(1_000_000), None).is_err());
    }
}
