//! What a query sees: JSON borrowed from the scope, with the root and the events made up of the
//! structs that hold their fields.

use std::{cmp::Ordering, slice, vec};

use serde_json::{Map, Number, Value, map};

use super::{super::Scope, query::Step};
use crate::{Event, Source, json::exact};

/// A node.
#[derive(Clone, Copy, Debug)]
pub(super) enum Node<'a> {
    Null,
    Bool(bool),
    Integer(i128),
    Float(f64),
    Text(&'a str),
    Array(&'a [Value]),
    Object(Object<'a>),
}

/// A node with named members.
#[derive(Clone, Copy, Debug)]
pub(super) enum Object<'a> {
    Root(&'a Scope),
    Event(&'a Event),
    Source(&'a Source),
    Map(&'a Map<String, Value>),
}

impl<'a> Node<'a> {
    pub(super) fn root(scope: &'a Scope) -> Self {
        Self::Object(Object::Root(scope))
    }

    pub(super) fn step(self, step: &Step) -> Option<Self> {
        match (self, step) {
            (Self::Object(object), Step::Name(name)) => object.member(name),
            (Self::Array(items), Step::Index(index)) => {
                let index = if *index < 0 { *index + items.len() as i64 } else { *index };
                items.get(usize::try_from(index).ok()?).map(Self::from)
            }
            _ => None,
        }
    }

    pub(super) fn children(self) -> Children<'a> {
        match self {
            Self::Array(items) => Children::Items(items.iter()),
            Self::Object(object) => Children::Members(object.members()),
            _ => Children::Items([].iter()),
        }
    }

    pub(super) fn is_container(self) -> bool {
        matches!(self, Self::Array(_) | Self::Object(_))
    }

    /// How two numbers or two texts are ordered.
    pub(super) fn order(self, other: Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Integer(a), Self::Integer(b)) => Some(a.cmp(&b)),
            (Self::Integer(a), Self::Float(b)) => exact::compare(a, b),
            (Self::Float(a), Self::Integer(b)) => exact::compare(b, a).map(Ordering::reverse),
            (Self::Text(a), Self::Text(b)) => Some(a.cmp(b)),
            (Self::Float(a), Self::Float(b)) => a.partial_cmp(&b),
            _ => None,
        }
    }

    /// A copy. `bytes` is the room that is left for it as JSON; the error names the limit that
    /// does not hold.
    pub(super) fn to_value(self, bytes: &mut usize, depth: usize) -> Result<Value, &'static str> {
        let mut take = |n| bytes.checked_sub(n).map(|left| *bytes = left).ok_or("size");
        match self {
            Self::Null => take(4).map(|()| Value::Null),
            Self::Bool(b) => take(5).map(|()| Value::Bool(b)),
            Self::Integer(n) => {
                take(8).map(|()| exact::to_json(n).map_or(Value::Null, Value::Number))
            }
            Self::Float(n) => {
                take(8).map(|()| Number::from_f64(n).map_or(Value::Null, Value::Number))
            }
            Self::Text(s) => take(s.len() + 2).map(|()| Value::String(s.to_owned())),
            Self::Array(items) => {
                take(items.len() + 2)?;
                let depth = depth.checked_sub(1).ok_or("depth")?;
                let items = items.iter().map(|item| Node::from(item).to_value(bytes, depth));
                items.collect::<Result<_, _>>().map(Value::Array)
            }
            Self::Object(object) => {
                take(2)?;
                let depth = depth.checked_sub(1).ok_or("depth")?;
                let mut map = Map::new();
                for (name, node) in object.members() {
                    *bytes = bytes.checked_sub(name.len() + 4).ok_or("size")?;
                    map.insert(name.to_owned(), node.to_value(bytes, depth)?);
                }
                Ok(Value::Object(map))
            }
        }
    }
}

impl<'a> From<&'a Value> for Node<'a> {
    fn from(value: &'a Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(b) => Self::Bool(*b),
            Value::Number(n) => match (n.as_i64(), n.as_u64()) {
                (Some(n), _) => Self::Integer(n.into()),
                (_, Some(n)) => Self::Integer(n.into()),
                _ => Self::Float(n.as_f64().unwrap_or(f64::NAN)),
            },
            Value::String(s) => Self::Text(s),
            Value::Array(items) => Self::Array(items),
            Value::Object(map) => Self::Object(Object::Map(map)),
        }
    }
}

const ROOT: &[&str] =
    &["event", "data", "content", "values", "local", "thredId", "outboundEvent", "error"];
const EVENT: &[&str] =
    &["id", "type", "thredId", "re", "source", "timestamp", "time", "data", "trace"];
const SOURCE: &[&str] = &["id", "name", "uri"];

impl<'a> Object<'a> {
    pub(super) fn member(self, name: &str) -> Option<Node<'a>> {
        match self {
            Self::Root(scope) => root_member(scope, name),
            Self::Event(event) => {
                event_member(event, name).or_else(|| event.extra.get(name).map(Node::from))
            }
            Self::Source(source) => {
                source_member(source, name).or_else(|| source.extra.get(name).map(Node::from))
            }
            Self::Map(map) => map.get(name).map(Node::from),
        }
    }

    pub(super) fn members(self) -> Members<'a> {
        let known = |names: &'static [&'static str]| {
            names.iter().filter_map(move |name| Some((*name, self.member(name)?)))
        };
        let more = |extra: &'a crate::Extra, names: &'static [&'static str]| {
            let unknown = extra.iter().filter(move |(name, _)| !names.contains(&name.as_str()));
            unknown.map(|(name, value)| (name.as_str(), Node::from(value)))
        };
        match self {
            Self::Root(_) => Members::Listed(known(ROOT).collect::<Vec<_>>().into_iter()),
            Self::Event(event) => {
                let all = known(EVENT).chain(more(&event.extra, EVENT));
                Members::Listed(all.collect::<Vec<_>>().into_iter())
            }
            Self::Source(source) => {
                let all = known(SOURCE).chain(more(&source.extra, SOURCE));
                Members::Listed(all.collect::<Vec<_>>().into_iter())
            }
            Self::Map(map) => Members::Map(map.iter()),
        }
    }

    pub(super) fn len(self) -> usize {
        match self {
            Self::Map(map) => map.len(),
            other => other.members().count(),
        }
    }
}

fn root_member<'a>(scope: &'a Scope, name: &str) -> Option<Node<'a>> {
    let event = |event| Node::Object(Object::Event(event));
    Some(match name {
        "event" => event(&scope.event),
        "data" => Node::Object(Object::Map(scope.event.data.as_ref()?.as_map())),
        "content" => scope.event.content()?.into(),
        "values" => scope.event.values()?.into(),
        "local" => Node::Object(Object::Map(&scope.locals)),
        "thredId" => Node::Text(scope.thred_id.as_ref()?.as_str()),
        "outboundEvent" => event(scope.outbound.as_deref()?),
        "error" => scope.event.error()?.into(),
        _ => return None,
    })
}

fn event_member<'a>(event: &'a Event, name: &str) -> Option<Node<'a>> {
    Some(match name {
        "id" => Node::Text(event.id.as_str()),
        "type" => Node::Text(&event.event_type),
        "thredId" => Node::Text(event.thred_id.as_ref()?.as_str()),
        "re" => Node::Text(event.re.as_ref()?.as_str()),
        "source" => Node::Object(Object::Source(&event.source)),
        "timestamp" | "time" => Node::Integer(event.timestamp?.into()),
        "data" => Node::Object(Object::Map(event.data.as_ref()?.as_map())),
        "trace" => Node::from(&**event.trace.as_ref()?),
        _ => return None,
    })
}

fn source_member<'a>(source: &'a Source, name: &str) -> Option<Node<'a>> {
    Some(match name {
        "id" => Node::Text(source.id.as_str()),
        "name" => Node::Text(source.name.as_deref()?),
        "uri" => Node::Text(source.uri.as_deref()?),
        _ => return None,
    })
}

/// The members of an object in order.
pub(super) enum Members<'a> {
    Map(map::Iter<'a>),
    Listed(vec::IntoIter<(&'a str, Node<'a>)>),
}

impl<'a> Iterator for Members<'a> {
    type Item = (&'a str, Node<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::Map(entries) => entries.next().map(|(name, value)| (name.as_str(), value.into())),
            Self::Listed(entries) => entries.next(),
        }
    }
}

/// The children of a node in order.
pub(super) enum Children<'a> {
    Items(slice::Iter<'a, Value>),
    Members(Members<'a>),
}

impl<'a> Iterator for Children<'a> {
    type Item = Node<'a>;

    fn next(&mut self) -> Option<Node<'a>> {
        match self {
            Self::Items(items) => items.next().map(Node::from),
            Self::Members(members) => members.next().map(|(_, node)| node),
        }
    }
}
