//! Striking off what has been dealt with from the lists in threds' documents.

use mongodb::bson::{Bson, Document, doc, oid::ObjectId};
use thredcore::port::PortError;

use crate::{
    archive::chunks,
    connection::{Mongo, Write},
    documents::{THREDS, literal},
};

/// Items of a list in a thred's document that have been dealt with: entries of the outbox, or steps
/// of the past. The events that nothing refers to any more go with them.
pub(super) struct Struck<'a> {
    id: &'a str,
    field: &'static str,
    /// The field of the items that tells them apart, and its values.
    key: &'static str,
    values: Vec<Bson>,
    /// The field that is there while the list holds something.
    time: &'static str,
    /// The new time of a list that still holds something.
    left: Bson,
    /// What must hold for the quick statement, and what it does about the events.
    quick: (Document, Document),
    /// Some of the entries have been parked.
    parks: bool,
}

impl<'a> Struck<'a> {
    /// Entries of an outbox.
    pub(super) fn entries(id: &'a str, values: Vec<Bson>, parks: bool) -> Self {
        let left = doc! { "$min": "$outbox.at" }.into();
        // As long as steps wait, they refer to the events; whoever strikes those off removes both.
        let steps = doc! { "past.0": { "$exists": true }, "parked": { "$exists": false } };
        let quick = (steps, Document::new());
        Self { id, field: "outbox", key: "id", values, time: "oldest", left, quick, parks }
    }

    /// Steps that are archived. What is left waits since `now`.
    pub(super) fn steps(id: &'a str, values: Vec<Bson>, now: i64) -> Self {
        let empty = doc! { "outbox.0": { "$exists": false } };
        let quick = (empty, doc! { "events": [] });
        let left = now.into();
        Self { id, field: "past", key: "v", values, time: "unfiled", left, quick, parks: false }
    }

    /// The statement for a list that holds nothing else, which costs MongoDB less than the one for any
    /// list. The index is named, or MongoDB would try others each time.
    fn quick(&self) -> Document {
        let Self { id, field, key, values, time, quick, .. } = self;
        let other = doc! { "$elemMatch": { *key: { "$nin": values.clone() } } };
        let mut all = doc! {
            "_id": id, *time: { "$exists": true }, *field: { "$not": other },
        };
        all.extend(quick.0.clone());
        let mut set = doc! { *field: [] };
        set.extend(quick.1.clone());
        doc! { "q": all, "u": { "$set": set, "$unset": { *time: "" } }, "hint": "_id_" }
    }

    fn thorough(&self) -> Document {
        let Self { id, field, key, values, time, left, .. } = self;
        let list = format!("${field}");
        let struck = doc! { "$in": [format!("$$this.{key}"), literal(values.clone())] };
        let kept = doc! { "input": &list, "cond": { "$not": struck } };
        let none = doc! { "$eq": [{ "$size": &list }, 0] };
        let or_none = |list: &str| doc! { "$ifNull": [list, []] };
        let told = doc! { "$or": [
            { "$in": ["$$this.v", or_none("$past.v")] },
            { "$in": ["$$this.k", or_none("$outbox.e")] },
        ] };
        let events = doc! { "input": or_none("$events"), "cond": told };
        let mut change = vec![
            doc! { "$set": { *field: { "$filter": kept } } },
            doc! { "$set": {
                *time: { "$cond": [none, "$$REMOVE", left.clone()] },
                "events": { "$filter": events },
            } },
        ];
        if self.parks {
            change.push(doc! { "$set": { "parked": ObjectId::new() } });
        }
        // What is no list cannot be read, and is left alone.
        let any = doc! { "_id": id, *time: { "$exists": true }, *field: { "$type": "array" } };
        doc! { "q": any, "u": change, "hint": "_id_" }
    }
}

/// Removes items; what is not there is ignored. Says whether the quick way did for all of them.
pub(super) async fn strike_off(
    mongo: &Mongo,
    operation: &'static str,
    struck: Vec<Struck<'_>>,
) -> Result<bool, PortError> {
    let quick = struck.iter().filter(|it| !it.parks).map(Struck::quick).collect();
    let mut count = 0;
    for statements in chunks(quick) {
        let written = mongo.write(operation, THREDS, Write::Update, statements).await?;
        count += written.count;
        written.all(operation)?;
    }
    if count == struck.len() {
        return Ok(true);
    }
    let thorough = struck.iter().map(Struck::thorough).collect();
    for statements in chunks(thorough) {
        let written = mongo.write(operation, THREDS, Write::Update, statements).await?;
        written.all(operation)?;
    }
    Ok(false)
}
