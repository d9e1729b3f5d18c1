//! Spoils what is stored, behind the backs of those who store it.

use std::path::Path;

use redb::{ReadableTable, TableDefinition};

/// Overwrites a text wherever it is in a table of a directory that nobody has open; says how often.
///
/// # Panics
/// When there is no such directory, or table.
pub fn in_files(directory: &Path, table: &str, text: &str) -> usize {
    change(directory, table, |bytes| {
        let is_there = |at: &usize| bytes[*at..].starts_with(text.as_bytes());
        let found: Vec<_> = (0..bytes.len()).filter(is_there).collect();
        for at in &found {
            bytes[*at..at + text.len()].fill(1);
        }
        found.len()
    })
}

/// Overwrites the beginning of the JSON of a thred's state in a directory that nobody has open; says
/// how often it was found. What is known of the thred without the JSON stays, and so do the states
/// beside it.
///
/// # Panics
/// When there is no such directory.
pub fn state_in_files(directory: &Path, thred: &str) -> usize {
    const JSON: &[u8] = b"{\"v\":";
    let id = [&(thred.len() as u32).to_le_bytes(), thred.as_bytes()].concat();
    change(directory, "states", |bytes| {
        let mut found = 0;
        for at in 0..bytes.len() {
            if bytes[at..].starts_with(&id)
                && let Some(json) = bytes[at..].windows(JSON.len()).position(|part| part == JSON)
            {
                bytes[at + json..][..JSON.len()].fill(1);
                found += 1;
            }
        }
        found
    })
}

/// Changes the values of a table; says how much `change` has changed.
fn change(directory: &Path, table: &str, change: impl Fn(&mut Vec<u8>) -> usize) -> usize {
    let database = redb::Database::open(directory.join("threds.redb")).expect("a store");
    let txn = database.begin_write().expect("it can be written");
    let (mut count, mut changed) = (0, Vec::new());
    {
        let table = TableDefinition::<u64, &[u8]>::new(table);
        let mut table = txn.open_table(table).expect("a table");
        for row in table.iter().expect("it can be read") {
            let (key, value) = row.expect("it can be read");
            let mut bytes = value.value().to_vec();
            let found = change(&mut bytes);
            if found > 0 {
                count += found;
                changed.push((key.value(), bytes));
            }
        }
        for (key, bytes) in &changed {
            table.insert(key, &**bytes).expect("it can be written");
        }
    }
    txn.commit().expect("it is written");
    count
}
