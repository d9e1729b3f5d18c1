//! `threds`, `dead-letters` and `replay`, while a run works on the store and while none does.

use std::{fs, sync::Arc};

use serde_json::Value;
use thredcore::{
    port::{Commit, Committed, LogRecord, LogType, ThredStore},
    state::{Consumed, ThredState},
};
use thredcore_redb::RedbBackends;
use thredlib::EventKey;

use crate::program::{
    FAILING, HELLO, MENDED, Program, TALK, answer, event, patterns, printed, srvthreds, text,
    thred, title, until,
};

/// Times and ids that differ from run to run become what they are.
fn masked(text: &str, known: &[(&str, &str)]) -> String {
    let mut text = text.to_owned();
    for (value, name) in known {
        text = text.replace(value, name);
    }
    let mut masked = String::new();
    let mut rest = &*text;
    while let Some(at) = rest.find("20") {
        let (before, from) = rest.split_at(at);
        masked.push_str(before);
        let is_time = from.len() >= 23
            && from.is_char_boundary(23)
            && from[..23].bytes().enumerate().all(|(place, byte)| match place {
                4 | 7 => byte == b'-',
                10 => byte == b' ',
                13 | 16 => byte == b':',
                19 => byte == b'.',
                _ => byte.is_ascii_digit(),
            });
        let (shown, length) = if is_time { ("TIME", 23) } else { ("20", 2) };
        masked.push_str(shown);
        rest = &from[length..];
    }
    masked + rest
}

#[test]
fn a_running_process_tells_about_its_threds() {
    let talk = TALK.replace("1500", "3600000");
    let directory = patterns(&[("talk.json", &talk), ("hello.json", HELLO)]);
    let mut program = Program::live(directory.path(), &[]);
    program.send(&(event("1", "ask") + &event("2", "hello")));
    let messages = [program.message(), program.message()];
    let first = messages.iter().find(|message| title(message) == "First 1").unwrap();
    let id = thred(first);
    program.send(&answer("3", &id));
    let second = program.message();

    let threds = |args: &[&str]| printed(directory.path(), &[&["threds"], args].concat());
    let list = threds(&["list", "--data", "data"]);
    let squeezed: Vec<_> = masked(&list, &[(&id, "THRED")])
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    assert_eq!(
        squeezed,
        ["ID PATTERN REACTION STATUS SINCE NEXT TIMER", "THRED talk end active TIME -", "1 thred"]
    );
    let ended = threds(&["list", "--data", "data", "--status", "terminated", "--json"]);
    let ended: Value = serde_json::from_str(&ended).unwrap();
    assert_eq!(ended["threds"][0]["patternId"], "hello");

    let shown = threds(&["show", "--data", "data", &id]);
    let revision = shown.split_once("revision ").unwrap().1.lines().next().unwrap();
    let known = [
        (&*id, "THRED"),
        (revision, "REVISION"),
        (first["id"].as_str().unwrap(), "FIRST"),
        (second["id"].as_str().unwrap(), "SECOND"),
    ];
    assert_eq!(
        masked(&shown, &known),
        "\
thred         THRED
pattern       talk, revision REVISION
status        active
reaction      end, since TIME
next timer    -
version       2
started       TIME
changed       TIME
label         Talk
last          answer
participants  ann, erp
locals
  what = \"1\"

history
   1  TIME  ask from erp, event 1
        MATCH ask -> wait
        => to ann: \"First 1\", message FIRST
   2  TIME  answer from ann, event 3
        MATCH wait -> end
        => to ann: \"Second 1\", message SECOND
"
    );
    // The files themselves say the same once the process is gone.
    program.stop();
    assert_eq!(threds(&["show", "--data", "data", &id]), shown);
    assert_eq!(threds(&["list", "--data", "data"]), list);
    let nobody = srvthreds(directory.path(), &["threds", "show", "--data", "data", "nobody"]);
    assert_eq!(nobody.status.code(), Some(1));
    assert!(text(&nobody.stderr).contains("there is no thred `nobody`"));
}

#[test]
fn a_watch_follows_what_happens() {
    let directory = patterns(&[("talk.json", &TALK.replace("1500", "3600000"))]);
    let mut program = Program::live(directory.path(), &[]);
    let mut all =
        Program::start(directory.path(), &["threds", "watch", "--data", "data", "--json"]);
    // It begins with what is new when it looks first.
    let mut number = 0;
    let id = loop {
        number += 1;
        program.send(&event(&format!("ask{number}"), "ask"));
        let id = thred(&program.message());
        if let Some(line) = all.line_within(std::time::Duration::from_secs(2)) {
            let record: Value = serde_json::from_str(&line).unwrap();
            assert_eq!(record["type"], "MATCH");
            assert_eq!(record["thredId"], *id);
            break id;
        }
        assert!(number < 10, "it sees nothing");
    };
    let mut one = Program::start(directory.path(), &["threds", "watch", "--data", "data", &id]);
    assert!(one.line().contains(&id));
    while !one.line().contains("MATCH ask -> wait") {}
    program.send(&answer("2", &id));
    while !one.line().contains("MATCH wait -> end") {}
    program.send(&answer("3", &id));
    while !one.line().contains("TERMINATED end") {}
    // It ends with its thred, the other one when it is told to.
    let (status, _, stderr) = one.ended();
    assert_eq!(status.code(), Some(0), "{stderr}");
    loop {
        let record: Value = serde_json::from_str(&all.line()).unwrap();
        if record["type"] == "TERMINATED" {
            assert_eq!(record["thredId"], *id);
            break;
        }
    }
    all.signal("INT");
    let (status, _, stderr) = all.ended();
    assert_eq!(status.code(), Some(0), "{stderr}");
    program.stop();
}

#[test]
fn dead_letters_go_round() {
    let directory = patterns(&[("failing.json", FAILING)]);
    let mut program = Program::live(directory.path(), &[]);
    let letters = |args: &[&str]| srvthreds(directory.path(), &[&["dead-letters"], args].concat());
    program.send(&(event("a", "fail") + &event("b", "fail")));
    // Their source is told.
    assert_eq!(program.titles(2), ["-", "-"]);
    let listed = until(
        || text(&letters(&["list", "--data", "data"]).stdout),
        |answer| answer.ends_with("2 dead letters\n"),
    );
    assert!(
        listed.contains("a, fail from erp") && listed.contains("pattern `failing`"),
        "{listed}"
    );
    let json = text(&letters(&["list", "--data", "data", "--json"]).stdout);
    let json: Value = serde_json::from_str(&json).unwrap();
    let ids: Vec<_> = json["deadLetters"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["id"].as_str().unwrap())
        .collect();
    assert!(ids[0].starts_with("events/"), "{ids:?}");
    let shown = text(&letters(&["show", "--data", "data", ids[0]]).stdout);
    assert!(
        shown.starts_with(&format!("id        {}\nwhat      a, fail from erp\n", ids[0])),
        "{shown}"
    );

    // An empty filter is refused, and what is meant by nothing is nothing.
    let all = letters(&["drop", "--data", "data"]);
    assert_eq!(all.status.code(), Some(2));
    assert!(text(&all.stderr).contains("say which dead letters to drop"));
    let none = letters(&["redrive", "--data", "data", "--reason", "no such"]);
    assert_eq!(
        (none.status.code(), &*text(&none.stdout)),
        (Some(1), "redriven: 0 events, 0 messages\n")
    );

    // Mended, an event that is redriven is an event like any other.
    fs::write(directory.path().join("patterns/failing.json"), MENDED).unwrap();
    program.says("reload: failing is in use");
    let redriven = letters(&["redrive", "--data", "data", ids[0]]);
    assert_eq!(text(&redriven.stdout), "redriven: 1 event, 0 messages\n");
    assert_eq!(title(&program.message()), "mended");
    program.stop();

    // Without a process the store itself is asked.
    let redriven =
        letters(&["redrive", "--data", "data", "--reason", "failing", "--queue", "events"]);
    assert_eq!(text(&redriven.stdout), "redriven: 1 event, 0 messages\n");
    assert!(text(&redriven.stderr).contains("they wait for the next `srvthreds run`"));
    let mut program = Program::live(directory.path(), &[]);
    assert_eq!(title(&program.message()), "mended");
    assert_eq!(text(&letters(&["list", "--data", "data"]).stdout), "no dead letters\n");
    program.stop();
}

#[test]
fn a_replay_finds_what_was_changed() {
    let directory = patterns(&[("talk.json", &TALK.replace("1500", "3600000"))]);
    let mut program = Program::live(directory.path(), &[]);
    program.send(&(event("1", "ask") + &event("2", "ask")));
    let id = thred(&program.message());
    program.message();
    program.send(&answer("3", &id));
    program.message();
    // The process that has the store open answers.
    let replay = |args: &[&str]| {
        srvthreds(directory.path(), &[&["replay", "--data", "data"], args].concat())
    };
    let equal = replay(&[]);
    assert_eq!(text(&equal.stdout), "2 threds, 3 steps: 2 equal, 0 different\n");
    assert_eq!(equal.status.code(), Some(0));
    program.stop();
    assert_eq!(replay(&["--thred", &id]).status.code(), Some(0));
    assert_eq!(replay(&["--thred", "nobody"]).status.code(), Some(2));

    change_the_past(&directory.path().join("data"), &id);
    let different = replay(&[]);
    assert_eq!(different.status.code(), Some(1));
    let found = text(&different.stdout);
    for part in [
        format!(
            "thred {id}, version 3, log[0].to:\n  stored    \"nowhere\"\n  computed  \"$terminate\"\n"
        ),
        format!("thred {id}, version 3, messages:\n  stored    nothing\n  computed  [{{"),
        "2 threds, 4 steps: 1 equal, 1 different\n".to_owned(),
    ] {
        assert!(found.contains(&part), "{part}\n---\n{found}");
    }
}

/// Makes a step that the pattern does not make.
fn change_the_past(data: &std::path::Path, id: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let backends = RedbBackends::open(data).unwrap();
        let loaded = backends.storage.load(&[id.into()]).await.unwrap().remove(0).unwrap();
        let event: thredlib::Event = serde_json::from_str(&answer("forged", id)).unwrap();
        let mut state = ThredState::clone(&loaded.state);
        state.version += 1;
        state.reaction = "wait".into();
        let key = EventKey::of(event.source.id.as_str(), event.id.as_str());
        let consumed = Consumed::new(key, state.modified_at, 0);
        state.inbox.push(consumed);
        let record = LogRecord {
            log_type: LogType::Match,
            event: event.id.clone(),
            thred_id: Some(state.id.clone()),
            pattern_id: Some(state.pattern.id.clone()),
            from: Some("end".into()),
            to: Some("nowhere".into()),
            timestamp: state.modified_at,
            detail: None,
        };
        let commit = Commit {
            expected: state.version - 1,
            consumed,
            state: Arc::new(state),
            outbox: vec![],
            log: vec![record],
            event: Some(Arc::new(event)),
            command: None,
            facts: None,
        };
        let answers = backends.storage.commit(&[Arc::new(commit)]).await;
        assert!(matches!(answers[..], [Ok(Committed::Applied)]));
        backends.close().await;
    });
}

#[test]
fn a_store_that_is_not_there_or_not_free_is_told() {
    let directory = patterns(&[]);
    let list = |args: &[&str]| srvthreds(directory.path(), &[&["threds", "list"], args].concat());
    let missing = list(&["--data", "data"]);
    assert_eq!(missing.status.code(), Some(2));
    let stderr = text(&missing.stderr);
    assert!(
        stderr.contains("there is no store in data; `srvthreds run --data data` makes one"),
        "{stderr}"
    );
    assert!(!directory.path().join("data").exists(), "nothing is made");
    assert_eq!(list(&[]).status.code(), Some(2));
    assert_eq!(list(&["--data", "data", "--redis", "redis://x"]).status.code(), Some(2));

    // Somebody has it open who does not answer.
    let backends = RedbBackends::open(directory.path().join("data")).unwrap();
    let taken = list(&["--data", "data"]);
    assert_eq!(taken.status.code(), Some(2));
    let stderr = text(&taken.stderr);
    let pid = std::process::id();
    assert!(stderr.contains(&format!("in use by another process (pid {pid})")), "{stderr}");
    assert!(stderr.contains("nobody does"), "{stderr}");
    drop(backends);
    assert_eq!(text(&list(&["--data", "data"]).stdout), "no threds\n");
}

#[test]
fn a_process_that_is_stopped_is_not_waited_for_for_ever() {
    let directory = patterns(&[("hello.json", HELLO)]);
    let program = Program::live(directory.path(), &[]);
    program.signal("STOP");
    let listed = srvthreds(directory.path(), &["threds", "list", "--data", "data"]);
    program.signal("CONT");
    assert_eq!(listed.status.code(), Some(2));
    let stderr = text(&listed.stderr);
    assert!(stderr.contains("is silent for 20 s; is it stopped?"), "{stderr}");
    program.stop();
}
