//! The end of a live run.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::program::{HELLO, Program, event, patterns};

#[test]
fn a_signal_drains_within_ten_seconds() {
    const EVENTS: usize = 3000;
    for signal in ["TERM", "INT"] {
        let directory = patterns(&[("hello.json", HELLO)]);
        let mut program = Program::live(directory.path(), &["--json"]);
        let lines: String = (0..EVENTS).map(|n| event(&format!("e{n}"), "hello")).collect();
        program.send(&lines);
        program.message();
        let since = Instant::now();
        program.signal(signal);
        let (status, stdout, stderr) = program.ended();
        assert!(since.elapsed() < Duration::from_secs(10), "{:?}", since.elapsed());
        assert_eq!(status.code(), Some(0), "{stderr}");
        let summary: Value = serde_json::from_str(stderr.lines().last().unwrap()).unwrap();
        assert_eq!((&summary["drained"], &summary["written"]), (&true.into(), &true.into()));
        // Whatever was accepted has been answered, or waits in the store.
        let accepted = summary["events"]["accepted"].as_u64().unwrap() as usize;
        let left = summary["left"].as_u64().unwrap() as usize;
        let printed = 1 + stdout.lines().count();
        assert!(printed + left >= accepted, "{printed} of {accepted}, {left} left");

        let mut program = Program::live(directory.path(), &["--until-idle"]);
        program.send(&lines);
        let (status, rest, stderr) = program.ended();
        assert_eq!(status.code(), Some(0), "{stderr}");
        assert_eq!(printed + rest.lines().count(), EVENTS, "each message is printed once");
    }
}

#[test]
fn a_reader_that_stands_still_does_not_keep_it_from_ending() {
    // Its pipe holds some three hundred messages.
    const EVENTS: usize = 5000;
    let directory = patterns(&[("hello.json", HELLO)]);
    let args = ["run", "--data", "data", "--patterns", "patterns"];
    let mut program = Program::start_unread(directory.path(), &args);
    program.says("ready: ");
    let lines: String = (0..EVENTS).map(|n| event(&format!("e{n}"), "hello")).collect();
    program.send(&lines);
    let since = Instant::now();
    program.signal("TERM");
    let (status, _, stderr) = program.ended();
    assert!(since.elapsed() < Duration::from_secs(10), "{:?}", since.elapsed());
    assert!(stderr.contains("output    broken off"), "{stderr}");
    assert_eq!(status.code(), Some(1), "{stderr}");
    // What nobody has taken is printed by the next one.
    let mut program = Program::live(directory.path(), &["--until-idle"]);
    program.send(&lines);
    let (status, printed, stderr) = program.ended();
    assert_eq!(status.code(), Some(0), "{stderr}");
    let printed = printed.lines().count();
    assert!((EVENTS - 1000..=EVENTS).contains(&printed), "{printed}");
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let directory = patterns(&[("hello.json", HELLO)]);
    let mut program = Program::live(directory.path(), &[]);
    program.send(&event("1", "hello"));
    program.message();
    program.signal("TERM");
    program.signal("TERM");
    let since = Instant::now();
    program.ended();
    assert!(since.elapsed() < Duration::from_secs(2));
}
