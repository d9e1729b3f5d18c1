//! Pages of threds.

use std::{collections::VecDeque, sync::Arc};

use thredcore::{
    port::{PortError, ThredPage, ThredQuery},
    state::ThredState,
};

use super::{RedisStorage, record, script};
use crate::connection::Request;

script!(PAGE, "page.lua");

/// The most records that are read of a partition at once.
const AT_ONCE: usize = 256;

/// What is read of one partition, in the order of starts.
struct Lane {
    read: VecDeque<Arc<ThredState>>,
    /// Start and id of the last one read.
    after: Option<(i64, String)>,
    more: bool,
}

/// Gathers one page. Partitions are read in step, so that no more is read than can be on the page
/// by far; what a query filters out is read all the same.
pub(super) async fn page(
    storage: &RedisStorage,
    query: &ThredQuery,
) -> Result<ThredPage, PortError> {
    let after = query.start()?.map(|(start, id)| (start, id.to_owned()));
    let wanted = query.page_size().saturating_add(1);
    let lane = || Lane { read: VecDeque::new(), after: after.clone(), more: true };
    let mut lanes: Vec<Lane> = storage.0.partitions.iter().map(|_| lane()).collect();
    let mut threds: Vec<Arc<ThredState>> = vec![];
    while threds.len() < wanted {
        read_on(storage, &mut lanes, wanted).await?;
        fn first(lane: &Lane) -> Option<(i64, &str)> {
            lane.read.front().map(|state| ThredPage::place(state))
        }
        let lanes = lanes.iter_mut().filter(|lane| !lane.read.is_empty());
        let Some(lane) = lanes.min_by(|a, b| first(a).cmp(&first(b))) else { break };
        threds.extend(lane.read.pop_front().filter(|state| query.matches(state)));
    }
    Ok(ThredPage::of(query, threds))
}

/// Reads more of the partitions of which nothing is left that was read.
async fn read_on(
    storage: &RedisStorage,
    lanes: &mut [Lane],
    wanted: usize,
) -> Result<(), PortError> {
    while lanes.iter().any(|lane| lane.more && lane.read.is_empty()) {
        let dry = lanes.iter_mut().zip(&storage.0.partitions);
        let dry: Vec<_> = dry.filter(|(lane, _)| lane.more && lane.read.is_empty()).collect();
        let count = wanted.min(AT_ONCE);
        let request = |(lane, keys): &(&mut Lane, &crate::keys::PartitionKeys)| {
            let request =
                Request::asking_script(&keys.tag, &PAGE, &[&keys.started, &keys.threds]).arg(count);
            match &lane.after {
                Some((start, id)) => request.arg(*start).arg(id),
                None => request,
            }
        };
        let requests: Vec<_> = dry.iter().map(request).collect();
        let found: Vec<Vec<(String, String)>> = storage.all("query threds", &requests).await?;
        for ((lane, _), records) in dry.into_iter().zip(found) {
            lane.more = records.len() >= count;
            for (id, record) in records {
                let state =
                    record::state(id.into(), &record).map_err(|error| error.of("query threds"))?;
                let behind = |(start, id): &(i64, String)| ThredPage::place(&state) > (*start, id);
                if lane.after.as_ref().is_none_or(behind) {
                    lane.after = Some((state.started_at, state.id.to_string()));
                    lane.read.push_back(state);
                }
            }
            lane.more &= !lane.read.is_empty();
        }
    }
    Ok(())
}
