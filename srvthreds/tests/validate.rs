//! `srvthreds validate`, run as a program.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use serde_json::Value;

const GOOD: &str = r#"{ "name": "good", "reactions": [
  { "name": "r", "condition": { "type": "filter", "xpr": "true" } }
] }"#;

const WARNED: &str = r#"{ "name": "warned", "reactions": [
  { "name": "r", "allowUnboundEvent": true, "condition": { "type": "filter", "xpr": "true" } }
] }"#;

const NOTED: &str = r#"{ "name": "noted", "reactions": [
  { "name": "r", "condition": { "type": "filter", "xpr": "true" } },
  { "name": "w", "allowUnboundEvents": true, "condition": { "type": "filter", "xpr": "true" } }
] }"#;

const BAD: &str = r#"{
  "name": "bad",
  "reactions": [
    { "name": "r", "condition": {
      "type": "filter",
      "xpr": "\"é\" = $event.type and )",
      "transition": { "name": "reveiw" } } },
    { "name": "review", "condition": { "type": "filter", "xpr": "$evnt.type" } }
  ]
}"#;

fn srvthreds(directory: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_srvthreds"));
    command.current_dir(directory).env_remove("NO_COLOR").args(args).output().unwrap()
}

/// A directory with files in it.
fn files(files: &[(&str, &str)]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = directory.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    directory
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn exit_codes_and_summary() {
    let directory = files(&[
        ("good.json", GOOD),
        ("warned.json", WARNED),
        ("noted.json", NOTED),
        ("bad.json", BAD),
    ]);
    for (args, code, summary) in [
        (&["good.json"][..], 0, "1 pattern, 0 errors, 0 warnings"),
        (&["good.json", "warned.json"], 0, "2 patterns, 0 errors, 1 warning"),
        (&["warned.json", "--deny-warnings"], 1, "1 pattern, 0 errors, 1 warning"),
        (&["noted.json", "--deny-warnings"], 0, "1 pattern, 0 errors, 0 warnings, 1 note"),
        (&["bad.json"], 1, "1 pattern, 2 errors, 1 warning"),
        (&["bad.json", "missing.json"], 2, "1 pattern, 2 errors, 1 warning"),
    ] {
        let output = srvthreds(directory.path(), &[&["validate"], args].concat());
        assert_eq!(output.status.code(), Some(code), "{args:?}");
        assert_eq!(text(&output.stdout).lines().last(), Some(summary), "{args:?}");
    }
    assert_eq!(srvthreds(directory.path(), &["validate"]).status.code(), Some(2));
}

#[test]
fn findings_point_into_the_file() {
    let directory = files(&[("bad.json", BAD)]);
    let output = srvthreds(directory.path(), &["validate", "bad.json"]);
    let expected = r#"
error[unknown-reaction]: no reaction is called `reveiw`
 --> bad.json:7:31
  |
7 |       "transition": { "name": "reveiw" } } },
  |                               ^^^^^^^^
  = help: did you mean `review`?

warning[unknown-variable]: nothing gives `$evnt` a value
 --> bad.json:8:66
  |
8 |     { "name": "review", "condition": { "type": "filter", "xpr": "$evnt.type" } }
  |                                                                  ^^^^^
  = help: did you mean `$event`?
"#;
    let stdout = text(&output.stdout);
    assert!(stdout.contains(expected.trim_start()), "{stdout}");
    assert!(stdout.contains(" --> bad.json:6:39\n"), "{stdout}");
    assert!(!stdout.contains('\u{1b}'));
    let coloured = srvthreds(directory.path(), &["validate", "bad.json", "--color", "always"]);
    assert!(text(&coloured.stdout).contains("\u{1b}[1;31merror[unknown-reaction]\u{1b}[0m"));
}

#[test]
fn a_note_says_what_to_do_and_is_for_validate_alone() {
    let directory = files(&[("noted.json", NOTED)]);
    let stdout = srvthreds(directory.path(), &["validate", "noted.json"]).stdout;
    let stdout = text(&stdout);
    assert!(
        stdout.starts_with("note[wait-without-key]: each event of its type is tried"),
        "{stdout}"
    );
    assert!(stdout.contains("= help: ") && stdout.contains("$local('order')"), "{stdout}");
    let output = srvthreds(directory.path(), &["validate", "noted.json", "--json"]);
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&document["notes"], &document["findings"][0]["severity"]),
        (&1.into(), &"note".into())
    );
    fs::write(directory.path().join("none.jsonl"), "").unwrap();
    let run = ["run", "--patterns", "noted.json", "--events", "none.jsonl"];
    let output = srvthreds(directory.path(), &run);
    assert!(!text(&output.stderr).contains("note["), "{}", text(&output.stderr));
}

#[test]
fn json_is_one_document() {
    let directory = files(&[("bad.json", BAD), ("good.json", GOOD)]);
    let output = srvthreds(directory.path(), &["validate", "--json", "bad.json", "good.json"]);
    assert_eq!(output.status.code(), Some(1));
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&document["errors"], &document["warnings"]), (&2.into(), &1.into()));
    assert_eq!(document["patterns"][1]["id"], "good");
    assert_eq!(document["patterns"][1]["valid"], true);
    let finding = &document["findings"][1];
    assert_eq!(finding["code"], "unknown-reaction");
    assert_eq!(finding["path"], "$.reactions[0].condition.transition.name");
    assert_eq!((&finding["line"], &finding["column"]), (&7.into(), &31.into()));
    assert_eq!(finding["pattern"], "bad");
}

#[test]
fn directories_stand_for_their_patterns() {
    let directory = files(&[
        ("p/a.json", GOOD),
        ("p/deep/b.pattern.json", WARNED),
        ("p/broken.json", "{ \"reactions\": [,"),
        ("p/other.json", "{ \"steps\": [] }"),
        ("p/.hidden.json", BAD),
        ("p/notes.txt", BAD),
        ("empty/other.json", "[]"),
    ]);
    let output = srvthreds(directory.path(), &["validate", "p", "p/a.json"]);
    let stdout = text(&output.stdout);
    assert_eq!(stdout.lines().last(), Some("3 patterns, 1 error, 1 warning"), "{stdout}");
    assert!(stdout.contains("error[json-syntax]: this is no JSON: expected value"), "{stdout}");
    assert!(stdout.contains("broken.json:1:17\n"), "{stdout}");
    let output = srvthreds(directory.path(), &["validate", "empty"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("there are no pattern files in this directory"));
}

#[test]
fn files_of_one_call_are_one_set() {
    let directory = files(&[("a.json", GOOD), ("b.json", GOOD)]);
    let output = srvthreds(directory.path(), &["validate", "a.json", "b.json"]);
    let stdout = text(&output.stdout);
    assert!(stdout.contains("error[duplicate-id]: the id `good` is taken by a.json"), "{stdout}");
    assert!(stdout.contains(" --> b.json:1:11\n"), "{stdout}");
}

#[test]
fn spawned_patterns_are_looked_for_in_a_set_only() {
    let spawning = GOOD
        .replace("\"good\"", "\"spawning\"")
        .replace("\"true\"", "\"true\", \"spawn\": { \"names\": [\"god\"] }");
    let directory = files(&[("a.json", &spawning), ("b.json", GOOD)]);
    let alone = srvthreds(directory.path(), &["validate", "a.json"]);
    assert_eq!(text(&alone.stdout), "1 pattern, 0 errors, 0 warnings\n");
    let together = srvthreds(directory.path(), &["validate", "a.json", "b.json"]);
    let stdout = text(&together.stdout);
    assert!(
        stdout.contains("warning[unknown-spawn]: no pattern has the id or name `god`"),
        "{stdout}"
    );
    assert!(stdout.contains("help: did you mean `good`?"), "{stdout}");
}

#[test]
fn repeated_keys_are_seen() {
    let repeated = GOOD.replacen("\"name\": \"good\"", "\"name\": \"x\", \"name\": \"good\"", 1);
    let directory = files(&[("a.json", &repeated)]);
    let output = srvthreds(directory.path(), &["validate", "a.json"]);
    let stdout = text(&output.stdout);
    assert!(stdout.contains("warning[repeated-key]"), "{stdout}");
    assert!(stdout.contains(" --> a.json:1:16\n"), "{stdout}");
}

#[test]
fn what_is_no_text() {
    let directory = files(&[("a.json", "")]);
    fs::write(directory.path().join("b.json"), [b'{', 0xff]).unwrap();
    let output = srvthreds(directory.path(), &["validate", "a.json", "b.json"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("cannot read b.json: the file is no UTF-8 text"));
    assert!(text(&output.stdout).contains(" --> a.json:1:1\n"));
}

#[test]
fn help_shows_examples() {
    let directory = tempfile::tempdir().unwrap();
    for args in [&["--help"][..], &["validate", "--help"], &["schema", "--help"]] {
        let output = srvthreds(directory.path(), args);
        assert!(text(&output.stdout).contains("Examples:\n"), "{args:?}");
    }
    let version = srvthreds(directory.path(), &["--version"]);
    assert_eq!(text(&version.stdout).trim(), concat!("srvthreds ", env!("CARGO_PKG_VERSION")));
}
