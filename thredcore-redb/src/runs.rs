//! Keys of 16 bytes in the file: appended in runs, never put between others.

use redb::{ReadableTable, WriteTransaction};

use crate::{
    error::RedbError,
    receipts::{Generations, Opened},
    tables::{GENERATIONS, Run},
};

/// The runs of one table, as the writer sees them.
pub(crate) struct Runs {
    run: Run,
    next: u64,
    /// The last run, as long as it is short: it is written again with more in it.
    tail: Option<(u64, Vec<u8>)>,
    generation: u64,
    fresh: Vec<(u64, Vec<u8>)>,
    opened: Vec<Opened>,
    /// Runs of older generations are to go.
    oldest: u64,
    has_old: bool,
}

/// A page of the database holds one of these.
const RUN_BYTES: usize = 3_840;

impl Runs {
    /// Reads all that is there.
    pub(crate) fn load(
        run: Run,
        txn: &WriteTransaction,
        mut into: Option<&mut Generations>,
    ) -> Result<Self, RedbError> {
        let mut runs = Self {
            run,
            next: 0,
            tail: None,
            generation: 0,
            fresh: vec![],
            opened: vec![],
            oldest: 0,
            has_old: true,
        };
        for row in txn.open_table(GENERATIONS)?.range((run.number, 0)..=(run.number, u64::MAX))? {
            let (key, opened_at) = row?;
            let (_, number) = key.value();
            if runs.oldest == 0 {
                runs.oldest = number;
            }
            if let Some(into) = &mut into {
                into.restore(number, opened_at.value());
            }
        }
        let table = txn.open_table(run.keys)?;
        match into {
            Some(into) => {
                for row in table.range((runs.oldest, 0)..)? {
                    let (place, keys) = row?;
                    let (generation, number) = place.value();
                    for key in keys.value().as_chunks().0 {
                        into.restore_key(generation, u128::from_be_bytes(*key));
                    }
                    runs.next = number + 1;
                }
            }
            None => {
                if let Some((place, _)) = table.last()? {
                    runs.next = place.value().1 + 1;
                }
            }
        }
        Ok(runs)
    }

    /// Adds keys to a generation.
    pub(crate) fn push(&mut self, generation: u64, keys: impl Iterator<Item = [u8; 16]>) {
        match self.fresh.last_mut() {
            Some((last, bytes)) if *last == generation => bytes.extend(keys.flatten()),
            _ => {
                let bytes: Vec<u8> = keys.flatten().collect();
                if !bytes.is_empty() {
                    self.fresh.push((generation, bytes));
                }
            }
        }
    }

    /// A generation has begun, and older ones may have ended.
    pub(crate) fn open(&mut self, opened: Opened) {
        self.opened.push(opened);
    }

    pub(crate) fn is_dirty(&self) -> bool {
        !self.fresh.is_empty() || !self.opened.is_empty()
    }

    /// Writes what has changed, and clears away a little of what is old.
    pub(crate) fn write(&mut self, txn: &WriteTransaction) -> Result<(), RedbError> {
        if !self.is_dirty() {
            return Ok(());
        }
        if !self.opened.is_empty() {
            let mut generations = txn.open_table(GENERATIONS)?;
            for opened in std::mem::take(&mut self.opened) {
                generations.insert((self.run.number, opened.number), opened.at)?;
                while self.oldest < opened.oldest {
                    generations.remove((self.run.number, self.oldest))?;
                    self.oldest += 1;
                    self.has_old = true;
                }
            }
        }
        let mut table = txn.open_table(self.run.keys)?;
        for (generation, keys) in std::mem::take(&mut self.fresh) {
            let (number, bytes) = match self.tail.take() {
                Some((number, mut bytes)) if self.generation == generation => {
                    bytes.extend(keys);
                    (number, bytes)
                }
                _ => {
                    self.next += 1;
                    (self.next - 1, keys)
                }
            };
            table.insert((generation, number), &*bytes)?;
            self.generation = generation;
            self.tail = (bytes.len() < RUN_BYTES).then_some((number, bytes));
        }
        if self.has_old {
            self.clear_away(&mut table)?;
        }
        Ok(())
    }

    fn clear_away(
        &mut self,
        table: &mut redb::Table<'_, (u64, u64), &'static [u8]>,
    ) -> Result<(), RedbError> {
        const AT_ONCE: usize = 32;
        let mut old = vec![];
        for row in table.range(..(self.oldest, 0))?.take(AT_ONCE) {
            old.push(row?.0.value());
        }
        self.has_old = old.len() == AT_ONCE;
        for place in old {
            table.remove(place)?;
        }
        Ok(())
    }
}
