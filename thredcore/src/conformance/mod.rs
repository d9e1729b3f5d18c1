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
pub mod quarantine;
pub mod receipts;
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
    lose_consumers: Option<Reopen<P>>,
    kept_ended: Option<usize>,
    message_ttl: Option<Duration>,
    idle_expiry: Option<Duration>,
    dead_letter_bytes: Option<usize>,
    guards: Vec<Box<dyn Any + Send>>,
}

type Reopen<P> = Box<dyn Fn(Arc<P>) -> BoxFuture<'static, Arc<P>> + Send>;

impl<P: ?Sized> Fixture<P> {
    /// An empty backend.
    pub fn new(port: Arc<P>) -> Self {
        Self {
            port,
            reopen: None,
            capacity: None,
            lose_consumers: None,
            kept_ended: None,
            message_ttl: None,
            idle_expiry: None,
            dead_letter_bytes: None,
            guards: vec![],
        }
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

    /// Says how all consumers of a queue are lost with what they have in hand, as when their process
    /// dies: nothing is given back in order. Without this, the checks of what such a loss does pass
    /// unchecked and say so.
    #[must_use]
    pub fn losing_consumers<F, O>(mut self, lose: F) -> Self
    where
        F: Fn(Arc<P>) -> O + Send + 'static,
        O: Future<Output = Arc<P>> + Send + 'static,
    {
        self.lose_consumers = Some(Box::new(move |port| Box::pin(lose(port))));
        self
    }

    /// Says that a storage was made to keep so many ended threds. Make it few. Without this, the
    /// checks of the rest pass unchecked and say so.
    #[must_use]
    pub fn keeping(mut self, ended_threds: usize) -> Self {
        self.kept_ended = Some(ended_threds);
        self
    }

    /// Says that a queue was made to let messages expire after so long; a second or two are long
    /// enough. Without this, the check of that passes unchecked and says so.
    #[must_use]
    pub fn with_message_ttl(mut self, time: Duration) -> Self {
        self.message_ttl = Some(time);
        self
    }

    /// Says that a queue was made to remove idle topics after so long; a second or two are long
    /// enough. Without this, the check of that passes unchecked and says so.
    #[must_use]
    pub fn with_idle_expiry(mut self, time: Duration) -> Self {
        self.idle_expiry = Some(time);
        self
    }

    /// Says that a queue was made to keep so many bytes of dead letters; some 100,000 will do.
    /// Without this, the check of the quota passes unchecked and says so.
    #[must_use]
    pub fn with_dead_letter_bytes(mut self, bytes: usize) -> Self {
        self.dead_letter_bytes = Some(bytes);
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

    /// After all consumers were lost.
    async fn without_its_consumers(mut self) -> Option<Self> {
        let lose = said(self.lose_consumers.as_ref(), "losing_consumers")?;
        self.port = lose(self.port).await;
        Some(self)
    }

    fn full_at(&self) -> Option<usize> {
        said(self.capacity, "with_capacity")
    }

    fn keeps(&self) -> Option<usize> {
        said(self.kept_ended, "keeping")
    }

    fn expires_messages_after(&self) -> Option<Duration> {
        said(self.message_ttl, "with_message_ttl")
    }

    fn removes_topics_after(&self) -> Option<Duration> {
        said(self.idle_expiry, "with_idle_expiry")
    }

    fn keeps_dead_letter_bytes(&self) -> Option<usize> {
        said(self.dead_letter_bytes, "with_dead_letter_bytes")
    }
}

/// What the fixture says about itself, if it does.
fn said<T>(answer: Option<T>, name: &str) -> Option<T> {
    if answer.is_none() {
        eprintln!("not checked: the fixture has no `{name}`");
    }
    answer
}

/// Larger commits and items are not tried here.
const LARGEST: usize = 128 << 20;

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
            the_same_id_from_another_source_is_no_duplicate
            a_consumed_event_is_a_duplicate_even_from_an_old_version
            an_event_that_left_the_inbox_is_no_duplicate
            a_failed_commit_leaves_no_trace
            commits_of_a_batch_stand_alone
            a_large_batch_is_committed
            one_of_many_racing_commits_wins
            racing_starts_make_one_thred
            racing_increments_lose_none
            a_commit_as_large_as_stated_is_taken
            a_commit_that_is_too_large_fails_alone
            outboxes_keep_their_order_until_cleared
            clearing_takes_just_the_named_entries
            clearing_what_is_not_there_is_harmless
            every_kind_of_entry_survives
            pending_outboxes_are_old_whole_and_of_their_partition
            pending_outboxes_are_limited
            parked_messages_stay_in_their_outbox
            parked_topics_are_counted
            an_outbox_of_parked_messages_is_not_pending
            parked_outboxes_are_found_by_topic
            only_messages_are_parked
            parked_messages_survive_a_restart
            timers_are_due_in_order
            due_timers_are_limited_and_tell_the_next
            due_timers_are_read_with_a_cursor
            a_cursor_outlives_its_timer
            a_due_timer_stays_until_a_commit_removes_it
            a_commit_replaces_the_timer
            a_finished_or_ended_thred_has_no_timer
            ended_threds_can_be_loaded
            ended_threds_are_forgotten
            surplus_threds_are_listed
            a_thred_with_an_outbox_is_no_surplus
            queries_filter
            queries_filter_by_reaction_key_and_time
            queries_page_from_the_oldest_start
            filtered_queries_page_too
            a_foreign_cursor_is_rejected
            live_threds_are_counted
            waiting_threds_are_found_by_their_keys
            waiting_follows_each_commit
            a_finished_or_ended_thred_does_not_wait
            waiting_threds_come_in_pages
            what_waits_agrees_with_the_states
            large_and_foreign_texts_survive
            committed_threds_survive_a_restart
        );
        $crate::__conformance_tests!($make, record_store:
            history_tells_each_step
            history_is_limited_to_the_latest
            history_is_read_in_pages
            a_failed_commit_has_no_history
            a_record_is_written_once
            what_changed_nothing_is_on_record
            records_are_read_in_pages
            what_is_on_record_is_looked_up
            the_log_tells_all_in_order
            records_survive_a_restart
        );
        $crate::__conformance_tests!($make, receipts:
            a_receipt_is_found_by_its_key
            partitions_have_receipts_of_their_own
            a_receipt_only_goes_up
            receipts_are_found_for_their_time
            a_receipt_that_is_written_again_is_kept_longer
            the_latest_receipts_are_found
            receipts_of_dead_letters_outlive_the_others
            racing_settlements_lose_none
            receipts_survive_a_restart
        );
        $crate::__conformance_tests!($make, limit_store:
            places_are_limited
            no_limit_means_no_limit
            reserved_places_are_read_in_pages
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
        $crate::__conformance_tests!($make, quarantine:
            a_sound_storage_moves_nothing_out
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
            what_was_refused_is_buried
            dead_letters_are_filtered
            redriven_items_come_again
            a_redriven_event_carries_its_life
            dead_letters_come_in_pages
            dead_letters_have_a_quota
            discarded_items_are_gone
            depth_counts_what_is_out
            the_backlog_tells_of_each_partition
            an_item_as_large_as_stated_is_taken
            a_full_queue_makes_publishers_of_events_wait
            many_publishers_lose_nothing
            unacknowledged_items_survive_a_restart
            a_sound_queue_moves_nothing_out
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
            an_untried_message_has_no_attempt
            a_failing_message_goes_with_others
            what_kills_its_consumers_comes_alone
            a_delayed_message_is_not_early
            a_long_delay_is_spent_in_the_queue
            dead_letters_tell_why_and_are_redriven
            buried_messages_are_dead_letters
            dead_letters_come_in_pages
            dead_letters_have_a_quota
            discarded_messages_are_gone
            depth_counts_what_is_out
            the_backlog_tells_of_each_topic
            a_topic_is_purged
            a_topic_is_deleted
            a_topic_with_consumers_is_not_deleted
            a_message_as_large_as_stated_is_taken
            a_full_topic_stops_nobody_else
            messages_expire
            idle_topics_go
            many_publishers_lose_nothing
            unacknowledged_messages_survive_a_restart
            a_sound_queue_moves_nothing_out
        );
    };
}
