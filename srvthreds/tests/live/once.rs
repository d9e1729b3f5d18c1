//! Once, over the whole program: whatever is under way when it is killed, and however often a file is
//! fed.

use std::{fmt::Write, path::Path, time::Duration};

use serde_json::Value;

use crate::program::{COUNTING, Program, patterns, printed, srvthreds, text};

const EVENTS: usize = 4_000;
const SOURCES: usize = 200;

fn start() -> &'static str {
    "{\"id\":\"start\",\"type\":\"start\",\"source\":{\"id\":\"ann\"}}\n"
}

fn counts() -> String {
    let mut lines = String::new();
    for n in 0..EVENTS {
        let source = n % SOURCES;
        let _ = writeln!(
            lines,
            r#"{{"id":"c{n}","type":"count","source":{{"id":"sensor {source}"}}}}"#
        );
    }
    lines
}

/// Feeds lines until all that follows from them has happened.
fn feed(directory: &Path, lines: &str) {
    let mut program = Program::live(directory, &["--until-idle"]);
    program.send(lines);
    let (status, _, stderr) = program.ended();
    assert_eq!(status.code(), Some(0), "{stderr}");
}

/// What the one thred has counted.
fn counted(directory: &Path) -> u64 {
    let listed = printed(directory, &["threds", "list", "--data", "data", "--json"]);
    let listed: Value = serde_json::from_str(&listed).unwrap();
    let threds = listed["threds"].as_array().unwrap();
    assert_eq!(threds.len(), 1, "{listed}");
    let id = threds[0]["id"].as_str().unwrap();
    let shown = printed(directory, &["threds", "show", "--data", "data", id, "--json"]);
    let shown: Value = serde_json::from_str(&shown).unwrap();
    shown["state"]["locals"]["n"].as_u64().unwrap()
}

/// 200 sources to one thred, so that far more is under way than an inbox usually holds.
#[test]
fn a_kill_in_the_middle_doubles_nothing() {
    let directory = patterns(&[("counting.json", COUNTING)]);
    feed(directory.path(), start());
    for pause in [100, 300, 700] {
        let mut program = Program::live(directory.path(), &[]);
        program.send(&counts());
        std::thread::sleep(Duration::from_millis(pause));
        program.kill();
    }
    feed(directory.path(), &counts());
    assert_eq!(counted(directory.path()), EVENTS as u64);
}

#[test]
fn a_file_that_is_fed_twice_counts_once() {
    let directory = patterns(&[("counting.json", COUNTING)]);
    feed(directory.path(), start());
    for _ in 0..2 {
        feed(directory.path(), &counts());
    }
    assert_eq!(counted(directory.path()), EVENTS as u64);
    // And the whole is computed again from its history.
    printed(directory.path(), &["replay", "--data", "data"]);
}

/// Deep, large and strange events, with a kill and a restart between them: the store opens, lists and
/// goes on.
#[test]
fn hostile_events_leave_a_store_that_opens_and_goes_on() {
    /// Keeps the whole event.
    const KEEPING: &str = r#"{ "name": "Keeping", "reactions": [
      { "name": "keep", "condition": {
        "type": "filter", "xpr": "$event.type = 'keep'",
        "onTrue": { "setLocal": { "it": "$xpr({ 'a': { 'b': $event.data } })" } },
        "transform": { "eventDataTemplate": { "content": { "values": "$xpr($event.data)" } } },
        "publish": { "to": "ann" } } },
      { "name": "wait", "allowUnboundEvents": true,
        "condition": { "type": "filter", "xpr": "$event.type = 'never'" } }
    ] }"#;
    let directory = patterns(&[("keeping.json", KEEPING), ("counting.json", COUNTING)]);
    let deep = |depth: usize| format!("{}1{}", "{\"d\":".repeat(depth), "}".repeat(depth));
    let list = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let mut lines = start().to_owned();
    let mut number = 0;
    let mut add = |data: &str| {
        number += 1;
        let _ = writeln!(
            lines,
            r#"{{"id":"k{number}","type":"keep","source":{{"id":"mallory"}},"data":{data}}}"#
        );
    };
    for depth in [1, 8, 32, 64, 90, 100, 110, 116, 120, 124, 126, 127, 128, 200, 2_000] {
        add(&deep(depth));
        add(&format!(r#"{{"list":{}}}"#, list(depth)));
    }
    for size in [1_000, 200_000, 900_000, 2_000_000] {
        add(&format!(r#"{{"text":"{}"}}"#, "x".repeat(size)));
    }
    for odd in [
        r#"{"$where":"1"}"#,
        r#"{"a":1e308,"b":-0.0,"c":18446744073709551615,"d":9007199254740993}"#,
        r#"{"":{"":""},"\u0000":"\u0000","__proto__":{}}"#,
        r#"{"emoji":"\ud83d\ude00","lone":"\ud800"}"#,
        "{\"a\":1,\"a\":2}",
        "null",
        "[]",
        "not json",
    ] {
        add(odd);
    }
    lines.push_str("\u{feff}{\"id\":\"bom\",\"type\":\"keep\",\"source\":{\"id\":\"m\"}}\n");
    for pause in [50, 200, 600] {
        let mut program = Program::live(directory.path(), &[]);
        program.try_send(&lines);
        std::thread::sleep(Duration::from_millis(pause));
        program.kill();
    }
    // What was refused or failed is told; that is no reason not to go on.
    let mut program = Program::live(directory.path(), &["--until-idle"]);
    program.try_send(&lines);
    program.try_send(&counts());
    let (status, _, stderr) = program.ended();
    assert!(matches!(status.code(), Some(0 | 1)), "{stderr}");
    let checked = srvthreds(directory.path(), &["store", "check", "--data", "data"]);
    assert_eq!(checked.status.code(), Some(0), "{}", text(&checked.stdout));
    let listed = printed(directory.path(), &["threds", "list", "--data", "data", "--json"]);
    let listed: Value = serde_json::from_str(&listed).unwrap();
    let counting = listed["threds"].as_array().unwrap().iter();
    let counting = counting.filter(|thred| thred["patternId"] == "counting").count();
    assert_eq!(counting, 1, "the other threds work");
    printed(directory.path(), &["replay", "--data", "data"]);
}
