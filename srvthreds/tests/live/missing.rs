//! What commands say when what they are to work on is not there, or is something else.

use std::fs;

use crate::program::{FAILING, HELLO, Program, event, patterns, srvthreds, text};

/// All commands that look into a store.
const LOOKING: &[&[&str]] = &[
    &["threds", "list"],
    &["threds", "count"],
    &["threds", "show", "t"],
    &["threds", "watch"],
    &["dead-letters", "list"],
    &["dead-letters", "show", "events/1"],
    &["dead-letters", "redrive", "events/1"],
    &["dead-letters", "drop", "--all"],
    &["queues", "list"],
    &["queues", "purge", "ann"],
    &["queues", "delete", "ann"],
    &["store", "check"],
    &["store", "upgrade"],
    &["replay"],
];

#[test]
fn a_command_that_looks_makes_no_store() {
    let directory = patterns(&[("hello.json", HELLO)]);
    let data = directory.path().join("data");
    fs::create_dir(&data).unwrap();
    let told = |args: &[&str]| {
        let output = srvthreds(directory.path(), &[args, &["--data", "data"]].concat());
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(output.stdout.is_empty(), "{args:?}: {}", text(&output.stdout));
        text(&output.stderr)
    };
    let none = "error: there is no store in data; `srvthreds run --data data` makes one\n";
    for args in LOOKING {
        assert_eq!(told(args), none, "{args:?}");
        assert_eq!(fs::read_dir(&data).unwrap().count(), 0, "{args:?}");
    }
    // A run that was killed when it had just begun has left a file, and no store.
    let file = data.join("threds.redb");
    for args in LOOKING {
        fs::write(&file, "").unwrap();
        assert_eq!(told(args), none, "{args:?}");
        assert_eq!(fs::metadata(&file).unwrap().len(), 0, "{args:?}");
    }
    fs::write(&file, "my diary").unwrap();
    for args in LOOKING {
        let stderr = told(args);
        assert!(
            stderr.starts_with(
                "error: data/threds.redb is damaged, or no store of threds; put back a copy of \
                 it, or choose another directory: "
            ),
            "{args:?}: {stderr}"
        );
        assert_eq!(fs::read_to_string(&file).unwrap(), "my diary", "{args:?}");
    }
    fs::remove_file(&file).unwrap();
    fs::remove_dir(&data).unwrap();
    fs::write(&data, "").unwrap();
    let file = "error: data is not a directory; give the directory that holds `threds.redb`\n";
    for args in LOOKING {
        assert_eq!(told(args), file, "{args:?}");
    }
    assert_eq!(told(&["run"]), file);
    assert_eq!(told(&["run", "--until-idle"]), file);
    // What is made is found.
    fs::remove_file(&data).unwrap();
    Program::live(directory.path(), &[]).stop();
    let found = srvthreds(directory.path(), &["threds", "list", "--data", "data"]);
    assert_eq!((found.status.code(), &*text(&found.stdout)), (Some(0), "no threds\n"));
}

#[test]
fn what_is_named_and_not_there_is_told() {
    let directory = patterns(&[("failing.json", FAILING), ("hello.json", HELLO)]);
    let run = ["run", "--data", "data", "--patterns", "patterns", "--until-idle"];
    let mut program = Program::start(directory.path(), &run);
    program.send(&(event("a", "fail") + &event("b", "fail")));
    assert_eq!(program.ended().0.code(), Some(1));
    let told = |args: &[&str]| {
        let output = srvthreds(directory.path(), &[args, &["--data", "data"]].concat());
        (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
    };
    let listed = told(&["dead-letters", "list"]).1;
    let known = listed.lines().nth(1).unwrap().split_whitespace().next().unwrap();

    let hint = "`dead-letters list` shows all\n";
    for (verb, done) in [("redrive", "redriven"), ("drop", "dropped")] {
        assert_eq!(
            told(&["dead-letters", verb, "events/77", "messages/8"]),
            (
                1,
                format!("{done}: 0 events, 0 messages\n"),
                format!(
                    "error: there is no dead letter events/77; {hint}\
                     error: there is no dead letter messages/8; {hint}"
                )
            )
        );
        assert_eq!(
            told(&["dead-letters", verb, "--reason", "nobody"]),
            (
                1,
                format!("{done}: 0 events, 0 messages\n"),
                format!("error: there is no such dead letter; {hint}")
            )
        );
    }
    let (code, stdout, stderr) = told(&["dead-letters", "show", known, "events/77"]);
    assert!(stdout.starts_with(&format!("id        {known}\n")), "{stdout}");
    let missing = format!("error: there is no dead letter events/77; {hint}");
    assert_eq!((code, &*stderr), (1, &*missing));
    let other = told(&["dead-letters", "show", known, "--queue", "messages"]);
    let not_of_it = format!("error: there is no dead letter {known} for which all else holds; ");
    assert_eq!(other, (1, String::new(), not_of_it + hint));
    // What is there is done.
    assert_eq!(
        told(&["dead-letters", "drop", known, "events/77"]),
        (1, "dropped: 1 event, 0 messages\n".to_owned(), missing)
    );

    assert_eq!(
        told(&["queues", "purge", "nobody"]).2,
        "error: there is no topic `nobody`, and no other; the first message to it makes one\n"
    );
    let thred = "error: there is no thred `nobody`; `threds list --status all` shows all\n";
    assert_eq!(told(&["threds", "show", "nobody"]), (1, String::new(), thred.to_owned()));
    assert_eq!(told(&["replay", "--thred", "nobody"]), (2, String::new(), thred.to_owned()));
}

#[test]
fn arguments_that_go_with_servers_are_refused_without_any() {
    let directory = patterns(&[("hello.json", HELLO)]);
    let run = ["run", "--patterns", "patterns", "--until-idle"];
    let live = ["run", "--data", "data", "--until-idle"];
    let list = ["threds", "list", "--data", "data"];
    let upgrade = ["store", "upgrade", "--data", "data"];
    let refused = |args: &[&str], argument: &[&str], why: &str| {
        let output = srvthreds(directory.path(), &[args, argument].concat());
        let expected = format!(
            "error: {} goes with --redis, --amqp or --mongo: {why}; name servers or leave it out\n",
            argument[0]
        );
        assert_eq!((text(&output.stderr), output.status.code()), (expected, Some(2)), "{args:?}");
        assert!(!directory.path().join("data").exists(), "nothing is made");
    };
    for args in [&run[..], &live] {
        let why = "a process that has its store alone prints all messages";
        refused(args, &["--print", "none"], why);
        refused(args, &["--print", "all"], why);
    }
    for args in [&run[..], &live, &list, &upgrade] {
        let why = "it spreads the work over processes, and without servers there is one";
        refused(args, &["--partitions", "4"], why);
        let why = "it tells deployments on the same servers apart";
        refused(args, &["--namespace", "mine"], why);
    }
}
