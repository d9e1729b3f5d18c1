//! A directory. Its file is kept as text: the rows of it that hold anything.

use std::{fmt::Write, fs, path::Path};

use thred_tests::stored::{self, Contents, Queued};
use thredcore::state::ThredState;
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
    let made = RedbBackends::open_with(dir.path(), config().make_format(2)).expect("a store");
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

/// A body without what stands before its text, as format 2 had it.
fn text_of(body: &[u8]) -> &[u8] {
    const TEXTS: usize = 3;
    const LISTS: [usize; 3] = [8, 16, 22];
    let mut at = 2 + 5 * 8;
    for width in [1; TEXTS].into_iter().chain(LISTS) {
        let count: [u8; 4] = body[at..at + 4].try_into().expect("a count");
        at += 4 + width * u32::from_le_bytes(count) as usize;
    }
    &body[at..]
}

/// How many states a program of format 2 reads, and how many it does not.
fn as_before(dir: &Path) -> (usize, usize) {
    use redb::{ReadableDatabase, ReadableTable};
    const DATA: redb::TableDefinition<'_, u64, &[u8]> = redb::TableDefinition::new("states");
    const LIVE: redb::TableDefinition<'_, u64, &[u8]> = redb::TableDefinition::new("states live");
    let file = redb::Database::open(dir.join(FILE)).expect("a database");
    let read = file.begin_read().expect("a transaction");
    let (data, live) = (read.open_table(DATA).unwrap(), read.open_table(LIVE).unwrap());
    let (mut old, mut new) = (0, 0);
    for row in live.iter().unwrap() {
        let (first, bits) = row.unwrap();
        let segment = data.get(first.value()).unwrap().expect("a segment");
        let segment = segment.value();
        let word = |place: usize| {
            u32::from_le_bytes(segment[4 * place..4 * place + 4].try_into().unwrap()) as usize
        };
        let texts = 4 + 4 * word(0);
        for place in 0..word(0) {
            let is_live =
                bits.value().get(place / 8).is_some_and(|it| it & (1 << (place % 8)) != 0);
            if is_live {
                let start = if place == 0 { 0 } else { word(place) };
                let body = &segment[texts + start + 8..texts + word(place + 1)];
                match serde_json::from_slice::<ThredState>(text_of(body)) {
                    Ok(_) => old += 1,
                    Err(_) => new += 1,
                }
            }
        }
    }
    (old, new)
}

#[tokio::test]
async fn a_directory_of_the_format_before_is_read_and_upgraded() {
    let dir = tempfile::tempdir().expect("a directory");
    restore(dir.path());
    let open = |config| RedbBackends::open_with(dir.path(), config).expect("a store");
    let store = open(config());
    assert_eq!((store.format().format, store.format().is_open()), (2, true));
    assert_holds(&Contents::of(&*store.storage).await, "directory.contents.json");
    let queued = Queued::of(&*store.event_q, &*store.message_q).await;
    assert_holds(&queued, "directory.queued.json");
    stored::go_on(store.storage.clone(), store.event_q.clone(), "before").await;
    let before = Contents::of(&*store.storage).await;
    store.close().await;
    drop(store);
    let count = before.threds();
    assert_eq!(as_before(dir.path()), (count, 0));

    let upgraded = open(config().upgrade(true));
    assert_eq!((upgraded.format().format, upgraded.format().is_open()), (3, false));
    assert_eq!(Contents::of(&*upgraded.storage).await, before);
    upgraded.close().await;
    drop(upgraded);
    assert_eq!(as_before(dir.path()), (count, 0), "nothing was rewritten");

    let store = open(config());
    assert_eq!(store.format().format, 3);
    stored::go_on(store.storage.clone(), store.event_q.clone(), "after").await;
    let after = Contents::of(&*store.storage).await;
    store.close().await;
    drop(store);
    let (old, new) = as_before(dir.path());
    assert!(old > 0 && new > 0, "{old} of the old form, {new} of the new one");
    // What a store holds is read again, and an upgrade changes nothing any more.
    let store = open(config().upgrade(true));
    assert_eq!(Contents::of(&*store.storage).await, after);
}

#[tokio::test]
async fn a_new_directory_has_the_newest_format_or_the_one_before() {
    for (config, format) in [(config(), 3), (config().make_format(2), 2)] {
        let dir = tempfile::tempdir().expect("a directory");
        let store = RedbBackends::open_with(dir.path(), config).expect("a store");
        stored::fill(store.storage.clone()).await;
        assert_holds(&Contents::of(&*store.storage).await, "directory.contents.json");
        let count = Contents::of(&*store.storage).await.threds();
        store.close().await;
        drop(store);
        let found = as_before(dir.path());
        assert_eq!(found, if format == 2 { (count, 0) } else { (0, count) });
        // The choice is for new ones.
        let config = RedbConfig::default().make_format(5 - format);
        let store = RedbBackends::open_with(dir.path(), config).expect("a store");
        assert_eq!(store.format().format, format);
    }
}
