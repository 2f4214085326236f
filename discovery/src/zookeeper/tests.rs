//! What is said of views that come one after the other: nodes once, garbage once, and never nothing.

use super::*;
use crate::source::channel;
use crate::upstream::{Upstream, Whereabouts};

fn known(url: &str) -> Known {
    let Whereabouts::Zookeeper(listed) = Upstream::parse(url).unwrap().whereabouts else {
        panic!("{url}");
    };
    let (told, _) = channel();
    Known::new(listed, told)
}

fn child(name: &str, data: &str) -> Znode {
    Znode {
        path: format!("/a/{name}").into(),
        name: name.into(),
        data: data.as_bytes().to_vec(),
        ..Znode::default()
    }
}

/// What is said of a view, in words.
fn says(known: &mut Known, view: View) -> Vec<String> {
    let reading = known.read(&view);
    let shown = |news| match news {
        News::Nodes(snapshot) => {
            let places = snapshot.nodes.iter().map(|node| node.place.to_string());
            places.collect::<Vec<_>>().join(",")
        }
        News::Trouble(error) => error.to_string(),
    };
    known.news(reading).into_iter().map(shown).collect()
}

#[test]
fn says_a_list_once_for_each_change() {
    let mut known = known("postgres+zk://zk/a?format=children");
    let list = |names: &[&str]| View::List(names.iter().map(|name| child(name, "")).collect());
    assert_eq!(says(&mut known, list(&["b:2", "a:1"])), ["a:1,b:2"]);
    assert!(says(&mut known, list(&["a:1", "b:2"])).is_empty());
    assert_eq!(says(&mut known, list(&["b:2"])), ["b:2"]);
}

#[test]
fn keeps_the_last_nodes_when_a_list_becomes_empty() {
    let mut known = known("postgres+zk://zk/a?format=data");
    let data = |text: &str| View::One(child("a", text));
    assert_eq!(says(&mut known, data("a:1")), ["a:1"]);
    assert_eq!(says(&mut known, data("")), ["\"/a\" lists no node"]);
    assert!(says(&mut known, data(" ")).is_empty());
    assert!(says(&mut known, data("a:1")).is_empty(), "it never went");
    assert_eq!(says(&mut known, data("b:1")), ["b:1"]);
}

#[test]
fn skips_garbage_and_says_so_once() {
    let mut known = known("postgres+zk://zk/a?format=curator");
    let good = r#"{"address":"h","port":1}"#;
    let other = r#"{"address":"i","port":1}"#;
    let view = |one: &str, two: &str| View::List(vec![child("one", one), child("two", two)]);
    let said = says(&mut known, view(good, "{}"));
    let wrong = "the znode \"/a/two\" is left out: it has no \"address\"";
    assert_eq!(said, ["h:1", wrong]);
    assert!(says(&mut known, view(good, "{}")).is_empty());
    assert_eq!(says(&mut known, view(good, other)), ["h:1,i:1"]);
    // What it said before it was garbage stands.
    assert_eq!(says(&mut known, view(good, "{}")), [wrong]);
    assert_eq!(
        says(&mut known, View::List(vec![child("one", good)])),
        ["h:1"]
    );
}

#[test]
fn reads_no_more_children_than_a_list_of_nodes_has() {
    let mut known = known("postgres+zk://zk/a?format=children");
    let names = (0..=CHILDREN_MAX).map(|index| child(&format!("n{index}:1"), ""));
    let said = says(&mut known, View::List(names.collect()));
    assert_eq!(said.len(), 2);
    assert_eq!(said[0].split(',').count(), CHILDREN_MAX);
    assert!(said[1].contains("more than 1024 children"), "{}", said[1]);
}
