//! SmartStack's Nerve: each child is one service, written in its content or in its name.
//!
//! Pure. Invariant: nothing is believed of a name but what its own length says.

use base64::Engine;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::json;
use super::view::Znode;
use crate::source::Node;

/// What a name with the content in it begins with: `base64_<length>_<content>_<sequence>`.
const ENCODED: &str = "base64_";

/// The content may have lost its padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Reads a service.
pub fn service(znode: &Znode) -> Result<Option<Node>, Box<str>> {
    let service = match znode.name.strip_prefix(ENCODED) {
        Some(rest) => json::object(&decode(rest).ok_or("its name is not encoded correctly")?)?,
        None => json::object(&znode.data)?,
    };
    let mut node = Node::at(json::place(&service, "host")?);
    if let Some(weight) = json::number(&service, "weight") {
        node.weight = u32::try_from(weight).unwrap_or(u32::MAX).max(1);
    }
    Ok(Some(node))
}

/// Decodes `<length>_<content>_<sequence>`, whose content may have underscores of its own.
fn decode(name: &str) -> Option<Vec<u8>> {
    let (length, rest) = name.split_once('_')?;
    let content = rest.get(..length.parse().ok()?)?;
    BASE64.decode(content).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, data: &str) -> Result<Option<Node>, Box<str>> {
        service(&Znode {
            name: name.into(),
            data: data.as_bytes().to_vec(),
            ..Znode::default()
        })
    }

    #[test]
    fn reads_the_content_of_a_child() {
        let data = r#"{"host":"h","port":1234,"name":"i-1","weight":10,
            "haproxy_server_options":"backup","labels":{"az":"a"}}"#;
        let node = read("i-1_0000000012", data).unwrap().unwrap();
        assert_eq!((node.place.to_string(), node.weight), ("h:1234".into(), 10));
        let node = read("i-1", r#"{"host":"10.0.0.1","port":"7"}"#)
            .unwrap()
            .unwrap();
        assert_eq!(
            (node.place.to_string(), node.weight),
            ("10.0.0.1:7".into(), 1)
        );
    }

    #[test]
    fn reads_the_name_of_a_child() {
        let text = r#"{"host":"h","port":1,"name":"???>>>"}"#;
        let content = BASE64.encode(text);
        assert!(content.contains(['_', '-']), "the alphabet is in use");
        for content in [content.trim_end_matches('='), &content] {
            let name = format!("base64_{}_{content}_0000000012", content.len());
            let node = read(&name, "").unwrap().unwrap();
            assert_eq!(node.place.to_string(), "h:1");
        }
    }

    #[test]
    fn refuses_garbage() {
        for name in [
            "base64_",
            "base64_9",
            "base64_9_e30",
            "base64_3_e3!_1",
            "base64_-1_e30_1",
        ] {
            assert!(read(name, "").is_err(), "{name}");
        }
        for data in [
            "",
            "null",
            "{}",
            r#"{"host":"h"}"#,
            r#"{"host":"","port":1}"#,
        ] {
            assert!(read("a", data).is_err(), "{data}");
        }
    }
}
