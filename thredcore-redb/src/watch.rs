//! What happens below the database: which of its failures a full disk explains.

use std::{
    io,
    ops::Bound,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use parking_lot::Mutex;
use redb::{BackendError, StorageBackend};

/// What has failed below the database so far.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    full: AtomicBool,
    worse: Mutex<Option<String>>,
}

impl Watch {
    /// Whether a write found no room, and nothing else has failed.
    pub(crate) fn is_full(&self) -> bool {
        self.full.load(Ordering::Acquire) && self.worse.lock().is_none()
    }

    /// What has failed for another reason.
    pub(crate) fn worse(&self) -> Option<String> {
        self.worse.lock().clone()
    }

    pub(crate) fn forget_full(&self) {
        self.full.store(false, Ordering::Release);
    }

    fn wrote<T>(&self, what: &str, result: io::Result<T>) -> io::Result<T> {
        result.inspect_err(|error| match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                self.full.store(true, Ordering::Release);
            }
            _ => self.fail(what, error),
        })
    }

    fn fail(&self, what: &str, error: &io::Error) {
        self.worse.lock().get_or_insert_with(|| format!("cannot {what}: {error}"));
    }
}

/// A storage with somebody watching.
#[derive(Debug)]
pub(crate) struct Watched {
    pub(crate) inner: Box<dyn StorageBackend>,
    pub(crate) watch: Arc<Watch>,
}

type Locked<T> = Result<T, BackendError>;

impl StorageBackend for Watched {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let result = self.inner.read(offset, out);
        result.inspect_err(|error| self.watch.fail("read the database", error))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.watch.wrote("resize the database", self.inner.set_len(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        // Whatever the reason: pages may have been dropped as if written.
        self.inner.sync_data().inspect_err(|error| self.watch.fail("sync the database", error))
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.watch.wrote("write the database", self.inner.write(offset, data))
    }

    fn close(&self) -> io::Result<()> {
        self.inner.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Locked<bool> {
        self.inner.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Locked<bool> {
        self.inner.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Locked<()> {
        self.inner.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Locked<()> {
        self.inner.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Locked<()> {
        self.inner.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Locked<bool> {
        self.inner.query_lock_range(start, end)
    }
}
