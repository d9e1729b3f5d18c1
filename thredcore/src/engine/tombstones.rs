//! Ended threds are kept until nothing that they have consumed can come again.

use std::collections::HashMap;

use futures::future::try_join_all;

use super::{Engine, Stopped};

/// Ended threds of a partition that are looked at at one time.
const PAGE: usize = 1_000;

impl Engine {
    /// Forgets ended threds beyond the number that the storage keeps, if all of their inboxes has
    /// receipts or is too old to come again. `skipped` says how many of a partition were looked at
    /// before and must be kept; a partition is gone through from the front again when its end is
    /// reached.
    ///
    /// # Errors
    /// The engine is stopping.
    pub(super) async fn forget_ended(&self, skipped: &mut Skipped) -> Result<Found, Stopped> {
        let looks = (0..self.storage().partitions()).map(|partition| {
            let skip = skipped.0.get(&partition).copied().unwrap_or(0);
            async move {
                let ended = self.insist(|| self.storage().surplus(partition, skip, PAGE)).await?;
                let is_last = ended.len() < PAGE;
                let inboxes: Vec<_> =
                    ended.iter().flat_map(|it| it.inbox.iter().copied()).collect();
                let settled = self.settled_of(&inboxes, self.now()).await?;
                let settled: std::collections::HashSet<_> = settled.into_iter().collect();
                let found = match (is_last, ended.is_empty()) {
                    (false, _) => Found::More,
                    (true, false) => Found::Some,
                    (true, true) => Found::Nothing,
                };
                let (gone, kept): (Vec<_>, Vec<_>) = ended.into_iter().partition(|it| {
                    let mut inbox = it.inbox.iter().filter(|consumed| consumed.needs_receipt());
                    inbox.all(|consumed| settled.contains(&consumed.key))
                });
                let gone: Vec<_> = gone.into_iter().map(|it| it.thred).collect();
                if !gone.is_empty() {
                    self.insist(|| self.storage().forget(&gone)).await?;
                }
                let skip = if is_last { 0 } else { skip + kept.len() };
                Ok((partition, skip, found))
            }
        });
        let mut all = Found::Nothing;
        for (partition, skip, found) in try_join_all(looks).await? {
            skipped.0.insert(partition, skip);
            all = all.max(found);
        }
        Ok(all)
    }
}

/// What a look has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Found {
    /// No ended thred too many.
    Nothing,
    /// All there were have been looked at.
    Some,
    /// There are more.
    More,
}

/// How many ended threds of each partition are passed over.
#[derive(Debug, Default)]
pub(super) struct Skipped(HashMap<u16, usize>);
