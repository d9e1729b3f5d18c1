//! Spoils what is stored, behind the backs of those who store it.

use std::path::Path;

use redb::{ReadableTable, TableDefinition};

/// Overwrites a text wherever it is in a table of a directory that nobody has open; says how often.
///
/// # Panics
/// When there is no such directory, or table.
pub fn in_files(directory: &Path, table: &str, text: &str) -> usize {
    let database = redb::Database::open(directory.join("threds.redb")).expect("a store");
    let txn = database.begin_write().expect("it can be written");
    let (mut count, mut spoilt) = (0, Vec::new());
    {
        let table = TableDefinition::<u64, &[u8]>::new(table);
        let mut table = txn.open_table(table).expect("a table");
        for row in table.iter().expect("it can be read") {
            let (key, value) = row.expect("it can be read");
            let mut bytes = value.value().to_vec();
            let is_there = |at: &usize| bytes[*at..].starts_with(text.as_bytes());
            let found: Vec<_> = (0..bytes.len()).filter(is_there).collect();
            for at in &found {
                bytes[*at..at + text.len()].fill(1);
            }
            if !found.is_empty() {
                count += found.len();
                spoilt.push((key.value(), bytes));
            }
        }
        for (key, bytes) in &spoilt {
            table.insert(key, &**bytes).expect("it can be written");
        }
    }
    txn.commit().expect("it is written");
    count
}
