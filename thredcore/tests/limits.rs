//! Every limit of door and step: what is within comes through, what is over is refused with a
//! reason, and nothing else is lost.

use serde_json::json;
use thredcore::{AcceptError, EngineConfig, port::Directory, testing::Bed};
use thredlib::{
    ConditionBuilder, Event, OneOrMany, PatternBuilder, PatternModel, ReactionBuilder, SpawnModel,
};

fn reaction(name: &str, condition: ConditionBuilder) -> PatternModel {
    PatternBuilder::new(name).reaction(ReactionBuilder::new("only").condition(condition)).build()
}

async fn bed(pattern: PatternModel, change: impl FnOnce(&mut EngineConfig)) -> Bed {
    let mut config = EngineConfig::default();
    change(&mut config);
    let mut directory = Directory::new();
    directory.add_group("three", ["a", "b", "c"]);
    Bed::builder().pattern(pattern).config(config).directory(directory).build().await.unwrap()
}

/// The reasons of the dead letters after a start.
async fn refused(mut bed: Bed) -> Vec<String> {
    bed.send(Event::builder("start", "ann").id("e").build()).await.unwrap();
    assert!(bed.live_threds().await.unwrap().is_empty(), "the thred started all the same");
    bed.dead_letters().await.unwrap().into_iter().map(|letter| letter.reason).collect()
}

#[tokio::test]
async fn the_door_says_what_is_wrong_and_where() {
    let bed = bed(reaction("p", ConditionBuilder::filter("false")), |config| {
        config.event_limits.bytes = 200;
        config.event_limits.id_bytes = 10;
    })
    .await;
    let read = |text: &str| bed.engine().read_event(text.as_bytes()).unwrap_err().to_string();
    let cases = [
        (r#"{"id":"e""#, "EOF"),
        (r#"{"id":"e","type":"t","source":{"name":"x"}}"#, "missing field `id`"),
        (r#"{"id":"e","type":7,"source":{"id":"a"}}"#, "at `type`"),
        (r#"{"id":"e","type":"t","source":{"id":"a"},"data":[]}"#, "at `data`"),
        (r#"{"id":"e","type":"t","source":{"id":"a"},"timestamp":"now"}"#, "at `timestamp`"),
        (r#"{"id":"","type":"t","source":{"id":"a"}}"#, "`id` is empty"),
        (r#"{"id":"e","type":"t","source":{"id":"SYSTEM"}}"#, "reserved"),
        (r#"{"id":"e2345678901","type":"t","source":{"id":"a"}}"#, "`id` is 11 bytes long"),
        (r#"{"id":"e","type":"t","source":{"id":"a"}} x"#, "trailing characters"),
        (
            r#"{"id":"e","type":"t","source":{"id":"a"},"timestamp":-5}"#,
            "at `timestamp`: -5 is before 1970; give milliseconds since then, or leave it out",
        ),
        (r#"{"id":"e","type":"t","source":{"id":"a"},"time":-1e3}"#, "-1000 is before 1970"),
    ];
    for (text, part) in cases {
        assert!(read(text).contains(part), "{text}: {}", read(text));
    }
    let long =
        format!(r#"{{"id":"e","type":"t","source":{{"id":"a"}},"x":"{}"}}"#, "y".repeat(200));
    assert!(read(&long).contains("the limit is 200"));
    let before = Event::builder("t", "a").id("b").timestamp(-1).build();
    let error = bed.engine().accept(vec![before]).await.unwrap_err();
    assert!(error.to_string().contains("-1 is before 1970"), "{error}");
    let forged = Event::builder("t", "SYSTEM").id("f").build();
    let error = bed.engine().accept(vec![forged]).await.unwrap_err();
    assert!(matches!(error, AcceptError::ReservedSource) && !error.is_retryable());
    assert_eq!(bed.engine().event_q().depth().await.unwrap(), 0);
}

#[tokio::test]
async fn the_door_names_what_json_s_reader_would_round_or_not_explain() {
    let bed = bed(reaction("p", ConditionBuilder::filter("false")), |_| {}).await;
    let with = |n: &str| {
        format!(
            r#"{{"id":"e","type":"t","source":{{"id":"a"}},"data":{{"content":{{"values":{{"n":{n}}}}}}}}}"#
        )
    };
    let read = |text: &str| bed.engine().read_event(text.as_bytes());
    for (n, part) in [
        ("12345678901234567890123", "the integer 12345678901234567890123 is beyond 64 bits"),
        ("[1,-9223372036854775809]", "at `data.content.values.n[1]`"),
        (r#""cut \ud83d""#, r"at `data.content.values.n`: `\ud83d` is half of a surrogate pair"),
    ] {
        let error = read(&with(n)).unwrap_err();
        assert!(error.to_string().contains(part) && !error.is_retryable(), "{n}: {error}");
    }
    for n in ["18446744073709551615", "-9223372036854775808", r#""\ud83d\ude00""#, "1e30"] {
        let event = read(&format!("\u{feff}{}", with(n))).unwrap();
        let expected: serde_json::Value = serde_json::from_str(n).unwrap();
        assert_eq!(event.value_named("n"), Some(&expected));
    }
}

#[tokio::test]
async fn recipients_and_participants_are_bounded() {
    let told = || {
        let condition = ConditionBuilder::filter("$event.type = 'start'");
        let condition = condition.transform(json!({ "title": "x" })).publish("@three");
        reaction("told", condition.transition("$noTransition"))
    };
    let limited = bed(told(), |config| config.react_limits.recipients = 2).await;
    assert!(refused(limited).await[0].contains("more than 2 recipients"));
    let limited = bed(told(), |config| config.react_limits.participants = 3).await;
    assert!(refused(limited).await[0].contains("more than 3 participants"));
    let mut within = bed(told(), |config| {
        config.react_limits.recipients = 3;
        config.react_limits.participants = 4;
    })
    .await;
    within.send(Event::builder("start", "ann").build()).await.unwrap();
    assert_eq!(within.take_messages()[0].to.len(), 3);
}

#[tokio::test]
async fn locals_and_chains_are_bounded() {
    let condition = ConditionBuilder::filter("$event.type = 'start'");
    let large = reaction("large", condition.set_local("x", json!("y".repeat(300))));
    let limited = bed(large, |config| config.react_limits.locals_bytes = 256).await;
    assert!(refused(limited).await[0].contains("more than 256 bytes of locals"));

    let round = ConditionBuilder::filter("true").forward("only");
    let limited = bed(reaction("round", round), |config| config.react_limits.chain = 5).await;
    assert!(refused(limited).await[0].contains("passed through more than 5 reactions"));
}

#[tokio::test]
async fn children_are_bounded() {
    let spawn = SpawnModel {
        names: OneOrMany::Many(vec!["spawns".into(), "spawns".into()]),
        input: None,
        spawn_type: None,
        local_name: None,
        context: None,
        extra: Default::default(),
    };
    let condition = ConditionBuilder::filter("$event.type = 'start'").spawn(spawn);
    let pattern = reaction("spawns", condition.transition("$noTransition"));
    let limited = bed(pattern, |config| config.react_limits.children = 1).await;
    assert!(refused(limited).await[0].contains("more than 1 children"));
}

#[tokio::test]
async fn the_inbox_lets_go_of_what_is_settled() {
    let condition = ConditionBuilder::filter("true").transition("$noTransition");
    let mut bed = bed(reaction("p", condition), |config| config.react_limits.inbox = 2).await;
    bed.send(Event::builder("start", "ann").id("e0").build()).await.unwrap();
    let thred = bed.live_threds().await.unwrap()[0].id.clone();
    for id in ["e1", "e2", "e2", "e1", "e3", "e1"] {
        bed.send(Event::builder("x", "ann").id(id).thred(thred.clone()).build()).await.unwrap();
    }
    let state = bed.thred(&thred).await.unwrap().unwrap();
    assert_eq!((state.version, state.inbox.len()), (4, 2));
}
