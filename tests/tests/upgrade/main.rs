//! Stores of the format before: fixtures that were written by it are read, gone on with and upgraded.
//!
//! The fixtures are in `tests/fixtures/format-2`. They are made again, in that format, by
//!
//! ```sh
//! cargo nextest run -p thred-tests --test upgrade --run-ignored only -E 'test(make_fixture)'
//! ```

mod directory;
mod mongo;
mod redis;

use std::{fs, path::PathBuf, time::Duration};

use serde::{Serialize, de::DeserializeOwned};

/// Longer than any fixture gets old.
const YEARS: Duration = Duration::from_secs(1000 * 365 * 24 * 3600);

/// Where the fixtures are.
fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/format-2").join(name)
}

fn read(name: &str) -> String {
    let file = fixture(name);
    fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

fn write(name: &str, text: &str) {
    fs::create_dir_all(fixture("")).expect("a directory");
    fs::write(fixture(name), text).expect("a fixture");
}

/// What a fixture holds, as it was read when it was made.
fn expected<T: DeserializeOwned>(name: &str) -> T {
    serde_json::from_str(&read(name)).expect("what a fixture holds")
}

fn write_expected(name: &str, contents: &impl Serialize) {
    write(name, &(serde_json::to_string_pretty(contents).expect("JSON") + "\n"));
}

/// Compares what was read with what a fixture holds; tells the first line that differs.
#[track_caller]
fn assert_holds<T: DeserializeOwned + Serialize>(found: &T, fixture: &str) {
    let text = |contents: &T| serde_json::to_string_pretty(contents).expect("JSON");
    let (found, expected) = (text(found), text(&expected(fixture)));
    for (number, (found, expected)) in found.lines().zip(expected.lines()).enumerate() {
        assert_eq!(found, expected, "line {} of {fixture}", number + 1);
    }
    assert_eq!(found, expected);
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!(r#"{name} is not set; run: scripts/services up && eval "$(scripts/services env)""#)
    })
}

/// A name that nobody else uses.
fn own_name() -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let nanos = since.expect("a clock after 1970").as_nanos();
    format!("upgrade-{}-{count}-{nanos}", std::process::id())
}
