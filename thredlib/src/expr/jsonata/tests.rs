use std::sync::Arc;

use serde_json::{Value, json};

use super::super::{Scope, compile};
use crate::{Event, ExprError, ExprLimits, ExpressionLanguage};

fn event() -> Arc<Event> {
    let values =
        json!({ "x": 5, "name": "Ada", "list": [1, 2, 3], "deep": { "y": "in" }, "nil": null });
    Arc::new(Event::builder("a.b", "erp").id("e1").re("m1").timestamp(1_000).values(values).build())
}

fn scope() -> Scope {
    Scope::new(event(), 1_700_000_000_000, 42)
}

fn run(source: &str) -> Result<Option<Value>, ExprError> {
    run_in(&mut scope(), source)
}

fn run_in(scope: &mut Scope, source: &str) -> Result<Option<Value>, ExprError> {
    compile(ExpressionLanguage::Jsonata, source, &ExprLimits::default()).unwrap().evaluate(scope)
}

#[track_caller]
fn gives(source: &str, expected: Value) {
    assert_eq!(run(source).unwrap(), Some(expected), "{source}");
}

#[test]
fn event_and_its_parts_are_bound() {
    gives("$event.type", json!("a.b"));
    gives("event.source.id", json!("erp"));
    gives("$data.content.values.x", json!(5));
    gives("$content.values.name & '!'", json!("Ada!"));
    gives("$values.list[1] * 2", json!(4));
    gives("$event.time = $event.timestamp", json!(true));
    gives("$valueNamed('y')", json!("in"));
    gives("$valueNamed('y', $event)", json!("in"));
    gives("$map(['x', 'y'], $valueNamed)", json!([5, "in"]));
    assert_eq!(run("$valueNamed('nil')").unwrap(), None);
    assert_eq!(run("$outboundEvent").unwrap(), None);
}

#[test]
fn locals_change_in_the_scope() {
    let mut scope = scope();
    run_in(&mut scope, "$setLocal('n', $valueNamed('x') + 1)").unwrap();
    assert_eq!(scope.locals().get("n"), Some(&json!(6)));
    assert_eq!(run_in(&mut scope, "$local('n') & context.locals.n").unwrap(), Some(json!("66")));
    scope.set_local("n", None);
    assert_eq!(run_in(&mut scope, "[$local('n'), context.locals.n]").unwrap(), Some(json!([])));
    let error = run_in(&mut scope, "$setLocal('f', function($x){$x})").unwrap_err().to_string();
    assert!(error.contains("cannot hold a function"), "{error}");
}

#[test]
fn responses_are_known_by_the_published_id() {
    let mut scope = scope();
    assert_eq!(run_in(&mut scope, "$isResponseFor('ask')").unwrap(), Some(json!(false)));
    scope.set_local("out_id_ask", Some(json!("m1")));
    assert_eq!(run_in(&mut scope, "$isResponseFor('ask')").unwrap(), Some(json!(true)));
}

#[test]
fn answers_to_the_latest_64_of_a_name_are_responses() {
    let mut scope = scope();
    scope.remember_published("ask", &"m1".into());
    for number in 0..63 {
        assert_eq!(run_in(&mut scope, "$isResponseFor('ask')"), Ok(Some(json!(true))));
        assert_eq!(run_in(&mut scope, "($f := $isResponseFor; $f('ask'))"), Ok(Some(json!(true))));
        scope.remember_published("ask", &format!("n{number}").into());
    }
    assert_eq!(run_in(&mut scope, "$isResponseFor('ask')"), Ok(Some(json!(true))));
    scope.remember_published("ask", &"n63".into());
    assert_eq!(run_in(&mut scope, "$isResponseFor('ask')"), Ok(Some(json!(false))));
    assert_eq!(scope.locals()["out_id_ask"], json!("n63"));
}

#[test]
fn the_error_of_an_event_is_a_variable_and_the_function_of_that_name_stays() {
    let with = |error: Value| {
        let event = Event::builder("a", "b").id("e").data_field("error", error).build();
        Scope::new(Arc::new(event), 0, 0)
    };
    let mut carries = with(json!({ "code": "BUSY" }));
    for (source, expected) in [
        ("$error.code = 'BUSY'", json!(true)),
        ("$exists($error)", json!(true)),
        ("$uppercase($error.code) & $string($error)", json!(r#"BUSY{"code":"BUSY"}"#)),
        ("($error := 5; $error)", json!(5)),
    ] {
        assert_eq!(run_in(&mut carries, source), Ok(Some(expected)), "{source}");
    }
    let mut none = with(Value::Null);
    assert_eq!(run_in(&mut none, "$exists($error)"), Ok(Some(json!(false))));
    assert_eq!(run_in(&mut none, "$error.code = 'BUSY'"), Ok(Some(json!(false))));
    assert_eq!(run_in(&mut none, "[$error, $uppercase('x')]"), Ok(Some(json!(["X"]))));
    let error = run_in(&mut none, "$error('boom')").unwrap_err().to_string();
    assert!(error.contains("boom"), "{error}");
}

#[test]
fn clock_and_chance_are_the_scopes() {
    gives("$millis()", json!(1_700_000_000_000_i64));
    gives("$now()", json!("2023-11-14T22:13:20.000Z"));
    gives("$now('[Y0001]')", json!("2023"));
    let draw = || run("[$random(), $random()]").unwrap();
    assert_eq!(draw(), draw());
    gives("$random() != $random()", json!(true));
}

#[test]
fn the_session_follows_the_scope() {
    let mut scope = scope();
    assert_eq!(run_in(&mut scope, "[$thredId, $event.type]").unwrap(), Some(json!(["a.b"])));
    scope.enter_thred("t1".into(), Arc::default());
    scope.set_outbound(Some(event()));
    scope.set_event(Arc::new(Event::builder("c", "erp").build()));
    let seen = run_in(&mut scope, "[$thredId, $event.type, $outboundEvent.type]").unwrap();
    assert_eq!(seen, Some(json!(["t1", "c", "a.b"])));
}

#[test]
fn logs_are_kept_for_the_caller() {
    let mut scope = scope();
    run_in(&mut scope, "($log('a'); $log({'b': 1}))").unwrap();
    assert_eq!(scope.take_logs(), ["a", r#"{"b":1}"#]);
    assert!(scope.take_logs().is_empty());
}

#[track_caller]
fn wrong_at(source: &str, column: usize) {
    let error = compile(ExpressionLanguage::Jsonata, source, &ExprLimits::default()).unwrap_err();
    assert_eq!(error.column, column, "{source}: {error}");
}

#[test]
fn compile_errors_say_where() {
    wrong_at("$event.type = = 'x'", 15);
    wrong_at("(1 + 2", 7);
    wrong_at("1 + 'abc", 5);
    wrong_at("'a' & 'b", 7);
    wrong_at("1 2", 3);
    wrong_at("é = 'ü' )", 9);
    wrong_at("foo bar", 5);
    wrong_at("", 1);
}

/// A pattern is compiled once; threads evaluate it at the same time.
#[test]
fn threads_share_an_expression() {
    let source = "$sum($values.list) + $valueNamed('x')";
    let expression = compile(ExpressionLanguage::Jsonata, source, &ExprLimits::default()).unwrap();
    std::thread::scope(|threads| {
        for _ in 0..4 {
            threads.spawn(|| {
                assert_eq!(expression.evaluate(&mut scope()), Ok(Some(json!(11))));
            });
        }
    });
}

#[test]
fn numbers_that_are_whole_stay_integers() {
    gives("[$valueNamed('x') / 1, 7, 2.5, $sum([3.5, 3.5])]", json!([5, 7, 2.5, 7]));
}

/// What an expression gives is data, also when it looks like an expression.
#[test]
fn results_are_not_evaluated_again() {
    gives("'$xpr(' & '$event.id)'", json!("$xpr($event.id)"));
    assert!(run("$eval('1 + 1')").is_err());
}

#[test]
fn limits_are_told_apart() {
    let limit = |source| match run(source) {
        Err(ExprError::Limit { limit, .. }) => limit,
        other => panic!("{source}: {other:?}"),
    };
    assert_eq!(limit("($f := function(){ $f() }; $f())"), "steps");
    let cubed = "$$.event.data.content.values.**.($$.**.($$.**.($$.**.($$.**.nothing))))";
    assert_eq!(limit(cubed), "steps");
    let filters = "[1..1000][$$.event.type = 'x' or $exists([1..1000][$$.event.id = 'y'])]";
    assert_eq!(limit(filters), "steps");
    assert_eq!(limit("($f := function($n){ 1 + $f($n) }; $f(1))"), "depth");
    assert_eq!(limit("[1..20000]"), "sequence");
    assert_eq!(limit("$pad('', 300000)"), "size");
}

/// What ends an evaluation is its work, which is the same each time, not the machine's speed.
#[test]
fn steps_are_counted_alike_each_time() {
    let steps = |source: &str| {
        let mut scope = scope();
        run_in(&mut scope, source).unwrap();
        scope.steps()
    };
    for source in ["$map([1..100], function($n) { $n })", "[1..100].{ 'n': $ }"] {
        assert_eq!(steps(source), steps(source));
    }
    assert!((100..200).contains(&steps("$map([1..100], function($n) { $n })")));
    let tail_calls = "($f := function($n) { $n = 0 ? 0 : $f($n - 1) }; $f(30000))";
    assert!((30_000..50_000).contains(&steps(tail_calls)));
    assert_eq!(steps("$event.type = 'x'"), 0);
}

/// After an error the scope is as useful as before.
#[test]
fn a_failure_leaves_the_session_whole() {
    let mut scope = scope();
    assert!(run_in(&mut scope, "($setLocal('a', 1); $pad('x', 1e9))").is_err());
    assert_eq!(run_in(&mut scope, "$uppercase($event.type)"), Ok(Some(json!("A.B"))));
}
