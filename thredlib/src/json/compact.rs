//! A JSON value in two blocks of memory, however many parts it has.

use super::view::{Items, Members, Number, View};

/// A JSON value that is not changed any more: its parts in preorder, and all its texts in one.
///
/// An event is made by one thread and freed by another; with a block for each text, list and
/// object, most of the time would go into that. Its objects are small and name nothing twice, so
/// that a search from the first member on is the fastest.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Compact {
    pub(super) nodes: Box<[Node]>,
    pub(super) text: Box<str>,
}

/// A part. An object's members stand after it, each as a text, its name, and a value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Node {
    Null,
    Bool(bool),
    Number(Number),
    Text(Span),
    Array(Group),
    Object(Group),
}

/// A place in the text.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Span {
    pub(super) start: u32,
    pub(super) end: u32,
}

/// What belongs to a list or an object.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Group {
    /// How many items or members there are.
    pub(super) len: u32,
    /// The number of the first node behind it.
    pub(super) end: u32,
}

impl Compact {
    pub(crate) fn root(&self) -> View<'_> {
        self.view(0)
    }

    /// More bytes than it can take as JSON: each byte of a text six, each part a number's.
    pub(crate) fn max_json_bytes(&self) -> usize {
        const PART: usize = 32;
        6 * self.text.len() + PART * self.nodes.len()
    }

    pub(super) fn view(&self, at: usize) -> View<'_> {
        match self.nodes[at] {
            Node::Null => View::Null,
            Node::Bool(b) => View::Bool(b),
            Node::Number(n) => View::Number(n),
            Node::Text(span) => View::Text(self.text(span)),
            Node::Array(group) => View::Array(Items::compact(self, at, group.len)),
            Node::Object(group) => View::Object(Members::compact(self, at, group.len)),
        }
    }

    /// The name of the member that begins at a node.
    pub(super) fn name(&self, at: usize) -> &str {
        match self.nodes[at] {
            Node::Text(span) => self.text(span),
            _ => "",
        }
    }

    /// The number of the first node behind a value.
    pub(super) fn behind(&self, at: usize) -> usize {
        behind(&self.nodes, at)
    }

    fn text(&self, span: Span) -> &str {
        &self.text[span.start as usize..span.end as usize]
    }
}

pub(super) fn behind(nodes: &[Node], at: usize) -> usize {
    match nodes[at] {
        Node::Array(group) | Node::Object(group) => group.end as usize,
        _ => at + 1,
    }
}
