//! The next start goes on where the last one was.

use std::{collections::BTreeSet, fs};

use serde_json::Value;

use crate::program::{
    HELLO, LATE, Program, TALK, answer, event, patterns, srvthreds, text, thred, title,
};

#[test]
fn it_goes_on_when_the_input_has_ended() {
    let directory = patterns(&[("late.json", LATE)]);
    let mut program = Program::live(directory.path(), &["--json"]);
    program.send(&event("1", "late"));
    program.end_input();
    assert_eq!(title(&program.message()), "asked");
    assert_eq!(title(&program.message()), "too late");
    program.signal("INT");
    let (status, _, stderr) = program.ended();
    let summary: Value = serde_json::from_str(stderr.lines().last().unwrap()).unwrap();
    assert_eq!(summary["events"]["accepted"], 1);
    assert_eq!(summary["events"]["lastLine"], 1);
    assert_eq!((&summary["interrupted"], &summary["drained"]), (&true.into(), &true.into()));
    assert_eq!((&summary["undone"], &summary["left"]), (&0.into(), &0.into()));
    assert_eq!(status.code(), Some(0), "{stderr}");
}

#[test]
fn a_conversation_goes_on_after_a_crash() {
    let directory = patterns(&[("talk.json", &TALK.replace("1500", "3600000"))]);
    let mut program = Program::live(directory.path(), &[]);
    program.send(&event("1", "ask"));
    let first = program.message();
    assert_eq!(title(&first), "First 1");
    program.kill();

    let mut program = Program::live(directory.path(), &[]);
    program.send(&answer("2", &thred(&first)));
    // What was written just before the crash may come again, under its id.
    let mut message = program.message();
    if message["id"] == first["id"] {
        message = program.message();
    }
    assert_eq!(title(&message), "Second 1");
    program.stop();

    // In order this time, and with what is in the store alone.
    let mut program = Program::start(directory.path(), &["run", "--data", "data"]);
    assert!(program.says("ready: ").contains("1 pattern"), "the pattern is in the store");
    program.send(&answer("3", &thred(&first)));
    assert_eq!(title(&program.message()), "Third 1");
    // An event that was consumed moves nothing.
    program.send(&answer("2", &thred(&first)));
    assert_eq!(program.stop(), "");
}

#[test]
fn timers_that_ran_out_meanwhile_fire_at_the_start() {
    let directory = patterns(&[("late.json", LATE)]);
    let mut program = Program::live(directory.path(), &[]);
    program.send(&event("1", "late"));
    let first = program.message();
    program.kill();
    std::thread::sleep(std::time::Duration::from_millis(800));
    let mut program = Program::live(directory.path(), &[]);
    let mut message = program.message();
    if message["id"] == first["id"] {
        message = program.message();
    }
    assert_eq!(title(&message), "too late");
    assert_eq!(program.stop(), "");
}

#[test]
fn nothing_is_lost_and_nothing_is_done_twice_over_many_crashes() {
    const EVENTS: usize = 420;
    const CRASHES: usize = 6;
    let directory =
        patterns(&[("hello.json", HELLO), ("talk.json", &TALK.replace("1500", "600000"))]);
    let kind = |number: usize| ["hello", "ask"][number % 2];
    let lines =
        |count: usize| -> String { (0..count).map(|n| event(&format!("e{n}"), kind(n))).collect() };
    let mut received: Vec<Value> = Vec::new();
    let mut keep = |printed: &str| {
        // The last line may have been cut off by the crash.
        let whole = printed.lines().filter_map(|line| serde_json::from_str(line).ok());
        received.extend(whole);
    };
    for crash in 1..=CRASHES {
        let mut program = Program::live(directory.path(), &[]);
        // Nobody knows what the last one had accepted.
        program.send(&lines(crash * EVENTS / CRASHES));
        for _ in 0..crash * 10 {
            keep(&program.line());
        }
        keep(&program.kill());
    }
    let mut program = Program::live(directory.path(), &["--until-idle", "--json"]);
    program.send(&lines(EVENTS));
    let (status, printed, stderr) = program.ended();
    assert_eq!(status.code(), Some(0), "{stderr}");
    keep(&printed);

    let titles: BTreeSet<_> = received.iter().map(title).collect();
    let asked = (0..EVENTS).filter(|n| n % 2 == 1).map(|n| format!("First e{n}"));
    let expected: BTreeSet<_> = asked.chain(["Hello, erp".to_owned()]).collect();
    assert_eq!(titles, expected);
    let ids: BTreeSet<_> = received.iter().map(|message| message["id"].to_string()).collect();
    assert_eq!(ids.len(), EVENTS, "one message for each event, however often it is printed");
    let replayed = srvthreds(directory.path(), &["replay", "--data", "data"]);
    let summary = format!("{EVENTS} threds, {EVENTS} steps: {EVENTS} equal, 0 different\n");
    assert_eq!(text(&replayed.stdout), summary, "{}", text(&replayed.stderr));
}

#[test]
fn a_second_process_is_refused() {
    let directory = patterns(&[("hello.json", HELLO)]);
    let program = Program::live(directory.path(), &[]);
    let args = ["run", "--data", "data", "--patterns", "patterns"];
    let output = srvthreds(directory.path(), &args);
    assert_eq!(output.status.code(), Some(2));
    let stderr = text(&output.stderr);
    let expected = format!("error: data is in use by another process (pid {})", program.pid());
    assert!(stderr.contains(&expected), "{stderr}");
    program.stop();
    // Its socket is gone with it, and so is its claim.
    assert!(!directory.path().join("data/control.sock").exists());
    Program::live(directory.path(), &[]).stop();
}

#[test]
fn scripts_end_when_all_is_done() {
    let directory = patterns(&[("late.json", LATE), ("hello.json", HELLO)]);
    let events = event("1", "late") + &event("2", "hello");
    fs::write(directory.path().join("events.jsonl"), events).unwrap();
    let args = ["run", "--data", "data", "--patterns", "patterns", "--events", "events.jsonl"];
    let idle = srvthreds(directory.path(), &[&args[..], &["--until-idle"]].concat());
    assert_eq!(idle.status.code(), Some(0), "{}", text(&idle.stderr));
    assert_eq!(text(&idle.stdout).lines().count(), 2);
    // The same events again change nothing; the timer of the first run is waited for.
    let waited = srvthreds(directory.path(), &[&args[..], &["--wait"]].concat());
    assert_eq!(waited.status.code(), Some(0), "{}", text(&waited.stderr));
    let line = text(&waited.stdout);
    assert_eq!(title(&serde_json::from_str(&line).unwrap()), "too late");
}
