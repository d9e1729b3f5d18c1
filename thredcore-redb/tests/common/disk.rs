//! A disk that forgets what was not synced, is full, or fails.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
};

use redb::StorageBackend;

/// A disk in memory. Clones are the same disk.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    synced: Vec<u8>,
    /// As a running process sees it.
    current: Vec<u8>,
    unsynced: Vec<Change>,
    /// Raised with each opening: an older one is that of a dead process.
    opening: u64,
    /// Dies at so many changes and syncs from now.
    dies_in: Option<u64>,
    dead: bool,
    /// Bytes that can still be written.
    room: Option<u64>,
    sync_fails: bool,
    syncs: u64,
}

#[derive(Clone, Debug)]
enum Change {
    Length(u64),
    Bytes(u64, Vec<u8>),
}

/// What a loss of power leaves of a write that was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Torn {
    /// Nothing of any.
    Lost,
    /// Some writes, whole.
    Some,
    /// Some sectors of some writes.
    Sectors,
}

/// A small generator of numbers (SplitMix64): the same seed, the same run.
#[derive(Clone, Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below a bound.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }
}

const SECTOR: usize = 512;

impl Disk {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a process opens.
    pub(crate) fn backend(&self) -> io::Result<Box<dyn StorageBackend>> {
        let mut state = self.state();
        state.opening += 1;
        Ok(Box::new(Opened { disk: self.clone(), opening: state.opening }))
    }

    /// Lets the process die at a later change or sync.
    pub(crate) fn die_in(&self, changes: u64) {
        self.state().dies_in = Some(changes);
    }

    /// The power is back: what was synced is there, and of the rest what the generator leaves.
    pub(crate) fn power_cycle(&self, torn: Torn, random: &mut Random) {
        let mut state = self.state();
        for change in std::mem::take(&mut state.unsynced) {
            let kept = torn != Torn::Lost && random.below(2) == 0;
            match change {
                // A file's length may be written early or late; a shorter file would be no loss of
                // data that was synced, so only growth is left out.
                Change::Length(length) if kept => state.synced.resize(length as usize, 0),
                Change::Bytes(offset, bytes) if kept => {
                    let end = offset as usize + bytes.len();
                    if state.synced.len() < end {
                        state.synced.resize(end, 0);
                    }
                    for (number, sector) in bytes.chunks(SECTOR).enumerate() {
                        if torn == Torn::Some || random.below(2) == 0 {
                            let start = offset as usize + number * SECTOR;
                            state.synced[start..start + sector.len()].copy_from_slice(sector);
                        }
                    }
                }
                _ => {}
            }
        }
        state.current = state.synced.clone();
        state.dead = false;
        state.dies_in = None;
        state.opening += 1;
    }

    /// Lets so many bytes be written before the disk is full; `None` for no end.
    pub(crate) fn set_room(&self, bytes: Option<u64>) {
        self.state().room = bytes;
    }

    pub(crate) fn fail_syncs(&self) {
        self.state().sync_fails = true;
    }

    pub(crate) fn syncs(&self) -> u64 {
        self.state().syncs
    }
}

#[derive(Debug)]
struct Opened {
    disk: Disk,
    opening: u64,
}

fn gone() -> io::Error {
    io::Error::other("the process is dead")
}

impl Opened {
    fn state(&self) -> io::Result<std::sync::MutexGuard<'_, State>> {
        let state = self.disk.state();
        if state.opening != self.opening || state.dead { Err(gone()) } else { Ok(state) }
    }

    fn changing(&self) -> io::Result<std::sync::MutexGuard<'_, State>> {
        let mut state = self.state()?;
        if let Some(left) = &mut state.dies_in {
            if *left == 0 {
                state.dead = true;
                return Err(gone());
            }
            *left -= 1;
        }
        Ok(state)
    }
}

impl StorageBackend for Opened {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state()?.current.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.state()?;
        let start = offset as usize;
        let bytes = state.current.get(start..start + out.len());
        out.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let mut state = self.changing()?;
        state.current.resize(length as usize, 0);
        state.unsynced.push(Change::Length(length));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.changing()?;
        if state.sync_fails {
            return Err(io::Error::other("the cable is loose"));
        }
        state.syncs += 1;
        state.unsynced.clear();
        state.synced = state.current.clone();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.changing()?;
        if let Some(room) = &mut state.room {
            *room = room.checked_sub(data.len() as u64).ok_or(io::ErrorKind::StorageFull)?;
        }
        let end = offset as usize + data.len();
        if state.current.len() < end {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
        }
        state.current[offset as usize..end].copy_from_slice(data);
        state.unsynced.push(Change::Bytes(offset, data.to_vec()));
        Ok(())
    }
}
