//! Dead letters: a stream beside the items.

use futures::future::join_all;
use redis::Value;
use serde::de::DeserializeOwned;
use thredcore::port::{DeadLetter, DeadLetterFilter};

use super::{
    items::Items,
    reply::{EntryId, entries},
    scripts::REDRIVE,
};
use crate::{Connection, Error, Request};

/// How many dead letters are read or moved at once.
const PAGE: usize = 500;

/// The dead letters of one partition or topic. Its label begins their ids.
#[derive(Debug)]
pub(super) struct Letters<'a>(pub(super) &'a Items);

/// A letter and its place among all.
pub(super) struct Found<T> {
    /// Microseconds since the Unix epoch.
    at: i64,
    /// Which of the places it is at.
    place: usize,
    id: EntryId,
    pub(super) letter: DeadLetter<T>,
}

/// The letters that are meant, oldest first.
pub(super) async fn list<T: DeserializeOwned>(
    connection: &Connection,
    places: &[Letters<'_>],
    filter: &DeadLetterFilter,
) -> Result<Vec<Found<T>>, Error> {
    let lists =
        places.iter().enumerate().map(|(number, place)| place.list(connection, number, filter));
    let mut all = vec![];
    for list in join_all(lists).await {
        all.extend(list?);
    }
    all.sort_by_key(|found| (found.at, found.place, found.id));
    all.truncate(filter.limit.unwrap_or(usize::MAX));
    Ok(all)
}

/// Puts letters into their queues again, or just removes them; says how many there were.
pub(super) async fn remove<T>(
    connection: &Connection,
    places: &[Letters<'_>],
    found: &[Found<T>],
    redrive: bool,
) -> Result<usize, Error> {
    let moves = places.iter().enumerate().map(|(number, place)| async move {
        let ids: Vec<_> = found.iter().filter(|it| it.place == number).map(|it| it.id).collect();
        let mut count = 0;
        for ids in ids.chunks(PAGE) {
            let mut request = match redrive {
                true => {
                    let Items { items, order, waiting, last, dead, .. } = place.0;
                    let keys = [&**items, order, waiting, last, dead];
                    Request::script(&place.0.tag, &REDRIVE, &keys).arg(&place.0.label)
                }
                false => {
                    let mut command = redis::cmd("XDEL");
                    command.arg(&place.0.dead);
                    Request::write(&place.0.tag, command)
                }
            };
            ids.iter().for_each(|id| request.push(id.to_string()));
            count += connection.ask::<usize>(request).await?;
        }
        Ok(count)
    });
    join_all(moves).await.into_iter().sum()
}

impl Letters<'_> {
    async fn list<T: DeserializeOwned>(
        &self,
        connection: &Connection,
        place: usize,
        filter: &DeadLetterFilter,
    ) -> Result<Vec<Found<T>>, Error> {
        let mut all = vec![];
        if !self.is_meant(filter) {
            return Ok(all);
        }
        let mut from = "-".to_owned();
        let limit = filter.limit.unwrap_or(usize::MAX);
        while all.len() < limit {
            let mut command = redis::cmd("XRANGE");
            command.arg(&self.0.dead).arg(&from).arg("+").arg("COUNT").arg(PAGE);
            let value: Value = connection.ask(Request::read(&self.0.tag, command)).await?;
            let page = entries(value)?;
            let Some(last) = page.last() else { break };
            from = format!("({}", last.id);
            for entry in &page {
                let payload = match entry.item() {
                    Ok(payload) => payload,
                    Err(error) => {
                        tracing::warn!(%error, stream = self.0.dead, "a dead letter is not listed");
                        continue;
                    }
                };
                let at: i64 = entry.text("at").parse().unwrap_or(0);
                let letter = DeadLetter {
                    id: format!("{}/{}", self.0.label, entry.id),
                    payload,
                    reason: entry.text("reason"),
                    at: at / 1000,
                    attempts: entry.text("attempts").parse().unwrap_or(0),
                };
                if filter.matches(&letter) {
                    all.push(Found { at, place, id: entry.id, letter });
                }
            }
        }
        Ok(all)
    }

    /// Whether one of its letters can be meant.
    fn is_meant(&self, filter: &DeadLetterFilter) -> bool {
        let own = |id: &String| id.rsplit_once('/').is_some_and(|(label, _)| label == self.0.label);
        filter.ids.as_ref().is_none_or(|ids| ids.iter().any(own))
    }
}
