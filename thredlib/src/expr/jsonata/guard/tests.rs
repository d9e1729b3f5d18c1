use std::{rc::Rc, sync::Arc};

use jsonata_core::{
    evaluator::{Context, Evaluator, EvaluatorOptions},
    parser,
    value::JValue,
};
use serde_json::json;

use super::{super::host, inspect, rewrite};
use crate::{Event, ExprLimits, expr::Scope};

/// Shapes that the interpreter looks into, or where a check in between could unwrap a sequence.
const EXPRESSIONS: &[&str] = &[
    "acct.Order.(P)^(>%.id).N",
    r#"acct.Order.(P).{"n": N, "o": %.id}"#,
    r#"acct.Order.(P)#$i.{"n": N, "i": $i, "o": %.id}"#,
    r#"acct.Order@$o.P@$p.{"o": $o.id, "p": $p.N}"#,
    r#"acct.Order.P{N: %.id}"#,
    "n.(([3,1].$)^($))",
    "n.(([3,1].$).$)",
    "n.(($y:=1; [3,1].$).$)",
    "([3].$).$",
    "([1,2].$)[0].$",
    "n.(([1,2].$)[0][].$)",
    "[[1,2][$>0], 5]",
    r#"{"x": [[1,2][$>0]]}"#,
    "n[[0, 0, 1]]",
    "n ~> $map(function($v) { $v })[0]",
    "n ~> $map(function($v) { $v })[]",
    r#"["a", "b"] ~> $join("-")"#,
    r#""a,b" ~> $split(",")[1]"#,
    r#"("a" ~> $uppercase ~> $string)"#,
    "($f := $string; n.$f())",
    "n.($string)()",
    "n.$string()",
    r#"($f := function(){ $string() }; {"a":7}.$f())"#,
    "$map([1,2], $string)",
    "$map([1,2], function($v){ $keys({'a': 1}) })",
    "$map([1,2], function($v){ $map([1], function(){ $keys({}) }) })",
    "$map([1,2], function($v){ $lookup([{}], 'x') })",
    "$map([1,2], function($v){ $match('abc', /z/) })",
    "$match('abcabc', /(a)b/, 1)",
    "$replace('abc', /(b)/, '[$1]')",
    "$replace('abc', /b/, function($m){ $m.match & '!' })",
    "'abc'.$replace('b', 'x')",
    "$map(['a', 'b'], $pad(?, 3, '-'))",
    "$sort([3,1,2]) & $string($distinct([1,1,2]))",
    "$sort(n[0], function($a, $b){ $a < $b })",
    "$formatInteger(14, 'i') & $formatNumber(1234.5, '#,##0.00')",
    "$fromMillis(0, '[Y0001]-[M01]') & $toMillis('2020-01-01', '[Y0001]-[M01]-[D01]')",
    r#"m ~> |k|{"b": 1}, "x"|"#,
    r#"m ~> |k|{"b": 1}|{"z": x}"#,
    r#"m ~> |k|{"b": 1}|.k"#,
    r#"m ~> |k|{"b": 1}|^(x)"#,
    r#"[m, m] ~> |k|{"b": 1}|{"z": $count($)}"#,
    "n{'a': $count($)}",
    "n.(acct.Order^(id).id)",
    "n.($sort($)^($))",
    "($f := function($n){ $n = 0 ? 'end' : $f($n - 1) }; $f(300))",
    "($f := function($n){ $n < 2 ? $n : $f($n - 1) + $f($n - 2) }; $f(9))",
    "$reduce([1..5], function($a, $i){ $append($a, $i) }, [])",
    "$each(m, function($v, $k){ $k })",
    "$sift(m, function($v, $k){ $k = 'k' })",
    "[1..3].($ * 2)",
    "[1..1]",
    "$zip([1,2,3], [4,5]) & $zip(1, 2)",
    "n.[1, [2, $]]",
    "n.([1, [2, $]])",
    "acct.Order.[id, P.N]",
    "n.*",
    "**.N",
    "m.k.b[0]",
    "n[$ = 2]",
    "n^($)",
    "nothing ?? 'x'",
    "nothing ?: 'y'",
];

fn json(outcome: Result<JValue, impl std::fmt::Debug>) -> String {
    match outcome {
        Ok(value) if value.is_undefined() => "undefined".to_owned(),
        Ok(value) => value.to_json_string().unwrap(),
        Err(error) => format!("{error:?}"),
    }
}

#[test]
fn rewriting_changes_no_result() {
    let input = JValue::from(json!({
        "acct": { "Order": [
            { "id": "o1", "P": [{ "N": "A" }, { "N": "B" }] },
            { "id": "o2", "P": [{ "N": "C" }] },
        ] },
        "n": [[1, 2], [3]],
        "m": { "k": { "b": [[1]] }, "x": 2 },
    }));
    let host = Rc::new(host::Host::new(JValue::Undefined, ExprLimits::default()));
    host.enter(&mut Scope::new(Arc::new(Event::builder("a", "b").build()), 0, 0));
    for source in EXPRESSIONS {
        let ast = parser::parse(source).unwrap();
        inspect(&ast).unwrap();
        let plain = Evaluator::new().evaluate(&ast, &input);
        let mut evaluator = Evaluator::with_options(Context::new(), EvaluatorOptions::default());
        host::register(&mut evaluator, &host);
        let guarded = evaluator.evaluate(&rewrite(ast), &input);
        assert_eq!(json(guarded), json(plain), "{source}");
    }
}

#[test]
fn what_cannot_be_made_safe_is_refused() {
    for (source, expected) in [
        ("/(a{1000}){1000}/", "linear time"),
        ("/(a)\\1/", "linear time"),
        ("/(?=a)/", "linear time"),
        ("($string := 1)", "bind another name"),
        ("function($pad){ 1 }", "bind another name"),
    ] {
        let refused = inspect(&parser::parse(source).unwrap()).unwrap_err();
        assert!(refused.message.contains(expected), "{source}: {}", refused.message);
    }
}
