//! How large documents are, before they are sent.

use mongodb::bson::{Bson, Document};

/// The bytes of a document in BSON; of rare types a little more than they take.
pub(crate) fn bytes_of(document: &Document) -> usize {
    let fields = document.iter().map(|(name, value)| 2 + name.len() + value_bytes(value));
    5 + fields.sum::<usize>()
}

fn value_bytes(value: &Bson) -> usize {
    match value {
        Bson::String(text) => 5 + text.len(),
        Bson::Document(document) => bytes_of(document),
        Bson::Array(items) => {
            let digits = |place: usize| place.checked_ilog10().unwrap_or_default() as usize + 1;
            let items = items.iter().enumerate();
            5 + items.map(|(n, item)| 2 + digits(n) + value_bytes(item)).sum::<usize>()
        }
        Bson::Binary(binary) => 5 + binary.bytes.len(),
        Bson::Null | Bson::Undefined | Bson::MinKey | Bson::MaxKey => 0,
        Bson::Boolean(_) => 1,
        Bson::Int32(_) => 4,
        Bson::Int64(_) | Bson::Double(_) | Bson::DateTime(_) | Bson::Timestamp(_) => 8,
        Bson::ObjectId(_) => 12,
        Bson::RegularExpression(regex) => {
            2 + regex.pattern.as_str().len() + regex.options.as_str().len()
        }
        _ => 16,
    }
}

#[cfg(test)]
mod tests {
    use mongodb::bson::{Binary, doc, oid::ObjectId, serialize_to_vec, spec::BinarySubtype};

    use super::*;

    #[test]
    fn a_document_is_as_large_as_it_is_said_to_be() {
        let binary = Binary { subtype: BinarySubtype::Generic, bytes: vec![7; 22] };
        let numbers: Vec<i32> = (0..1_234).collect();
        let document = doc! {
            "text": "Grüße", "empty": "", "list": numbers, "nested": { "a": [{ "b": 1_i64 }, 0.5] },
            "binary": binary, "id": ObjectId::new(), "none": Bson::Null, "yes": true,
        };
        let written = serialize_to_vec(&document).expect("a document");
        assert_eq!(bytes_of(&document), written.len());
    }
}
