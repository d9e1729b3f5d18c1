//! Storages in front of other storages.

/// Implements parts of the storage port for a type by handing each call on to a field of it; what
/// the type does itself it implements by hand.
///
/// ```
/// use std::sync::Arc;
/// use thredcore::port::{History, LogRecord, PortError, RecordStore, Storage};
/// use thredlib::{Event, ThredId};
///
/// /// Forgets the past.
/// struct Forgetful {
///     storage: Arc<dyn Storage>,
/// }
///
/// thredcore::forward_store!(ThredStore, LimitStore, LeaseStore, PatternStore for Forgetful => storage);
///
/// #[async_trait::async_trait]
/// impl RecordStore for Forgetful {
///     async fn append_log(&self, _: Vec<(LogRecord, Arc<Event>)>) -> Result<(), PortError> {
///         Ok(())
///     }
///
///     async fn history(&self, _: Option<&ThredId>, _: usize) -> Result<Vec<History>, PortError> {
///         Ok(vec![])
///     }
///
///     async fn log(&self, _: usize) -> Result<Vec<LogRecord>, PortError> {
///         Ok(vec![])
///     }
/// }
///
/// fn storage(storage: Arc<dyn Storage>) -> Arc<dyn Storage> {
///     Arc::new(Forgetful { storage })
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

                async fn load(&self, ids: &[ThredId]) -> Answer<Vec<Option<Loaded>>> {
                    self.$field.load(ids).await
                }

                async fn commit(&self, commits: &[Arc<Commit>]) -> Vec<Answer<Committed>> {
                    self.$field.commit(commits).await
                }

                async fn clear_outbox(
                    &self,
                    published: &[(ThredId, Vec<MessageId>)],
                ) -> Answer<()> {
                    self.$field.clear_outbox(published).await
                }

                async fn pending_outboxes(
                    &self,
                    partition: u16,
                    made_before: i64,
                    limit: usize,
                ) -> Answer<Vec<PendingOutbox>> {
                    self.$field.pending_outboxes(partition, made_before, limit).await
                }

                async fn due(&self, partition: u16, at: i64, limit: usize) -> Answer<Due> {
                    self.$field.due(partition, at, limit).await
                }

                async fn threds(&self, query: &ThredQuery) -> Answer<ThredPage> {
                    self.$field.threds(query).await
                }

                async fn listeners(
                    &self,
                    pattern: &PatternKey,
                    reaction: &str,
                ) -> Answer<Vec<ThredId>> {
                    self.$field.listeners(pattern, reaction).await
                }
            }
        };
    };
    (@RecordStore $type:ty, $field:ident) => {
        const _: () = {
            use $crate::port::forwarded::*;

            #[async_trait]
            impl RecordStore for $type {
                async fn append_log(&self, records: Vec<(LogRecord, Arc<Event>)>) -> Answer<()> {
                    self.$field.append_log(records).await
                }

                async fn history(
                    &self,
                    thred: Option<&ThredId>,
                    limit: usize,
                ) -> Answer<Vec<History>> {
                    self.$field.history(thred, limit).await
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

                async fn reserved(&self, pattern: &PatternId) -> Answer<Vec<ThredId>> {
                    self.$field.reserved(pattern).await
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
    pub use thredlib::{Event, MessageId, PatternId, ThredId};

    pub use crate::{
        port::{
            Commit, Committed, Due, History, Lease, LeaseStore, LimitStore, Loaded, LogRecord,
            PatternStore, PendingOutbox, PortError, RecordStore, Reservation, Reserved,
            StoredPattern, ThredPage, ThredQuery, ThredStore,
        },
        state::PatternKey,
    };

    pub type Answer<T> = Result<T, PortError>;
}
