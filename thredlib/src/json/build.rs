//! How a compact value comes into being: part by part.

use std::cell::Cell;

use serde_json::Value;

use super::{
    Number, View,
    compact::{Compact, Group, Node, Span, behind},
};

/// Takes the parts of one value, in order.
#[derive(Debug)]
pub(crate) struct Builder {
    nodes: Vec<Node>,
    text: String,
    shape: Shape,
}

/// Whether what was built can be kept in the compact form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Fits,
    /// An object names something twice, or has so many members that a search would take long.
    Irregular,
    /// It has more than 4 GiB of text, or as many parts.
    TooLarge,
}

/// What came of it.
#[derive(Debug)]
pub(crate) enum Built {
    Compact(Compact),
    /// What does not fit the compact form.
    Value(Value),
}

impl Built {
    pub(crate) fn into_value(self) -> Value {
        match self {
            Self::Compact(compact) => compact.root().to_value(),
            Self::Value(value) => value,
        }
    }
}

/// What is larger than the compact form counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the value is larger than 4 GiB")]
pub(crate) struct TooLarge;

/// A list or an object under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Open {
    at: usize,
    len: u32,
}

/// A state to go back to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark {
    nodes: usize,
    text: usize,
}

thread_local! {
    /// What the last builder of this thread worked in: the parts are written there and copied in
    /// one piece, so that none of them makes a block grow.
    static SPACE: Cell<(Vec<Node>, String)> = const { Cell::new((Vec::new(), String::new())) };
}

/// With more members than this an object is searched by a hash.
const WIDE: u32 = 32;

/// How much space is kept for the next value, in nodes and in bytes.
const SPACE_KEPT: usize = 64 * 1024;

impl Builder {
    pub(crate) fn new() -> Self {
        let (nodes, text) = SPACE.take();
        Self { nodes, text, shape: Shape::Fits }
    }

    pub(crate) fn null(&mut self) {
        self.nodes.push(Node::Null);
    }

    pub(crate) fn bool(&mut self, b: bool) {
        self.nodes.push(Node::Bool(b));
    }

    pub(crate) fn number(&mut self, n: Number) {
        self.nodes.push(Node::Number(n));
    }

    pub(crate) fn text(&mut self, text: &str) {
        let start = self.count(self.text.len());
        self.text.push_str(text);
        let end = self.count(self.text.len());
        self.nodes.push(Node::Text(Span { start, end }));
    }

    /// Begins a list or an object.
    pub(crate) fn open(&mut self) -> Open {
        self.nodes.push(Node::Null);
        Open { at: self.nodes.len() - 1, len: 0 }
    }

    /// Begins an item of a list.
    pub(crate) fn item(&mut self, list: &mut Open) {
        list.len = list.len.saturating_add(1);
    }

    /// Begins a member of an object.
    pub(crate) fn member(&mut self, object: &mut Open, name: &str) {
        if object.len >= WIDE || self.has_member(object, name) {
            self.shape = self.shape.max(Shape::Irregular);
        }
        object.len = object.len.saturating_add(1);
        self.text(name);
    }

    pub(crate) fn close_list(&mut self, list: Open) {
        self.nodes[list.at] = Node::Array(self.group(list));
    }

    pub(crate) fn close_object(&mut self, object: Open) {
        self.nodes[object.at] = Node::Object(self.group(object));
    }

    pub(crate) fn mark(&self) -> Mark {
        Mark { nodes: self.nodes.len(), text: self.text.len() }
    }

    /// Takes back what came after a mark.
    pub(crate) fn undo(&mut self, mark: Mark) {
        self.nodes.truncate(mark.nodes);
        self.text.truncate(mark.text);
    }

    /// A whole value.
    pub(crate) fn copy(&mut self, value: View<'_>) {
        match value {
            View::Null => self.null(),
            View::Bool(b) => self.bool(b),
            View::Number(n) => self.number(n),
            View::Text(text) => self.text(text),
            View::Array(items) => {
                let mut list = self.open();
                for item in items.iter() {
                    self.item(&mut list);
                    self.copy(item);
                }
                self.close_list(list);
            }
            View::Object(members) => {
                let mut object = self.open();
                for (name, value) in members.iter() {
                    self.member(&mut object, name);
                    self.copy(value);
                }
                self.close_object(object);
            }
        }
    }

    /// The value; exactly one has been built.
    pub(crate) fn finish(mut self) -> Result<Built, TooLarge> {
        let (shape, nodes, text) = (self.shape, &*self.nodes, &*self.text);
        let compact = Compact { nodes: nodes.into(), text: text.into() };
        if self.nodes.capacity() <= SPACE_KEPT && self.text.capacity() <= SPACE_KEPT {
            self.nodes.clear();
            self.text.clear();
            SPACE.set((self.nodes, self.text));
        }
        match shape {
            Shape::Fits => Ok(Built::Compact(compact)),
            Shape::Irregular => Ok(Built::Value(compact.root().to_value())),
            Shape::TooLarge => Err(TooLarge),
        }
    }

    fn has_member(&self, object: &Open, name: &str) -> bool {
        let mut at = object.at + 1;
        for _ in 0..object.len {
            if let Node::Text(span) = self.nodes[at]
                && self.text[span.start as usize..span.end as usize] == *name
            {
                return true;
            }
            at = behind(&self.nodes, at + 1);
        }
        false
    }

    fn group(&mut self, open: Open) -> Group {
        Group { len: open.len, end: self.count(self.nodes.len()) }
    }

    fn count(&mut self, n: usize) -> u32 {
        u32::try_from(n).unwrap_or_else(|_| {
            self.shape = Shape::TooLarge;
            u32::MAX
        })
    }
}

impl Shape {
    fn max(self, other: Self) -> Self {
        if self == Self::TooLarge { self } else { other }
    }
}
