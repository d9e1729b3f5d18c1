//! A history tells all that is needed to compute it again, in another world.

use std::sync::Arc;

use serde_json::{Value, json};
use thredcore::{
    EngineConfig,
    pattern::Pattern,
    port::{Directory, History},
    testing::Bed,
    thred::{ReactLimits, Replay, ReplayError, replay},
};
use thredlib::{Event, PatternModel, ThredId};

/// Asks the directory for all that it knows, and the library for two names.
fn patterns() -> Vec<PatternModel> {
    let told = |to: Value| {
        json!({ "transform": { "eventDataTemplate": { "title": "$xpr($string($random()))" } },
                "publish": { "to": to } })
    };
    let step = |name: &str, xpr: &str, to: Value, more: Value| {
        let mut condition = told(to);
        condition["type"] = "filter".into();
        condition["xpr"] = xpr.into();
        for (key, value) in more.as_object().into_iter().flatten() {
            condition[key] = value.clone();
        }
        json!({ "name": name, "condition": condition })
    };
    let mut approve = step("approve", "true", json!(["$all", "$boss", "@nobody"]), json!({}));
    approve["allowedSources"] = json!(["$ops"]);
    approve["permissions"] = json!({ "allowedRoles": ["boss"] });
    let spawn = json!({ "spawn": { "names": ["Other", "nobody", "other"], "type": "child" } });
    let asking = json!({
        "name": "Asking",
        "broadcastAllowed": true,
        "reactions": [
            step("ask", "$event.type = 'ask'", json!(["$ops", "store", "zoe"]), spawn),
            approve,
            step("last", "true", json!("$thred"), json!({})),
        ],
    });
    let other = json!({ "name": "Other", "reactions": [
        step("start", "$event.type = 'ask'", json!("ann"), json!({})),
        step("end", "true", json!("ann"), json!({})),
    ] });
    [asking, other].map(|it| serde_json::from_value(it).unwrap()).into()
}

fn directory() -> Directory {
    let mut directory = Directory::new();
    directory
        .add_group("ops", ["cat", "bob", "ann"])
        .add_role("boss", ["eve", "bob"])
        .add_service("store")
        .add_session("bob", "org.wt.session2")
        .add_session("ann", "org.wt.session")
        .add_session("bob", "org.wt.session")
        .add_session("dan", "org.wt.session3");
    directory
}

/// All threds of a run, by pattern, each with its revision, its history and its state as JSON.
async fn pasts(bed: &Bed) -> Vec<(Pattern, Vec<History>, Vec<u8>)> {
    let mut pasts = Vec::new();
    for state in bed.all_threds().await.unwrap() {
        let storage = bed.engine().storage();
        let stored = storage.pattern(&state.pattern).await.unwrap().unwrap();
        let pattern = Pattern::compile(&stored, &bed.engine().config().expr_limits).unwrap();
        let history = storage.history(&state.id, None, usize::MAX).await.unwrap();
        pasts.push((pattern, history, serde_json::to_vec(&*state).unwrap()));
    }
    pasts.sort_by(|(a, ..), (b, ..)| a.key.cmp(&b.key));
    pasts
}

async fn bed() -> Bed {
    let mut config = EngineConfig::default();
    config.seed = 7;
    let mut builder = Bed::builder().directory(directory()).config(config);
    for pattern in patterns() {
        builder = builder.pattern(pattern);
    }
    let mut bed = builder.build().await.unwrap();
    let ask = Event::builder("ask", "fay").id("1").build();
    bed.send(ask.clone()).await.unwrap();
    let thred = bed.started_by(&ask).await.unwrap().remove(0);
    let bound = |id: &str, source: &str, kind: &str, thred: &ThredId| {
        Event::builder(kind, source).id(id).thred(thred.clone()).values(json!({ "message": 1 }))
    };
    for (id, source, kind) in [
        ("2", "ann", "answer"),
        ("3", "store", "org.wt.client.broadcast"),
        ("4", "bob", "org.wt.client.broadcast"),
        ("5", "bob", "answer"),
        ("6", "bob", "answer"),
    ] {
        bed.send(bound(id, source, kind, &thred).build()).await.unwrap();
    }
    bed
}

#[tokio::test]
async fn a_history_gives_the_state_again_without_the_directory() {
    let bed = bed().await;
    let pasts = pasts(&bed).await;
    assert!(pasts.iter().any(|(_, history, _)| history.len() == 5), "{pasts:?}");
    for (pattern, history, stored) in pasts {
        // As a backend keeps it.
        let text = serde_json::to_vec(&history).unwrap();
        let history: Vec<History> = serde_json::from_slice(&text).unwrap();
        let state = replay(&pattern, &history, &ReactLimits::default()).unwrap();
        assert_eq!(serde_json::to_vec(&*state).unwrap(), stored);
    }
}

#[tokio::test]
async fn facts_hold_what_was_asked_and_no_more() {
    let bed = bed().await;
    let (_, history, _) = pasts(&bed).await.remove(0);
    let facts: Vec<Value> =
        history.iter().map(|step| json!(step.facts.as_ref().map(|it| &it.directory))).collect();
    let bob = json!([
        { "participant": "bob", "node": "org.wt.session2" },
        { "participant": "bob", "node": "org.wt.session" },
    ]);
    assert_eq!(
        facts[0],
        json!({ "groups": { "ops": ["cat", "bob", "ann"] }, "services": ["store"], "sessions": bob })
    );
    assert_eq!(facts[3]["groups"], json!({ "ops": ["bob"] }));
    assert_eq!(facts[3]["roles"], json!({ "boss": ["eve", "bob"] }));
    assert_eq!(facts[3]["sessions"].as_array().unwrap().len(), 4, "{}", facts[3]);
    let patterns = &history[0].facts.as_ref().unwrap().patterns;
    assert_eq!(json!(patterns), json!({ "Other": "other", "other": "other" }));

    // What asks for nothing keeps nothing.
    let hello = json!({ "name": "Hello", "reactions": [{ "condition": {
        "type": "filter", "xpr": "true",
        "transform": { "eventDataTemplate": { "title": "Hello" } }, "publish": { "to": "ann" },
    } }] });
    let mut bed = Bed::new([serde_json::from_value(hello).unwrap()]).await.unwrap();
    bed.send(Event::builder("hello", "ann").build()).await.unwrap();
    let (_, history, _) = pasts(&bed).await.remove(0);
    assert_eq!(history[0].facts, None);
}

#[tokio::test]
async fn what_was_changed_shows_where() {
    let bed = bed().await;
    let limits = ReactLimits::default();
    let (pattern, history, _) = pasts(&bed).await.remove(0);

    let mut changed = history.clone();
    Arc::make_mut(&mut changed[2].messages[0]).to.pop();
    let error = replay(&pattern, &changed, &limits).unwrap_err();
    let ReplayError::Diverged { version: 3, recorded, computed } = error else { panic!("{error}") };
    assert_eq!((*recorded, *computed), (changed[2].clone(), history[2].clone()));

    let mut lost = history.clone();
    lost.remove(2);
    assert_eq!(replay(&pattern, &lost, &limits), Err(ReplayError::Gap { version: 3 }));
    assert_eq!(replay(&pattern, &lost[1..], &limits), Err(ReplayError::Gap { version: 1 }));

    let mut replay = Replay::new(&pattern, &limits);
    assert_eq!(replay.step(&history[0]).as_ref(), Ok(&history[0]));
    let mut twice = history[0].clone();
    twice.version = 2;
    assert_eq!(replay.step(&twice), Err(ReplayError::Nothing { version: 2 }));
    assert_eq!(replay.step(&history[1]).as_ref(), Ok(&history[1]), "nothing has changed");
}
