//! Where in a JSON text each value and key stands.

use std::{
    collections::{HashMap, HashSet},
    ops::Range,
};

use thredlib::validate::JsonPath;

/// A value's place in the text, in bytes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Span {
    /// The key with its quotes, for a value in an object.
    pub(crate) key: Option<Range<usize>>,
    pub(crate) value: Range<usize>,
}

/// The places of all values of a JSON text.
#[derive(Debug, Default)]
pub(crate) struct Spans {
    by_path: HashMap<String, Span>,
    /// Keys that stand in their object a second time, where only the last one counts.
    pub(crate) repeated: Vec<(JsonPath, Range<usize>)>,
}

impl Spans {
    /// Scans a text that is known to be JSON.
    pub(crate) fn of(text: &str) -> Self {
        let mut scan = Scan { text, at: 0, spans: Self::default() };
        scan.value(&JsonPath::root(), None);
        scan.spans
    }

    pub(crate) fn get(&self, path: &JsonPath) -> Option<&Span> {
        self.by_path.get(path.as_str())
    }
}

struct Scan<'t> {
    text: &'t str,
    at: usize,
    spans: Spans,
}

impl Scan<'_> {
    fn value(&mut self, path: &JsonPath, key: Option<Range<usize>>) {
        self.space();
        let start = self.at;
        match self.peek() {
            Some(b'{') => self.object(path),
            Some(b'[') => self.array(path),
            Some(b'"') => self.string(),
            _ => self.scalar(),
        }
        let span = Span { key, value: start..self.at };
        self.spans.by_path.insert(path.as_str().to_owned(), span);
    }

    fn object(&mut self, path: &JsonPath) {
        self.at += 1;
        let mut names = HashSet::new();
        loop {
            self.space();
            if self.peek() != Some(b'"') {
                self.at += 1;
                return;
            }
            let start = self.at;
            self.string();
            let key = start..self.at;
            let name: String = serde_json::from_str(&self.text[key.clone()]).unwrap_or_default();
            let child = path.key(&name);
            if !names.insert(name) {
                self.spans.repeated.push((child.clone(), key.clone()));
            }
            self.space();
            self.at += 1;
            self.value(&child, Some(key));
            self.space();
            if self.peek() == Some(b',') {
                self.at += 1;
            }
        }
    }

    fn array(&mut self, path: &JsonPath) {
        self.at += 1;
        for index in 0.. {
            self.space();
            match self.peek() {
                Some(b']') | None => break,
                _ => self.value(&path.index(index), None),
            }
            self.space();
            if self.peek() == Some(b',') {
                self.at += 1;
            }
        }
        self.at += 1;
    }

    fn string(&mut self) {
        self.at += 1;
        while let Some(byte) = self.peek() {
            self.at += if byte == b'\\' { 2 } else { 1 };
            if byte == b'"' {
                return;
            }
        }
    }

    fn scalar(&mut self) {
        while self.peek().is_some_and(|byte| !b",]} \t\r\n".contains(&byte)) {
            self.at += 1;
        }
    }

    fn space(&mut self) {
        while self.peek().is_some_and(|byte| b" \t\r\n".contains(&byte)) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_keys_and_escapes() {
        let text =
            r#" { "a" : [ 1 , {"b\"é\u0041" : "x\\" } , [] , -1.5e3 ] , "": null, "o": {} } "#;
        let spans = Spans::of(text);
        let root = JsonPath::root();
        let value = |path: &JsonPath| &text[spans.get(path).unwrap().value.clone()];
        let key = |path: &JsonPath| &text[spans.get(path).unwrap().key.clone().unwrap()];
        let a = root.key("a");
        assert_eq!(value(&a.index(0)), "1");
        assert_eq!(value(&a.index(1)), r#"{"b\"é\u0041" : "x\\" }"#);
        assert_eq!(value(&a.index(1).key("b\"éA")), r#""x\\""#);
        assert_eq!(key(&a.index(1).key("b\"éA")), r#""b\"é\u0041""#);
        assert_eq!((value(&a.index(2)), value(&a.index(3))), ("[]", "-1.5e3"));
        assert_eq!((value(&root.key("")), value(&root.key("o"))), ("null", "{}"));
        assert_eq!(value(&root), text.trim());
    }

    #[test]
    fn repeated_keys() {
        let text = r#"{"a": {"b": 1}, "a": {"b": 2}}"#;
        let spans = Spans::of(text);
        assert_eq!(spans.repeated, [(JsonPath::root().key("a"), 16..19)]);
        assert_eq!(spans.get(&JsonPath::root().key("a")).unwrap().value, 21..29);
    }
}
