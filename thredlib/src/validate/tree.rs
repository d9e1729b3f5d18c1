//! A pattern as the checks see it: the raw document with the parts that make sense picked out, so
//! that one mistake does not hide the others.

use serde_json::Value;

use super::JsonPath;
use crate::{ConditionType, ExpressionLanguage};

/// A place in the document.
#[derive(Clone, Debug)]
pub(super) struct Node<'v> {
    pub(super) path: JsonPath,
    pub(super) value: &'v Value,
}

impl<'v> Node<'v> {
    /// The value under a key; none when there is none or it is null.
    pub(super) fn get(&self, key: &str) -> Option<Self> {
        let value = self.value.get(key).filter(|value| !value.is_null())?;
        Some(Self { path: self.path.key(key), value })
    }

    /// The text under a key.
    pub(super) fn text(&self, key: &str) -> Option<&'v str> {
        self.value.get(key)?.as_str()
    }

    /// The expression that this is: where its text stands, the language that it is in, and the text.
    pub(super) fn expression(
        &self,
        usual: ExpressionLanguage,
    ) -> Option<(JsonPath, ExpressionLanguage, &'v str)> {
        if let Some(text) = self.value.as_str() {
            return Some((self.path.clone(), usual, text));
        }
        let named =
            [("jsonpath", ExpressionLanguage::Jsonpath), ("jsonata", ExpressionLanguage::Jsonata)];
        named
            .into_iter()
            .find_map(|(key, language)| Some((self.path.key(key), language, self.text(key)?)))
    }

    /// The items when this is a list.
    pub(super) fn items(&self) -> impl Iterator<Item = Node<'v>> {
        let items = self.value.as_array().into_iter().flatten().enumerate();
        items.map(|(index, value)| Node { path: self.path.index(index), value })
    }

    /// The items when this is a list, or else this.
    pub(super) fn one_or_many(&self) -> Vec<Node<'v>> {
        if self.value.is_array() { self.items().collect() } else { vec![self.clone()] }
    }

    /// The fields when this is an object.
    pub(super) fn fields(&self) -> impl Iterator<Item = (&'v str, Node<'v>)> {
        let fields = self.value.as_object().into_iter().flatten();
        fields.map(|(key, value)| (key.as_str(), Node { path: self.path.key(key), value }))
    }
}

#[derive(Debug)]
pub(super) struct Pattern<'v> {
    pub(super) node: Node<'v>,
    pub(super) language: ExpressionLanguage,
    pub(super) reactions: Vec<Reaction<'v>>,
}

#[derive(Debug)]
pub(super) struct Reaction<'v> {
    pub(super) index: usize,
    pub(super) node: Node<'v>,
    /// As written, or `{pattern name}_{index}`.
    pub(super) name: String,
    pub(super) condition: Option<Condition<'v>>,
}

#[derive(Debug)]
pub(super) struct Condition<'v> {
    pub(super) node: Node<'v>,
    pub(super) kind: Option<ConditionType>,
    /// Of an `and` or `or`; a filter's are never looked at.
    pub(super) operands: Vec<Condition<'v>>,
    pub(super) transform: Option<Node<'v>>,
    pub(super) publish: Option<Node<'v>>,
    pub(super) transition: Option<Node<'v>>,
    pub(super) spawn: Option<Node<'v>>,
    /// Whether it stands somewhere below an `and`, where directives never apply.
    pub(super) below_and: bool,
}

impl<'v> Pattern<'v> {
    pub(super) fn new(document: &'v Value) -> Self {
        let node = Node { path: JsonPath::root(), value: document };
        let language = match node.text("expressionLanguage") {
            Some("jsonpath") => ExpressionLanguage::Jsonpath,
            _ => ExpressionLanguage::Jsonata,
        };
        let name = node.text("name").unwrap_or_default();
        let reactions = node.get("reactions").into_iter().flat_map(|list| {
            list.items().collect::<Vec<_>>().into_iter().enumerate().map(|(index, node)| {
                let own = node.text("name").filter(|name| !name.is_empty());
                let name = own.map_or_else(|| format!("{name}_{index}"), str::to_owned);
                let condition = node.get("condition").map(|node| Condition::new(node, false));
                Reaction { index, node, name, condition }
            })
        });
        let reactions = reactions.collect();
        Self { node, language, reactions }
    }

    /// The names of all reactions.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.reactions.iter().map(|reaction| reaction.name.as_str())
    }

    /// All conditions with their reactions, each before its operands.
    pub(super) fn conditions(&self) -> Vec<(&Reaction<'v>, &Condition<'v>)> {
        let mut all = Vec::new();
        for reaction in &self.reactions {
            let mut open: Vec<&Condition> = reaction.condition.iter().collect();
            while let Some(condition) = open.pop() {
                all.push((reaction, condition));
                open.extend(condition.operands.iter().rev());
            }
        }
        all
    }
}

impl<'v> Condition<'v> {
    /// How many conditions it is made of.
    pub(super) fn size(&self) -> usize {
        1 + self.operands.iter().map(Self::size).sum::<usize>()
    }

    fn new(node: Node<'v>, below_and: bool) -> Self {
        let kind = match node.text("type") {
            Some("filter") => Some(ConditionType::Filter),
            Some("and") => Some(ConditionType::And),
            Some("or") => Some(ConditionType::Or),
            _ => None,
        };
        let below = below_and || kind == Some(ConditionType::And);
        let operands = match kind {
            Some(ConditionType::Filter) => None,
            _ => node.get("operands"),
        };
        let operands = operands
            .into_iter()
            .flat_map(|list| list.items().map(|node| Self::new(node, below)).collect::<Vec<_>>());
        Self {
            kind,
            operands: operands.collect(),
            transform: node.get("transform"),
            publish: node.get("publish"),
            transition: node.get("transition"),
            spawn: node.get("spawn"),
            below_and,
            node,
        }
    }
}
