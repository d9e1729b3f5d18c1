//! A directory. Its file is kept as text: the rows of it that hold anything.

use std::{fmt::Write, fs, path::Path};

use thred_tests::stored::{self, Contents, Queued};
use thredcore_redb::{RedbBackends, RedbConfig};

use crate::{YEARS, assert_holds, read, write, write_expected};

const FILE: &str = "threds.redb";
const ROW: usize = 32;

fn config() -> RedbConfig {
    let config = RedbConfig::default().partitions(4).event_partitions(2);
    config.dead_letters_time(YEARS).receipts_time(YEARS)
}

#[tokio::test]
#[ignore = "it writes the fixture"]
async fn make_fixture_of_a_directory() {
    let dir = tempfile::tempdir().expect("a directory");
    let made = RedbBackends::open_with(dir.path(), config()).expect("a store");
    stored::fill(made.storage.clone()).await;
    stored::fill_queues(&*made.event_q, &*made.message_q).await;
    write_expected("directory.contents.json", &Contents::of(&*made.storage).await);
    let queued = Queued::of(&*made.event_q, &*made.message_q).await;
    write_expected("directory.queued.json", &queued);
    made.close().await;
    drop(made);
    let mut file = redb::Database::open(dir.path().join(FILE)).expect("a database");
    file.compact().expect("compacted");
    drop(file);
    write("directory.txt", &rows(&fs::read(dir.path().join(FILE)).expect("a file")));
}

/// The length, then a line for each row that is not empty: where it is, and its bytes.
fn rows(bytes: &[u8]) -> String {
    let mut text = format!("{}\n", bytes.len());
    for (number, row) in bytes.chunks(ROW).enumerate() {
        if row.iter().any(|byte| *byte != 0) {
            let _ = write!(text, "{:x} ", number * ROW);
            row.iter().for_each(|byte| _ = write!(text, "{byte:02x}"));
            text.push('\n');
        }
    }
    text
}

/// Makes a directory of what [`rows`] gave.
fn restore(dir: &Path) {
    let text = read("directory.txt");
    let mut lines = text.lines();
    let length = lines.next().and_then(|length| length.parse().ok()).expect("a length");
    let mut bytes = vec![0; length];
    for line in lines {
        let (at, row) = line.split_once(' ').expect("a row");
        let at = usize::from_str_radix(at, 16).expect("a place");
        for (byte, hex) in bytes[at..].iter_mut().zip(row.as_bytes().chunks(2)) {
            let hex = std::str::from_utf8(hex).expect("two digits");
            *byte = u8::from_str_radix(hex, 16).expect("a byte");
        }
    }
    fs::write(dir.join(FILE), bytes).expect("a file");
}

#[tokio::test]
async fn a_directory_of_the_format_before_is_read_and_upgraded() {
    let dir = tempfile::tempdir().expect("a directory");
    restore(dir.path());
    let store = RedbBackends::open_with(dir.path(), config()).expect("the format before is read");
    assert_holds(&Contents::of(&*store.storage).await, "directory.contents.json");
    let queued = Queued::of(&*store.event_q, &*store.message_q).await;
    assert_holds(&queued, "directory.queued.json");
    stored::go_on(store.storage.clone(), store.event_q.clone(), "before").await;
    store.close().await;
}
