//! `srvthreds run`, run as a program.

mod samples;

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, Command, Output, Stdio},
};

use samples::{FAILING, HELLO, LATE};
use serde_json::Value;

const LOOKUP: &str = r#"{ "name": "Lookup", "reactions": [
  { "name": "ask", "condition": {
    "type": "filter", "xpr": "$event.type = 'lookup'",
    "transform": { "eventDataTemplate": { "content": { "tasks": [
      { "op": "getOne", "params": { "type": "Contact", "matcher": { "id": "north" } } } ] } } },
    "publish": { "name": "ask", "to": "org.wt.persistence" } } },
  { "name": "tell", "condition": {
    "type": "filter", "xpr": "$isResponseFor('ask')",
    "transform": { "eventDataTemplate": { "title": "$xpr($valueNamed('phone'))" } },
    "publish": { "to": "$thred" } } }
] }"#;

/// A directory with files in it.
fn files(files: &[(&str, &str)]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(directory.path().join(name), text).unwrap();
    }
    directory
}

fn start(directory: &Path, args: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_srvthreds"))
        .current_dir(directory)
        .args(["run", "--json", "--color", "never", "--patterns", "."])
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Runs with events on standard input.
fn run(directory: &Path, args: &[&str], events: &str) -> Output {
    let mut child = start(directory, args);
    // Refused arguments leave nobody to read.
    let _ = child.stdin.take().unwrap().write_all(events.as_bytes());
    child.wait_with_output().unwrap()
}

fn event(id: &str, event_type: &str, source: &str) -> String {
    format!(r#"{{"id":"{id}","type":"{event_type}","source":{{"id":"{source}"}}}}"#) + "\n"
}

/// The titles of the messages.
fn titles(output: &Output) -> Vec<String> {
    let lines = std::str::from_utf8(&output.stdout).unwrap().lines();
    let messages = lines.map(|line| serde_json::from_str::<Value>(line).unwrap());
    messages.map(|it| it["event"]["data"]["title"].as_str().unwrap_or("-").to_owned()).collect()
}

fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

fn summary(output: &Output) -> Value {
    serde_json::from_str(stderr(output).lines().last().unwrap()).unwrap()
}

#[test]
fn messages_are_json_lines_and_the_summary_counts() {
    let directory = files(&[("hello.json", HELLO)]);
    let events =
        event("1", "hello", "ann") + &event("2", "other", "ann") + &event("3", "hello", "bob");
    let output = run(directory.path(), &[], &events);
    assert_eq!(titles(&output), ["Hello, ann", "Hello, bob"]);
    let first: Value =
        serde_json::from_slice(output.stdout.split(|b| *b == b'\n').next().unwrap()).unwrap();
    let keys: Vec<_> = first.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["id", "event", "to", "timestamp"]);
    let summary = summary(&output);
    assert_eq!(summary["events"]["accepted"], 3);
    assert_eq!(summary["events"]["unmatched"], 1);
    assert_eq!(summary["messages"], 2);
    assert_eq!(summary["threds"]["started"], 2);
    assert_eq!(summary["threds"]["live"], 0);
    assert_eq!(summary["deadLetters"]["count"], 0);
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn malformed_lines_are_reported_and_passed_over() {
    let directory = files(&[("hello.json", HELLO)]);
    let events = [
        "\n",
        "no json\n",
        "{\"id\":\"1\",\"type\":\"hello\",\"source\":{}}\n",
        &"x".repeat(3_000_000),
        "\n",
        "\r\n",
        &event("2", "hello", "ann"),
        &event("3", "hello", "SYSTEM"),
        &event("4", "hello", "bob"),
    ]
    .concat();
    fs::write(directory.path().join("events.jsonl"), events).unwrap();
    let output = run(directory.path(), &["--events", "events.jsonl"], "");
    let stderr = stderr(&output);
    for (place, reason) in [
        ("events.jsonl:2:2", "not an event: expected ident"),
        ("events.jsonl:3:36", "at `source`: missing field `id`"),
        ("events.jsonl:4", "the line is longer than an event may be"),
        ("events.jsonl:7", "the source id `SYSTEM` is reserved"),
    ] {
        let line = stderr.lines().find(|line| line.contains(place));
        assert!(line.is_some_and(|line| line.contains(reason)), "{place}: {stderr}");
    }
    assert!(stderr.contains("  | no json"), "{stderr}");
    assert_eq!(titles(&output), ["Hello, ann", "Hello, bob"]);
    assert_eq!(summary(&output)["events"]["rejected"], 4);
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn what_is_wrong_with_an_event_fits_a_line_and_names_the_limit() {
    let directory = files(&[("hello.json", HELLO)]);
    let with = |field: &str| {
        format!(r#"{{"id":"1","type":"hello","source":{{"id":"ann"}},{field}}}"#) + "\n"
    };
    let nested = |levels: usize| {
        let text = "{\"a\":".repeat(levels) + "1" + &"}".repeat(levels);
        with(&format!(r#""data":{{"content":{{"values":{text}}}}}"#))
    };
    let deep = "the event has more than 112 levels of objects and lists in one another, which is the \
                limit; flatten it, or send the inner part as text";
    let named = format!(r#""data":{}no{}"#, r#"{"name":"#.repeat(60), "}".repeat(60));
    let cases = [
        (nested(110), deep.to_owned()),
        // Deeper than JSON's reader goes.
        (nested(300), deep.to_owned()),
        (
            with(&named),
            "not an event: at `data.name.name.name.name.name.name.name.name.name.name.name…\
             .name.name.name.name.name.name.name.name.name.name.name.name`: expected ident"
                .to_owned(),
        ),
        (
            with(r#""timestamp":-5"#),
            "not an event: at `timestamp`: -5 is before 1970; give milliseconds since then, or leave \
             it out"
                .to_owned(),
        ),
    ];
    let lines: String = cases.iter().map(|(line, _)| line.as_str()).collect();
    let output = run(directory.path(), &[], &(lines + &event("ok", "hello", "ann")));
    let told: Vec<_> =
        stderr(&output).lines().filter(|line| line.starts_with("error: stdin:")).collect();
    assert_eq!(told.len(), cases.len(), "{told:#?}");
    for (line, (_, reason)) in told.into_iter().zip(&cases) {
        assert!(line.ends_with(&**reason), "{line}\n{reason}");
    }
    assert_eq!(titles(&output), ["Hello, ann"]);
    assert_eq!(summary(&output)["events"]["rejected"], cases.len());
}

#[test]
fn a_failed_event_is_dead_lettered_with_its_reason() {
    let directory = files(&[("failing.json", FAILING), ("hello.json", HELLO)]);
    let events = event("1", "fail", "ann") + &event("2", "hello", "ann");
    let output = run(directory.path(), &[], &events);
    let dead = &summary(&output)["deadLetters"];
    assert_eq!(dead["count"], 1);
    assert_eq!(dead["first"][0]["id"], "1");
    assert!(dead["first"][0]["reason"].as_str().unwrap().contains("fail"), "{dead}");
    assert!(titles(&output).contains(&"Hello, ann".to_owned()));
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn what_cannot_start_says_why() {
    let directory = files(&[
        ("hello.json", HELLO),
        (
            "broken.pattern.json",
            r#"{ "name": "b", "reactions": [ { "condition": { "type": "filter", "xpr": "1 +" } } ] }"#,
        ),
        ("sessions.txt", "{ \"groups\": {\n  \"ops\": [1] } }"),
        ("records.txt", r#"{ "": [{}] }"#),
    ]);
    let cases: [(&[&str], i32, &str); 7] = [
        (&[], 1, "--> ./broken.pattern.json:1:"),
        (&["missing"], 2, "cannot read missing: there is no such file"),
        (&["--sessions", "missing"], 2, "cannot read missing: there is no such file"),
        (&["--sessions", "sessions.txt"], 2, "cannot read sessions.txt:2:"),
        (&["--records", "records.txt"], 2, "cannot read records.txt: "),
        (&["--events", "missing"], 2, "cannot read missing: there is no such file"),
        (&["--linger", "soon"], 2, "is no span of time"),
    ];
    for (index, (args, code, text)) in cases.into_iter().enumerate() {
        if index == 1 {
            fs::remove_file(directory.path().join("broken.pattern.json")).unwrap();
        }
        let output = run(directory.path(), args, "");
        assert!(stderr(&output).contains(text), "{args:?}: {}", stderr(&output));
        assert_eq!(output.status.code(), Some(code), "{args:?}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn timers_fire_while_the_run_lingers() {
    let ask = event("1", "late", "ann");
    let live = |output: &Output| summary(output)["threds"]["live"].clone();
    let directory = files(&[("late.json", &LATE.replace("700", "3600000"))]);
    let output = run(directory.path(), &[], &ask);
    assert_eq!((titles(&output), live(&output)), (vec!["asked".to_owned()], 1.into()));
    let directory = files(&[("late.json", LATE)]);
    for args in [&["--wait"][..], &["--linger", "20s"]] {
        let output = run(directory.path(), args, &ask);
        assert_eq!(titles(&output), ["asked", "too late"]);
        assert_eq!(live(&output), 0);
        assert_eq!(output.status.code(), Some(0));
    }
}

#[test]
fn records_are_found_by_the_built_in_agent() {
    let records = r#"{ "Contact": [{ "id": "north", "phone": "555" }] }"#;
    let directory = files(&[("lookup.json", LOOKUP), ("records.txt", records)]);
    let output = run(directory.path(), &["--records", "records.txt"], &event("1", "lookup", "ann"));
    assert_eq!(titles(&output), ["-", "555"]);
    let last = std::str::from_utf8(&output.stdout).unwrap().lines().last().unwrap();
    assert_eq!(serde_json::from_str::<Value>(last).unwrap()["to"], serde_json::json!(["ann"]));
}

#[test]
fn many_events_may_be_under_way() {
    let directory = files(&[("hello.json", HELLO), ("lookup.json", LOOKUP), ("records.txt", "{}")]);
    let events: String = (0..3000)
        .map(|n| event(&n.to_string(), ["hello", "lookup"][n % 2], &format!("s{}", n % 97)))
        .collect();
    let args = ["--in-flight", "200", "--records", "records.txt"];
    let output = run(directory.path(), &args, &events);
    let summary = summary(&output);
    assert_eq!(summary["messages"], 1500 + 2 * 1500, "{summary}");
    assert_eq!((&summary["threds"]["ended"], &summary["undone"]), (&3000.into(), &0.into()));
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn a_reader_that_leaves_ends_the_run() {
    let directory = files(&[("hello.json", HELLO)]);
    let mut child = start(directory.path(), &[]);
    drop(child.stdout.take());
    let mut stdin = child.stdin.take().unwrap();
    let line = event("1", "hello", "ann");
    // Until the other side is gone; the test's time limit is the bound.
    while stdin.write_all(line.replace("\"1\"", &fresh()).as_bytes()).is_ok() {}
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(0));
}

fn fresh() -> String {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("\"{}\"", NEXT.fetch_add(1, Ordering::Relaxed))
}

#[test]
fn the_uav_example_runs_to_its_end() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let output = Command::new(env!("CARGO_BIN_EXE_srvthreds"))
        .current_dir(examples)
        .args(["run", "--patterns", "patterns", "--sessions", "sessions.json"])
        .args(["--events", "uav.events.jsonl", "--color", "never"])
        .output()
        .unwrap();
    assert_eq!(
        titles(&output),
        [
            "Contact of north",
            "Contact lookup",
            "UAV detected at north",
            "Video of sensor-7",
            "-",
            "Closed by ann"
        ]
    );
    let last = std::str::from_utf8(&output.stdout).unwrap().lines().last().unwrap();
    let to = serde_json::from_str::<Value>(last).unwrap()["to"].clone();
    assert_eq!(to, serde_json::json!(["sensor-7", "carol", "ann", "bob"]));
    let stderr = stderr(&output);
    assert!(stderr.contains("6 accepted, 0 rejected, 1 matched no pattern"), "{stderr}");
    assert!(stderr.contains("2 started, 2 ended, 0 live"), "{stderr}");
    assert_eq!(output.status.code(), Some(0));
}

#[cfg(unix)]
#[test]
fn a_second_signal_does_not_wait_for_a_reader_that_stands_still() {
    let directory = files(&[("hello.json", HELLO)]);
    let mut child = start(directory.path(), &["--in-flight", "100000"]);
    let pid = child.id().to_string();
    let mut stdin = child.stdin.take().unwrap();
    // Nobody reads: the pipes fill up, and this thread ends when the program does.
    let feeder = std::thread::spawn(move || {
        let line = event("1", "hello", "ann");
        while stdin.write_all(line.replace("\"1\"", &fresh()).as_bytes()).is_ok() {}
    });
    let mut signals = 0;
    while child.try_wait().unwrap().is_none() {
        std::thread::sleep(std::time::Duration::from_millis(300));
        let _ = Command::new("kill").args(["-s", "TERM", &pid]).stderr(Stdio::null()).status();
        signals += 1;
        assert!(signals < 20, "the program does not end");
    }
    feeder.join().unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
}

#[cfg(unix)]
#[test]
fn a_signal_ends_the_input_and_finishes_the_rest() {
    for signal in ["TERM", "INT"] {
        let directory = files(&[("hello.json", HELLO), ("late.json", LATE)]);
        let mut child = start(directory.path(), &["--wait"]);
        let mut stdin = child.stdin.take().unwrap();
        let events = event("1", "hello", "ann") + &event("2", "hello", "bob");
        stdin.write_all(events.as_bytes()).unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        assert!(line.contains("Hello, ann"), "{line}");
        let pid = child.id().to_string();
        assert!(Command::new("kill").args(["-s", signal, &pid]).status().unwrap().success());
        let output = child.wait_with_output().unwrap();
        let summary = summary(&output);
        assert_eq!((&summary["interrupted"], &summary["undone"]), (&true.into(), &0.into()));
        assert_eq!(output.status.code(), Some(0));
        drop(stdin);
    }
}
