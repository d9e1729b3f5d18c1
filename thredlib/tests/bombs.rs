//! Expressions made to exhaust the machine end soon and take little memory, each with an error
//! unless the result is small after all.

#![cfg(target_os = "linux")]

use std::{
    fs,
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::{Map, Value, json};
use thredlib::{
    Event, ExprError, ExprLimits, ExpressionLanguage,
    expr::{Scope, compile},
};

const MAX_GROWTH: usize = 64 * 1024 * 1024;

/// Twice the time limit, the last fence; the limits of work come long before it.
const MAX_TIME: Duration = Duration::from_secs(2);

/// With a text of 200,000 characters, an object of 5,000 keys and a list of 9,000 numbers.
fn event() -> Arc<Event> {
    let wide: Map<String, Value> =
        (0..5_000).map(|i| (format!("k{i}"), json!({ "a": i }))).collect();
    let list: Vec<i32> = (0..9_000).collect();
    let values = json!({ "big": "x".repeat(200_000), "wide": wide, "list": list });
    Arc::new(Event::builder("a", "b").values(values).build())
}

/// The largest memory of the process since the last call, in bytes.
fn peak() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    let kib: usize = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    fs::write("/proc/self/clear_refs", "5").unwrap();
    kib * 1024
}

/// The best of ten tries, as other work on the machine may take the time.
fn defuse(source: &str) -> Result<Option<Value>, ExprError> {
    defuse_with(&event(), source)
}

fn defuse_with(event: &Arc<Event>, source: &str) -> Result<Option<Value>, ExprError> {
    let expression = compile(ExpressionLanguage::Jsonata, source, &ExprLimits::default()).unwrap();
    let mut best = (Duration::MAX, usize::MAX);
    let mut result = Ok(None);
    for _ in 0..10 {
        let mut scope = Scope::new(event.clone(), 0, 0);
        peak();
        let before = peak();
        let start = Instant::now();
        result = expression.evaluate(&mut scope);
        best = (best.0.min(start.elapsed()), best.1.min(peak().saturating_sub(before)));
        if best.0 < MAX_TIME && best.1 < MAX_GROWTH {
            return result;
        }
    }
    panic!("{source}\n took {:?} and {} MiB: {result:?}", best.0, best.1 >> 20);
}

#[test]
fn bombs_fail() {
    for source in BOMBS {
        let result = defuse(source);
        assert!(result.is_err(), "{source} gives {result:?}");
    }
}

#[test]
fn what_looks_like_a_bomb_may_be_none() {
    for source in DUDS {
        let result = defuse(source);
        assert!(matches!(result, Ok(_) | Err(ExprError::Limit { .. })), "{source}: {result:?}");
    }
}

/// Sixteen millions of leaves, of one object.
#[test]
fn shared_parts_are_counted_each_time() {
    let doubled = ".{'a': $, 'b': $}".repeat(24);
    assert!(matches!(defuse(&format!("event{doubled}")), Err(ExprError::Limit { .. })));
    let squared: String = (0..12)
        .map(|i| format!("$v{} := {{'a': $v{i}, 'b': $v{i}, 'c': $v{i}, 'd': $v{i}}};", i + 1))
        .collect();
    for end in
        ["$string($v12)", "$v12 = $v11", "$v12", "$v12 ? 1 : 2", "$v12.a.b", "$v12.**", "'' & $v12"]
    {
        let source = format!("($v0 := {{'x': $event.id}}; {squared} {end})");
        assert!(matches!(defuse(&source), Err(ExprError::Limit { .. })), "{end}");
    }
}

/// An event near the largest size, with a list of 400,000 numbers.
#[test]
fn long_lists_are_no_bombs() {
    let values = json!({ "huge": vec![1; 400_000] });
    let event = Arc::new(Event::builder("a", "b").values(values).build());
    let ones = "1,".repeat(200);
    for source in [
        "$values.huge.{'a': 1, 'b': 2}".to_owned(),
        format!("$values.huge.[{ones}1]"),
        format!("$values.huge.([{ones}1])"),
        format!("$map($values.huge, function(){{ [{ones}1] }})"),
        "$values.huge.($ & 'x')".to_owned(),
        "$zip($values.huge, $values.huge, $values.huge)".to_owned(),
        "$valueNamed('huge') ~> $zip($valueNamed('huge'))".to_owned(),
        "$values.huge@$a.$values.huge@$b.($a + $b)".to_owned(),
        "$sort($valueNamed('huge'))".to_owned(),
        "$string($valueNamed('huge'))".to_owned(),
        "$append($valueNamed('huge'), $valueNamed('huge'))".to_owned(),
    ] {
        let result = defuse_with(&event, &source);
        assert!(matches!(result, Err(ExprError::Limit { .. })), "{source:.60}: {result:?}");
    }
}

const BOMBS: &[&str] = &[
    "$round(1.5, 1000000000)",
    "$pad('x', 1e9)",
    "$pad(?, 1e9)('x')",
    "$pad('x', ?)(1e9)",
    "('x' ~> $pad(1000000000))",
    "($f := $pad; $f('x', 1e9))",
    "$map(['x'], function($s){ $pad($s, 1e9) })",
    "$reduce([1..40], function($a, $i){ $a & $a }, 'xxxxxxxx')",
    "($f := function($s, $n){ $n = 0 ? $s : $f($s & $s, $n - 1) }; $length($f('xxxxxxxx', 40)))",
    "$reduce([1..60], function($a, $i){ [$a, $a] }, 'x')",
    "$string($reduce([1..60], function($a, $i){ [[$a], [$a]] }, 'x'))",
    "$string($reduce([1..60], function($a, $i){ {'a': $a, 'b': $a} }, 'x'))",
    "$reduce([1..60], function($a, $i){ $append([$a], [$a]) }, 'x') = 1",
    "$reduce([1..60], function($a, $i){ $append($a, $a) }, [1,2,3])",
    "$reduce([1..60], function($a, $i){ $zip([$a], [$a]) }, 'x')",
    "$reduce([1..60], function($a, $i){ $merge([{'a': $a}, {'b': $a}]) }, 'x')",
    "$reduce([1..60], function($a, $i){ $spread({'a': $a, 'b': $a}) }, 'x')",
    "($x := [1..9000]; $m := $map([1..9000], function(){ $x }); $n := $map([1..9000], function(){ $m }); $boolean($n))",
    "($x := [1..9000]; [1..9000].$x)",
    "($x := [1..9000]; [1..9000].($x))",
    "($x := [1..9000]; $count([1..9000].$x.$x))",
    "$map([1..9000], function(){ [1..9000] })",
    "$map([1..9000], function(){ $substring($valueNamed('big'), 1) })",
    "$map([1..9000], function(){ $uppercase($valueNamed('big')) })",
    "$map([1..9000], function(){ {$valueNamed('big'): 1} })",
    "$map([1..9000], function(){ $split($valueNamed('big'), '') })",
    "$map([1..9000], function(){ $keys($valueNamed('wide')) })",
    "$map([1..9000], function(){ $spread($valueNamed('wide')) })",
    "$map([1..9000], function(){ $valueNamed('wide').* })",
    "$map([1..9000], function(){ $values ~> |$|{'y': 1}| })",
    "$map([1..9000], function(){ $reverse($valueNamed('list')) })",
    "$map([1..9000], function(){ $append($valueNamed('list'), 1) })",
    "$map([1..9000], function(){ $shuffle($valueNamed('list')) })",
    "$map([1..9000], function(){ $sort($valueNamed('list')) })",
    "$map([1..9000], function(){ $base64encode($valueNamed('big')) })",
    "$map([1..9000], function(){ $encodeUrlComponent($valueNamed('big')) })",
    "$split($valueNamed('big') & $valueNamed('big'), '')",
    "$match($valueNamed('big'), /./)",
    "$join($split($valueNamed('big'), ''), $valueNamed('big'))",
    "$join($valueNamed('list').($string()), $valueNamed('big'))",
    "($valueNamed('list').('a') ~> $join($valueNamed('big')))",
    "$join($valueNamed('list').('a'), ?)($valueNamed('big'))",
    "$replace($valueNamed('big'), 'x', $valueNamed('big'))",
    "$replace($valueNamed('big'), /x/, $valueNamed('big'))",
    "$replace($valueNamed('big'), /(x)/, $pad('', 90000, '$1'))",
    "$replace($valueNamed('big'), /x/, function($m){ $valueNamed('big') })",
    "$valueNamed('big').$replace('x', $valueNamed('big'))",
    "$replace(?, 'x', $valueNamed('big'))($valueNamed('big'))",
    "$distinct([1..10000])",
    "$distinct($valueNamed('list').{'a': $})",
    "[1..1e7]",
    "[-9e18..9e18]",
    "[1..1e9][0]",
    "$valueNamed('list')[$valueNamed('list')]",
    "$formatInteger(1e15, 'I')",
    "$formatNumber(1, $pad('', 200000, '0'))",
    "$fromMillis(1, '[Y,1000000000]')",
    "$fromMillis(1, '[Y,*-1000000000]')",
    "$now('[Y,1000000000]')",
    "$toMillis('2020', $pad('', 100000, '[Y]'))",
    r#"$eval('$pad("x", 1e9)')"#,
    "($f := function(){ $f() }; $f())",
    "($f := function($n){ 1 + $f($n + 1) }; $f(0))",
    "$power(10, 1e9)",
    "$error($valueNamed('big'))",
    "$each($valueNamed('wide'), function($v, $k){ $valueNamed('wide') })",
    "$sift($valueNamed('wide'), function($v, $k){ $each($valueNamed('wide'), function($w){ $w }) })",
    "$map($valueNamed('list'), function($x){ $filter($valueNamed('list'), function($y){ $y > $x }) })",
    "$map([1..9000], function(){ $contains('x', /[a-z]{300}/) })",
    "**.**.**",
    "$map([1..9000], function(){ $$.** })",
    "$string($$.**.**)",
    "$setLocal('x', $valueNamed('big') & $valueNamed('big') & $valueNamed('big'))",
    "[$event, $event, $event, $event, $event, $event, $event, $event, $event, $event, $event, $event]",
    "($lookup($valueNamed('wide'), 'k1'); $map([1..10000], function(){ $lookup($valueNamed('wide'), 'k1') }) = $map([1..10000], function(){ $lookup($valueNamed('wide'), 'k1') }))",
];

const DUDS: &[&str] = &[
    "$fromMillis(1, '[H0000000000000000000000000000000000001]')",
    "$formatNumber(1e300, $pad('', 250, '0'))",
    "$reduce([1..10000], function($a, $i){ [$a] }, 'x')",
    r#""x".$pad(1e9, "y")"#,
    "$map([1..9000], function(){ $big & 'x' })",
    r#""x".$match(/./)"#,
    "$formatInteger(1e300, 'w')",
    "$formatInteger(1e300, 'A')",
    "$formatBase(1e300, 2)",
    "$string($reduce([1..100], function($a, $i){ [$a] }, 'x'), true)",
    "$contains($valueNamed('big'), /(x+x+)+y/)",
    "$match($valueNamed('big'), /(x|xx)*y/)",
    "$contains($valueNamed('big'), /(?:x?){200}x{200}y/)",
    "$contains($valueNamed('big'), /x[^y]{300}y/)",
    "$sort($valueNamed('list'), function($a, $b){ $a > $b and $boolean($valueNamed('wide')) })",
    "$valueNamed('list')^(>$)",
];
