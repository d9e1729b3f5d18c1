//! Pages of threds, live and archived ones together.

use std::{collections::BTreeMap, sync::Arc};

use mongodb::bson::{Document, doc};
use thredcore::{
    port::{PortError, ThredPage, ThredQuery},
    state::{Status, ThredState},
};

use crate::{
    connection::Mongo,
    documents::{StateDocument, signed},
};

/// One page out of several collections; a thred that stands in two is taken from the first.
pub(crate) async fn find_threds(
    mongo: &Mongo,
    collections: &[&str],
    query: &ThredQuery,
) -> Result<ThredPage, PortError> {
    let filter = filter(query)?;
    let one_more = signed(query.page_size() as u64).saturating_add(1);
    let mut found: BTreeMap<(i64, String), Arc<ThredState>> = BTreeMap::new();
    for name in collections {
        let threds = mongo.collection::<StateDocument>(name);
        let find = threds.find(filter.clone()).sort(doc! { "started": 1, "_id": 1 });
        let find = find.projection(doc! { "state": 1, "inbox": 1 });
        let find = find.limit(one_more).batch_size(1_000);
        for thred in mongo.all("query threds", find).await? {
            let state = thred.state()?;
            found.entry((state.started_at, thred.id)).or_insert_with(|| Arc::new(state));
        }
    }
    Ok(ThredPage::of(query, found.into_values()))
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
    if let Some((started, id)) = query.start()? {
        let later = doc! { "started": { "$gt": started } };
        let beside = doc! { "started": started, "_id": { "$gt": id } };
        // The first part is implied, but lets the index begin where the page does.
        all.push(doc! { "started": { "$gte": started } });
        all.push(doc! { "$or": [later, beside] });
    }
    Ok(doc! { "$and": all })
}
