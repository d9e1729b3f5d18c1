//! Files that change while it runs.

use std::{fs, path::Path};

use crate::program::{
    FAILING, HELLO, MENDED, Program, TALK, answer, event, patterns, thred, title,
};

/// As an editor does it.
fn replace(directory: &Path, name: &str, text: &str) {
    let other = directory.join(".being-written");
    fs::write(&other, text).unwrap();
    fs::rename(other, directory.join("patterns").join(name)).unwrap();
}

#[test]
fn a_good_file_is_taken_into_use_and_running_threds_keep_theirs() {
    let directory = patterns(&[("talk.json", &TALK.replace("1500", "3600000"))]);
    let mut program = Program::live(directory.path(), &[]);
    program.send(&event("1", "ask"));
    let first = program.message();
    let changed =
        TALK.replace("1500", "3600000").replace("First", "Erste").replace("Second", "Zweite");
    replace(directory.path(), "talk.json", &changed);
    let line = program.says("reload: ");
    assert!(
        line.contains("talk is in use, revision ") && line.contains("(patterns/talk.json)"),
        "{line}"
    );
    program.send(&(event("2", "ask") + &answer("3", &thred(&first))));
    assert_eq!(program.titles(2), ["Erste 2", "Second 1"]);
    program.stop();
}

#[test]
fn a_bad_file_is_refused_and_the_old_version_stays() {
    let directory = patterns(&[("hello.json", HELLO)]);
    let mut program = Program::live(directory.path(), &[]);
    fs::write(
        directory.path().join("patterns/hello.json"),
        HELLO.replace("$event.type = 'hello'", "$event.type = = 'hello'"),
    )
    .unwrap();
    // What is wrong, where, and the way to mend it, as `validate` says it.
    assert!(program.says("error[").contains("error["));
    assert!(program.says("--> ").contains("patterns/hello.json:3:"));
    let line = program.says("is refused");
    assert!(line.contains("error: patterns/hello.json is refused; revision "), "{line}");
    program.send(&event("1", "hello"));
    assert_eq!(title(&program.message()), "Hello, erp");

    // Half a file, a new bad one, and then all is well again.
    replace(directory.path(), "other.json", "{ \"reactions\": [");
    program.says("error: patterns/other.json is refused");
    fs::remove_file(directory.path().join("patterns/other.json")).unwrap();
    replace(directory.path(), "hello.json", &HELLO.replace("Hello, ", "Bye, "));
    program.says("reload: hello is in use");
    program.send(&event("2", "hello"));
    assert_eq!(title(&program.message()), "Bye, erp");
    program.stop();

    // At the start a bad file is refused as ever.
    replace(directory.path(), "hello.json", "{}");
    let args = ["run", "--data", "data", "--patterns", "patterns/hello.json"];
    let output = crate::program::srvthreds(directory.path(), &args);
    assert_eq!(output.status.code(), Some(1));
    let stderr = crate::program::text(&output.stderr);
    assert!(stderr.contains("these patterns cannot run; nothing was started"), "{stderr}");
}

#[test]
fn files_that_come_go_and_are_renamed() {
    let directory =
        patterns(&[("hello.json", HELLO), ("talk.json", &TALK.replace("1500", "3600000"))]);
    let mut program = Program::live(directory.path(), &[]);
    program.send(&event("1", "ask"));
    let first = program.message();

    fs::create_dir(directory.path().join("patterns/more")).unwrap();
    replace(directory.path(), "more/failing.json", MENDED);
    program.says("reload: failing is in use");
    program.send(&event("2", "fail"));
    assert_eq!(title(&program.message()), "mended");

    // Another name for the same changes nothing; the next line is about the next change.
    let file = |name: &str| directory.path().join("patterns").join(name);
    fs::rename(file("hello.json"), file("greeting.json")).unwrap();
    fs::remove_file(file("talk.json")).unwrap();
    let line = program.says("reload: ");
    assert!(line.contains("talk is out of use (patterns/talk.json"), "{line}");
    // It starts no threds any more; those that run go on.
    program.send(&(event("3", "ask") + &answer("4", &thred(&first)) + &event("5", "hello")));
    assert_eq!(program.titles(2), ["Hello, erp", "Second 1"]);

    // A directory that is gone may be one that is being replaced.
    fs::rename(directory.path().join("patterns"), directory.path().join("away")).unwrap();
    program.says("cannot read patterns");
    program.send(&event("6", "hello"));
    assert_eq!(title(&program.message()), "Hello, erp");
    fs::rename(directory.path().join("away"), directory.path().join("patterns")).unwrap();
    replace(directory.path(), "talk.json", TALK);
    program.says("reload: talk is in use");
    program.send(&event("7", "ask"));
    assert_eq!(title(&program.message()), "First 7");
    program.stop();

    // What is gone from the files while nothing runs goes out of use at the start.
    fs::remove_file(file("greeting.json")).unwrap();
    let mut program =
        Program::start(directory.path(), &["run", "--data", "data", "--patterns", "patterns"]);
    let line = program.says("reload: ");
    assert!(line.contains("hello is out of use: no file holds it"), "{line}");
    program.says("ready: 2 patterns");
    program.send(&(event("8", "hello") + &event("9", "fail")));
    assert_eq!(title(&program.message()), "mended");
    program.stop();
}

#[test]
fn sessions_are_read_again() {
    let to_group = HELLO.replace("$xpr($event.source.id)", "@ops");
    let directory = patterns(&[("hello.json", &to_group)]);
    let sessions = |text: &str| fs::write(directory.path().join("sessions.json"), text).unwrap();
    sessions(r#"{ "groups": { "ops": ["ann"] } }"#);
    let mut program = Program::live(directory.path(), &["--sessions", "sessions.json"]);
    let told = |program: &mut Program, id: &str| {
        program.send(&event(id, "hello"));
        program.message()["to"].clone()
    };
    assert_eq!(told(&mut program, "1"), serde_json::json!(["ann"]));
    sessions(r#"{ "groups": { "ops": ["ann", "bob"] } }"#);
    program.says("reload: the sessions of sessions.json are in use");
    assert_eq!(told(&mut program, "2"), serde_json::json!(["ann", "bob"]));
    sessions(r#"{ "groups": { "ops": "#);
    program.says("error: cannot read sessions.json:1:");
    program.says("reload: the sessions stay as they were");
    assert_eq!(told(&mut program, "3"), serde_json::json!(["ann", "bob"]));
    program.stop();
}

#[test]
fn a_store_among_the_patterns_is_no_change() {
    let directory = patterns(&[("failing.json", FAILING), ("hello.json", HELLO)]);
    let root = directory.path().join("patterns");
    let args = ["run", "--data", "data", "--patterns", ".", "--log", "warn,thredcore=info"];
    let mut program = Program::start(&root, &args);
    program.says("ready: 2 patterns");
    for number in 0..50 {
        program.send(&event(&number.to_string(), "hello"));
        program.message();
    }
    fs::write(root.join("hello.json"), HELLO.replace("Hello, ", "Bye, ")).unwrap();
    program.says("reload: hello is in use");
    program.stop();
}
