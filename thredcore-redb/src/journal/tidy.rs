//! What a group does beside its operations: gathering what is scattered.

use super::group::Group;
use crate::{
    error::RedbError,
    index::Place,
    segments::{self, Body},
    storage::texts,
    tables::STATES,
};

impl Group<'_> {
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
                    // What cannot be read stays where it is.
                    let header = texts::header(body).ok()?;
                    Some((number, step, header, body.to_vec()))
                })?;
                found.extend(item.flatten());
            }
            // Those that ended will go soon by themselves.
            if !found.iter().any(|(.., header, _)| header.status.is_live()) {
                continue;
            }
            for (number, step, header, body) in found {
                let place = self.files.states.next();
                let here = match self.made.threds.get_mut(&header.id) {
                    Some(changed) if changed.at.state == number => {
                        changed.at.state = place;
                        true
                    }
                    Some(_) => false,
                    None => {
                        let head = self.shared.shard(&header.id).lock().index.head(&header.id);
                        let is_forgotten = self.made.forgotten.contains_key(&header.id);
                        let here = !is_forgotten
                            && head.is_some_and(|it| it.at == Place { state: number, step });
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
