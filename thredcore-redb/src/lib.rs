//! Durable threds without a server: storage and queues of thredcore in one directory.
//!
//! ```
//! use thredcore::Engine;
//! use thredcore_redb::RedbBackends;
//! use thredlib::{Event, PatternBuilder, ReactionBuilder};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let dir = dir.path();
//! let backends = RedbBackends::open(dir)?;
//! let engine = Engine::builder()
//!     .storage(backends.storage.clone())
//!     .event_q(backends.event_q.clone())
//!     .message_q(backends.message_q.clone())
//!     .build()
//!     .await?;
//! let running = engine.start();
//! engine.accept(vec![Event::builder("org.example.hello", "ann").build()]).await?;
//! running.shutdown().await;
//! backends.close().await;
//! # Ok(())
//! # }
//! ```
//!
//! # What is guaranteed
//!
//! What was answered survives a crash of the process, of the system, and a loss of power, as far as
//! the disk keeps what it has synced: commits, accepted events and all else that the ports promise
//! to keep. One thread writes. It takes everything that waits, writes it with one transaction and
//! one `fsync`, and answers; so many callers share one `fsync`, and a lone one waits for nobody.
//!
//! Four things do not wait for the disk: clearing outboxes, receipts, acknowledging, and publishing
//! messages. They are written with the next group, in one order with everything else, so a crash
//! may only take away the last of them, together with all that came later. Then entries are
//! published again under their ids, items are delivered again, and lost messages are still in
//! their outboxes: the duplicates that the engine and its agents reckon with anyway.
//!
//! # When the disk fails
//!
//! - It is full: operations are refused with
//!   [`Unavailable`](thredcore::port::PortErrorKind::Unavailable), nothing of them is written, and
//!   they work again as soon as there is room. What is not in memory cannot be read in between.
//! - A write or an `fsync` fails for any other reason: the process ends, since the system may have
//!   dropped what it could not write. [`RedbConfig::on_fatal`] puts something else in its place.
//!
//! # One process
//!
//! A directory belongs to one process at a time; another one is told
//! [`RedbError::InUse`].
//!
//! The directory and its files are for the user of the process alone (0700 and 0600). The file says
//! which version of the format it has ([`thredcore::format`]); one that is newer than this crate is
//! refused, and one of the version before stays that until [`RedbConfig::upgrade`].
//!
//! # What is kept for how long
//!
//! Live threds for good; of the ended ones the latest, and the latest steps of history, as
//! [`RedbConfig`] says. A thred that is older than that window has a gap at the beginning of its
//! history, which a replay reports. Room in the file is used again, but the file does not shrink.
//!
//! # What is in memory
//!
//! Of each thred its id, its place in the file, and by what it is found: who takes part, its
//! pattern, reaction and status, the keys that it waits under. States are read when they are not
//! among those used last. Of receipts the latest, at some 25 bytes each
//! ([`RedbConfig::receipts_capacity`]). What waits in the queues, whose capacity is bounded. Of
//! records, history, dead letters and messages whose topic is full, the file alone holds the text.
//!
//! # What cannot be read
//!
//! A record, state or item that cannot be read never keeps the directory from opening. It is passed
//! over with one warning that names it, stays where it is, and is listed and taken out by
//! [`Quarantine`](thredcore::port::Quarantine). What could not be read again is not taken in the
//! first place: JSON nested more than 127 levels deep is
//! [`Rejected`](thredcore::port::PortErrorKind::Rejected).

mod access;
mod config;
mod directory;
mod error;
mod index;
mod journal;
mod json;
mod outboxes;
mod quarantine;
mod queue;
mod receipts;
mod runs;
mod segments;
mod shared;
mod signature;
mod small;
mod storage;
mod tables;
mod watch;

use std::{path::Path, sync::Arc};

use thredcore::format::{FORMATS, StoreFormat};

pub use config::RedbConfig;
pub use error::RedbError;
pub use queue::{RedbEventQ, RedbMessageQ};
pub use storage::RedbStorage;

/// All backends that an engine needs, in one directory.
///
/// The directory is closed when the last reference to any of the three is gone; that waits for
/// what is still to be written. [`close`](Self::close) does it without holding up a thread.
#[derive(Clone, Debug)]
pub struct RedbBackends {
    /// What comes in.
    pub event_q: Arc<RedbEventQ>,
    /// What goes out.
    pub message_q: Arc<RedbMessageQ>,
    /// What is kept.
    pub storage: Arc<RedbStorage>,
}

impl RedbBackends {
    /// Opens a directory with default bounds, and makes it if there is none.
    ///
    /// This blocks: after a crash the file is repaired, which takes about two seconds for each
    /// gigabyte. Call it before the runtime starts, or where blocking is allowed.
    ///
    /// # Errors
    /// When somebody else has it open, or it cannot be read or written.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, RedbError> {
        Self::open_with(dir, RedbConfig::default())
    }

    /// Opens a directory, and makes it if there is none; blocks as [`open`](Self::open) does.
    ///
    /// # Errors
    /// When somebody else has it open, or it cannot be read or written.
    pub fn open_with(dir: impl AsRef<Path>, config: RedbConfig) -> Result<Self, RedbError> {
        let journal = journal::open(dir.as_ref(), config)?;
        Ok(Self {
            event_q: Arc::new(RedbEventQ { journal: journal.clone() }),
            message_q: Arc::new(RedbMessageQ::new(journal.clone())),
            storage: Arc::new(RedbStorage { journal }),
        })
    }

    /// The version of the file, which is the one that is written.
    pub fn format(&self) -> StoreFormat {
        let format = self.storage.journal.shared.format();
        StoreFormat { format, newest: FORMATS.newest(), processes: vec![] }
    }

    /// Writes what is still to be written and closes the directory; all later calls fail with
    /// [`Closed`](thredcore::port::PortErrorKind::Closed).
    pub async fn close(&self) {
        self.storage.journal.close().await;
    }
}
