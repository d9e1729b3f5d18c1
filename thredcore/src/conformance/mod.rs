//! Proves that a backend keeps the promises of its port: one check for each promise.
//!
//! A crate with a backend has a test file like this one; each check becomes a test of its own:
//!
//! ```
//! use std::sync::Arc;
//! use thredcore::{conformance::Fixture, memory::MemoryStorage, port::Storage};
//!
//! async fn storage() -> Fixture<dyn Storage> {
//!     Fixture::new(Arc::new(MemoryStorage::default()))
//! }
//!
//! thredcore::conformance::storage_tests!(storage);
//! # fn main() {}
//! ```
//!
//! The factory is called for each check and must give an empty backend: on a server that means a
//! namespace of its own. It says with [`Fixture::reopening`] how a durable backend is closed and
//! opened again; the checks of durability need that.

use std::{any::Any, future::Future, sync::Arc, time::Duration};

use futures::future::BoxFuture;

pub mod event_q;
pub mod lease_store;
pub mod limit_store;
pub mod message_q;
pub mod pattern_store;
pub mod record_store;
pub mod samples;
pub mod thred_store;

#[cfg(test)]
mod tests;

#[doc(inline)]
pub use crate::{event_q_tests, message_q_tests, storage_tests};

/// A fresh backend, and what the checks may do with it.
pub struct Fixture<P: ?Sized> {
    /// The backend.
    pub port: Arc<P>,
    reopen: Option<Reopen<P>>,
    capacity: Option<usize>,
    guards: Vec<Box<dyn Any + Send>>,
}

type Reopen<P> = Box<dyn Fn(Arc<P>) -> BoxFuture<'static, Arc<P>> + Send>;

impl<P: ?Sized> Fixture<P> {
    /// An empty backend.
    pub fn new(port: Arc<P>) -> Self {
        Self { port, reopen: None, capacity: None, guards: vec![] }
    }

    /// Says how the backend is closed and opened again with all that is durable. The function gets
    /// the last reference to it. Without this, the checks of durability pass unchecked and say so.
    #[must_use]
    pub fn reopening<F, O>(mut self, reopen: F) -> Self
    where
        F: Fn(Arc<P>) -> O + Send + 'static,
        O: Future<Output = Arc<P>> + Send + 'static,
    {
        self.reopen = Some(Box::new(move |port| Box::pin(reopen(port))));
        self
    }

    /// Says that a queue was made to be full with so many items (of one topic, if it has topics).
    /// Without this, the check of a full queue passes unchecked and says so.
    #[must_use]
    pub fn with_capacity(mut self, items: usize) -> Self {
        self.capacity = Some(items);
        self
    }

    /// Drops something when the check is over: a directory, a server, a clean-up.
    #[must_use]
    pub fn guarding(mut self, guard: impl Any + Send) -> Self {
        self.guards.push(Box::new(guard));
        self
    }

    /// Closed and opened again; `None` when nothing of it is durable.
    async fn reopened(mut self) -> Option<Self> {
        let Some(reopen) = &self.reopen else {
            eprintln!("not checked: the fixture has no `reopening`, so nothing is durable");
            return None;
        };
        self.port = reopen(self.port).await;
        Some(self)
    }

    fn full_at(&self) -> Option<usize> {
        if self.capacity.is_none() {
            eprintln!("not checked: the fixture has no `with_capacity`");
        }
        self.capacity
    }
}

/// Runs one check on a runtime of its own.
///
/// # Panics
/// When the check fails, or takes more than a minute.
pub fn run(check: impl Future<Output = ()>) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build();
    let runtime = runtime.expect("a runtime can be built");
    let limit = Duration::from_secs(60);
    let end = runtime.block_on(async { tokio::time::timeout(limit, check).await });
    assert!(end.is_ok(), "the check hangs: it took more than a minute");
}

/// Time enough for what should not happen to happen.
const A_WHILE: Duration = Duration::from_millis(100);

/// Whether a future is still waiting after a while.
async fn waits<T>(future: impl Future<Output = T>) -> bool {
    tokio::time::timeout(A_WHILE, future).await.is_err()
}

/// Makes a module of tests out of the checks of one port; for the macros below.
#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_tests {
    ($make:expr, $port:ident: $($check:ident)*) => {
        mod $port {
            #[allow(unused_imports)]
            use super::*;
            $(
                #[test]
                fn $check() {
                    $crate::conformance::run(async {
                        $crate::conformance::$port::$check($make().await).await
                    });
                }
            )*
        }
    };
}

/// Makes a test of each check of a storage. Takes an async function that gives a
/// `Fixture<dyn Storage>`.
#[macro_export]
macro_rules! storage_tests {
    ($make:expr) => {
        $crate::__conformance_tests!($make, thred_store:
            what_does_not_exist_loads_as_none
            answers_stand_in_the_order_of_the_ids
            a_state_survives_whole
            each_commit_raises_the_version
            a_commit_from_an_old_version_conflicts
            a_commit_to_a_missing_thred_conflicts
            a_second_start_conflicts
            the_identical_commit_is_a_duplicate
            a_consumed_event_is_a_duplicate_even_from_an_old_version
            an_event_that_left_the_inbox_is_no_duplicate
            a_failed_commit_leaves_no_trace
            commits_of_a_batch_stand_alone
            a_large_batch_is_committed
            one_of_many_racing_commits_wins
            racing_starts_make_one_thred
            racing_increments_lose_none
            outboxes_keep_their_order_until_cleared
            clearing_takes_just_the_named_entries
            clearing_what_is_not_there_is_harmless
            every_kind_of_entry_survives
            pending_outboxes_are_old_whole_and_of_their_partition
            pending_outboxes_are_limited
            timers_are_due_in_order
            due_timers_are_limited_and_tell_the_next
            a_due_timer_stays_until_a_commit_removes_it
            a_commit_replaces_the_timer
            a_finished_or_ended_thred_has_no_timer
            ended_threds_can_be_loaded
            queries_filter
            queries_page_from_the_oldest_start
            listeners_follow_the_reaction
            large_and_foreign_texts_survive
            committed_threds_survive_a_restart
        );
        $crate::__conformance_tests!($make, record_store:
            history_tells_each_step
            history_is_limited_to_the_latest
            a_failed_commit_has_no_history
            a_record_is_appended_once
            records_of_no_thred_have_a_history
            the_log_tells_all_in_order
            records_survive_a_restart
        );
        $crate::__conformance_tests!($make, limit_store:
            places_are_limited
            no_limit_means_no_limit
            a_place_is_taken_once_and_kept
            a_released_place_is_free
            starts_keep_their_distance
            patterns_have_places_of_their_own
            racing_reservations_never_exceed_the_limit
            places_survive_a_restart
        );
        $crate::__conformance_tests!($make, lease_store:
            a_lease_is_exclusive
            an_owner_renews
            a_lease_runs_out
            only_the_owner_gives_back
            leases_are_listed_by_prefix
            one_of_many_racing_owners_gets_the_lease
        );
        $crate::__conformance_tests!($make, pattern_store:
            the_last_revision_is_current
            earlier_revisions_are_kept
            a_removed_pattern_is_not_current_but_kept
            patterns_are_sorted_and_whole
            the_version_changes_with_the_current_revisions
            listening_patterns_follow_the_threds
            patterns_survive_a_restart
        );
    };
}

/// Makes a test of each check of an event queue. Takes an async function that gives a
/// `Fixture<dyn EventQ>`.
#[macro_export]
macro_rules! event_q_tests {
    ($make:expr) => {
        $crate::__conformance_tests!($make, event_q:
            every_item_comes_to_one_partition
            items_of_a_key_keep_their_order
            a_batch_has_bounds
            all_kinds_of_items_survive
            large_and_foreign_texts_survive
            receive_waits_and_wakes
            a_dropped_receive_loses_nothing
            acknowledged_items_are_gone
            acknowledging_twice_is_harmless
            returned_items_come_first_and_in_order
            attempts_are_counted
            dead_letters_tell_why
            dead_letters_are_filtered
            redriven_items_come_again
            discarded_items_are_gone
            depth_counts_what_is_out
            a_full_queue_makes_publishers_of_events_wait
            many_publishers_lose_nothing
            unacknowledged_items_survive_a_restart
        );
    };
}

/// Makes a test of each check of a message queue. Takes an async function that gives a
/// `Fixture<dyn MessageQ>`.
#[macro_export]
macro_rules! message_q_tests {
    ($make:expr) => {
        $crate::__conformance_tests!($make, message_q:
            a_topic_keeps_its_order
            topics_are_apart
            several_topics_are_received_together
            consumers_share_a_topic
            a_batch_has_bounds
            large_and_foreign_texts_survive
            receive_waits_and_wakes
            a_dropped_receive_loses_nothing
            acknowledging_twice_is_harmless
            a_returned_message_comes_again
            a_delayed_message_is_not_early
            dead_letters_tell_why_and_are_redriven
            discarded_messages_are_gone
            depth_counts_what_is_out
            a_full_topic_makes_publishers_wait
            many_publishers_lose_nothing
            unacknowledged_messages_survive_a_restart
        );
    };
}
