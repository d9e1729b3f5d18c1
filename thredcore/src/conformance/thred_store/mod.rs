//! What [`ThredStore`](crate::port::ThredStore) promises.

mod commits;
mod ended;
mod outboxes;
mod parked;
mod queries;
mod timers;
mod waiting;

pub use commits::*;
pub use ended::*;
pub use outboxes::*;
pub use parked::*;
pub use queries::*;
pub use timers::*;
pub use waiting::*;

use std::collections::BTreeSet;

use super::{
    Fixture,
    samples::{thred, wait_keys},
};
use crate::{
    port::{Storage, Timer},
    state::ThredState,
};

type Store = Fixture<dyn Storage>;

/// Ids of threds that belong to one partition.
fn of_one_partition(partitions: u16, count: usize) -> Vec<String> {
    let ids = (0..).map(|number: u32| format!("thred {number}"));
    let first = ThredState::partition(&"thred 0".into(), partitions);
    ids.filter(|id| ThredState::partition(&id.as_str().into(), partitions) == first)
        .take(count)
        .collect()
}

fn expiring(id: &str, at: i64) -> ThredState {
    ThredState { expires_at: Some(at), ..thred(id) }
}

/// The due timers of all partitions, sorted.
async fn due(storage: &dyn Storage, at: i64) -> Vec<Timer> {
    let mut timers = vec![];
    for partition in 0..storage.partitions() {
        let due = storage.due(partition, at, None, 9999).await.expect("due");
        assert!(due.timers.is_sorted_by_key(|timer| timer.at), "earliest first");
        for timer in &due.timers {
            let home = ThredState::partition(&timer.thred_id, storage.partitions());
            assert_eq!(home, partition, "a timer of another partition");
        }
        timers.extend(due.timers);
    }
    timers.sort();
    timers
}

/// The threds of all partitions that wait under any of some keys.
async fn waiting(storage: &dyn Storage, keys: &[&str]) -> BTreeSet<String> {
    let found = storage.waiting(&wait_keys(keys), None, 9999).await.expect("waiting");
    assert!(found.is_sorted(), "sorted by id: {found:?}");
    let threds: BTreeSet<_> = found.iter().map(ToString::to_string).collect();
    assert_eq!(threds.len(), found.len(), "one comes twice: {found:?}");
    threds
}

fn set(ids: &[&str]) -> BTreeSet<String> {
    ids.iter().map(ToString::to_string).collect()
}
