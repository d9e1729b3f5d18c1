//! A fault at every call of a port in turn: whatever goes wrong, and whenever, the run ends as if
//! nothing had.

use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};
use thred_tests::{
    arbitrary::{history, patterns},
    evidence::{Evidence, check_invariants},
    rig::Rig,
    seed::cases,
    story::{self, hand_in, pass, settle},
};
use thredcore::{
    EngineConfig,
    port::Directory,
    testing::fault::{Fault, FaultKind},
};
use thredlib::{Event, PatternModel, ThredId};

fn config() -> EngineConfig {
    let mut config = EngineConfig::default();
    config.first_pause = Duration::ZERO;
    config.longest_pause = Duration::ZERO;
    config
}

fn block_on<T>(test: impl Future<Output = T>) -> T {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_time().start_paused(true).build().unwrap().block_on(test)
}

/// An order that is picked and invoiced by children, reminds by timers, is talked about, and ends
/// with all that belongs to it; a shop with room for two customers; a pattern that fails.
fn order_patterns() -> Vec<PatternModel> {
    let filter = |kind: &str| json!(format!("$event.type = '{kind}'"));
    let tell = |title: &str, to: Value| {
        json!({
            "transform": { "eventDataTemplate": { "title": title } },
            "publish": { "to": to }
        })
    };
    let with = |mut condition: Value, more: Value| {
        let fields = more.as_object().unwrap().clone();
        condition.as_object_mut().unwrap().extend(fields);
        condition
    };
    let when = |kind: &str| json!({ "type": "filter", "xpr": filter(kind) });
    let order = json!({
        "name": "order", "broadcastAllowed": true, "maxInstances": 3,
        "reactions": [
            { "name": "placed", "condition": with(with(when("order"), tell("We have it", json!(["$xpr($event.source.id)", "@ops"]))), json!({
                "onTrue": { "setLocal": { "customer": "$xpr($event.source.id)" } },
                "spawn": { "names": ["picking", "invoice", "nobody"], "type": "child", "input": "forward", "context": true }
            })) },
            { "name": "ready", "expiry": { "interval": 60000, "transition": { "name": "ready" } },
              "condition": with(with(json!({ "type": "and", "operands": [when("picked"), when("paid")] }),
                tell("Ready", json!("$thred"))), json!({})) },
            { "name": "closing", "expiry": { "interval": 30000, "transition": { "name": "$terminate" } },
              "condition": with(when("never"), tell("?", json!("ann"))) }
        ]
    });
    let picking = json!({
        "name": "picking",
        "reactions": [
            { "name": "pick", "condition": with(with(when("order"), tell("Pick", json!("org.wt.store"))), json!({
                "spawn": { "names": "audit", "type": "sibling" }
            })) },
            { "name": "picking", "expiry": { "interval": 20000, "transition": { "name": "picking" } },
              "condition": with(when("packed"), tell("Packed", json!("$thred"))) }
        ]
    });
    let invoice = json!({
        "name": "invoice", "maxInstances": 1,
        "reactions": [
            { "name": "write", "condition": with(when("order"), tell("Invoice", json!("$thred"))) },
            { "name": "wait", "condition": when("settled") }
        ]
    });
    let audit = json!({
        "name": "audit",
        "reactions": [{ "name": "watch", "allowUnboundEvents": true, "condition":
            with(with(when("inspect"), tell("Inspected", json!("cat"))), json!({ "transition": { "name": "$noTransition" } })) }]
    });
    let broken = json!({
        "name": "broken",
        "reactions": [{ "name": "fail", "condition": with(when("bad"), tell("$xpr($error('no'))", json!("ann"))) }]
    });
    let models = [order, picking, invoice, audit, broken];
    models.into_iter().map(|model| serde_json::from_value(model).unwrap()).collect()
}

fn directory() -> Directory {
    let mut directory = story::directory();
    directory.add_role("admin", ["ann"]);
    directory
}

fn event(id: &str, kind: &str, source: &str, thred: Option<&ThredId>) -> Event {
    let builder = Event::builder(kind, source).id(id).values(json!({ "message": id }));
    match thred {
        Some(thred) => builder.thred(thred.clone()).build(),
        None => builder.build(),
    }
}

fn control(id: &str, values: Value) -> Event {
    let builder = Event::builder("org.wt.control.sysControl", "ann").id(id);
    builder.thred(ThredId::from("SYSTEM")).values(values).build()
}

fn order_id(event: &str, source: &str) -> ThredId {
    let key = thredlib::EventKey::of(source, event);
    thredcore::thred::started_id(&key, &"order".into())
}

/// Tells the story of three orders.
async fn tell_orders(rig: &mut Rig, together: bool) {
    let (one, two, three) = (order_id("o1", "bob"), order_id("o2", "cat"), order_id("o3", "dan"));
    let acts = vec![
        vec![event("o1", "order", "bob", None)],
        vec![event("o2", "order", "cat", None), event("o3", "order", "dan", None)],
        vec![event("o4", "order", "eve", None), event("bad", "bad", "bob", None)],
        vec![event("picked1", "picked", "org.wt.store", Some(&one))],
        vec![
            event("picked2", "picked", "org.wt.store", Some(&two)),
            event("hi", "org.wt.client.broadcast", "bob", Some(&one)),
        ],
        vec![event("paid1", "paid", "bob", Some(&one)), event("stray", "stray", "bob", None)],
        vec![event("inspect", "inspect", "dan", None)],
        vec![event("gone", "picked", "bob", Some(&ThredId::from("no such thred")))],
        vec![control(
            "move",
            json!({ "op": "transitionThred", "thredId": two, "transition": "closing" }),
        )],
        vec![control("end", json!({ "op": "terminateThred", "thredId": three }))],
    ];
    for events in acts {
        if together {
            hand_in(rig, events).await;
        } else {
            for event in events {
                hand_in(rig, vec![event]).await;
                settle(rig).await;
            }
        }
        settle(rig).await;
        pass(rig, 7_000).await;
    }
    pass(rig, 40_000).await;
}

fn run_orders(fault: std::sync::Arc<Fault>, batch: usize) -> Evidence {
    block_on(async {
        let mut rig =
            Rig::new(order_patterns(), directory(), config(), fault).await.batches_of(batch);
        tell_orders(&mut rig, batch > 1).await;
        rig.evidence().await
    })
}

/// What differs between two runs that should be alike.
fn difference(clean: &Evidence, run: &Evidence) -> Option<String> {
    let (expected, found) = (clean.states(), run.states());
    for (id, state) in &expected {
        match found.get(id) {
            None => return Some(format!("thred {id} is missing")),
            Some(it) if it != state => {
                let text = |state| serde_json::to_string(state).unwrap();
                return Some(format!("expected {}\nfound {}", text(state), text(it)));
            }
            Some(_) => {}
        }
    }
    if found.len() != expected.len() {
        return Some(format!("{} threds instead of {}", found.len(), expected.len()));
    }
    let (expected, found) = (clean.message_ids(), run.message_ids());
    let missing: Vec<_> = expected.difference(&found).collect();
    let surplus: Vec<_> = (run.published.iter())
        .filter(|it| !expected.contains(it.message.id.as_str()))
        .map(|it| serde_json::to_string(&it.message).unwrap())
        .collect();
    (!missing.is_empty() || !surplus.is_empty())
        .then(|| format!("messages missing: {missing:?}, surplus: {surplus:?}"))
}

fn walk(batch: usize) {
    let counter = Fault::counting();
    let clean = run_orders(counter.clone(), batch);
    check_invariants(&clean).unwrap();
    let calls = counter.calls();
    assert!(calls > 100, "only {calls} calls");
    let mut failures = Vec::new();
    for call in 1..=calls {
        for kind in FaultKind::ALL {
            let run = run_orders(Fault::at(call, kind), batch);
            let failure = check_invariants(&run).err().or_else(|| difference(&clean, &run));
            failures
                .extend(failure.map(|text| format!("call {call} of {calls}, {kind:?}: {text}")));
        }
    }
    let (count, first) = (failures.len(), failures.iter().take(5).cloned().collect::<Vec<_>>());
    assert!(failures.is_empty(), "{count} of {} runs: {}", calls * 4, first.join("\n\n"));
}

#[test]
fn every_crash_point_one_event_at_a_time() {
    walk(1);
}

#[test]
fn every_crash_point_in_batches() {
    walk(64);
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn random_histories_with_a_random_fault(
        models in patterns(3),
        acts in history(25),
        group in 1_usize..5,
        batch in 1_usize..9,
        call in any::<proptest::sample::Index>(),
        kind in proptest::sample::select(&FaultKind::ALL[..]),
    ) {
        let run = |fault| block_on(async {
            let rig = Rig::new(models.clone(), story::directory(), config(), fault).await;
            let mut rig = rig.batches_of(batch);
            story::tell(&mut rig, &acts, group).await;
            rig.evidence().await
        });
        let counter = Fault::counting();
        let clean = run(counter.clone());
        let call = call.index(counter.calls() as usize) as u64 + 1;
        let faulty = run(Fault::at(call, kind));
        let checked = check_invariants(&faulty);
        prop_assert!(checked.is_ok(), "call {}: {}", call, checked.unwrap_err());
        if group == 1 {
            let differs = difference(&clean, &faulty);
            prop_assert!(differs.is_none(), "call {}: {}", call, differs.unwrap());
        }
    }
}
