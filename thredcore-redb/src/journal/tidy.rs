//! What a group does beside its operations: forgetting what is old, gathering what is scattered.

use super::{group::Group, lock};
use crate::{
    error::RedbError,
    segments::{self, Body},
    shared::Head,
    storage::texts,
    tables::STATES,
};

impl Group<'_> {
    /// Forgets the threds that ended first, unless they have something left to publish.
    pub(super) fn retire(&mut self, limit: usize) {
        // More than came in, so that a jam of unpublished ones dissolves; but not without bound.
        let most = 2 * self.made.newly_ended.len() + 16;
        let excess = self.files.ended.len().saturating_sub(limit).min(most);
        let oldest: Vec<_> = self.files.ended.drain(..excess).collect();
        for id in oldest {
            let shard = lock(self.shared.shard(&id));
            let is_busy = shard.outboxes.contains_key(&id) || self.made.threds.contains_key(&id);
            let head = shard.heads.get(&id).copied();
            drop(shard);
            match head {
                _ if is_busy => self.files.ended.push_back(id),
                Some(head) => {
                    self.files.states.remove(head.place);
                    self.made.forgotten.push(id);
                }
                None => {}
            }
        }
    }

    /// Moves live threds out of segments that hold little else.
    pub(super) fn gather(&mut self) -> Result<(), RedbError> {
        let sparse = self.files.states.take_sparse();
        if sparse.is_empty() {
            return Ok(());
        }
        let table = self.txn.open_table(STATES.data)?;
        for (_, numbers) in sparse {
            let mut found = vec![];
            for number in numbers {
                let item = segments::read(&table, number, |step, body| {
                    texts::header(body).map(|header| (number, step, header, body.to_vec()))
                })?;
                found.extend(item.transpose()?);
            }
            // Those that ended will go soon by themselves.
            if !found.iter().any(|(.., header, _)| header.is_live) {
                continue;
            }
            for (number, step, header, body) in found {
                let place = self.files.states.next();
                let here = match self.made.threds.get_mut(&header.id) {
                    Some(changed) if changed.head.place == number => {
                        changed.head.place = place;
                        true
                    }
                    Some(_) => false,
                    None => {
                        let head =
                            lock(self.shared.shard(&header.id)).heads.get(&header.id).copied();
                        let here = head == Some(Head { place: number, step });
                        if here {
                            self.made.moved.push((header.id, place));
                        }
                        here
                    }
                };
                if here {
                    self.files.states.remove(number);
                    self.files.states.push(place, step, Body::new(body), true);
                }
            }
        }
        Ok(())
    }
}
