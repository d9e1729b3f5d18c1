//! How deep values nest: what the door and the expressions let through fits whatever it is put into
//! and can be read again.

use std::sync::Arc;

use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use thredcore::{
    AcceptError,
    port::{Accepted, Command, History, Inbound, LogRecord, LogType, OutboxEntry, Outgoing, Start},
    state::Consumed,
    testing::Bed,
};
use thredlib::{
    ConditionBuilder, ENVELOPE_DEPTH, Event, EventKey, MAX_DEPTH, Message, PatternBuilder,
    PatternModel, READABLE_DEPTH, ReactionBuilder,
};

fn nested(levels: usize) -> Value {
    (0..levels).fold(json!(1), |inner, _| json!({ "k": inner }))
}

/// Of so many levels, its own included: the event, `data`, `content`, `values`.
fn event(levels: usize) -> Event {
    Event::builder("org.example.start", "ann").id("deep").values(nested(levels - 3)).build()
}

fn pattern() -> PatternModel {
    let condition = ConditionBuilder::filter("true")
        .on_true("$setLocal('e', $event)")
        .transform(json!({ "content": "$xpr($event.data.content)" }))
        .publish("bob")
        .transition("$noTransition");
    PatternBuilder::new("deep").reaction(ReactionBuilder::new("only").condition(condition)).build()
}

#[test]
fn the_limits_are_one_below_the_other() {
    assert!(serde_json::from_str::<Value>(&text(READABLE_DEPTH)).is_ok());
    assert!(serde_json::from_str::<Value>(&text(READABLE_DEPTH + 1)).is_err());
    assert_eq!(MAX_DEPTH + ENVELOPE_DEPTH, READABLE_DEPTH);
    assert_eq!(thredlib::EventLimits::default().depth, MAX_DEPTH);
    assert_eq!(thredlib::ExprLimits::default().result_depth(), MAX_DEPTH);
    assert_eq!(thredlib::validate::MAX_NESTING, MAX_DEPTH);
}

fn text(levels: usize) -> String {
    format!("{}1{}", "[".repeat(levels), "]".repeat(levels))
}

#[tokio::test]
async fn the_door_refuses_what_nests_deeper_than_it_can_be_kept() {
    let bed = Bed::new([pattern()]).await.unwrap();
    let accept = async |levels| bed.engine().accept(vec![event(levels)]).await;
    assert!(accept(MAX_DEPTH).await.is_ok());
    let error = accept(MAX_DEPTH + 1).await.unwrap_err();
    assert!(matches!(error, AcceptError::TooDeep { limit: MAX_DEPTH }), "{error}");
    let json = serde_json::to_vec(&event(MAX_DEPTH + 1)).unwrap();
    assert!(matches!(bed.engine().read_event(&json), Err(AcceptError::TooDeep { .. })));
    // Deeper than JSON's reader goes.
    let json = format!(
        r#"{{"id":"e","type":"t","source":{{"id":"a"}},"data":{{"content":{{"values":{}}}}}}}"#,
        text(300)
    );
    let error = bed.engine().read_event(json.as_bytes()).unwrap_err();
    assert!(matches!(error, AcceptError::TooDeep { limit: MAX_DEPTH }), "{error}");
    assert_eq!(
        error.to_string(),
        "the event has more than 112 levels of objects and lists in one another, which is the limit; \
         flatten it, or send the inner part as text"
    );
    let mut odd = event(5);
    odd.source.extra.insert("x", nested(MAX_DEPTH));
    assert!(matches!(
        bed.engine().accept(vec![odd]).await,
        Err(AcceptError::TooDeep { limit: MAX_DEPTH })
    ));
}

#[tokio::test]
async fn a_long_path_is_told_by_its_ends() {
    let bed = Bed::new([pattern()]).await.unwrap();
    let fault = |open: &str, close: &str, value: &str| {
        let json = format!(
            r#"{{"id":"e","type":"t","source":{{"id":"a"}},"data":{{"x":{}{value}{}}}}}"#,
            open.repeat(100),
            close.repeat(100)
        );
        match bed.engine().read_event(json.as_bytes()) {
            Err(AcceptError::Malformed { path, .. }) => path,
            other => panic!("{other:?}"),
        }
    };
    let path = fault(r#"{"größe":"#, "}", r#"{"n":12345678901234567890123}"#);
    assert!(path.starts_with("data.x.größe.größe.") && path.ends_with(".größe.größe.n"), "{path}");
    assert!(path.contains(".größe….größe.") && path.chars().count() < 130, "{path}");
    let path = fault("[", "]", "no");
    assert!(path.starts_with("data.x[0][0]") && path.ends_with("[0][0]"), "{path}");
    assert!(path.contains("[0]…[0]") && path.len() < 130, "{path}");
}

#[tokio::test]
async fn the_deepest_event_is_kept_published_and_read_again() {
    let mut bed = Bed::new([pattern()]).await.unwrap();
    let deepest = event(MAX_DEPTH);
    bed.send(deepest.clone()).await.unwrap();
    assert!(bed.dead_letters().await.unwrap().is_empty());
    let [state] = &bed.live_threds().await.unwrap()[..] else { panic!("it has not started") };
    assert!(same(&**state));
    let [message] = &bed.take_messages()[..] else { panic!("nothing went out") };
    assert!(same(message));
    bed.restart().await.unwrap();
    let more = Event { id: "more".into(), thred_id: Some(state.id.clone()), ..deepest };
    bed.send(more).await.unwrap();
    assert!(bed.dead_letters().await.unwrap().is_empty());
}

#[test]
fn every_envelope_around_the_deepest_value_can_be_read() {
    let event = Arc::new(event(MAX_DEPTH));
    let locals = Arc::new(serde_json::Map::from_iter([("x".to_owned(), nested(MAX_DEPTH))]));
    let key = EventKey::of("ann", "deep");
    let consumed = Consumed::new(key, 0, 0);
    let start = Command::Start(Start {
        thred_id: "t".into(),
        pattern_id: "p".into(),
        parent: None,
        cause: event.clone(),
        consumed,
        input: Some(event.clone()),
        locals,
        participants: vec![],
    });
    let message = Arc::new(Message {
        id: "m".into(),
        event: event.clone(),
        to: vec!["bob".into()],
        timestamp: 0,
    });
    assert!(same(&*message));
    assert!(same(&start));
    assert!(same(&Inbound::Event(Accepted::new((*event).clone(), 0))));
    let outgoing = [
        Outgoing::Message { topic: "t".into(), message: message.clone() },
        Outgoing::Command(Arc::new(start.clone())),
    ];
    for outgoing in outgoing {
        assert!(same(&OutboxEntry { id: "o".into(), at: 0, outgoing }));
    }
    let record = LogRecord {
        log_type: LogType::Match,
        event: event.id.clone(),
        thred_id: None,
        pattern_id: None,
        from: None,
        to: None,
        timestamp: 0,
        detail: None,
    };
    let step = History {
        version: 1,
        consumed: Some(consumed),
        event: Some(event),
        command: Some(Arc::new(start)),
        log: vec![record],
        messages: vec![message],
        facts: None,
    };
    assert!(same(&step));
    // As an answer shows it: in a list of a value of an event of a message of an outbox.
    let shown = json!([{ "data": { "content": { "values": { "steps": [step] } } } }]);
    assert!(same(&shown));
}

/// Whether it comes back from its JSON as it went in.
fn same<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(value: &T) -> bool {
    let text = serde_json::to_string(value).unwrap();
    match serde_json::from_str::<T>(&text) {
        Ok(again) => again == *value,
        Err(error) => panic!("{error}: {}", &text[..text.len().min(200)]),
    }
}
