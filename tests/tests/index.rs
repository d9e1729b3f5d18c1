//! The match index answers as trying every pattern would.

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value, json};
use thred_tests::filters;
use thredcore::{
    pattern::{Library, Pattern},
    port::{Directory, Start, StoredPattern},
    state::{Status, ThredState},
    thred::{self, Input, Outcome, ReactLimits, World},
};
use thredlib::{Event, ExprLimits, PatternModel, expr::Scope};

/// Patterns in use, and all that their decisions depend on.
struct Trial {
    library: Library,
    directory: Directory,
    limits: ReactLimits,
}

impl Trial {
    fn new(models: Vec<PatternModel>) -> Self {
        let compile = |model| Pattern::compile(&StoredPattern::new(model), &ExprLimits::default());
        let patterns = models.into_iter().map(|model| Arc::new(compile(model).unwrap()));
        let library = Library::new(patterns, []);
        Self { library, directory: filters::directory(), limits: ReactLimits::default() }
    }

    fn world(&self) -> World<'_> {
        let (directory, library, limits) = (&self.directory, &self.library, &self.limits);
        World { now: 0, seed: 0, directory, library, limits, watchers: &[], settled: &[] }
    }

    /// A thred that waits in a reaction.
    fn thred(&self, pattern: &Pattern, reaction: usize) -> ThredState {
        let cause = Arc::new(Event::builder("spawn", "ann").id("cause").build());
        let start = Start {
            thred_id: "t".into(),
            pattern_id: pattern.key.id.clone(),
            parent: None,
            consumed: filters::consumed(&cause),
            cause,
            input: None,
            locals: Arc::default(),
            participants: vec![],
        };
        let commit = thred::spawn(pattern, &start, start.consumed, &self.world()).unwrap();
        let waits = if pattern.reactions[reaction].allow_unbound {
            pattern.wait_keys(reaction, &commit.state.locals).into_iter().collect()
        } else {
            Default::default()
        };
        let reaction = pattern.reactions[reaction].name.clone();
        ThredState { reaction, waits, ..(*commit.state).clone() }
    }

    fn react(
        &self,
        pattern: &Pattern,
        state: &ThredState,
        event: &Arc<Event>,
    ) -> Result<Outcome, thred::StepError> {
        let (input, consumed) = (Input::Offered(event), filters::consumed(event));
        thred::react(pattern, state, input, consumed, &self.world())
    }

    /// Tries every pattern on an event; those that start a thred or fail must be candidates.
    fn start(&self, event: &Arc<Event>) -> Result<usize, String> {
        let candidates: Vec<_> = self.library.candidates(event).collect();
        if !candidates.is_sorted_by(|a, b| a.key.id < b.key.id) {
            return Err("the candidates are out of order, or there twice".into());
        }
        let mut met = 0;
        for pattern in self.library.entries() {
            let mut scope = Scope::new(event.clone(), 0, 0);
            let started =
                thred::start(pattern, &mut scope, filters::consumed(event), &self.world());
            if matches!(started, Ok(None)) {
                continue;
            }
            met += 1;
            if !candidates.iter().any(|candidate| candidate.key == pattern.key) {
                return Err(format!("`{}` is no candidate: {started:?}", pattern.key.id));
            }
        }
        Ok(met)
    }

    /// Offers an event to a thred in every reaction that listens, as it is and after another
    /// event, which may have left something in its memory.
    fn offer(&self, earlier: &Arc<Event>, event: &Arc<Event>) -> Result<usize, String> {
        let candidates: Vec<_> = self.library.listening(event).collect();
        let mut met = 0;
        for (pattern, reaction) in self.library.all_listening() {
            let fresh = self.thred(pattern, *reaction);
            let after = self.react(pattern, &fresh, earlier);
            let after = match after {
                Ok(Outcome::Commit(commit)) => Some((*commit.state).clone()),
                _ => None,
            };
            let stays = |state: &ThredState| {
                state.status == Status::Active && state.reaction == fresh.reaction
            };
            for state in [Some(fresh.clone()), after.filter(stays)].into_iter().flatten() {
                let outcome = self.react(pattern, &state, event);
                if matches!(outcome, Ok(Outcome::Nothing)) {
                    continue;
                }
                met += 1;
                let found = |(candidate, at): &&(Arc<Pattern>, usize)| {
                    candidate.key == pattern.key && at == reaction
                };
                if !candidates.iter().any(found) {
                    let (id, name) = (&pattern.key.id, &fresh.reaction);
                    return Err(format!("`{id}` at `{name}` is no candidate: {outcome:?}"));
                }
            }
        }
        Ok(met)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    #[test]
    fn every_pattern_that_starts_or_fails_is_a_candidate(
        models in filters::listening_patterns(6),
        events in prop::collection::vec(filters::event("e"), 1..6),
    ) {
        let trial = Trial::new(models);
        for event in events {
            trial.start(&Arc::new(event)).map_err(TestCaseError::fail)?;
        }
    }

    #[test]
    fn every_listening_reaction_that_moves_or_fails_is_a_candidate(
        models in filters::listening_patterns(4),
        earlier in filters::event("earlier"),
        event in filters::event("e"),
    ) {
        let trial = Trial::new(models);
        trial.offer(&Arc::new(earlier), &Arc::new(event)).map_err(TestCaseError::fail)?;
    }
}

/// A pattern that is one filter, in JSONata or, after `$[`, in JSONPath.
fn filter(name: &str, xpr: &str) -> PatternModel {
    let xpr = if xpr.starts_with("$[") { json!({ "jsonpath": xpr }) } else { json!(xpr) };
    let condition = json!({ "type": "filter", "xpr": xpr });
    model(name, json!({ "allowUnboundEvents": true, "condition": condition }))
}

fn model(name: &str, reaction: Value) -> PatternModel {
    serde_json::from_value(json!({ "name": name, "reactions": [reaction] })).unwrap()
}

fn event(kind: &str, source: &str, values: Value) -> Arc<Event> {
    Arc::new(Event::builder(kind, source).id("e").values(values).build())
}

fn hard_events() -> Vec<Arc<Event>> {
    let mut events = Vec::new();
    let values = [
        json!({}),
        json!({ "x": 1 }),
        json!({ "x": 1.0 }),
        json!({ "x": "1" }),
        json!({ "x": 0 }),
        json!({ "x": -0.0 }),
        json!({ "x": true }),
        json!({ "x": "" }),
        json!({ "x": null }),
        json!({ "x": [1] }),
        json!({ "x": { "x": 1 } }),
        json!({ "x": null, "y": { "x": 1 } }),
        json!({ "y": { "x": 2 }, "x": 1 }),
        json!({ "y": { "x": 1 }, "x": 2 }),
        json!({ "y": [{ "x": null }, { "x": "b" }, { "x": 1 }] }),
        json!([{ "y": 1 }, { "x": 1 }]),
        json!([[{ "x": 1 }]]),
        json!({ "": "", "\u{fc}": "\u{fc}" }),
        json!({ "\u{fc}": "u\u{308}" }),
        json!({ "x": 9_007_199_254_740_993_i64 }),
        json!({ "x": 9_007_199_254_740_992.0 }),
        json!({ "x": u64::MAX }),
        json!({ "x": 1e300 }),
        json!(1),
        json!("x"),
        Value::Null,
    ];
    for kind in ["a", "b", "1", "", "\u{fc}"] {
        for source in ["s", "t", ""] {
            events.extend(values.iter().map(|values| event(kind, source, values.clone())));
            events.push(Arc::new(Event::builder(kind, source).id("e").build()));
        }
    }
    events
}

/// Filters that are easily read wrongly.
const HARD: &[&str] = &[
    "$event.type = 'a' or $valueNamed('x') = 1",
    "$event.type = 'a' or $event.source.id = 's'",
    "$event.type = 'a' or $event.type = 'b'",
    "($event.type = 'a' and $valueNamed('x') = 1) or $event.source.id = 't'",
    "$event.type = 'a' and ($valueNamed('x') = 1 or $contains($valueNamed('x'), 'b'))",
    "$not($event.type = 'a')",
    "$not($not($event.type = 'a'))",
    "$event.type != 'a'",
    "$valueNamed('x') != 1",
    "$event.type in ['a', 'b']",
    "$event.type in []",
    "$event.type in 'a'",
    "$event.type in ['a', 1, null]",
    "'a' in $event.type",
    "'a' = $event.type",
    "1 = $valueNamed('x')",
    "$event.type = 1",
    "$event.type = '1'",
    "$event.type = ''",
    "$event.type = null",
    "$event.type = true",
    "$event.type",
    "$event.source.id = ''",
    "$valueNamed('x') = 1",
    "$valueNamed('x') = 1.0",
    "$valueNamed('x') = '1'",
    "$valueNamed('x') = -0",
    "$valueNamed('x') = 0",
    "$valueNamed('x') = ''",
    "$valueNamed('x') = true",
    "$valueNamed('x') = null",
    "$valueNamed('x') in [1, 'b']",
    "$valueNamed('x') in [null, 1]",
    "$valueNamed('x') = [1]",
    "$valueNamed('x') = 9007199254740993",
    "$valueNamed('x') = 18446744073709551615",
    "$valueNamed('x') = 1e300",
    "$valueNamed('x') = $valueNamed('x')",
    "$valueNamed('x').x = 1",
    "$valueNamed('x')[0] = 1",
    "$valueNamed('') = ''",
    "$valueNamed('\u{fc}') = '\u{fc}'",
    "$valueNamed('x', $event) = 1",
    "$valueNamed('x', {'data': {'content': {'values': {'x': 1}}}}) = 1",
    "$values.x = 1",
    "$values.**.x = 1",
    "$exists($valueNamed('x'))",
    "$exists($event.type = 'a')",
    "$boolean($event.type = 'a')",
    "$string($event.type = 'a')",
    "[$event.type = 'a']",
    "{'k': $event.type = 'a'}",
    "$event.type = 'a' ? true : false",
    "$event.type = 'a' ? false : true",
    "$event.type = 'a' ? $valueNamed('x') = 1",
    "($event.type = 'a')",
    "($event.type = 'a'; true)",
    "($event.type = 'a'; $valueNamed('x') = 1)",
    "($event := {'type': 'z'}; $event.type = 'z')",
    "$map([1], function($event) { true })",
    "$event.(type = 'a')",
    "$event[type = 'a']",
    "event.type = 'a'",
    "event[type = 'a'].source.id = 's'",
    // What may fail, before and behind what decides.
    "$event.type = 'a' and $contains($valueNamed('x'), 'b')",
    "$contains($valueNamed('x'), 'b') and $event.type = 'a'",
    "$event.type = 'a' and $valueNamed('x') > 'b'",
    "$valueNamed('x') > 'b' and $event.type = 'a'",
    "$event.type = 'a' or $valueNamed('x') > 'b'",
    "$isResponseFor('q') and $event.type = 'a' and $number($valueNamed('x')) = 1",
    "$event = 's' and $event.type = 'a'",
    "($event in ['s']) and $event.type = 'a'",
    "$values = $content and $event.type = 'a'",
    "-$valueNamed('x') = 1 and $event.type = 'a'",
    "$error('no') and $event.type = 'a'",
    "$event.type = 'a' and $error('no')",
    "$assert($event.type = 'a', 'no')",
    // Sets something, says something.
    "$setLocal('n', 1)",
    "$setLocal('n', 1) and $event.type = 'a'",
    "($setLocal('n', $event.type); $local('n') = 'a')",
    "$event.type = 'a' and $setLocal('n', 1)",
    "$log('here') or $event.type = 'a'",
    "$random() < 2",
    // Never.
    "false",
    "0",
    "()",
    "$nothing",
    "$nothing = 1",
    "1",
    // JSONPath.
    "$[?$.event.type == 'a']",
    "$[?'a' == $.event.type]",
    "$[?$['event']['type'] == 'a']",
    "$[?$.event.type == 1]",
    "$[?$.event.type == '']",
    "$[?$.event.type == null]",
    "$[?$.event.type == 'a' || $.values.x == 1]",
    "$[?$.event.type == 'a' && $.values.x == 1]",
    "$[?!($.event.type == 'a')]",
    "$[?$.event.type != 'a']",
    "$[?$.event.type == 'a', ?$.values.x == 1]",
    "$[?$.event.type == 'a', 'event']",
    "$[?$.event.type == 'a'][?@.x == 1]",
    "$[?$.values.x == 1]",
    "$[?$.values.x == 1.0]",
    "$[?$.values.x == -0]",
    "$[?$.values.x == '1']",
    "$[?$.values.x == null]",
    "$[?$.values.x == $.values.x]",
    "$[?$.values.y.x == 1]",
    "$[?$.values[1].x == 1]",
    "$[?$.values['\u{fc}'] == '\u{fc}']",
    "$[?$.values[''] == '']",
    "$[?$.content.values.x == 1]",
    "$[?$.data.content.values.x == 1]",
    "$[?$.event.data.content.values.x == 1]",
    "$[?$.event.source.id == '']",
    "$[?@.type == 'a']",
    "$[?@ == 'a']",
    "$[?$.event.type]",
    "$[?$.nothing == $.nothing]",
    "$[?length($.event.type) == 1]",
    "$[?match($.event.type, 'a|b') && $.values.x == 1]",
    "$[?$.event.type == 'a' && search($.event.type, 'a')]",
    "$[?count($..*) > 3 && $.event.type == 'a']",
];

/// Reactions that restrict more than their filters do.
fn restricted() -> Vec<PatternModel> {
    let kind = |kind: &str| json!({ "type": "filter", "xpr": format!("$event.type = '{kind}'") });
    let source = json!({ "type": "filter", "xpr": "$event.source.id = 's'" });
    let x = json!({ "type": "filter", "xpr": "$valueNamed('x') = 1" });
    let any = json!({ "type": "filter", "xpr": "true" });
    let fails = json!({ "type": "filter", "xpr": "$contains($valueNamed('x'), 'b')" });
    let of = |kind: &str, operands: Value| json!({ "type": kind, "operands": operands });
    let reactions = [
        json!({ "allowedSources": "s", "condition": kind("a") }),
        json!({ "allowedSources": ["s", "t"], "condition": source }),
        json!({ "allowedSources": ["s"], "condition": any }),
        json!({ "allowedSources": ["s", "/T/"], "condition": any }),
        json!({ "allowedSources": ["s", "@ops"], "condition": any }),
        json!({ "allowedSources": [], "condition": kind("a") }),
        json!({ "allowedSources": [""], "condition": any }),
        json!({ "allowedSources": "s", "condition": { "type": "filter", "xpr": "$event.source.id = 't'" } }),
        json!({ "condition": of("and", json!([kind("a")])) }),
        json!({ "condition": of("and", json!([kind("a"), kind("b")])) }),
        json!({ "condition": of("and", json!([kind("a"), fails])) }),
        json!({ "condition": of("and", json!([fails, kind("a")])) }),
        json!({ "condition": of("or", json!([kind("a")])) }),
        json!({ "condition": of("or", json!([kind("a"), x])) }),
        json!({ "condition": of("or", json!([kind("a"), fails])) }),
        json!({ "condition": of("or", json!([of("and", json!([kind("a"), x])), source])) }),
        json!({ "condition": of("and", json!([of("or", json!([kind("a"), x])), kind("b")])) }),
        json!({ "condition": of("and", json!([of("and", json!([source, any]))])) }),
    ];
    let reactions = reactions.into_iter().enumerate();
    let listening = reactions.map(|(index, mut reaction)| {
        reaction["allowUnboundEvents"] = json!(true);
        model(&format!("restricted {index}"), reaction)
    });
    listening.collect()
}

#[test]
fn hard_filters_lose_no_event() {
    let numbered = HARD.iter().enumerate();
    let models = numbered.map(|(index, xpr)| filter(&format!("{index} {xpr}"), xpr));
    let trial = Trial::new(models.chain(restricted()).collect());
    let earlier = Event::builder("a", "s").id("earlier").values(json!({ "x": 1 })).build();
    let earlier = Arc::new(earlier);
    let mut met = 0;
    for event in &hard_events() {
        let started = trial.start(event).unwrap_or_else(|lost| panic!("{lost}\n{event:?}"));
        let offered = trial.offer(&earlier, event);
        met += started + offered.unwrap_or_else(|lost| panic!("{lost}\n{event:?}"));
    }
    assert!(met > 20_000, "only {met}: most filters match nothing, or cannot be told apart");
}

/// The other half: what can be derived is derived.
#[test]
fn an_event_meets_few_of_many_patterns() {
    let mut models = Vec::new();
    for n in 0..200 {
        models.push(filter(&format!("type {n}"), &format!("$event.type = 'type{n}'")));
        let both = format!("$event.type = 'order' and $valueNamed('customer') = 'c{n}'");
        models.push(filter(&format!("both {n}"), &both));
        let path = format!("$[?$.event.type == 'order' && $.values.amount == {n}]");
        models.push(filter(&format!("path {n}"), &path));
        let any = json!({ "type": "filter", "xpr": "$contains($event.type, 'door')" });
        let reaction = json!({ "allowedSources": format!("device {n}"), "condition": any });
        models.push(model(&format!("source {n}"), reaction));
    }
    let trial = Trial::new(models);
    let names = |event: &Event| -> Vec<_> {
        trial.library.candidates(event).map(|pattern| pattern.name.to_string()).collect()
    };
    let none = json!({});
    assert_eq!(names(&event("type7", "s", none.clone())), ["type 7"]);
    assert_eq!(names(&event("door", "device 9", none.clone())), ["source 9"]);
    assert!(names(&event("order", "s", none)).is_empty());
    let order = event("order", "s", json!({ "lines": [{ "amount": 5.0 }], "customer": "c3" }));
    assert_eq!(names(&order), ["both 3", "path 5"]);
}

/// An unbound event is for the reaction that listened when it was matched, not for one that the
/// thred has reached since.
#[test]
fn an_offer_comes_too_late_for_a_thred_that_no_longer_listens() {
    let condition = json!({ "type": "filter", "xpr": "$event.type = 'a'" });
    let reactions = json!([
        { "name": "waits", "allowUnboundEvents": true, "condition": condition },
        { "name": "works", "condition": condition }
    ]);
    let model = json!({ "name": "p", "reactions": reactions });
    let trial = Trial::new(vec![serde_json::from_value(model).unwrap()]);
    let pattern = &trial.library.entries()[0];
    let event = event("a", "s", json!({}));
    let offer = |state: &ThredState| trial.react(pattern, state, &event);
    let waits = trial.thred(pattern, 0);
    assert!(matches!(offer(&waits), Ok(Outcome::Commit(_))));
    let works = trial.thred(pattern, 1);
    assert_eq!(offer(&works), Ok(Outcome::Nothing));
}
