use super::*;
use crate::cli::testing::{args, bed, fail, queries};

async fn listed(line: &[&str], queries: &dyn Queries) -> String {
    let mut out = Vec::new();
    assert_eq!(list(&args(line), queries, &mut out).await.unwrap(), Outcome::Good);
    String::from_utf8(out).unwrap()
}

async fn changed(act: Act, line: &[&str], queries: &dyn Queries) -> (Outcome, String) {
    let args: ChosenArgs = args(line);
    let mut out = Vec::new();
    let chosen = chosen(&args, act.name()).unwrap();
    let (outcome, _) = change(&args, act, chosen, queries, &mut out).await.unwrap();
    (outcome, String::from_utf8(out).unwrap())
}

#[tokio::test]
async fn letters_are_listed_shown_redriven_and_dropped() {
    let mut bed = bed().await;
    let queries = queries(&bed);
    assert_eq!(listed(&[], &queries).await, "no dead letters\n");
    fail(&mut bed, "one").await;
    fail(&mut bed, "two").await;

    let text = listed(&[], &queries).await;
    let mut lines = text.lines();
    let heading = lines.next().unwrap();
    assert!(heading.starts_with("ID        SINCE                    TRIES  WHAT"), "{heading}");
    let first = lines.next().unwrap();
    assert!(first.starts_with("events/1  ") && first.contains("one, fail from erp"), "{first}");
    assert!(first.contains("pattern `failing`, reaction `fail`: "), "{first}");
    assert!(text.ends_with("2 dead letters\n"), "{text}");
    assert_eq!(listed(&["--queue", "messages"], &queries).await, "no dead letters\n");
    assert_eq!(listed(&["--reason", "nobody"], &queries).await, "no dead letters\n");
    assert!(listed(&["--limit", "1"], &queries).await.ends_with("1 dead letter\n"));
    let json: serde_json::Value =
        serde_json::from_str(&listed(&["--json"], &queries).await).unwrap();
    assert_eq!(json["deadLetters"][1]["id"], "events/2");
    assert_eq!(json["deadLetters"][1]["event"]["id"], "two");

    let mut out = Vec::new();
    let line: ChosenArgs = args(&["events/2"]);
    show::show(&line, chosen(&line, "show").unwrap(), &queries, &mut out).await.unwrap();
    let shown = String::from_utf8(out).unwrap();
    assert!(shown.starts_with("id        events/2\nwhat      two, fail from erp\n"), "{shown}");
    assert!(shown.contains("\n    \"type\": \"fail\",") || shown.contains("\"type\": \"fail\""));

    let (outcome, text) = changed(Act::Redrive, &["events/1"], &queries).await;
    assert_eq!((outcome, &*text), (Outcome::Good, "redriven: 1 event, 0 messages\n"));
    bed.settle().await.unwrap();
    assert!(listed(&[], &queries).await.contains("events/3"), "it has failed again");
    let (outcome, text) = changed(Act::Drop, &["--reason", "fail", "--limit", "1"], &queries).await;
    assert_eq!((outcome, &*text), (Outcome::Good, "dropped: 1 event, 0 messages\n"));
    let (_, text) = changed(Act::Drop, &["--all", "--json"], &queries).await;
    assert_eq!(text, "{\"events\":1,\"messages\":0,\"ingress\":0}\n");
    let (outcome, text) = changed(Act::Drop, &["--queue", "events"], &queries).await;
    assert_eq!((outcome, &*text), (Outcome::Bad, "dropped: 0 events, 0 messages\n"));
}

#[test]
fn what_is_meant_must_be_said() {
    let meant = |line: &[&str]| chosen(&args(line), "drop");
    assert_eq!(meant(&[]), None);
    assert_eq!(meant(&["3"]), None);
    assert_eq!(meant(&["letters/3"]), None);
    assert_eq!(meant(&["--all"]).unwrap().len(), 3);
    let ids = |ids: &[&str]| DeadLetterFilter {
        ids: Some(ids.iter().map(|id| (*id).to_owned()).collect()),
        ..DeadLetterFilter::all()
    };
    assert_eq!(
        meant(&["messages/a/b", "events/1", "messages/2"]).unwrap(),
        [(Queue::Events, ids(&["1"])), (Queue::Messages, ids(&["a/b", "2"]))]
    );
    assert_eq!(meant(&["messages/2", "--queue", "events"]).unwrap(), []);
    let filter = meant(&["--queue", "messages", "--reason", "x", "--limit", "5"]).unwrap();
    assert_eq!(filter.len(), 1);
    assert_eq!((filter[0].1.reason.as_deref(), filter[0].1.limit), (Some("x"), Some(5)));
}
