//! Storages in front of other storages.

/// Implements parts of the storage port for a type by handing each call on to a field of it; what
/// the type does itself it implements by hand.
///
/// ```
/// use std::sync::Arc;
/// use thredcore::port::{Lease, LeaseStore, PortError, Storage};
///
/// /// Lets nobody have a lease.
/// struct Grudging {
///     storage: Arc<dyn Storage>,
/// }
///
/// thredcore::forward_store!(
///     ThredStore, RecordStore, LimitStore, PatternStore, Quarantine for Grudging => storage
/// );
///
/// #[async_trait::async_trait]
/// impl LeaseStore for Grudging {
///     async fn acquire(&self, _: &Lease, _: i64) -> Result<bool, PortError> {
///         Ok(false)
///     }
///
///     async fn give_back(&self, _: &str, _: &str) -> Result<(), PortError> {
///         Ok(())
///     }
///
///     async fn leases(&self, _: &str, _: i64) -> Result<Vec<Lease>, PortError> {
///         Ok(vec![])
///     }
/// }
///
/// fn storage(storage: Arc<dyn Storage>) -> Arc<dyn Storage> {
///     Arc::new(Grudging { storage })
/// }
/// ```
#[macro_export]
macro_rules! forward_store {
    ($($part:ident),+ for $type:ty => $field:ident) => {
        $($crate::forward_store!(@$part $type, $field);)+
    };
    (@ThredStore $type:ty, $field:ident) => {
        const _: () = {
            use $crate::port::forwarded::*;

            #[async_trait]
            impl ThredStore for $type {
                fn partitions(&self) -> u16 {
                    self.$field.partitions()
                }

                fn max_commit_bytes(&self) -> usize {
                    self.$field.max_commit_bytes()
                }

                async fn load(&self, ids: &[ThredId]) -> Answer<Vec<Option<Loaded>>> {
                    self.$field.load(ids).await
                }

                async fn commit(&self, commits: &[Arc<Commit>]) -> Vec<Answer<Committed>> {
                    self.$field.commit(commits).await
                }

                async fn clear_outbox(&self, cleared: &[Cleared]) -> Answer<()> {
                    self.$field.clear_outbox(cleared).await
                }

                async fn pending_outboxes(
                    &self,
                    partition: u16,
                    made_before: i64,
                    limit: usize,
                ) -> Answer<Vec<PendingOutbox>> {
                    self.$field.pending_outboxes(partition, made_before, limit).await
                }

                async fn parked_topics(&self) -> Answer<Vec<ParkedTopic>> {
                    self.$field.parked_topics().await
                }

                async fn parked_outboxes(
                    &self,
                    partition: u16,
                    topic: &Topic,
                    limit: usize,
                ) -> Answer<Vec<PendingOutbox>> {
                    self.$field.parked_outboxes(partition, topic, limit).await
                }

                async fn due(
                    &self,
                    partition: u16,
                    at: i64,
                    after: Option<&Timer>,
                    limit: usize,
                ) -> Answer<Due> {
                    self.$field.due(partition, at, after, limit).await
                }

                async fn threds(&self, query: &ThredQuery) -> Answer<ThredPage> {
                    self.$field.threds(query).await
                }

                async fn counts(&self) -> Answer<Vec<ThredCount>> {
                    self.$field.counts().await
                }

                async fn waiting(
                    &self,
                    keys: &[WaitKey],
                    after: Option<&ThredId>,
                    limit: usize,
                ) -> Answer<Vec<ThredId>> {
                    self.$field.waiting(keys, after, limit).await
                }

                async fn surplus(
                    &self,
                    partition: u16,
                    skip: usize,
                    limit: usize,
                ) -> Answer<Vec<Ended>> {
                    self.$field.surplus(partition, skip, limit).await
                }

                async fn forget(&self, threds: &[ThredId]) -> Answer<()> {
                    self.$field.forget(threds).await
                }
            }
        };
    };
    (@RecordStore $type:ty, $field:ident) => {
        const _: () = {
            use $crate::port::forwarded::*;

            #[async_trait]
            impl RecordStore for $type {
                async fn settle(&self, partition: u16, settlement: &Settlement) -> Answer<()> {
                    self.$field.settle(partition, settlement).await
                }

                async fn receipts(
                    &self,
                    partition: u16,
                    keys: &[EventKey],
                ) -> Answer<Vec<Option<Receipt>>> {
                    self.$field.receipts(partition, keys).await
                }

                async fn recorded(&self, keys: &[EventKey]) -> Answer<Vec<bool>> {
                    self.$field.recorded(keys).await
                }

                fn retention(&self) -> ReceiptRetention {
                    self.$field.retention()
                }

                async fn history(
                    &self,
                    thred: &ThredId,
                    before: Option<u64>,
                    limit: usize,
                ) -> Answer<Vec<History>> {
                    self.$field.history(thred, before, limit).await
                }

                async fn unmoved(&self, before: Option<&str>, limit: usize) -> Answer<UnmovedPage> {
                    self.$field.unmoved(before, limit).await
                }

                async fn log(&self, limit: usize) -> Answer<Vec<LogRecord>> {
                    self.$field.log(limit).await
                }
            }
        };
    };
    (@LimitStore $type:ty, $field:ident) => {
        const _: () = {
            use $crate::port::forwarded::*;

            #[async_trait]
            impl LimitStore for $type {
                async fn reserve(&self, reservation: &Reservation) -> Answer<Reserved> {
                    self.$field.reserve(reservation).await
                }

                async fn release(&self, places: &[(PatternId, ThredId)]) -> Answer<()> {
                    self.$field.release(places).await
                }

                async fn reserved(
                    &self,
                    pattern: &PatternId,
                    after: Option<&ThredId>,
                    limit: usize,
                ) -> Answer<Vec<ThredId>> {
                    self.$field.reserved(pattern, after, limit).await
                }
            }
        };
    };
    (@Quarantine $type:ty, $field:ident) => {
        const _: () = {
            use $crate::port::forwarded::*;

            #[async_trait]
            impl Quarantine for $type {
                async fn unreadable(&self, limit: usize) -> Answer<Vec<Unreadable>> {
                    self.$field.unreadable(limit).await
                }

                async fn move_out(&self, limit: usize) -> Answer<Vec<Unreadable>> {
                    self.$field.move_out(limit).await
                }
            }
        };
    };
    (@LeaseStore $type:ty, $field:ident) => {
        const _: () = {
            use $crate::port::forwarded::*;

            #[async_trait]
            impl LeaseStore for $type {
                async fn acquire(&self, lease: &Lease, now: i64) -> Answer<bool> {
                    self.$field.acquire(lease, now).await
                }

                async fn give_back(&self, name: &str, owner: &str) -> Answer<()> {
                    self.$field.give_back(name, owner).await
                }

                async fn leases(&self, prefix: &str, now: i64) -> Answer<Vec<Lease>> {
                    self.$field.leases(prefix, now).await
                }
            }
        };
    };
    (@PatternStore $type:ty, $field:ident) => {
        const _: () = {
            use $crate::port::forwarded::*;

            #[async_trait]
            impl PatternStore for $type {
                async fn put_pattern(&self, pattern: StoredPattern) -> Answer<()> {
                    self.$field.put_pattern(pattern).await
                }

                async fn remove_pattern(&self, id: &PatternId) -> Answer<()> {
                    self.$field.remove_pattern(id).await
                }

                async fn patterns(&self) -> Answer<Vec<StoredPattern>> {
                    self.$field.patterns().await
                }

                async fn pattern(&self, key: &PatternKey) -> Answer<Option<StoredPattern>> {
                    self.$field.pattern(key).await
                }

                async fn listening_patterns(&self) -> Answer<Vec<PatternKey>> {
                    self.$field.listening_patterns().await
                }

                async fn patterns_version(&self) -> Answer<u64> {
                    self.$field.patterns_version().await
                }
            }
        };
    };
}

/// What the code of [`forward_store!`](crate::forward_store) names.
#[doc(hidden)]
pub mod names {
    pub use std::sync::Arc;

    pub use async_trait::async_trait;
    pub use thredlib::{EventKey, PatternId, ThredId, Topic};

    pub use crate::{
        port::{
            Cleared, Commit, Committed, Due, Ended, History, Lease, LeaseStore, LimitStore, Loaded,
            LogRecord, ParkedTopic, PatternStore, PendingOutbox, PortError, Quarantine, Receipt,
            ReceiptRetention, RecordStore, Reservation, Reserved, Settlement, StoredPattern,
            ThredCount, ThredPage, ThredQuery, ThredStore, Timer, UnmovedPage, Unreadable,
        },
        state::{PatternKey, WaitKey},
    };

    pub type Answer<T> = Result<T, PortError>;
}
