//! `srvthreds test`, run as a program.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use serde_json::Value;

const PATTERN: &str = r#"{ "name": "hello", "reactions": [
  { "name": "r", "condition": { "type": "filter", "xpr": "$event.type = 'hello'",
    "transform": { "eventDataTemplate": { "title": "hi" } }, "publish": { "to": "ann" } } }
] }"#;

fn scenario(title: &str) -> String {
    format!(
        r#"{{ "name": "says {title}", "patterns": ["hello.pattern.json"], "steps": [
          {{ "send": {{ "type": "hello" }} }},
          {{ "expectMessage": {{ "event": {{ "data": {{ "title": "{title}" }} }} }} }} ] }}"#
    )
}

fn srvthreds(directory: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_srvthreds"));
    command.current_dir(directory).arg("test").args(args).output().unwrap()
}

fn files() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("empty")).unwrap();
    for (name, text) in [
        ("hello.pattern.json", PATTERN),
        ("good.scenario.json", &scenario("hi")),
        ("bad.scenario.json", &scenario("bye")),
        ("plain.json", &scenario("hi")),
        ("broken.scenario.txt", "{ \"name\": 1 }"),
    ] {
        fs::write(directory.path().join(name), text).unwrap();
    }
    directory
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn exit_codes_and_summary() {
    let directory = files();
    for (args, code, summary) in [
        (&["good.scenario.json"][..], 0, "1 passed, 0 failed"),
        (&["good.scenario.json", "./good.scenario.json"], 0, "1 passed, 0 failed"),
        (&["bad.scenario.json"], 1, "0 passed, 1 failed"),
        (&["."], 1, "2 passed, 1 failed"),
        (&["good.scenario.json", "missing.json"], 2, "1 passed, 0 failed"),
        (&["broken.scenario.txt", "bad.scenario.json"], 2, "0 passed, 1 failed"),
        (&["empty"], 2, "0 passed, 0 failed"),
    ] {
        let output = srvthreds(directory.path(), args);
        assert_eq!(output.status.code(), Some(code), "{args:?}");
        assert_eq!(text(&output.stdout).lines().last(), Some(summary), "{args:?}");
    }
}

#[test]
fn a_failure_shows_the_difference_and_an_unreadable_file_its_place() {
    let directory = files();
    let output = srvthreds(directory.path(), &["bad.scenario.json", "broken.scenario.txt"]);
    let out = text(&output.stdout);
    assert!(out.contains("event.data.title: expected \"bye\", found \"hi\""), "{out}");
    let err = text(&output.stderr);
    assert!(err.contains("broken.scenario.txt") && err.contains("$.name"), "{err}");
}

#[test]
fn json_is_one_document() {
    let directory = files();
    let output = srvthreds(directory.path(), &[".", "missing.json", "--json"]);
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&document["passed"], &document["failed"]), (&2.into(), &1.into()));
    let failed = document["scenarios"].as_array().unwrap().iter().find(|s| s["passed"] == false);
    assert_eq!(failed.unwrap()["failure"]["step"], 1);
    assert_eq!(document["unreadable"][0]["file"], "missing.json");
    assert_eq!(text(&output.stderr).lines().last(), Some("2 passed, 1 failed"));
}
