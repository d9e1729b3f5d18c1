//! The patterns of a run and the events that they are for.

use serde_json::{Value, json};
use thredcore::{port::Directory, thred::started_id};
use thredlib::{Event, EventId, EventKey, PatternModel, ThredId};

use super::oracle::Mark;

/// The agent that every message of a mark goes to.
pub const AGENT: &str = "org.chaos.agent";
/// The agent that nobody runs, unless a test does.
pub const ABSENT: &str = "org.chaos.absent";
/// Where the notices to sources go: nobody has a session.
pub const SESSIONS: &str = Directory::DEFAULT_NODE;
/// The pattern that records marks.
pub const RECORDER: &str = "chaos";

/// Whom the patterns write to.
pub fn directory() -> Directory {
    let mut directory = Directory::new();
    directory.add_service(AGENT).add_service(ABSENT);
    directory
}

/// What an agent tries again and again, in vain.
pub const TRIED: &str = "tried";

/// Records every mark and answers with it.
pub fn recorder() -> PatternModel {
    recorder_of(false)
}

/// The same, and hears unbound events too.
pub fn open_recorder() -> PatternModel {
    recorder_of(true)
}

fn recorder_of(unbound: bool) -> PatternModel {
    let record =
        json!({ "setLocal": { "marks": "$xpr($append($local('marks'), $valueNamed('mark')))" } });
    let answer = json!({ "eventDataTemplate": { "content": { "values": "$xpr($values)" } } });
    model(json!({
        "name": RECORDER,
        "reactions": [
            { "name": "start", "condition": {
                "type": "filter", "xpr": "$event.type = 'chaos.start'",
                "onTrue": record, "transform": answer, "publish": { "to": AGENT }
            } },
            { "name": "run", "allowUnboundEvents": unbound, "condition": { "type": "or", "transition": "$noTransition", "operands": [
                { "type": "filter", "xpr": "$event.type = 'chaos.step'",
                  "onTrue": record, "transform": answer, "publish": { "to": AGENT } },
                { "type": "filter", "xpr": format!("$event.type = '{AGENT}'"),
                  "onTrue": { "setLocal": { "answers": "$xpr($append($local('answers'), $valueNamed('mark')))" } } }
            ] } }
        ]
    }))
}

/// Answers when its time is up, so many milliseconds after its start, and ends. It takes a place,
/// among more than are needed.
pub fn timer(interval: u64) -> PatternModel {
    model(json!({
        "name": timer_name(interval), "maxInstances": 1_000_000,
        "reactions": [
            { "name": "start", "condition": {
                "type": "filter", "xpr": format!("$event.type = 'chaos.timer' and $valueNamed('interval') = {interval}"),
                "onTrue": { "setLocal": { "first": "$xpr($event)", "armed": "$xpr($millis())" } }
            } },
            { "name": "armed",
              "expiry": { "interval": interval, "transition": { "name": "fired", "input": "local", "localName": "first" } },
              "condition": { "type": "filter", "xpr": "$event.type = 'chaos.never'" } },
            { "name": "fired", "condition": {
                "type": "filter", "xpr": "$event.type = 'chaos.timer'",
                "transform": { "eventDataTemplate": { "content": { "values": {
                    "timer": "$xpr($valueNamed('timer'))",
                    "armed": "$xpr($local('armed'))",
                    "late": format!("$xpr($millis() - $local('armed') - {interval})")
                } } } },
                "publish": { "to": AGENT }, "transition": "$terminate"
            } }
        ]
    }))
}

/// The name of the timer pattern of an interval.
pub fn timer_name(interval: u64) -> String {
    format!("timer{interval}")
}

/// What each of the two kinds of steps that are too large is for: the locals, and the step itself.
pub const TOO_LARGE: [&str; 2] = ["bloated", "fanned"];

/// Steps that are too large: one that keeps more than a thred may, one that says more than a storage
/// takes, in reactions that an event passes through one after the other.
pub fn too_large() -> Vec<PatternModel> {
    let when = |kind: &str| format!("$event.type = 'chaos.{kind}'");
    let wait = json!({ "name": "wait", "condition": {
        "type": "filter", "xpr": when("never")
    } });
    let [bloated, fanned] = TOO_LARGE;
    const KEPT: usize = 6;
    const SAID: usize = 40;
    let text = |number: usize| (format!("text{number}"), json!("$xpr($valueNamed('text'))"));
    let keep: serde_json::Map<_, _> = (0..KEPT).map(text).collect();
    let keeping = json!({ "name": "keep", "condition": {
        "type": "filter", "xpr": when(bloated), "onTrue": { "setLocal": keep }
    } });
    let say = |number: usize| {
        let last = number == SAID - 1;
        let next = json!({ "name": format!("say{}", number + 1), "input": "forward" });
        json!({ "name": format!("say{number}"), "condition": {
            "type": "filter", "xpr": when(fanned),
            "transform": { "eventDataTemplate": { "content": {
                "values": { "number": number, "text": "$xpr($valueNamed('text'))" }
            } } },
            "publish": { "to": AGENT },
            "transition": if last { json!({ "name": "wait" }) } else { next }
        } })
    };
    let saying: Vec<_> = (0..SAID).map(say).chain([wait.clone()]).collect();
    vec![
        model(json!({ "name": bloated, "reactions": [keeping, wait] })),
        model(json!({ "name": fanned, "reactions": saying })),
    ]
}

/// An event whose step is too large.
pub fn too_large_event(number: usize) -> Event {
    let kind = TOO_LARGE[number % TOO_LARGE.len()];
    let values = json!({ "text": "x".repeat(200_000) });
    let source = format!("large {number}");
    Event::builder(format!("chaos.{kind}"), source)
        .id(format!("{kind} {number}"))
        .values(values)
        .build()
}

/// Says word after word to the agent that nobody runs.
pub fn gossip() -> PatternModel {
    let say = |kind: &str, transition: Option<&str>| {
        let mut condition = json!({
            "type": "filter", "xpr": format!("$event.type = 'chaos.{kind}'"),
            "transform": { "eventDataTemplate": { "content": { "values": "$xpr($values)" } } },
            "publish": { "to": ABSENT }
        });
        if let Some(transition) = transition {
            condition["transition"] = json!(transition);
        }
        condition
    };
    model(json!({
        "name": "gossip",
        "reactions": [
            { "name": "start", "condition": say("gossip", None) },
            { "name": "on", "condition": say("word", Some("$noTransition")) }
        ]
    }))
}

/// A word for a thred of gossip: its first starts it.
pub fn word_event(thred: u32, number: u32) -> Event {
    let id = |number: u32| format!("word {thred}/{number}");
    let source = format!("gossip{thred}");
    let values = json!({ "gossip": thred, "word": number });
    match number {
        0 => Event::builder("chaos.gossip", source).id(id(0)).values(values).build(),
        _ => {
            let key = EventKey::of(&source, &id(0));
            let builder = Event::builder("chaos.word", source).id(id(number)).values(values);
            builder.thred(started_id(&key, &"gossip".into())).build()
        }
    }
}

/// The word that an event carries: its thred and its number.
pub fn word_of(event: &Event) -> Option<(u32, u32)> {
    let number = |name| event.value_named(name)?.as_u64().and_then(|it| u32::try_from(it).ok());
    Some((number("gossip")?, number("word")?))
}

/// What takes the paths that the recorder leaves out: a thred that unbound events are offered to,
/// one whose step fails, one whose message the agent cannot bear.
pub fn byways() -> Vec<PatternModel> {
    let when = |kind: &str| format!("$event.type = 'chaos.{kind}'");
    let say = |values: Value| json!({ "eventDataTemplate": { "content": { "values": values } } });
    let listener = json!({
        "name": "listener",
        "reactions": [
            { "name": "start", "condition": { "type": "filter", "xpr": when("listen") } },
            { "name": "listen", "allowUnboundEvents": true, "condition": {
                "type": "filter", "xpr": when("call"), "transition": "$noTransition",
                "transform": say(json!({ "heard": true })), "publish": { "to": "ann" }
            } }
        ]
    });
    let broken = json!({
        "name": "broken",
        "reactions": [{ "name": "fail", "condition": {
            "type": "filter", "xpr": when("bad"),
            "transform": say(json!("$xpr($error('no'))")), "publish": { "to": "ann" }
        } }]
    });
    let poison = json!({
        "name": "poison",
        "reactions": [
            { "name": "give", "condition": {
                "type": "filter", "xpr": when("poison"),
                "transform": say(json!({ "poison": true })), "publish": { "to": AGENT }
            } },
            { "name": "wait", "condition": { "type": "filter", "xpr": when("never") } }
        ]
    });
    [listener, broken, poison].map(model).into()
}

/// What is poison: a message that the agent fails at whenever it tries, and an event whose step
/// fails.
pub fn poisons() -> Vec<PatternModel> {
    let poison = |name: &str, template: Value| {
        model(json!({
            "name": name,
            "reactions": [
                { "name": "give", "condition": {
                    "type": "filter", "xpr": format!("$event.type = 'chaos.{name}'"),
                    "transform": { "eventDataTemplate": { "content": { "values": template } } },
                    "publish": { "to": AGENT }
                } },
                { "name": "wait", "condition": { "type": "filter", "xpr": "$event.type = 'chaos.never'" } }
            ]
        }))
    };
    vec![
        poison("torment", json!({ "poison": TRIED })),
        poison("broken", json!("$xpr($error('no'))")),
    ]
}

/// A poison: in turn one for the agent and one for the engine.
pub fn poison_event(number: u32) -> Event {
    let kind = if number.is_multiple_of(2) { "torment" } else { "broken" };
    let id = format!("{kind} {number}");
    Event::builder(format!("chaos.{kind}"), "bob").id(id).values(json!({})).build()
}

/// The event that starts a thred which waits for unbound events, and the thred.
pub fn listener_event(name: &str) -> (Event, ThredId) {
    let id = format!("listen {name}");
    let thred = started_id(&EventKey::of("bob", &id), &"listener".into());
    (Event::builder("chaos.listen", "bob").id(id).values(json!({})).build(), thred)
}

/// An unbound event that threds wait for which [`listener_event`]s have started.
pub fn call_event(name: &str) -> Event {
    Event::builder("chaos.call", "bob").id(format!("call {name}")).values(json!({})).build()
}

/// The events that go by them, each time under another name.
pub fn byway_events(name: &str) -> Vec<Event> {
    let event = |kind: &str| {
        let values = json!({ "message": name });
        Event::builder(format!("chaos.{kind}"), "bob").id(format!("{kind} {name}")).values(values)
    };
    let mut events: Vec<_> =
        ["listen", "call", "stray", "bad", "poison"].map(|kind| event(kind).build()).into();
    events.push(event("gone").thred("no such thred").build());
    events
}

/// The event of a mark: the first of a thred's first source starts it.
pub fn event(mark: Mark, starts: bool) -> Event {
    let kind = if starts { "chaos.start" } else { "chaos.step" };
    let values = json!({ "mark": mark.to_string() });
    let builder = Event::builder(kind, source_name(mark.source));
    let builder = builder.id(event_id(mark).to_string()).values(values);
    if starts { builder.build() } else { builder.thred(thred_id(mark.thred)).build() }
}

/// The event of a mark that is not the first, without its thred: for whoever waits for it.
pub fn unbound_event(mark: Mark) -> Event {
    let values = json!({ "mark": mark.to_string() });
    let builder = Event::builder("chaos.step", source_name(mark.source));
    builder.id(event_id(mark).to_string()).values(values).build()
}

/// The event that starts a timer.
pub fn timer_event(number: u32, interval: u64) -> Event {
    let id = format!("timer {number}");
    let values = json!({ "timer": id, "interval": interval });
    let source = source_name(number % PAIRS);
    Event::builder("chaos.timer", source).id(id).values(values).build()
}

/// The source that starts a thred: each thred has two, and this one is the first.
pub fn home(thred: u32) -> u32 {
    2 * (thred % PAIRS)
}

/// Pairs of sources; each thred hears of one pair.
pub const PAIRS: u32 = 4;

/// The thred of a number.
pub fn thred_id(thred: u32) -> ThredId {
    let start = Mark { source: home(thred), thred, number: 0 };
    let source = source_name(start.source);
    started_id(&EventKey::of(&source, event_id(start).as_str()), &RECORDER.into())
}

fn source_name(number: u32) -> String {
    format!("source{number}")
}

fn event_id(mark: Mark) -> EventId {
    EventId::from(format!("event {mark}"))
}

/// The timer that an event carries, and how late it was, milliseconds; below 0: early.
pub fn timer_of(event: &Event) -> Option<(&str, Option<i64>)> {
    let late = event.value_named("late").and_then(Value::as_f64);
    Some((event.value_named("timer")?.as_str()?, late.map(|late| late as i64)))
}

/// When the timer was armed that an event carries, by the clock of the engine that did it.
pub fn armed_of(event: &Event) -> Option<i64> {
    event.value_named("armed").and_then(Value::as_f64).map(|armed| armed as i64)
}

/// The mark that an event carries.
pub fn mark_of(event: &Event) -> Option<Mark> {
    event.value_named("mark")?.as_str()?.parse().ok()
}

fn model(json: Value) -> PatternModel {
    serde_json::from_value(json).expect("a pattern")
}
