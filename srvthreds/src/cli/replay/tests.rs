use async_trait::async_trait;
use thredlib::Event;

use super::*;
use crate::{
    cli::testing::{args, ask, bed, queries},
    query::{Answer, Direct, Question, Unanswered},
};

/// Answers otherwise than the store.
struct Doctored<F>(Direct, F);

#[async_trait]
impl<F: Fn(&mut Answer) + Send + Sync> Queries for Doctored<F> {
    async fn ask(&self, question: Question) -> Result<Answer, Unanswered> {
        let mut answer = self.0.ask(question).await?;
        (self.1)(&mut answer);
        Ok(answer)
    }
}

async fn replayed(line: &[&str], queries: &dyn Queries) -> (Outcome, String) {
    let mut out = Vec::new();
    let outcome = replay(&args(line), queries, &mut out).await.unwrap();
    (outcome, String::from_utf8(out).unwrap())
}

async fn story() -> (thredcore::testing::Bed, ThredId) {
    let mut bed = bed().await;
    let id = ask(&mut bed, "1", "a car").await;
    bed.send(Event::builder("answer", "ann").id("2").thred(id.clone()).build()).await.unwrap();
    (bed, id)
}

#[tokio::test]
async fn what_is_stored_follows_from_its_history() {
    let (mut bed, id) = story().await;
    ask(&mut bed, "3", "a boat").await;
    bed.advance(60_000).await.unwrap();
    ask(&mut bed, "4", "a house").await;
    let queries = queries(&bed);
    let (outcome, text) = replayed(&[], &queries).await;
    assert_eq!((outcome, &*text), (Outcome::Good, "3 threds, 5 steps: 3 equal, 0 different\n"));
    let (outcome, text) = replayed(&["--thred", id.as_str(), "--json"], &queries).await;
    let summary = "{\"equal\":1,\"different\":0,\"incomparable\":0,\"steps\":2}\n";
    assert_eq!((outcome, &*text), (Outcome::Good, summary));
    assert_eq!(replayed(&["--thred", "nobody"], &queries).await.0, Outcome::Unable);
}

#[tokio::test]
async fn a_changed_state_shows_where() {
    let (bed, id) = story().await;
    let doctored = Doctored(queries(&bed), |answer: &mut Answer| {
        if let Answer::Threds(page) = answer {
            let state = Arc::make_mut(&mut page.threds[0]);
            Arc::make_mut(&mut state.locals).insert("what".into(), "a plane".into());
            state.participants.pop();
        }
    });
    let (outcome, text) = replayed(&[], &doctored).await;
    let expected = format!(
        "\
thred {id}, version 2, state.locals.what:
  stored    \"a plane\"
  computed  \"a car\"
thred {id}, version 2, state.participants[1]:
  stored    nothing
  computed  \"erp\"
1 thred, 2 steps: 0 equal, 1 different
"
    );
    assert_eq!((outcome, text), (Outcome::Bad, expected));
    let (_, json) = replayed(&["--json"], &doctored).await;
    let line: serde_json::Value = serde_json::from_str(json.lines().next().unwrap()).unwrap();
    assert_eq!(line["thred"], id.as_str());
    assert_eq!(
        line["differences"][1],
        json!({ "version": 2, "path": "state.participants[1]", "expected": null, "found": "erp" })
    );
}

#[tokio::test]
async fn a_changed_history_shows_where() {
    let (bed, id) = story().await;
    let doctored = Doctored(queries(&bed), |answer: &mut Answer| {
        if let Answer::History(steps) = answer {
            Arc::make_mut(&mut steps[0].messages[0]).to.push("eve".into());
            steps[1].log[0].to = Some("elsewhere".into());
            steps[1].log.pop();
        }
    });
    let (outcome, text) = replayed(&[], &doctored).await;
    assert_eq!(outcome, Outcome::Bad);
    for part in [
        format!(
            "thred {id}, version 1, messages[0].to[1]:\n  stored    \"eve\"\n  computed  nothing"
        ),
        format!(
            "thred {id}, version 2, log[0].to:\n  stored    \"elsewhere\"\n  computed  \"$term"
        ),
        format!(
            "thred {id}, version 2, log[1]:\n  stored    nothing\n  computed  {{\"type\":\"TERM"
        ),
    ] {
        assert!(text.contains(&part), "{part}\n---\n{text}");
    }
}

#[tokio::test]
async fn what_cannot_be_compared_is_told_apart() {
    let (bed, id) = story().await;
    let lost = |version: u64| {
        Doctored(queries(&bed), move |answer: &mut Answer| {
            if let Answer::History(steps) = answer {
                steps.retain(|step| step.version != version);
            }
        })
    };
    for (version, why) in
        [(1, "its history begins with step 2"), (2, "step 2 is missing from its history")]
    {
        let (outcome, text) = replayed(&[], &lost(version)).await;
        assert_eq!(outcome, Outcome::Unable);
        assert!(text.starts_with(&format!("thred {id} cannot be compared: {why}\n")), "{text}");
        assert!(text.ends_with("0 equal, 0 different, 1 not comparable\n"), "{text}");
    }
    let forgotten = Doctored(queries(&bed), |answer: &mut Answer| {
        if let Answer::Pattern(pattern) = answer {
            *pattern = None;
        }
    });
    let (outcome, text) = replayed(&[], &forgotten).await;
    assert_eq!(outcome, Outcome::Unable);
    assert!(text.contains("the revision of `approval` that it runs is not stored"), "{text}");
}
