//! Integers beyond doubles, and what JSONata's own implementation gives where ours once differed.

use std::sync::Arc;

use serde_json::{Value, json};

use super::super::{Scope, compile};
use crate::{Event, ExprError, ExprLimits, ExpressionLanguage};

const BIG: i64 = 9_007_199_254_740_993;

fn scope(now: i64) -> Scope {
    let values = json!({
        "o": [{ "x": 2 }, { "x": 1 }],
        "list": [
            { "k": "a", "p": [{ "n": 2 }, { "n": 1 }] },
            { "k": "a", "p": [{ "n": 3 }] },
            { "k": "b", "p": [{ "n": 5 }] },
        ],
        "big": BIG,
        "bigs": [BIG + 1, BIG, 5, BIG - 2, u64::MAX],
        "items": [{ "no": BIG + 2, "n": 1 }, { "no": BIG, "n": 2 }, { "no": BIG - 1, "n": 3 }],
    });
    let event = Event::builder("a", "b").id("e").values(values).build();
    let mut scope = Scope::new(Arc::new(event), now, 1);
    scope.set_local("no", Some(json!(BIG)));
    scope
}

fn run(source: &str, now: i64) -> Result<Option<Value>, ExprError> {
    let limits = ExprLimits::default();
    let expression = compile(ExpressionLanguage::Jsonata, source, &limits).expect(source);
    expression.evaluate(&mut scope(now))
}

#[track_caller]
fn gives(source: &str, expected: Value) {
    assert_eq!(run(source, 0).map(Option::unwrap_or_default), Ok(expected), "{source}");
}

#[track_caller]
fn fails(source: &str, expected: &str) {
    let error = run(source, 0).expect_err(source).to_string();
    assert!(error.contains(expected), "{source}: {error}");
}

/// Beside each of these stands what jsonata-js 2.2.2 gives.
#[test]
fn a_sort_in_a_group_or_a_step_is_over_all_items() {
    gives("$values.list{ k: $count($values.o^(x)) }", json!({ "a": 2, "b": 2 }));
    gives("[[1,2],[3]].($values.o^(x).x)", json!([1, 2, 1, 2]));
    gives("$values.list@$l{ $l.k: $sum($l.p.n^($)) }", json!({ "a": 6, "b": 5 }));
}

#[test]
fn the_context_exists() {
    gives("$exists($)", json!(true));
    gives("[1,2][$exists($)]", json!([1, 2]));
    gives("$map([1,2], function($v) { $exists($) })", json!([true, true]));
    gives("$values.o.($exists($) and $exists($.x))", json!([true, true]));
    gives("$exists($$)", json!(true));
}

#[test]
fn pictures_of_numbers_may_have_five_digits_and_more() {
    gives("$parseInteger('12345', '#0')", json!(12345));
    gives("$formatInteger(7, '00000')", json!("00007"));
    gives("$formatNumber(0.123456, '0.00000')", json!("0.12346"));
    gives("$formatNumber(1, '000000000000')", json!("000000000001"));
}

#[test]
fn a_picture_without_a_date_means_the_day_of_the_scope() {
    let source = "$toMillis('13:45', '[H]:[m]')";
    assert_eq!(run(source, 0), Ok(Some(json!(49_500_000))));
    let day = 86_400_000;
    assert_eq!(run(source, 3 * day + 5), Ok(Some(json!(3 * day + 49_500_000))));
    gives("$toMillis('1970-01-02T00:00:00.000Z')", json!(day));
    gives("('1970-01-02').$toMillis()", json!(day));
    gives("$toMillis('5', '[s]')", json!(5_000));
    gives("$toMillis('10:01 am', '[h]:[m] [P]')", json!(36_060_000));
    gives("$map(['13:45'], function($t) { $t ~> $toMillis('[H]:[m]') })", json!(49_500_000));
}

#[test]
fn replace_of_the_context_needs_two_texts() {
    fails("('hello').$replace('hello', 1)", "T0410");
    gives("('hello').$replace('l', 'r')", json!("herro"));
}

#[test]
fn numbers_out_of_range_are_errors() {
    fails("1/0", "D1001");
    fails("{'a': [1e300 * 1e300]}", "D1001");
    gives("$boolean(0/0)", json!(false));
    gives("0/0 ? 'yes' : 'no'", json!("no"));
}

#[test]
fn integers_beyond_doubles_are_passed_on_as_they_are() {
    gives("$values.big", json!(BIG));
    gives("$values.bigs", json!([BIG + 1, BIG, 5, BIG - 2, u64::MAX]));
    gives("$local('no')", json!(BIG));
    gives(
        "{ 'a': [$values.big, 9007199254740995], 'b': -9007199254740993 }",
        json!({ "a": [BIG, BIG + 2], "b": -BIG }),
    );
    gives("$map($values.items, function($i) { $i.no })", json!([BIG + 2, BIG, BIG - 1]));
    gives("$values.**.no[1]", Value::Null);
    gives("$values.items[n = 2].no", json!(BIG));
    gives("$append($values.big, $reverse([1, $values.big]))", json!([BIG, BIG, 1]));
    gives("($setLocal('x', $values.big); $local('x'))", json!(BIG));
    gives(
        "$event ~> |data.content.values|{'c': big}| ~> $lookup('data') ~> $lookup('content') \
        ~> $lookup('values') ~> $lookup('c')",
        json!(BIG),
    );
    gives("18446744073709551615", json!(u64::MAX));
    gives("9223372036854775808", json!(1_u64 << 63));
    gives("$number($values.big)", json!(BIG));
    gives("$type($values.big)", json!("number"));
}

#[test]
fn integers_beyond_doubles_are_compared_exactly() {
    gives("$values.big = 9007199254740992", json!(false));
    gives("$values.big = 9007199254740993", json!(true));
    gives("$values.big != 9007199254740993", json!(false));
    gives("$values.big = $local('no')", json!(true));
    gives("$values.big > 9007199254740992 and $values.big < 9007199254740994", json!(true));
    gives("[$values.big <= 9007199254740992.5, 5 < $values.big]", json!([false, true]));
    gives("$values.big in [9007199254740992, 9007199254740993]", json!(true));
    gives("$values.big in [9007199254740992]", json!(false));
    gives("$values.big = '9007199254740993'", json!(false));
    // The same in the interpreter.
    gives("$values.items[no = 9007199254740993].n", json!(2));
    gives("$values.items[no > 9007199254740992].n", json!([1, 2]));
    gives("$values.items[no in $values.bigs].n", json!(2));
    gives("[$values.big] = [9007199254740993]", json!(true));
    gives("[$values.big] = [9007199254740992]", json!(false));
    gives("$values.items^(no).n", json!([3, 2, 1]));
    gives("$values.items^(>no).n", json!([1, 2, 3]));
    gives("$sort($values.bigs)", json!([5, BIG - 2, BIG, BIG + 1, u64::MAX]));
    gives("$sort($values.items, function($a, $b) { $a.no > $b.no }).n", json!([3, 2, 1]));
    fails("$values.items[no < 'x']", "T2009");
    gives("$exists($values.items[nothing < no])", json!(false));
}

#[test]
fn integers_beyond_doubles_are_true() {
    gives("$map([$values.big], function($n) { $n ? 'yes' : 'no' })", json!("yes"));
    gives("$filter($values.items, function($i) { $i.no }).n", json!([1, 2, 3]));
    gives("$values.items[no].n", json!(null));
    gives("$values.items.($boolean(no) and $not($not(no)))", json!([true, true, true]));
    gives("$values.items.(no ?: 'none')", json!([BIG + 2, BIG, BIG - 1]));
}

#[test]
fn integers_beyond_doubles_are_printed_exactly() {
    gives("$values.big & ''", json!("9007199254740993"));
    gives("$string($values.big)", json!("9007199254740993"));
    gives(
        "$values.items.$string(no)",
        json!(["9007199254740995", "9007199254740993", "9007199254740992"]),
    );
    gives("[$values.big].$string()", json!("9007199254740993"));
    gives("$values.big ~> $string", json!("9007199254740993"));
    gives("$map([$values.big], $string)", json!("9007199254740993"));
    gives(
        "$join($map($values.bigs, $string), ',')",
        json!("9007199254740994,9007199254740993,5,9007199254740991,18446744073709551615"),
    );
    gives(
        "$string({'a': [$values.big, 'x\"', 0.1 + 0.2, null, true]})",
        json!(r#"{"a":[9007199254740993,"x\"",0.3,null,true]}"#),
    );
    gives("9007199254740993 & 'x'", json!("9007199254740993x"));
}

#[test]
fn arithmetic_that_would_change_an_integer_fails_and_says_so() {
    for source in [
        "$values.big + 1",
        "-$values.big",
        "1 - 9007199254740993",
        "$sum($values.bigs)",
        "$max($values.bigs)",
        "$values.big ~> $abs()",
        "[1..$values.big]",
        "$formatNumber($values.big, '0')",
        "$reduce($values.bigs, function($a, $b) { $a + $b })",
    ] {
        fails(source, "beyond 2^53, where arithmetic is not exact");
    }
    fails("$contains('9007199254740993', $values.big)", "");
    gives("9007199254740992 + 0", json!(9_007_199_254_740_992_i64));
}

#[test]
fn an_integer_that_json_cannot_hold_is_refused_when_the_pattern_is_loaded() {
    let source = "$values.big = 36893488147419103233";
    let error = compile(ExpressionLanguage::Jsonata, source, &ExprLimits::default()).unwrap_err();
    assert_eq!(error.column, 15);
    assert!(error.message.contains("beyond 64 bits"), "{error}");
}
