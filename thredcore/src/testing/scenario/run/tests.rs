use std::path::Path;

use serde_json::{Value, json};

use crate::testing::scenario::{Scenario, ScenarioOutcome};

fn echo() -> Value {
    json!({ "name": "Echo It", "reactions": [
        { "name": "a", "condition": { "type": "filter", "xpr": "$event.type = 'start'",
            "onTrue": { "setLocal": { "n": 1 } },
            "transform": { "eventDataTemplate": { "title": "hello" } },
            "publish": { "to": ["ann", "bob"] } } },
        { "name": "b", "condition": { "type": "filter", "xpr": "$event.type = 'go'" } }
    ] })
}

async fn run(steps: Value) -> ScenarioOutcome {
    run_with(json!({ "patterns": [echo()], "steps": steps })).await
}

async fn run_with(mut document: Value) -> ScenarioOutcome {
    document["name"] = "a test".into();
    let path = Path::new("test.scenario.json");
    Scenario::parse(&document.to_string(), path).unwrap().run(path).await.unwrap()
}

/// Runs steps that fail; gives the index of the one that does and what it says.
async fn failing(steps: Value) -> (Option<usize>, String) {
    let failure = run(steps).await.failure.expect("the scenario should fail");
    (failure.step, failure.mismatch.join("\n"))
}

#[tokio::test]
async fn a_scenario_that_holds_passes_with_a_line() {
    let outcome = run(json!([
        { "send": { "type": "start" }, "as": "s", "starts": "t" },
        { "expectMessage": { "to": ["bob", "ann"], "event": { "data": { "title": "hello" } } } },
        { "expectThred": { "ref": "t", "pattern": "echo_it", "reaction": "b", "locals": {},
            "participants": ["tester", "ann", "bob"], "children": 0 } },
        { "expectThred": { "ref": "t", "pattern": "Echo It" } },
        { "expectThreds": { "pattern": "Echo It", "count": 1 } },
        { "expectLog": { "type": "MATCH", "event": { "$ref": "s" } } },
        { "expectLog": { "type": "MATCH", "event": { "$ref": "s.id" } } }
    ]))
    .await;
    assert_eq!(outcome.to_string(), "ok      a test");
    assert_eq!(outcome.to_value()["passed"], true);
}

#[tokio::test]
async fn a_failure_shows_the_step_the_difference_and_the_run() {
    let outcome = run(json!([
        { "send": { "type": "start", "id": "e1" } },
        { "advance": "1500ms" },
        { "expectMessage": { "to": ["ann"], "event": { "data": { "title": "hi" } } } }
    ]))
    .await;
    let text = outcome.to_string();
    let key = thredlib::EventKey::of("tester", "e1");
    let thred = crate::thred::started_id(&key, &"echo_it".into());
    for line in [
        "FAILED  a test",
        "  test.scenario.json, step 3 of 3",
        "  to: expected [\"ann\"], found [\"ann\", \"bob\"]",
        "  event.data.title: expected \"hi\", found \"hello\"",
        "    +0s       event e1 `start` from tester",
        &format!("    +0s         MATCH echo_it: a -> b, event e1, thred {thred}"),
        "    +0s         message to ann, bob: {\"title\":\"hello\"}",
        "    1500 ms pass",
    ] {
        assert!(text.lines().any(|it| it == line), "{line:?} is not in\n{text}");
    }
    assert_eq!(outcome.to_value()["failure"]["step"], 2);
}

#[tokio::test]
async fn a_message_left_over_fails_the_scenario_unless_allowed() {
    let start = json!([{ "send": { "type": "start" } }]);
    let (step, text) = failing(start.clone()).await;
    assert_eq!(step, None);
    assert!(text.starts_with("a message is left unclaimed at the end of the scenario"), "{text}");
    let allowed = json!({ "patterns": [echo()], "steps": start, "allowUnclaimedMessages": true });
    assert!(run_with(allowed).await.passed());
}

#[tokio::test]
async fn starts_counts_the_threds_that_an_event_starts() {
    for (starts, passes) in [(json!("t"), true), (json!([]), false), (json!(["t", "u"]), false)] {
        let outcome = run(json!([
            { "send": { "type": "start" }, "starts": starts }, { "expectMessage": {} }
        ]));
        assert_eq!(outcome.await.passed(), passes, "{starts}");
    }
    let (_, text) = failing(json!([{ "send": { "type": "go" }, "starts": "t" }])).await;
    assert_eq!(text, "the event should have started one thred, but it started no thred (none)");
}

#[tokio::test]
async fn spawned_threds_may_be_named_after_those_that_the_event_starts() {
    let top = json!({ "name": "top", "reactions": [
        { "name": "a", "condition": { "type": "filter", "xpr": "$event.type = 'start'",
            "spawn": { "names": ["kid"], "type": "sibling" } } },
        { "name": "b", "condition": { "type": "filter", "xpr": "false" } } ] });
    let kid = json!({ "name": "kid", "reactions": [
        { "name": "k", "condition": { "type": "filter", "xpr": "false" } } ] });
    for (starts, kids) in [(json!("t"), false), (json!(["k", "t"]), true)] {
        let mut steps = vec![
            json!({ "send": { "type": "start" }, "starts": starts }),
            json!({ "expectThred": { "ref": "t", "pattern": "top" } }),
        ];
        steps.extend(kids.then(|| json!({ "expectThred": { "ref": "k", "pattern": "kid" } })));
        let outcome = run_with(json!({ "patterns": [kid, top], "steps": steps })).await;
        assert!(outcome.passed(), "{outcome}");
    }
}

#[tokio::test]
async fn several_messages_match_in_any_order_but_each_only_once() {
    let start = json!({ "send": { "type": "start" } });
    let two = |first: Value, second: Value| {
        let steps = json!([start, start, { "expectMessages": [first, second] }]);
        async move { run(steps).await.passed() }
    };
    let any = json!({});
    let exact = json!({ "to": ["ann", "bob"] });
    assert!(two(any.clone(), exact.clone()).await);
    assert!(!two(exact.clone(), json!({ "to": ["cat"] })).await);
    let (_, text) = failing(json!([start, { "expectMessages": [any, any] }])).await;
    assert_eq!(text, "2 messages should be there, but there are 1");
}

#[tokio::test]
async fn what_is_not_there_is_named() {
    for (step, says) in [
        (json!({ "expectMessage": {} }), "a message should be there, but there is none"),
        (json!({ "expectThreds": 2 }), "there should be 2 live threds, but there are 0"),
        (json!({ "expectLog": { "type": "MATCH" } }), "a log record should be there"),
        (json!({ "expectDeadLetter": {} }), "a dead letter should be there, but there is none"),
        (json!({ "expectThred": { "ref": "t" } }), "nothing is named `t` yet"),
        (json!({ "expectThred": { "id": "x" } }), "there is no thred x"),
        (json!({ "send": { "type": "a", "source": { "id": "SYSTEM" } } }), "reserved"),
        (json!({ "send": { "type": "a", "re": 5 } }), "this is no event: at `re`"),
    ] {
        let (_, text) = failing(json!([step])).await;
        assert!(text.contains(says), "{text}");
    }
}

#[tokio::test]
async fn a_pattern_that_cannot_be_read_is_an_error_with_its_place() {
    let error = |pattern: Value| async move {
        let document = json!({ "name": "a", "patterns": [pattern], "steps": [] });
        let path = Path::new("dir/a.scenario.json");
        let scenario = Scenario::parse(&document.to_string(), path).unwrap();
        scenario.run(path).await.unwrap_err().to_string()
    };
    let text = error(json!("missing.json")).await;
    assert_eq!(text, "dir/missing.json: there is no such file");
    let text = error(json!({ "name": "p", "reactions": [{ "condition": {} }] })).await;
    assert!(text.contains("at $.patterns[0].reactions[0].condition"), "{text}");
    let reaction = json!({ "condition": { "type": "filter", "xpr": "(" } });
    let text = error(json!({ "name": "p", "reactions": [reaction] })).await;
    assert!(text.contains("$.reactions[0].condition.xpr"), "{text}");
}
