mod rfc;
mod soup;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::{CompileError, Expression, Field, Requirement, Scalar, Scope};
use crate::{Event, ExprError, ExprLimits};

fn compile(source: &str) -> Result<Arc<dyn Expression>, CompileError> {
    super::compile(source, &ExprLimits::default())
}

fn scope(values: Value) -> Scope {
    let event = Event::builder("org.example.order", "shop")
        .id("e1")
        .re("m1")
        .source_name("The shop")
        .timestamp(1_000)
        .values(values)
        .build();
    Scope::new(Arc::new(event), 0, 0)
}

fn evaluate(source: &str, values: Value) -> Result<Option<Value>, ExprError> {
    compile(source).unwrap().evaluate(&mut scope(values))
}

fn test(source: &str, values: Value) -> Result<bool, ExprError> {
    compile(source).unwrap().test(&mut scope(values))
}

#[track_caller]
fn gives(source: &str, expected: Value) {
    let values = json!({ "x": 5, "list": [1, 2, 3], "nil": null, "no": false });
    assert_eq!(evaluate(source, values).unwrap(), Some(expected), "{source}");
}

#[test]
fn the_root_shows_the_event_and_its_parts() {
    gives("$.event.type", json!("org.example.order"));
    gives("$.event.id", json!("e1"));
    gives("$.event.re", json!("m1"));
    gives("$.event.source", json!({ "id": "shop", "name": "The shop" }));
    gives("$.event['timestamp','time']", json!([1_000, 1_000]));
    gives("$.event.data.content.values.x", json!(5));
    gives("$.data.content.values.x", json!(5));
    gives("$.content.values.x", json!(5));
    gives("$.values.list[-1]", json!(3));
    gives("$.local", json!({}));
    gives("$['thredId','outboundEvent']", json!([]));
    assert_eq!(evaluate("$.values.none", json!({})).unwrap(), None);
    assert_eq!(evaluate("$.thredId", json!({})).unwrap(), None);
}

#[test]
fn the_root_shows_the_thred_and_the_outbound_event() {
    let mut scope = scope(json!({}));
    scope.enter_thred("t1".into(), Arc::default());
    scope.set_local("n", Some(json!([1])));
    scope.set_outbound(Some(Arc::new(Event::builder("org.wt.tell", "SYSTEM").id("o").build())));
    let mut seen = |source: &str| compile(source).unwrap().evaluate(&mut scope).unwrap().unwrap();
    assert_eq!(seen("$['thredId','local']"), json!(["t1", { "n": [1] }]));
    let outbound = json!({ "id": "o", "type": "org.wt.tell", "source": { "id": "SYSTEM" } });
    assert_eq!(seen("$.outboundEvent"), outbound);
    let root = seen("$");
    let names: Vec<_> = root.as_object().unwrap().keys().collect();
    let expected = ["event", "data", "content", "values", "local", "thredId", "outboundEvent"];
    assert_eq!(names, expected);
    assert_eq!(seen("$[?@.type == 'org.wt.tell'].id"), json!(["o"]));
}

#[test]
fn unknown_fields_are_seen() {
    let text = r#"{"id":"e","type":"t","source":{"id":"s","own":1},"more":{"deep":[2]}}"#;
    let event: Event = serde_json::from_str(text).unwrap();
    let mut scope = Scope::new(Arc::new(event), 0, 0);
    let mut seen = |source: &str| compile(source).unwrap().evaluate(&mut scope).unwrap();
    assert_eq!(seen("$.event.source.own"), Some(json!(1)));
    assert_eq!(seen("$..deep[0]"), Some(json!([2])));
    assert_eq!(seen("$.event"), Some(serde_json::from_str(text).unwrap()));
}

#[test]
fn filters_match_on_a_node_that_is_neither_false_nor_null() {
    let values = json!({ "zero": 0, "empty": "", "nil": null, "no": false, "mixed": [null, 1] });
    for (source, expected) in [
        ("$.values.zero", true),
        ("$.values.empty", true),
        ("$.values.nil", false),
        ("$.values.no", false),
        ("$.values.none", false),
        ("$.values['nil','no']", false),
        ("$.values.mixed[*]", true),
        ("$[?$.event.type == 'org.example.order']", true),
        ("$[?$.event.type == 'org.example.other']", false),
        ("$[?$.event.type == 'org.example.order' && $.values.zero < 1]", true),
    ] {
        assert_eq!(test(source, values.clone()).unwrap(), expected, "{source}");
    }
}

#[test]
fn numbers_keep_their_value() {
    let values = json!({ "big": u64::MAX, "near": u64::MAX - 1, "small": i64::MIN, "f": 1.5e300 });
    let all = evaluate("$.values", values.clone()).unwrap();
    assert_eq!(all, Some(values.clone()));
    assert!(!test("$[?$.values.big == $.values.near]", values.clone()).unwrap());
    assert!(test("$[?$.values.small < $.values.f]", values).unwrap());
    assert!(test("$[?$.values.a == 1.0 && $.values.a == 1e0]", json!({ "a": 1 })).unwrap());
}

#[test]
fn regular_expressions_are_i_regexps() {
    let matches = |function: &str, pattern: &str, text: &str| {
        let literal = format!("$[?{function}($.values.t, {})]", Value::from(pattern));
        let computed = format!("$[?{function}($.values.t, $.values.p)]");
        let values = json!({ "t": text, "p": pattern });
        let outcome = test(&literal, values.clone()).unwrap();
        assert_eq!(outcome, test(&computed, values).unwrap(), "{pattern} on {text}");
        outcome
    };
    for (function, pattern, text, expected) in [
        ("match", "a.c", "abc", true),
        ("match", "a.c", "xabc", false),
        ("search", "a.c", "xabcx", true),
        ("match", "a|b", "ab", false),
        ("match", "a.c", "a\rc", false),
        ("search", "a.c", "a\nc", false),
        ("match", "a.c", "a\u{2028}c", true),
        ("match", "a[.]c", "a.c", true),
        ("match", "a[.]c", "abc", false),
        ("match", r"a\.c", "abc", false),
        ("match", "abc", "abc\n", false),
        ("match", "[a&&b]+", "a&b", true),
        ("match", r"[\]a]+", "]a", true),
        ("match", r"\p{Lu}\p{Ll}*", "Éa", true),
    ] {
        assert_eq!(matches(function, pattern, text), expected, "{function} {pattern} {text:?}");
    }
    assert!(!test("$[?match($.values.t, $.values.p)]", json!({ "t": "a", "p": "(" })).unwrap());
    assert!(!test("$[?match($.values.t, 'a')]", json!({ "t": 1 })).unwrap());
}

#[track_caller]
fn wrong(source: &str, column: usize, said: &str) {
    let error = compile(source).expect_err(source);
    assert!(error.message.contains(said), "{source}: {error}");
    assert_eq!(error.column, column, "{source}: {error}");
}

#[test]
fn errors_say_where() {
    wrong("", 1, "starts with `$`");
    wrong(" $", 1, "starts with `$`");
    wrong("$ ", 2, "remove the space");
    wrong("$.a b", 4, "expected `.`");
    wrong("$. a", 3, "expected a name");
    wrong("$.é['ü'].1", 10, "expected a name");
    wrong("$['a", 3, "no closing quote");
    wrong(r"$['\x']", 4, "no such escape");
    wrong(r"$['\uD800']", 4, "surrogate");
    wrong("$['a\u{1}']", 5, "control character");
    wrong("$[01]", 3, "zero in front");
    wrong("$[-0]", 3, "zero in front");
    wrong("$[9007199254740992]", 3, "too large");
    wrong("$[1", 4, "expected `,` or `]`");
    wrong("$[]", 3, "expected a quoted name");
    wrong("$[?@.a = 1]", 8, "expected `,` or `]`");
    wrong("$[?@.a == ]", 11, "expected a query");
    wrong("$[?@.a == x]", 11, "quote a text");
    wrong("$[?(@.a]", 8, "expected `)`");
    wrong("$[?@.a == 1.]", 13, "after the point");
    let error = compile("$.values[?@.amount === 100]").unwrap_err();
    assert!(error.to_string().ends_with("at column 22: .values[?@.amount === 100]"), "{error}");
}

#[test]
fn ill_typed_queries_are_refused() {
    wrong("$[?@.* == 1]", 4, "selects one node");
    wrong("$[?1 == @..a]", 9, "selects one node");
    wrong("$[?@[1:2] == 1]", 4, "selects one node");
    wrong("$[?length(@.*) < 3]", 11, "selects one node");
    wrong("$[?length(match(@.a, 'b')) == 1]", 11, "are tests");
    wrong("$[?length(@.a && @.b) == 1]", 15, "expected `)`");
    wrong("$[?length(@.a, @.b) == 1]", 14, "expected `)`");
    wrong("$[?count(1) == 1]", 10, "expected a query");
    wrong("$[?value('a') == 1]", 10, "expected a query");
    wrong("$[?length(@.a)]", 4, "compare the result");
    wrong("$[?!count(@.a)]", 5, "compare the result");
    wrong("$[?match(@.a, 'b') == true]", 4, "are tests");
    wrong("$[?true == search(@.a, 'b')]", 12, "are tests");
    wrong("$[?match(@.a)]", 13, "expected `,`");
    wrong("$[?match(@.a, @.*)]", 15, "selects one node");
    wrong("$[?match(@.a, '(')]", 15, "regular expression is not valid: unclosed group");
    wrong("$[?true]", 4, "compare the literal");
    wrong("$[?!@.a == 1]", 5, "parentheses");
    wrong("$[?in(@.a, @.b)]", 4, "no such function");
    wrong("$[?length (@.a) == 1]", 4, "expected a query");
    for fine in [
        "$[?length(value(@..a)) > 0]",
        "$[?match(@.a, value($..b))]",
        "$[?!match(@.a, 'b') && !(@.a == 1) && !@.b]",
        "$[? ( length ( @.a ) == 1 )]".replace("length (", "length(").as_str(),
        "$[?count(@.*) >= count($..*)]",
    ] {
        compile(fine).unwrap();
    }
}

#[track_caller]
fn goes_over(source: &str, values: Value, expected: &str) {
    let begin = Instant::now();
    match evaluate(source, values).unwrap_err() {
        ExprError::Limit { limit, .. } => assert_eq!(limit, expected),
        other => panic!("{other}"),
    }
    assert!(begin.elapsed() < Duration::from_millis(500), "{:?}", begin.elapsed());
}

#[test]
fn bombs_end_in_time() {
    let tree = (0..6).fold(json!(1), |inner, _| json!([inner, inner, inner, inner, inner]));
    goes_over("$..[?@..[?@..[?@..[?@.x]]]]", tree.clone(), "steps");
    goes_over("$..[?count(@..[?count($..*) == 0]) == 1]", tree.clone(), "steps");
    goes_over("$..*..*..*..*..x", tree.clone(), "steps");
    let chain = (0..100).fold(json!(1), |inner, _| json!({ "a": inner }));
    goes_over("$..a..a..a..a..a..a..a..a..a..b", chain, "steps");
    let long = json!({ "t": "ab".repeat(500_000), "l": vec![0; 10_000] });
    goes_over("$.values.l[?length($.values.t) == @]", long, "steps");
}

#[test]
fn results_are_limited() {
    goes_over("$.values[*]", json!(vec![0; 10_001]), "sequence");
    let text = "x".repeat(200_000);
    goes_over("$.values", json!([text, text]), "size");
    goes_over("$..*", json!([text]), "size");
    let deep = (0..200).fold(json!(1), |inner, _| json!([inner]));
    goes_over("$.values", deep, "depth");
    let deeper = (0..700).fold(json!(1), |inner, _| json!([inner]));
    goes_over("$..x", deeper.clone(), "depth");
    goes_over("$[?$.values == $.content.values]", deeper, "depth");
}

#[test]
fn long_texts_are_not_searched_with_large_expressions() {
    let text = "a".repeat(500_000);
    goes_over(r"$[?search($.values.t, '\\w{20}x')]", json!({ "t": text }), "size");
    goes_over("$[?match($.values.t, $.values.p)]", json!({ "t": text, "p": "(a?){200}x" }), "size");
    assert!(!test("$[?match($.values.t, 'b+')]", json!({ "t": "a".repeat(200_000) })).unwrap());
}

#[test]
fn hostile_texts_are_refused_in_time() {
    let begin = Instant::now();
    for source in [
        "$[?".repeat(20_000),
        format!("$[?{}", "(".repeat(60_000)),
        format!("$[?{}", "!(".repeat(30_000)),
        format!("$[?{}@.a{} !]", "length(".repeat(60), ")".repeat(60)),
        format!("$[?{}@.a", "length(".repeat(9_000)),
        format!("$[?match(@.a, '{}')]", "(".repeat(4_000)),
        format!("$[?match(@.a, '{}')]", "(((a{500}){500}){500}){500}"),
        format!("$['{}", "\\".repeat(60_000)),
        "$".repeat(60_000),
        ".".repeat(70_000),
    ] {
        let error = compile(&source).unwrap_err();
        assert!(error.excerpt.chars().count() <= 40);
    }
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
}

#[test]
fn long_queries_need_little_stack() {
    let small = std::thread::Builder::new().stack_size(1024 * 1024);
    let run = || {
        let nested = format!("$..[?{}@..x{}]", "@..[?".repeat(60), "]".repeat(60));
        let deep = (0..110).fold(json!(1), |inner, _| json!([inner]));
        for source in [
            format!("${}", ".a".repeat(30_000)),
            format!("${}", "..*".repeat(20_000)),
            format!("${}", "[*]".repeat(20_000)),
            format!("$[?@{} == 1]", ".a".repeat(30_000)),
            format!("$[?{}@.a{}]", "(".repeat(60), ")".repeat(60)),
            nested.replace("@..[?", "$..[?"),
            nested,
        ] {
            let _ = evaluate(&source, deep.clone());
        }
    };
    small.spawn(run).unwrap().join().unwrap();
}

fn requirement(source: &str) -> Requirement {
    compile(source).unwrap().requirement()
}

fn text(field: Field, value: &str) -> Requirement {
    Requirement::OneOf(field, vec![Scalar::Text(value.into())])
}

#[test]
fn requirements_are_read_off_root_filters() {
    let order = || text(Field::Type, "order");
    assert_eq!(requirement("$[?$.event.type == 'order']"), order());
    assert_eq!(requirement("$[?'order' == $['event']['type']].id"), order());
    assert_eq!(requirement("$[?$.event.type == 'order' && @.x > 1]"), order());
    assert_eq!(
        requirement("$[?$.event.source.id == 'erp' && $.event.type == 'order']"),
        Requirement::All(vec![text(Field::SourceId, "erp"), order()])
    );
    assert_eq!(
        requirement("$[?$.event.type == 'order' || $.event.type == 'offer']"),
        Requirement::Any(vec![order(), text(Field::Type, "offer")])
    );
    let one = Requirement::OneOf(Field::ValueNamed("n".into()), vec![Scalar::number(1.0)]);
    assert_eq!(requirement("$[?$.values.n == 1]"), one);
    assert_eq!(requirement("$[?$.event.data.content.values.n == 1.0]"), one);
}

#[test]
fn nothing_is_required_where_it_is_not_certain() {
    for source in [
        "$",
        "$.event.type",
        "$[?@.type == 'order']",
        "$.event[?@ == 'order']",
        "$[?$.event.type != 'order']",
        "$[?!($.event.type == 'order')]",
        "$[?$.event.type == 'order' || @.x]",
        "$[?$.event.type == 'order', 'event']",
        "$[?$.event.type == null]",
        "$..[?$.event.type == 'order']",
        "$[?$.values.a.b == 1]",
        // The search may go over a limit, which must not depend on the index.
        "$[?search($.values.t, 'x') && $.event.type == 'order']",
        "$[?count($..*) > 3 && $.event.type == 'order']",
    ] {
        assert_eq!(requirement(source), Requirement::Anything, "{source}");
    }
}

/// Whether an index that looks at the event would let it through.
fn meets(requirement: &Requirement, event: &Event) -> bool {
    match requirement {
        Requirement::Anything => true,
        Requirement::Nothing => false,
        Requirement::OneOf(field, scalars) => {
            let scalar = match field {
                Field::Type => Some(Scalar::Text((*event.event_type).into())),
                Field::SourceId => Some(Scalar::Text(event.source.id.as_str().into())),
                Field::ValueNamed(name) => event.value_named(name).and_then(Scalar::of),
            };
            scalar.is_some_and(|scalar| scalars.contains(&scalar))
        }
        Requirement::All(parts) => parts.iter().all(|part| meets(part, event)),
        Requirement::Any(parts) => parts.iter().any(|part| meets(part, event)),
    }
}

fn filter() -> impl Strategy<Value = String> {
    let atom = prop::sample::select(vec![
        "$.event.type == 'a'",
        "'b' == $.event.type",
        "$.event.source.id == 'a'",
        "$.values.n == 1",
        "$.values.n == null",
        "$.values.n == true",
        "$.content.values['n'] == 'a'",
        "$.values.n == $.values.m",
        "$.event.type != 'a'",
        "@.type == 'a'",
        "@ == 1",
        "$.values.n",
        "search($.event.type, 'a')",
    ]);
    atom.prop_map(str::to_owned).prop_recursive(3, 8, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 2..4).prop_map(|all| all.join(" && ")),
            prop::collection::vec(inner.clone(), 2..4)
                .prop_map(|all| format!("({})", all.join(" || "))),
            inner.prop_map(|inner| format!("!({inner})")),
        ]
    })
}

proptest! {
    #[test]
    fn what_matches_meets_the_requirement(
        filters in prop::collection::vec(filter(), 1..3),
        event_type in "[abc]",
        source in "[ab]",
        values in prop::sample::select(vec![
            json!({}), json!({ "n": 1 }), json!({ "n": 1.0, "m": 1 }), json!({ "n": null }),
            json!({ "n": true }), json!({ "n": "a" }), json!({ "k": { "n": 2 }, "n": 1 }),
            json!([{ "n": 1 }]), json!({ "k": { "n": 1 } }),
        ]),
    ) {
        let source_text = format!("$[?{}]", filters.join(", ?"));
        let expression = compile(&source_text).unwrap();
        let event = Arc::new(Event::builder(event_type, &*source).values(values).build());
        let matched = expression.test(&mut Scope::new(Arc::clone(&event), 0, 0)).unwrap();
        let met = meets(&expression.requirement(), &event);
        prop_assert!(met || !matched, "{source_text} on {event:?}");
    }
}
