//! Finds the line and column of a place in a document. A document is read again
//! for it, with the position of every value, and only when it was refused.

use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Location, Spanned};

use super::yaml::options;
use crate::invalid::Invalid;

/// The same refusal, with the line and column of its field in `document`.
pub(super) fn located(document: &str, mut refusal: Invalid) -> Invalid {
    let root = serde_saphyr::from_str_with_options::<Spanned<Node>>(document, options());
    let at = root.ok().map(|root| find(&root.value, root.referenced, &refusal.field));
    if let Some(at) = at.filter(|at| at.line() > 0) {
        refusal.problem += &format!(" at line {}, column {}", at.line(), at.column());
    }
    refusal
}

/// A value and where its parts stand.
enum Node {
    Map(Vec<(String, Location, Spanned<Node>)>),
    List(Vec<Spanned<Node>>),
    Scalar,
}

/// The innermost place of `path` that the document has.
fn find(node: &Node, at: Location, path: &str) -> Location {
    match node {
        Node::Map(entries) => {
            let path = path.strip_prefix('.').unwrap_or(path);
            // A flow's name may hold a dot: the longest key that fits is meant.
            let fits = entries.iter().filter(|(key, ..)| {
                path.strip_prefix(key.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
            });
            let Some((key, key_at, value)) = fits.max_by_key(|(key, ..)| key.len()) else { return at };
            find(&value.value, *key_at, &path[key.len()..])
        }
        Node::List(items) => {
            let index = path.strip_prefix('[').and_then(|path| path.split_once(']'));
            let item = index.and_then(|(index, rest)| Some((items.get(index.parse::<usize>().ok()?)?, rest)));
            item.map_or(at, |(item, rest)| find(&item.value, item.referenced, rest))
        }
        Node::Scalar => at,
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_str<E>(self, _: &str) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        Node::deserialize(deserializer)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|_| Node::Scalar)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        let mut found = Vec::new();
        while let Some(item) = items.next_element()? {
            found.push(item);
        }
        Ok(Node::List(found))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Node, A::Error> {
        let mut found = Vec::new();
        while let Some(key) = entries.next_key::<Spanned<String>>()? {
            found.push((key.value, key.referenced, entries.next_value()?));
        }
        Ok(Node::Map(found))
    }
}
