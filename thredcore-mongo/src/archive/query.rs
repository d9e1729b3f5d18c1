//! Pages of threds, live and archived ones together.

use std::{collections::BTreeMap, sync::Arc};

use mongodb::{
    bson::{Document, RawDocumentBuf, doc},
    options::Hint,
};
use thredcore::{
    port::{PortError, ThredPage, ThredQuery},
    state::{Status, ThredState},
};

use crate::{
    connection::Mongo,
    documents::{StateDocument, THREDS, binary, signed},
};

/// One page out of several collections; a thred that stands in two is taken from the first.
pub(crate) async fn find_threds(
    mongo: &Mongo,
    collections: &[&str],
    query: &ThredQuery,
) -> Result<ThredPage, PortError> {
    let filter = filter(query)?;
    let one_more = query.page_size().saturating_add(1);
    let mut found: BTreeMap<(i64, String), Arc<ThredState>> = BTreeMap::new();
    for name in collections {
        let threds = mongo.collection::<RawDocumentBuf>(name);
        let (mut count, mut passed) = (0, 0);
        loop {
            let find = threds.find(filter.clone()).sort(doc! { "started": 1, "_id": 1 });
            let find = find.projection(StateDocument::fields()).allow_disk_use(true);
            let wanted = one_more - count;
            let mut find = find.skip(passed as u64).limit(signed(wanted as u64)).batch_size(1_000);
            if let Some(index) = index(name, query) {
                find = find.hint(Hint::Keys(index));
            }
            let read = |thred: StateDocument| Ok(Arc::new(thred.state()?));
            let (states, seen) =
                mongo.read_some("query threds", name, find, usize::MAX, read).await?;
            count += states.len();
            passed += seen;
            for state in states {
                let place = (state.started_at, state.id.as_str().to_owned());
                found.entry(place).or_insert(state);
            }
            // In place of those that cannot be read, others are wanted.
            if count >= one_more || seen < wanted {
                break;
            }
        }
    }
    Ok(ThredPage::of(query, found.into_values()))
}

/// The index that leaves least to look at; `None` where the order of the pages is the best one.
fn index(collection: &str, query: &ThredQuery) -> Option<Document> {
    let live = collection == THREDS;
    if query.key.is_some() && live {
        Some(doc! { "waits": 1, "_id": 1 })
    } else if query.participant.is_some() {
        Some(doc! { "participants": 1, "started": 1, "_id": 1 })
    } else if query.pattern.is_some() && query.reaction.is_some() && live {
        Some(crate::storage::kinds())
    } else if query.pattern.is_some() {
        Some(doc! { "pattern": 1, "started": 1, "_id": 1 })
    } else {
        None
    }
}

fn filter(query: &ThredQuery) -> Result<Document, PortError> {
    let status = match &*query.status {
        [] => &[Status::Active, Status::Finished],
        any => any,
    };
    let words: Vec<_> = status.iter().map(|status| status.as_str()).collect();
    let mut all = vec![doc! { "status": { "$in": words } }];
    if let Some(pattern) = &query.pattern {
        all.push(doc! { "pattern": { "$eq": pattern.as_str() } });
    }
    if let Some(participant) = &query.participant {
        all.push(doc! { "participants": { "$eq": participant.as_str() } });
    }
    if let Some(reaction) = &query.reaction {
        all.push(doc! { "reaction": { "$eq": &**reaction } });
    }
    if let Some(key) = &query.key {
        all.push(doc! { "waits": { "$eq": binary(key.as_bytes()) } });
    }
    for (field, operator, bound) in [
        ("started", "$gte", query.started_from),
        ("started", "$lt", query.started_before),
        ("modified", "$gte", query.modified_from),
        ("modified", "$lt", query.modified_before),
    ] {
        all.extend(bound.map(|bound| doc! { field: { operator: bound } }));
    }
    if let Some((started, id)) = query.start()? {
        let later = doc! { "started": { "$gt": started } };
        let beside = doc! { "started": started, "_id": { "$gt": id } };
        // The first part is implied, but lets the index begin where the page does.
        all.push(doc! { "started": { "$gte": started } });
        all.push(doc! { "$or": [later, beside] });
    }
    Ok(doc! { "$and": all })
}
