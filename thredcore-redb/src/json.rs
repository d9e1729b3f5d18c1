//! JSON that can be read again.

use std::io;

use serde::{Serialize, de::DeserializeOwned};
use serde_json::ser::Formatter;

/// How deeply lists and objects may be nested: the reader stops at 128.
pub(crate) const MAX_DEPTH: usize = 127;

/// A value that cannot be stored: it has no JSON, or none that could be read again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unwritable {
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    #[error("nested {0} levels deep: more than {MAX_DEPTH} cannot be read again")]
    TooDeep(usize),
}

/// Appends the JSON of a value.
pub(crate) fn append(bytes: &mut Vec<u8>, value: &impl Serialize) -> Result<(), Unwritable> {
    let mut depth = Depth::default();
    let mut serializer =
        serde_json::Serializer::with_formatter(bytes, Measured { depth: &mut depth });
    value.serialize(&mut serializer)?;
    match depth.most {
        0..=MAX_DEPTH => Ok(()),
        most => Err(Unwritable::TooDeep(most)),
    }
}

/// The JSON of a value.
pub(crate) fn to_vec(value: &impl Serialize) -> Result<Vec<u8>, Unwritable> {
    let mut bytes = Vec::with_capacity(256);
    append(&mut bytes, value)?;
    Ok(bytes)
}

/// Reads a value.
pub(crate) fn read<T: DeserializeOwned>(text: &[u8]) -> Result<T, serde_json::Error> {
    serde_json::from_slice(text)
}

#[derive(Default)]
struct Depth {
    now: usize,
    most: usize,
}

/// Writes the shortest JSON, and measures how deep it goes.
struct Measured<'d> {
    depth: &'d mut Depth,
}

impl Measured<'_> {
    fn enter(&mut self) {
        self.depth.now += 1;
        self.depth.most = self.depth.most.max(self.depth.now);
    }
}

impl Formatter for Measured<'_> {
    fn begin_array<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.enter();
        writer.write_all(b"[")
    }

    fn end_array<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.depth.now -= 1;
        writer.write_all(b"]")
    }

    fn begin_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.enter();
        writer.write_all(b"{")
    }

    fn end_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.depth.now -= 1;
        writer.write_all(b"}")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn nested(levels: usize) -> Value {
        (1..levels).fold(json!([]), |inner, level| match level % 2 {
            0 => json!([inner]),
            _ => json!({ "k": inner }),
        })
    }

    #[test]
    fn what_is_written_can_be_read() {
        for levels in [1, 2, 50, MAX_DEPTH] {
            let text = to_vec(&nested(levels)).unwrap();
            assert_eq!(text, serde_json::to_vec(&nested(levels)).unwrap());
            assert_eq!(read::<Value>(&text).unwrap(), nested(levels));
        }
        let error = to_vec(&nested(MAX_DEPTH + 1)).unwrap_err();
        assert!(matches!(error, Unwritable::TooDeep(128)), "{error}");
        assert!(read::<Value>(&serde_json::to_vec(&nested(MAX_DEPTH + 1)).unwrap()).is_err());
    }
}
