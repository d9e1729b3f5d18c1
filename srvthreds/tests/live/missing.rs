//! What commands say when what they are to work on is not there, or is something else.

use std::fs;

use crate::program::{HELLO, Program, patterns, srvthreds, text};

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
