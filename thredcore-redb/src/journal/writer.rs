//! The writer thread.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::Ordering,
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

use super::{Op, Outcome, What, files::Files, group::Group, load::load};
use crate::{
    directory::Directory,
    error::{RedbError, Refusal, chain},
    shared::Shared,
};

/// Takes everything that waits, writes it with one transaction and one `fsync`, and answers.
pub(super) struct Writer {
    shared: Arc<Shared>,
    directory: Directory,
    files: Files,
    receiver: Receiver<Op>,
    /// Operations that are done in memory and found no room on the disk.
    kept: Vec<Op>,
}

/// How long operations that nobody waits for are held back for company.
const LINGER: Duration = Duration::from_millis(2);

/// How soon after a full disk the writer looks for room again, and how seldom in the end.
const FIRST_LOOK: Duration = Duration::from_millis(50);
const LAST_LOOK: Duration = Duration::from_secs(1);

/// Whether there is more to do.
#[derive(PartialEq, Eq)]
enum Next {
    Group,
    End,
}

impl Writer {
    pub(super) fn new(
        shared: Arc<Shared>,
        directory: Directory,
        files: Files,
        receiver: Receiver<Op>,
    ) -> Self {
        Self { shared, directory, files, receiver, kept: vec![] }
    }

    pub(super) fn run(mut self) {
        let end = catch_unwind(AssertUnwindSafe(|| while self.step() == Next::Group {}));
        if end.is_err() {
            self.fatal("the writer of the database panicked");
        }
        self.close();
    }

    fn close(&self) {
        self.shared.condition.closed.store(true, Ordering::Release);
        self.shared.set_database(None);
        self.shared.condition.told.notify_waiters();
        self.shared.events.close();
        self.shared.messages.close();
        self.shared.deferred.written(0);
    }

    fn step(&mut self) -> Next {
        let Some(mut ops) = self.next_group() else { return Next::End };
        match self.write(&mut ops) {
            Ok(outcomes) => {
                let deferred = ops.iter().filter(|op| op.what.is_deferred());
                self.shared.deferred.written(deferred.map(|op| op.what.size()).sum());
                let is_end = ops.iter().any(|op| matches!(op.what, What::Close(_)));
                for (op, outcome) in ops.into_iter().zip(outcomes) {
                    if matches!(op.what, What::Close(_)) {
                        self.close();
                    }
                    op.answer.map(|answer| answer.send(Ok(outcome)));
                }
                if is_end { Next::End } else { Next::Group }
            }
            Err(error) => self.failed(error, ops),
        }
    }

    /// Waits for an operation and takes along what else is there.
    fn next_group(&mut self) -> Option<Vec<Op>> {
        let mut ops = std::mem::take(&mut self.kept);
        if ops.is_empty() {
            ops.push(self.receiver.recv().ok()?);
        }
        let most = self.directory.config.group_bytes;
        let mut bytes: usize = ops.iter().map(|op| op.what.size()).sum();
        let mut is_awaited = ops.iter().any(|op| !op.what.is_deferred() || op.answer.is_some());
        let until = Instant::now() + LINGER;
        while bytes < most {
            let op = if is_awaited {
                self.receiver.try_recv().ok()
            } else {
                self.receiver.recv_timeout(until - Instant::now().min(until)).ok()
            };
            let Some(op) = op else { break };
            bytes += op.what.size();
            is_awaited |= !op.what.is_deferred() || op.answer.is_some();
            ops.push(op);
        }
        Some(ops)
    }

    fn write(&mut self, ops: &mut [Op]) -> Result<Vec<Outcome>, RedbError> {
        let database = self.shared.database();
        let Some(database) = database.as_ref() else { return Ok(vec![]) };
        let txn = database.begin_write()?;
        let mut group = Group::new(&self.shared, &mut self.files, &txn);
        let mut outcomes = Vec::with_capacity(ops.len());
        for op in &*ops {
            outcomes.push(group.apply(&op.what)?);
        }
        let written = group.write()?;
        if written.is_dirty {
            txn.commit()?
        } else {
            txn.abort()?
        }
        written.show(&self.shared, ops);
        Ok(outcomes)
    }

    /// Nothing of the group is written.
    fn failed(&mut self, error: RedbError, ops: Vec<Op>) -> Next {
        if !self.directory.watch.is_full() {
            let why = self.directory.watch.worse().unwrap_or_else(|| chain(&error));
            self.fatal(&why);
            return Next::End;
        }
        tracing::warn!("the disk is full: operations are refused until there is room again");
        self.shared.condition.full.store(true, Ordering::Release);
        let mut next = Next::Group;
        for op in ops {
            if self.refuse(op) == Next::End {
                next = Next::End;
            }
        }
        if next == Next::Group {
            next = self.recover();
        }
        self.shared.condition.full.store(false, Ordering::Release);
        next
    }

    /// Refuses an operation, unless it has been done in memory.
    fn refuse(&mut self, op: Op) -> Next {
        if op.what.is_deferred() {
            self.kept.push(op);
            return Next::Group;
        }
        let is_end = matches!(op.what, What::Close(_));
        op.answer.map(|answer| answer.send(Err(Refusal::Full)));
        if is_end { Next::End } else { Next::Group }
    }

    /// After a failed write the database does nothing more: it is opened again, once there is
    /// room. Until then only what is in memory can be read.
    fn recover(&mut self) -> Next {
        self.shared.set_database(None);
        let mut pause = FIRST_LOOK;
        loop {
            let until = Instant::now() + pause;
            loop {
                match self.receiver.recv_timeout(until - Instant::now().min(until)) {
                    Ok(op) => match self.refuse(op) {
                        Next::Group => {}
                        Next::End => return Next::End,
                    },
                    Err(RecvTimeoutError::Timeout) => break,
                    Err(RecvTimeoutError::Disconnected) => return Next::End,
                }
            }
            pause = (pause * 2).min(LAST_LOOK);
            if !self.directory.has_room() {
                continue;
            }
            self.directory.watch.forget_full();
            match self.reopen() {
                Ok(()) => {
                    tracing::info!("there is room on the disk again");
                    return Next::Group;
                }
                Err(_) if self.directory.watch.is_full() => {}
                Err(error) => {
                    let why = self.directory.watch.worse().unwrap_or_else(|| chain(&error));
                    self.fatal(&why);
                    return Next::End;
                }
            }
        }
    }

    fn reopen(&mut self) -> Result<(), RedbError> {
        let database = self.directory.open()?;
        self.files = load(&self.directory, &database, &self.shared, false)?;
        self.shared.set_database(Some(database));
        Ok(())
    }

    /// Nothing is acknowledged after this.
    fn fatal(&self, why: &str) {
        self.shared.condition.closed.store(true, Ordering::Release);
        (self.directory.config.on_fatal)(why);
    }
}
