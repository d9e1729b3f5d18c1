//! Places of threds that never came to be.

use std::collections::HashSet;

use thredlib::{PatternId, ThredId};

use super::{Engine, Stopped};

/// Places that are looked at at one time.
const PAGE: usize = 1_000;

/// Places whose threds were missing when they were last looked at.
#[derive(Debug, Default)]
pub(super) struct Orphans(HashSet<(PatternId, ThredId)>);

impl Engine {
    /// Frees the places of threds that do not live, if they did not the last time either: whoever
    /// took the place died before the thred was committed, and the event has not come again. A
    /// place that was taken just now belongs to a commit under way.
    pub(super) async fn free_orphans(&self, orphans: &mut Orphans) -> Result<(), Stopped> {
        let library = self.library();
        let mut missing = HashSet::new();
        for pattern in library.all().filter(|pattern| pattern.is_limited()) {
            let id = &pattern.key.id;
            let mut after: Option<ThredId> = None;
            loop {
                let taken =
                    self.insist(|| self.storage().reserved(id, after.as_ref(), PAGE)).await?;
                let threds = self.insist(|| self.storage().load(&taken)).await?;
                after = taken.last().cloned();
                let is_last = taken.len() < PAGE;
                let dead = taken.into_iter().zip(threds).filter(|(_, thred)| {
                    thred.as_ref().is_none_or(|loaded| !loaded.state.status.is_live())
                });
                missing.extend(dead.map(|(thred, _)| (id.clone(), thred)));
                if is_last {
                    break;
                }
            }
        }
        let freed: Vec<_> = missing.intersection(&orphans.0).cloned().collect();
        if !freed.is_empty() {
            tracing::info!(count = freed.len(), "freed places that no thred took");
            self.insist(|| self.storage().release(&freed)).await?;
        }
        orphans.0 = missing;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{port::Reservation, testing::Bed};
    use thredlib::{ConditionBuilder, PatternBuilder, ReactionBuilder};

    #[tokio::test]
    async fn a_place_without_a_thred_is_freed_at_the_second_look() {
        let condition = ConditionBuilder::filter("$event.type = 'start'");
        let pattern = PatternBuilder::new("one")
            .max_instances(1)
            .reaction(ReactionBuilder::new("only").condition(condition))
            .build();
        let bed = Bed::new([pattern]).await.unwrap();
        let (engine, id) = (bed.engine(), PatternId::from("one"));
        let place = Reservation {
            pattern: id.clone(),
            thred: "lost".into(),
            max_instances: 1,
            interval: 0,
            now: 0,
        };
        engine.storage().reserve(&place).await.unwrap();
        let mut orphans = Orphans::default();
        engine.free_orphans(&mut orphans).await.unwrap();
        assert_eq!(engine.storage().reserved(&id, None, 10).await.unwrap().len(), 1);
        engine.free_orphans(&mut orphans).await.unwrap();
        assert!(engine.storage().reserved(&id, None, 10).await.unwrap().is_empty());
    }
}
