//! Threds to look at.

use serde_json::{Value, json};
use thredcore::testing::Bed;
use thredlib::{Event, PatternModel, ThredId};

use crate::query::Direct;

/// A question to ann that waits for an answer for a minute, and a pattern that fails.
pub(crate) async fn bed() -> Bed {
    let tell = |title: &str, to: &str| {
        json!({ "type": "filter", "xpr": "true", "publish": { "to": to },
                "transform": { "eventDataTemplate": { "title": title } } })
    };
    let mut ask = tell("$xpr('Approve ' & $event.data.content.values.what & '?')", "ann");
    ask["xpr"] = "$event.type = 'ask'".into();
    ask["onTrue"] = json!({ "setLocal": { "what": "$xpr($valueNamed('what'))" } });
    let late = json!({ "interval": 60_000, "transition": { "name": "$terminate" } });
    let asking = json!({ "name": "Approval", "reactions": [
        { "name": "ask", "condition": ask },
        { "name": "wait", "expiry": late, "condition": tell("Thanks", "$thred") },
    ] });
    let mut fail = tell("$xpr($number('x'))", "ann");
    fail["xpr"] = "$event.type = 'fail'".into();
    let failing =
        json!({ "name": "Failing", "reactions": [{ "name": "fail", "condition": fail }] });
    Bed::new([asking, failing].map(pattern)).await.unwrap()
}

fn pattern(text: Value) -> PatternModel {
    serde_json::from_value(text).unwrap()
}

/// Asks ann for something.
pub(crate) async fn ask(bed: &mut Bed, id: &str, what: &str) -> ThredId {
    let event = Event::builder("ask", "erp").id(id).values(json!({ "what": what })).build();
    bed.send(event.clone()).await.unwrap();
    bed.started_by(&event).await.unwrap().remove(0)
}

/// Sends an event on which a step fails.
pub(crate) async fn fail(bed: &mut Bed, id: &str) {
    bed.send(Event::builder("fail", "erp").id(id).build()).await.unwrap();
}

/// What answers about a bed.
pub(crate) fn queries(bed: &Bed) -> Direct {
    let ports = bed.engine().ports();
    Direct::new(ports.storage.clone(), ports.event_q.clone(), ports.message_q.clone())
}

/// The arguments of a command, as the command line gives them.
pub(crate) fn args<T: clap::Args>(line: &[&str]) -> T {
    let command = T::augment_args(clap::Command::new("test"));
    let line = ["test", "--data", "none"].iter().chain(line);
    T::from_arg_matches(&command.get_matches_from(line)).unwrap()
}
