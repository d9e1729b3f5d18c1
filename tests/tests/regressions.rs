//! Defects that random histories and crashes have found, each as small as it can be told.

use std::time::Duration;

use thred_tests::{
    evidence::check_invariants,
    rig::Rig,
    story::{self, hand_in, pass, settle},
};
use thredcore::{
    EngineConfig,
    port::LogType,
    testing::fault::{Fault, FaultKind},
};
use thredlib::{ConditionBuilder, Event, PatternBuilder, PatternModel, ReactionBuilder};

async fn rig(patterns: Vec<PatternModel>) -> Rig {
    Rig::new(patterns, story::directory(), EngineConfig::default(), Fault::counting()).await
}

fn on(kind: &str) -> ConditionBuilder {
    ConditionBuilder::filter(format!("$event.type = '{kind}'"))
}

fn event(id: impl ToString, kind: &str) -> Event {
    Event::builder(kind, "ann").id(id.to_string()).build()
}

/// An event on record as having matched nothing has had its end, though the process died before it
/// was acknowledged and a pattern would match it now.
#[tokio::test]
async fn an_event_that_matched_nothing_is_not_matched_again() {
    let fault = Fault::at_operation("ack", 1, FaultKind::Crash);
    let config = EngineConfig::default();
    let mut rig = Rig::new(vec![], story::directory(), config, fault).await;
    hand_in(&mut rig, vec![event(1, "a")]).await;
    rig.settle().await.unwrap_err();
    let start = ReactionBuilder::new("start").condition(on("a"));
    rig.put_patterns(vec![PatternBuilder::new("late").reaction(start).build()]).await;
    rig.replace().await;
    let evidence = rig.evidence().await;
    check_invariants(&evidence).unwrap();
    assert_eq!((evidence.threds.len(), evidence.unmoved.len()), (0, 1));
    hand_in(&mut rig, vec![event(2, "a")]).await;
    settle(&mut rig).await;
    assert_eq!(rig.threds().await.len(), 1);
}

/// Fails instead of running without end.
async fn soon(test: impl Future<Output = ()>) {
    tokio::time::timeout(Duration::from_secs(20), test).await.expect("it ends");
}

#[tokio::test]
async fn an_expiry_that_keeps_the_reaction_happens_once() {
    let wait = ReactionBuilder::new("wait").condition(on("b")).expiry(1_000, "$noTransition");
    let start = ReactionBuilder::new("start").condition(on("a"));
    let pattern = PatternBuilder::new("p").reaction(start).reaction(wait).build();
    soon(async {
        let mut rig = rig(vec![pattern]).await;
        hand_in(&mut rig, vec![event(1, "a")]).await;
        settle(&mut rig).await;
        pass(&mut rig, 60_000).await;
        let evidence = rig.evidence().await;
        check_invariants(&evidence).unwrap();
        let log = evidence.threds[0].history.iter().flat_map(|step| &step.log);
        assert_eq!(log.filter(|record| record.log_type == LogType::Expired).count(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_spawned_thred_never_meets_the_event_that_it_comes_from() {
    let spawn = r#"{ "names": "watch", "type": "sibling" }"#;
    let start = on("a").spawn(serde_json::from_str(spawn).unwrap());
    let parent = PatternBuilder::new("p").reaction(ReactionBuilder::new("start").condition(start));
    let watch = ReactionBuilder::new("watch").condition(on("a")).allow_unbound_events();
    let idle = ReactionBuilder::new("never").condition(on("never"));
    let watch = PatternBuilder::new("watch").reaction(idle).reaction(watch).build();
    let mut watch = watch;
    watch.reactions.rotate_left(1);
    let mut rig = rig(vec![parent.build(), watch]).await;
    hand_in(&mut rig, vec![event(1, "a")]).await;
    settle(&mut rig).await;
    let before = rig.evidence().await;
    hand_in(&mut rig, vec![event(1, "a")]).await;
    settle(&mut rig).await;
    assert_eq!(rig.evidence().await.states(), before.states());
}

#[tokio::test]
async fn a_start_from_before_the_dedupe_window_comes_again() {
    let start = ReactionBuilder::new("start").condition(on("a"));
    let wait = ReactionBuilder::new("wait").condition(on("b").transition("$noTransition"));
    let pattern = PatternBuilder::new("p").reaction(start).reaction(wait).build();
    soon(async {
        let mut rig = rig(vec![pattern]).await;
        hand_in(&mut rig, vec![event(0, "a")]).await;
        settle(&mut rig).await;
        let thred = rig.threds().await.remove(0);
        for id in 1..100 {
            let mut event = event(id, "b");
            event.thred_id = Some(thred.clone());
            hand_in(&mut rig, vec![event]).await;
        }
        settle(&mut rig).await;
        hand_in(&mut rig, vec![event(0, "a")]).await;
        settle(&mut rig).await;
        check_invariants(&rig.evidence().await).unwrap();
    })
    .await;
}

#[tokio::test]
async fn the_start_of_an_ended_thred_is_not_refused_when_it_comes_again() {
    let start = ReactionBuilder::new("start").condition(on("a"));
    let wait = ReactionBuilder::new("wait").condition(on("b"));
    let pattern = PatternBuilder::new("p").max_instances(1).reaction(start).reaction(wait).build();
    let mut rig = rig(vec![pattern]).await;
    hand_in(&mut rig, vec![event("first", "a")]).await;
    settle(&mut rig).await;
    let mut end = event("end", "b");
    end.thred_id = Some(rig.threds().await.remove(0));
    hand_in(&mut rig, vec![end]).await;
    settle(&mut rig).await;
    pass(&mut rig, 1_000).await;
    hand_in(&mut rig, vec![event("second", "a")]).await;
    hand_in(&mut rig, vec![event("first", "a")]).await;
    settle(&mut rig).await;
    let evidence = rig.evidence().await;
    check_invariants(&evidence).unwrap();
    assert!(evidence.unmoved.is_empty(), "{:?}", evidence.unmoved);
}
