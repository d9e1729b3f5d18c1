//! Threds found by their keys are all those that trying each would find to match.

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Map, Value, json};
use thred_tests::filters;
use thredcore::{
    pattern::{Library, Pattern},
    port::{Directory, Start, StoredPattern},
    state::{ThredState, WaitKey},
    thred::{self, Input, Outcome, ReactLimits, World},
};
use thredlib::{Event, ExprLimits, PatternModel, expr::Locals};

/// Patterns in use, and all that their decisions depend on.
struct Trial {
    library: Library,
    directory: Directory,
    limits: ReactLimits,
}

/// What became of the threds that were tried.
#[derive(Default)]
struct Tally {
    /// Those that the event moved.
    moved: usize,
    /// Those among them that were found by a value.
    by_value: usize,
    /// Those that the look-up left out.
    left_out: usize,
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

    /// A thred that waits in a reaction, with these locals.
    fn thred(&self, pattern: &Pattern, reaction: usize, locals: &Locals) -> ThredState {
        let cause = Arc::new(Event::builder("spawn", "ann").id("cause").build());
        let start = Start {
            thred_id: "t".into(),
            pattern_id: pattern.key.id.clone(),
            parent: None,
            consumed: filters::consumed(&cause),
            cause,
            input: None,
            locals: locals.clone(),
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

    /// Offers an event to a thred with these locals in each reaction; those that it moves must be
    /// found by their keys. An evaluation that fails moves none.
    fn offer(&self, locals: &Locals, event: &Arc<Event>, tally: &mut Tally) -> Result<(), String> {
        let awaited = self.library.awaited(event);
        for (pattern, reaction) in self.library.all_listening() {
            let filed = pattern.wait_keys(*reaction, locals);
            let any = pattern.reactions[*reaction].waits.any_key();
            check_form(&filed, any)?;
            let here = awaited.iter().find(|awaited| {
                awaited.pattern.key == pattern.key && awaited.reaction == *reaction
            });
            if let Some(here) = here
                && (!here.keys.contains(&any) || !here.keys.is_sorted_by(|a, b| a < b))
            {
                return Err(format!("keys of the event: {:?}", here.keys));
            }
            let found = here.is_some_and(|here| here.keys.iter().any(|key| filed.contains(key)));
            let state = self.thred(pattern, *reaction, locals);
            let outcome = self.react(pattern, &state, event);
            match outcome {
                Ok(Outcome::Commit(_)) if found => {
                    tally.moved += 1;
                    tally.by_value += usize::from(filed != [any]);
                }
                Ok(Outcome::Commit(_)) => {
                    let xpr = &pattern.model.reactions[*reaction].condition;
                    return Err(format!("a thred is not found that waits for {xpr:?}"));
                }
                _ => tally.left_out += usize::from(!found),
            }
        }
        Ok(())
    }
}

fn check_form(filed: &[WaitKey], any: WaitKey) -> Result<(), String> {
    let alone = !filed.contains(&any) || filed.len() == 1;
    let few = (1..=WaitKey::MAX_OF_THRED).contains(&filed.len());
    if alone && few && filed.is_sorted_by(|a, b| a < b) {
        Ok(())
    } else {
        Err(format!("keys of the thred: {filed:?}"))
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn every_thred_that_moves_is_found_by_its_keys(
        models in filters::correlated_patterns(4),
        locals in prop::collection::vec(filters::locals(), 1..4),
        events in prop::collection::vec(filters::correlated_event("e"), 1..4),
    ) {
        let trial = Trial::new(models);
        let mut tally = Tally::default();
        for locals in &locals {
            let answer = event(renamed(locals, &[("l", "k"), ("m", "m")]));
            for event in events.iter().cloned().map(Arc::new).chain([answer]) {
                trial.offer(locals, &event, &mut tally).map_err(TestCaseError::fail)?;
            }
        }
    }

    /// The filters of the match index, which read few locals, under the same rule.
    #[test]
    fn every_thred_that_moves_is_found_whatever_its_filter(
        models in filters::listening_patterns(3),
        locals in filters::locals(),
        event in filters::event("e"),
    ) {
        let trial = Trial::new(models);
        let offered = trial.offer(&locals, &Arc::new(event), &mut Tally::default());
        offered.map_err(TestCaseError::fail)?;
    }
}

/// A pattern that is one filter, in JSONata or, with a `[?` after its `$`, in JSONPath.
fn filter(name: &str, xpr: &str) -> PatternModel {
    let xpr = if xpr.starts_with("$") && xpr.contains("[?") {
        json!({ "jsonpath": xpr })
    } else {
        json!(xpr)
    };
    model(name, json!({ "type": "filter", "xpr": xpr }))
}

fn model(name: &str, condition: Value) -> PatternModel {
    let reaction = json!({ "allowUnboundEvents": true, "condition": condition });
    serde_json::from_value(json!({ "name": name, "reactions": [reaction] })).unwrap()
}

/// The values of the locals, under other names.
fn renamed(locals: &Locals, names: &[(&str, &str)]) -> Value {
    let there =
        names.iter().filter_map(|(from, to)| Some(((*to).into(), locals.get(*from)?.clone())));
    Value::Object(there.collect())
}

fn locals(of: Value) -> Locals {
    match of {
        Value::Object(map) => Arc::new(map),
        _ => Arc::new(Map::new()),
    }
}

fn event(values: Value) -> Arc<Event> {
    Arc::new(Event::builder("a", "s").id("e").values(values).build())
}

/// What a local may hold and an event may say.
fn hard_values() -> Vec<Value> {
    let precomposed = "\u{fc}";
    vec![
        json!(1),
        json!(1.0),
        json!("1"),
        json!(-1),
        json!(0),
        json!(-0.0),
        json!(""),
        json!(true),
        json!("true"),
        // The id of the thred.
        json!("t"),
        json!(false),
        Value::Null,
        json!("null"),
        json!([]),
        json!([1]),
        json!([[1]]),
        json!([1, "1"]),
        json!([null]),
        json!([1, null]),
        json!([[1], 1]),
        json!([{ "x": 1 }]),
        json!({}),
        json!({ "x": 1 }),
        json!({ "x": [1] }),
        json!({ "x": { "x": 1 } }),
        json!({ "x": null }),
        json!(precomposed),
        json!("u\u{308}"),
        json!(9_007_199_254_740_991_i64),
        json!(9_007_199_254_740_992_i64),
        json!(9_007_199_254_740_993_i64),
        json!(9_007_199_254_740_992.0),
        json!(i64::MIN),
        json!(u64::MAX),
        json!(1.844_674_407_370_955_2e19),
        json!(1e300),
        json!(0.1),
        json!((1..=64).collect::<Vec<_>>()),
        json!((1..=65).collect::<Vec<_>>()),
        json!("x".repeat(300_000)),
    ]
}

/// Filters that say what thred and event have in common; some only seem to.
const HARD: &[&str] = &[
    "$valueNamed('x') = $local('l')",
    "$local('l') = $valueNamed('x')",
    "($local('l')) = (($valueNamed('x')))",
    "$values.x = $local('l')",
    "$values.x.x = $local('l')",
    "$values.x[0] = $local('l')",
    "$values.x[-1] = $local('l')",
    "$values.x[] = $local('l')",
    "[$values.x] = $local('l')",
    "$values.x = $local('l').x",
    "$values.x = $local('l').x.x",
    "$values.x = $local('l')[0]",
    "$values.x = [$local('l')]",
    "$values = $local('l')",
    "$values.* = $local('l')",
    "$event.source.id = $local('l')",
    "event.data.content.values.x = $local('l')",
    "$.event.data.content.values.x = $local('l') and true",
    "$valueNamed('x') & '' = $local('l')",
    "$valueNamed('x') + 0 = $local('l')",
    "-$valueNamed('x') = $local('l')",
    "$string($valueNamed('x')) = $local('l')",
    "$number($valueNamed('x')) = $local('l')",
    "$boolean($valueNamed('x')) = $local('l')",
    "($valueNamed('x') ? 1 : '1') = $local('l')",
    "$valueNamed('x') in $local('l')",
    "$values.x in $local('l')",
    "$values.x in [$local('l')]",
    "$local('l') in $values.x",
    "$values.x in $local('l').x",
    "$local('l') = 1",
    "'true' = $local('l')",
    "$local('l') = null",
    "1 in $local('l')",
    "null in $local('l')",
    "$event.type = 'a' and $valueNamed('x') = $local('l')",
    "$valueNamed('x') = $local('l') and $event.type = 'a'",
    "$valueNamed('x') = $local('l') and $valueNamed('y') = $local('m')",
    "$valueNamed('x') = $local('l') and $local('m') = $valueNamed('y') and $event.type = $local('none')",
    "$valueNamed('x') in $local('l') and $valueNamed('y') in $local('m')",
    "$valueNamed('x') in $local('l') and $valueNamed('x') in $local('m') and $valueNamed('x') in $local('l')",
    "$valueNamed('x') = $local('l') or $valueNamed('y') = $local('m')",
    "$valueNamed('x') = $local('l') or $event.type = 'a'",
    "($valueNamed('x') = $local('l') or $valueNamed('y') = $local('m')) and $valueNamed('x') = $local('l')",
    "($values.x = $local('l') or $values.y = $local('l')) and ($values.x = $local('m') or $values.y = $local('m'))",
    "$not($valueNamed('x') = $local('l'))",
    "$valueNamed('x') != $local('l')",
    "$exists($local('l')) and $valueNamed('x') = $local('l')",
    "$contains($valueNamed('x'), 'u') and $valueNamed('x') = $local('l')",
    "$valueNamed('x') = $local('l') ? true : false",
    "$local('l') = $local('m')",
    "$valueNamed('x') = $valueNamed('y')",
    "$thredId = $local('l')",
    "$millis() = $local('l')",
    "$random() = $local('l')",
    "$string() = $local('l')",
    "context.locals.l = $valueNamed('x')",
    "$valueNamed('x') = $local('l' & '')",
    "$valueNamed($local('m')) = $local('l')",
    // Names that are bound anew, locals that are set midway.
    "($x := $local('l'); $valueNamed('x') = $x)",
    "($local := function($n) { 1 }; $valueNamed('x') = $local('l'))",
    "($event := { 'type': 1 }; $event.type = $local('l'))",
    "$setLocal('l', $valueNamed('x')) = $local('l')",
    "$setLocal('l', $valueNamed('x')) = null or $valueNamed('x') = $local('l')",
    "($valueNamed('x') ~> $setLocal('l', ?)) = $local('l')",
    "$map(['l'], function($n) { $setLocal($n, 1) }) = 1 and $valueNamed('x') = $local('l')",
    // JSONPath.
    "$[?$.values.x == $.local.l]",
    "$[?$.local['l'] == $['values']['x']]",
    "$[?$.event.data.content.values.x == $.local.l]",
    "$[?$.values.x == $.local.l.x]",
    "$[?$.values.x.x == $.local.l]",
    "$[?$.values.x[0] == $.local.l]",
    "$[?$.values.x == $.local.l[0]]",
    "$[?$.values == $.local.l]",
    "$[?$.values.x == $.local]",
    "$[?$.values.nothing == $.local.l]",
    "$[?$.values.x == $.local.nothing]",
    "$[?$.local.l == 1]",
    "$[?$.local.l == null]",
    "$[?$.local.l == $.local.m]",
    "$[?@.x == $.local.l]",
    "$[?$.values.x == @.l]",
    "$.values[?@ == $.local.l]",
    "$.values[?$.values.x == $.local.l]",
    "$..[?$.values.x == $.local.l]",
    "$[?$.values.x == $.local.l, ?$.values.y == $.local.m]",
    "$[?$.values.x == $.local.l, 'event']",
    "$[?$.values.x == $.local.l][?$.values.y == $.local.m]",
    "$[?$.values.x == $.local.l && $.values.y == $.local.m]",
    "$[?$.values.x == $.local.l || $.values.y == $.local.m]",
    "$[?!($.values.x == $.local.l)]",
    "$[?$.values.x != $.local.l]",
    "$[?$.event.type == 'a' && ($.values.x == $.local.l || $.local.m == $.values.y)]",
];

/// Conditions of several filters.
fn compound() -> Vec<PatternModel> {
    let filter = |xpr: &str| json!({ "type": "filter", "xpr": xpr });
    let l = || filter("$valueNamed('x') = $local('l')");
    let m = || filter("$valueNamed('y') in $local('m')");
    let free = || filter("$event.type = 'a'");
    let sets = || filter("$setLocal('l', $valueNamed('x')) = null");
    let of = |kind: &str, operands: Value| json!({ "type": kind, "operands": operands });
    let conditions = [
        of("or", json!([l(), m()])),
        of("and", json!([l(), m()])),
        of("or", json!([l(), free()])),
        of("and", json!([free(), l()])),
        of("and", json!([of("or", json!([l(), m()])), l()])),
        of("or", json!([sets(), l()])),
        of("and", json!([l(), sets()])),
        of("or", Value::Array(vec![l(); 40])),
        of("or", Value::Array(vec![l(); 70])),
    ];
    let numbered = conditions.into_iter().enumerate();
    numbered.map(|(index, condition)| model(&format!("compound {index}"), condition)).collect()
}

#[test]
fn hard_filters_leave_out_no_thred_that_moves() {
    let numbered = HARD.iter().enumerate();
    let models = numbered.map(|(index, xpr)| filter(&format!("{index} {xpr}"), xpr));
    let trial = Trial::new(models.chain(compound()).collect());
    let mut values: Vec<_> = hard_values().into_iter().map(Some).collect();
    values.push(None);
    let object = |entries: [(&str, &Option<Value>); 2]| {
        let entries = entries.into_iter();
        let there = entries.filter_map(|(name, value)| Some((name.to_owned(), value.clone()?)));
        Value::Object(there.collect())
    };
    let mut tally = Tally::default();
    for (number, local) in values.iter().enumerate() {
        // The second of each two goes round with another stride, so that both meet and miss.
        let other = &values[number * 7 % values.len()];
        let locals = locals(object([("l", local), ("m", other)]));
        for said in &values {
            let event = event(object([("x", said), ("y", other)]));
            let offered = trial.offer(&locals, &event, &mut tally);
            offered.unwrap_or_else(|lost| panic!("{lost}\n{locals:?}\n{event:?}"));
        }
    }
    let Tally { moved, by_value, left_out } = tally;
    assert!(by_value > 1_500, "{by_value} of {moved} found by value: hardly a test");
    assert!(left_out > 40_000, "only {left_out} left out: nothing is gained by keys");
}

/// What a filter says is derived, in whatever form it is said.
#[test]
fn ten_thousand_waiting_threds_yield_one_candidate() {
    let filters = [
        "$event.type = 'paid' and $valueNamed('order') = $local('order')",
        "$local('order') = $values.order and $event.type = 'paid'",
        "$event.type = 'paid' and $values.order in $local('orders')",
        "$values.order = $local('order') and $event.source.id = $local('shop')",
        "$lowercase($values.order) = $local('order')",
        "$values.order = $local('deep').order",
        "$values.shops[0] & '/' & $values.order = $local('path')",
        "$event.type = 'paid' and ($values.order = $local('order') or $values.old = $local('order'))",
        "$[?$.event.type == 'paid' && $.values.order == $.local.order]",
        "$[?$.local.deep.order == $.event.data.content.values.order]",
    ];
    for xpr in filters {
        let trial = Trial::new(vec![filter("p", xpr)]);
        let pattern = &trial.library.entries()[0];
        assert!(pattern.reactions[0].waits.is_keyed(), "{xpr}");
        let filed: Vec<_> = (0..10_000)
            .map(|n| {
                let order = format!("o{n}");
                let locals = json!({
                    "shop": "s",
                    "orders": [order, format!("again {n}")],
                    "deep": { "order": order },
                    "path": format!("s/{order}"),
                    "order": order,
                });
                pattern.wait_keys(0, &locals_of(locals))
            })
            .collect();
        let values = json!({ "order": "o4711", "shops": ["s"] });
        let event = Arc::new(Event::builder("paid", "s").values(values).build());
        let awaited = trial.library.awaited(&event);
        let [here] = &*awaited else { panic!("{xpr}: {awaited:?}") };
        let found = |keys: &Vec<WaitKey>| keys.iter().any(|key| here.keys.contains(key));
        let candidates: Vec<_> = (0..).zip(&filed).filter(|(_, keys)| found(keys)).collect();
        assert!(matches!(&*candidates, [(4711, _)]), "{xpr}: {}", candidates.len());
    }
}

fn locals_of(object: Value) -> Map<String, Value> {
    (*locals(object)).clone()
}

#[test]
fn what_cannot_be_told_is_filed_where_every_event_looks() {
    let trial =
        Trial::new(vec![filter("p", "$values.x = $local('l') and $values.y in $local('m')")]);
    let pattern = &trial.library.entries()[0];
    let any = pattern.reactions[0].waits.any_key();
    let keys = |object: Value| pattern.wait_keys(0, &locals_of(object));
    let unkeyed =
        [json!({}), json!({ "l": null }), json!({ "l": [1], "m": [null] }), json!({ "l": {} })];
    for object in unkeyed {
        assert_eq!(keys(object.clone()), [any], "{object}");
    }
    // One side that says a value is enough.
    assert_ne!(keys(json!({ "l": 1 })), [any]);
    assert_eq!(keys(json!({ "l": {}, "m": [1, 2, 2.0] })).len(), 2);
    // Equal values are filed together, others apart.
    let both = |l: Value, m: Value| keys(json!({ "l": l, "m": m }));
    assert_eq!(both(json!(1), json!([0])), both(json!(1.0), json!([-0.0])));
    assert_ne!(both(json!(1), json!([0])), both(json!("1"), json!([0])));
    assert_ne!(both(json!(1), json!([0])), both(json!(0), json!([1])));
    assert_ne!(both(json!("ab"), json!(["c"])), both(json!("a"), json!(["bc"])));
    // Nothing is in an empty list.
    let never = both(json!(1), json!([]));
    assert_eq!(never.len(), 1);
    let awaited = trial.library.awaited(&event(json!({ "x": 1, "y": 1 })));
    assert!(awaited.iter().all(|here| !here.keys.contains(&never[0])));
    // Up to 64 values name the thred, more do not.
    let list = |len: usize| both(Value::Null, json!((0..len).collect::<Vec<_>>()));
    assert_eq!(list(64).len(), 64);
    assert_eq!(list(65), [any]);
}

#[test]
fn a_thred_is_filed_under_64_keys_at_most() {
    let [l, m] = ["$values.x in $local('l')", "$values.y in $local('m')"];
    let list = |len: usize| (0..len).collect::<Vec<_>>();
    let keys = |xpr: String, lengths: [usize; 2]| {
        let trial = Trial::new(vec![filter("p", &xpr)]);
        let pattern = &trial.library.entries()[0];
        let locals = json!({ "l": list(lengths[0]), "m": list(lengths[1]) });
        let keys = pattern.wait_keys(0, &locals_of(locals));
        (keys != [pattern.reactions[0].waits.any_key()]).then_some(keys.len())
    };
    let together = |lengths| keys(format!("{l} and {m}"), lengths);
    assert_eq!(together([8, 8]), Some(64));
    // Too many combinations: one side alone.
    assert_eq!(together([8, 9]), Some(8));
    let either = |lengths| keys(format!("{l} or {m}"), lengths);
    assert_eq!(either([32, 32]), Some(64));
    assert_eq!(either([32, 33]), None);
}

#[test]
fn reactions_and_revisions_are_filed_apart() {
    let of = |name: &str, xpr: &str| {
        let trial = Trial::new(vec![filter(name, xpr)]);
        trial.library.entries()[0].clone()
    };
    let xpr = "$values.x = $local('l')";
    let same = of("p", xpr).wait_keys(0, &locals_of(json!({ "l": 1 })));
    assert_eq!(of("p", xpr).wait_keys(0, &locals_of(json!({ "l": 1 }))), same);
    for (name, other) in [("q", xpr), ("p", "$values.x = $local('l') ")] {
        assert_ne!(of(name, other).wait_keys(0, &locals_of(json!({ "l": 1 }))), same, "{name}");
        assert_ne!(
            of(name, other).wait_keys(0, &Map::new()),
            of("p", xpr).wait_keys(0, &Map::new())
        );
    }
}

/// Threds are stored with their keys: other keys for the same would lose them.
#[test]
fn keys_stay_the_same_in_every_release() {
    let mut stored =
        StoredPattern::new(filter("p", "$values.x = $local('l') and $values.y = $local('m')"));
    stored.key.revision = 7;
    let pattern = Pattern::compile(&stored, &ExprLimits::default()).unwrap();
    let keys = |object: Value| -> Vec<_> {
        pattern.wait_keys(0, &locals_of(object)).iter().map(WaitKey::to_string).collect()
    };
    assert_eq!(keys(json!({})), ["253b23fc1120c525367cca5d403dfe73"]);
    assert_eq!(keys(json!({ "l": "o1" })), ["14e8b2f1cef83367168279fbf6d07ce2"]);
    assert_eq!(keys(json!({ "m": true })), ["223102f27dbd6df5dc142ec88ac0bc88"]);
    assert_eq!(keys(json!({ "l": "o1", "m": 7 })), ["bd391d40a9f90671723ab1eb5520ed80"]);
}
