//! Pages of threds, live and archived ones together.

use std::{collections::BTreeMap, sync::Arc};

use mongodb::bson::{Document, doc};
use thredcore::{
    port::{PortError, PortErrorKind, ThredPage, ThredQuery},
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
    let limit = match query.limit {
        0 => ThredQuery::DEFAULT_LIMIT,
        limit => limit,
    };
    let filter = filter(query)?;
    let one_more = signed(limit as u64).saturating_add(1);
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
    let more = found.len() > limit;
    let mut next = None;
    let mut threds = Vec::with_capacity(limit.min(found.len()));
    for ((started, id), state) in found.into_iter().take(limit) {
        next = Some(format!("{started}/{id}"));
        threds.push(state);
    }
    Ok(ThredPage { threds, next: next.filter(|_| more) })
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
    if let Some(after) = &query.after {
        let (started, id) = cursor(after)?;
        let later = doc! { "started": { "$gt": started } };
        let beside = doc! { "started": started, "_id": { "$gt": id } };
        // The first part is implied, but lets the index begin where the page does.
        all.push(doc! { "started": { "$gte": started } });
        all.push(doc! { "$or": [later, beside] });
    }
    Ok(doc! { "$and": all })
}

fn cursor(after: &str) -> Result<(i64, &str), PortError> {
    let parts = after.split_once('/');
    let parsed = parts.and_then(|(started, id)| Some((started.parse().ok()?, id)));
    parsed.ok_or_else(|| {
        let cause = "`after` is not what an earlier page gave as `next`";
        PortError::new("query threds", PortErrorKind::Rejected, cause)
    })
}
