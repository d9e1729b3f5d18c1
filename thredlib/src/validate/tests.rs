use std::time::{Duration, Instant};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

/// A pattern that uses the whole format and has nothing to be said about.
fn whole() -> Value {
    json!({
        "name": "Purchase Approval", "id": "approval", "description": "d", "version": 2,
        "instanceInterval": 1000, "maxInstances": 5, "broadcastAllowed": true,
        "echoResponses": false, "meta": { "active": true, "owner": "ann" },
        "reactions": [
            { "name": "request", "allowedSources": ["erp", "@buyers", "/^shop-\\d+/"],
              "permissions": { "allowedRoles": ["buyer"] },
              "condition": {
                "type": "filter", "xpr": "$event.type = 'org.example.request'",
                "onTrue": { "xpr": "$setLocal('request', $event)", "setLocal": { "n": "$xpr($values.n)" } },
                "transform": {
                    "eventDataTemplate": {
                        "title": "Approve?", "$xpr": "{ 'description': $event.source.name }",
                        "content": { "values": { "amount": "$xpr($valueNamed('amount'))" } } },
                    "meta": { "reXpr": "$event.id" } },
                "publish": { "name": "ask", "to": ["@approvers", "$xpr($event.source.id)"],
                    "onPublish": { "xpr": "$setLocal('asked', $outboundEvent.id)" } } } },
            { "name": "answer", "allowUnboundEvents": true,
              "expiry": { "interval": 60000, "transition": { "name": "late" } },
              "condition": { "type": "or",
                "publish": { "to": "$thred" },
                "operands": [
                    { "type": "filter", "xpr": "$event.re = $local('out_id_ask') and $values.approved",
                      "transform": { "templateXpr": "{ 'title': 'Yes: ' & $local('n') }" },
                      "transition": "$terminate" },
                    { "type": "and", "operands": [
                        { "type": "filter", "xpr": "$event.re = $local('asked')" },
                        { "type": "filter", "xpr": { "jsonata": "$local('out_id_ask') = $event.re" } } ],
                      "transition": { "name": "$noTransition" } } ] } },
            { "name": "late", "condition": { "type": "filter", "xpr": "true",
                "transition": { "name": "request", "input": "local", "localName": "request" },
                "spawn": { "names": "escalation", "type": "sibling", "input": "forward", "context": true } } }
        ]
    })
}

fn minimal(condition: Value) -> Value {
    json!({ "name": "p", "reactions": [{ "name": "r", "condition": condition }] })
}

fn filter(fields: Value) -> Value {
    let mut condition = json!({ "type": "filter", "xpr": "true" });
    condition.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    minimal(condition)
}

#[track_caller]
fn finds(document: &Value, expected: &[&str]) {
    let report = validate(document);
    let found: Vec<String> = report
        .findings()
        .iter()
        .map(|f| format!("{} {} {}", f.severity.as_str(), f.code, f.path))
        .collect();
    assert_eq!(found, expected, "{report}");
    assert_eq!(report.is_valid(), report.model().is_some());
    let documented = |code| {
        include_str!("mod.rs").contains(&format!("//! | `{code}`"))
            || include_str!("mod.rs").contains(&format!("` `{code}`"))
    };
    assert!(report.findings().iter().all(|finding| documented(finding.code)), "{report}");
}

#[test]
fn whole_format_is_clean() {
    finds(&whole(), &[]);
    assert_eq!(validate(&whole()).into_model().unwrap().id(), "approval");
}

#[test]
fn all_structural_mistakes_at_once() {
    finds(
        &json!({
            "maxInstances": -1, "instanceInterval": 1.5, "expressionLanguage": "jsonatta",
            "broadcastAllowed": "true", "colour": 1,
            "reactions": [
                { "conditions": {} },
                "x",
                { "allowedSources": [1], "expiry": {}, "condition": { "type": "filtre", "operands": null } },
                { "condition": { "xpr": 5, "publish": {}, "spawn": { "type": "friend" } } }
            ]
        }),
        &[
            "error missing-field $",
            "error bad-number $.maxInstances",
            "error bad-number $.instanceInterval",
            "error unknown-value $.expressionLanguage",
            "error wrong-type $.broadcastAllowed",
            "warning unknown-field $.colour",
            "error missing-field $.reactions[0]",
            "warning unknown-field $.reactions[0].conditions",
            "error wrong-type $.reactions[1]",
            "error wrong-type $.reactions[2].allowedSources[0]",
            "error missing-field $.reactions[2].expiry",
            "error unknown-value $.reactions[2].condition.type",
            "error wrong-type $.reactions[2].condition.operands",
            "error missing-field $.reactions[3].condition",
            "error wrong-type $.reactions[3].condition.xpr",
            "error missing-field $.reactions[3].condition.publish",
            "warning publish-without-transform $.reactions[3].condition.publish",
            "error missing-field $.reactions[3].condition.spawn",
            "error unknown-value $.reactions[3].condition.spawn.type",
        ],
    );
}

#[test]
fn what_is_no_pattern() {
    finds(&json!([]), &["error wrong-type $"]);
    finds(&json!({}), &["error missing-field $", "error missing-field $"]);
    finds(&json!({ "name": "p", "reactions": [] }), &["error no-reactions $.reactions"]);
    finds(&json!({ "name": "", "reactions": whole()["reactions"] }), &["error empty-name $.name"]);
    let report = validate_text("{\n  \"name\": 'p'\n}");
    assert_eq!(report.findings()[0].code, "json-syntax");
    assert_eq!(report.findings()[0].spot, Spot::Text { line: 2, column: 11 });
    let report = validate_text("{ \"é\": x }");
    assert_eq!(report.findings()[0].spot, Spot::Text { line: 1, column: 8 });
}

#[test]
fn notes_to_tools_are_no_unknown_fields() {
    let mut pattern = whole();
    pattern["$schema"] = json!("../pattern.schema.json");
    pattern["meta"]["anything"] = json!(1);
    finds(&pattern, &[]);
}

#[test]
fn misspelt_fields_and_values_have_a_remedy() {
    let pattern = json!({ "name": "p", "reactions": [
        { "name": "r", "allowUnboundEvent": true, "condition": { "type": "Filter", "xpr": "true" } },
        { "name": "s", "condition": { "type": "filter", "xpr": "true", "transition": { "name": "$termiante" } } }
    ] });
    let report = validate(&pattern);
    let help: Vec<&str> = report.findings().iter().map(|f| f.help.as_str()).collect();
    let expected = [
        "did you mean `allowUnboundEvents`?",
        "did you mean `filter`?",
        "did you mean `$terminate`?",
    ];
    assert_eq!(help, expected);
    assert_eq!(report.findings()[0].spot, Spot::Key);
    assert_eq!(report.findings()[0].pattern.as_ref().unwrap(), &"p");
}

#[test]
fn operands_and_expressions() {
    finds(&minimal(json!({ "type": "filter" })), &["error missing-xpr $.reactions[0].condition"]);
    finds(
        &filter(json!({ "operands": [{ "type": "filter", "xpr": "true" }] })),
        &["warning unused-operands $.reactions[0].condition.operands"],
    );
    finds(
        &minimal(json!({ "type": "and", "xpr": "true", "operands": [] })),
        &[
            "error missing-operands $.reactions[0].condition",
            "warning unused-xpr $.reactions[0].condition.xpr",
        ],
    );
}

#[test]
fn reaction_names() {
    let reaction =
        |name: Value| json!({ "name": name, "condition": { "type": "filter", "xpr": "true" } });
    finds(
        &json!({ "name": "p", "reactions": [reaction(json!("a")), reaction(json!("a")), reaction(json!("p_3")),
            { "condition": { "type": "filter", "xpr": "true" } }, reaction(json!("$x")), reaction(json!(""))] }),
        &[
            "error duplicate-reaction $.reactions[1].name",
            "error duplicate-reaction $.reactions[3]",
            "warning reserved-name $.reactions[4].name",
            "warning empty-name $.reactions[5].name",
        ],
    );
}

#[test]
fn transitions() {
    finds(
        &filter(json!({ "transition": "x" })),
        &["error unknown-reaction $.reactions[0].condition.transition"],
    );
    finds(
        &filter(
            json!({ "transition": { "input": "local" }, "spawn": { "names": "q", "localName": "x" } }),
        ),
        &[
            "error missing-local-name $.reactions[0].condition.transition",
            "warning unused-local-name $.reactions[0].condition.spawn.localName",
        ],
    );
    let mut pattern = whole();
    pattern["reactions"][1]["expiry"] = json!({ "interval": 1, "transition": "never" });
    finds(&pattern, &["error unknown-reaction $.reactions[1].expiry.transition"]);
    pattern["reactions"][1]["expiry"] = json!({ "interval": 0, "transition": "never" });
    finds(
        &pattern,
        &[
            "warning zero-expiry $.reactions[1].expiry.interval",
            "warning unreachable-reaction $.reactions[2].name",
        ],
    );
}

#[test]
fn transform_and_publish_belong_together() {
    let transform = json!({ "eventDataTemplate": {} });
    let at = |code: &str, place: &str| format!("{code} $.reactions[0].condition.{place}");
    finds(
        &filter(json!({ "transform": transform })),
        &[&at("warning transform-without-publish", "transform")],
    );
    finds(
        &filter(json!({ "transform": {}, "publish": { "to": "a" } })),
        &[&at("error empty-transform", "transform")],
    );
    finds(
        &filter(
            json!({ "transform": { "eventDataTemplate": {}, "templateXpr": "{}" }, "publish": { "to": "a" } }),
        ),
        &[&at("error two-templates", "transform.templateXpr")],
    );
    // Of two operands one sends with the shared publish, the other one says nothing.
    finds(
        &minimal(json!({ "type": "or", "publish": { "to": "a" }, "operands": [
            { "type": "filter", "xpr": "a", "transform": transform },
            { "type": "filter", "xpr": "b" } ] })),
        &[],
    );
    finds(
        &minimal(
            json!({ "type": "or", "publish": { "to": "a" }, "operands": [{ "type": "filter", "xpr": "b" }] }),
        ),
        &[&at("warning publish-without-transform", "publish")],
    );
}

#[test]
fn directives_below_an_and() {
    let deep = json!({ "type": "or", "spawn": { "names": "q" },
        "operands": [{ "type": "filter", "xpr": "true", "transition": "nowhere" }] });
    finds(
        &minimal(json!({ "type": "and", "operands": [deep] })),
        &[
            "warning ignored-directive $.reactions[0].condition.operands[0].spawn",
            "warning ignored-directive $.reactions[0].condition.operands[0].operands[0].transition",
            "error unknown-reaction $.reactions[0].condition.operands[0].operands[0].transition",
        ],
    );
}

#[test]
fn expressions_that_do_not_compile() {
    let pattern = filter(json!({
        "xpr": "$event.type = ",
        "onTrue": { "setLocal": { "a": ["$xpr(1 +)"] } },
        "transform": { "eventDataTemplate": { "an odd key": { "$xpr": "(" } } },
        "publish": { "to": "$xpr(')" }
    }));
    finds(
        &pattern,
        &[
            "error expression-syntax $.reactions[0].condition.xpr",
            "error expression-syntax $.reactions[0].condition.onTrue.setLocal.a[0]",
            "error expression-syntax $.reactions[0].condition.transform.eventDataTemplate['an odd key']['$xpr']",
            "error expression-syntax $.reactions[0].condition.publish.to",
        ],
    );
    let report = validate(&pattern);
    assert_eq!(report.findings()[1].spot, Spot::Char(9), "{}", report.findings()[1]);
}

#[test]
fn expressions_that_are_literal_text() {
    finds(
        &filter(json!({
            "transform": { "eventDataTemplate": { "title": "Hello $xpr($event.id)", "x": "$xpr(1) " } },
            "publish": { "to": "a" }
        })),
        &[
            "warning literal-xpr $.reactions[0].condition.transform.eventDataTemplate.title",
            "warning literal-xpr $.reactions[0].condition.transform.eventDataTemplate.x",
        ],
    );
}

#[test]
fn misplaced_fields_have_a_remedy() {
    let mut pattern = filter(json!({ "expiry": { "interval": 1 } }));
    pattern["reactions"][0]["transition"] = json!("$terminate");
    let report = validate(&pattern);
    let help: Vec<&str> = report.findings().iter().map(|finding| finding.help.as_str()).collect();
    let expected = [
        "move it out of the condition, into the reaction",
        "move it into the reaction's `condition`",
    ];
    assert_eq!(help, expected);
}

#[test]
fn names_in_expressions() {
    finds(
        &filter(json!({
            "xpr": "$setLocal('a', 1) and $isResponseFor('aks') and $evnt.type = $outboundEvent.type",
            "onTrue": { "xpr": "$local('a') & $local('b') & $local($event.id) & ($x := 1; $x)" }
        })),
        &[
            "warning set-local-in-entry-filter $.reactions[0].condition.xpr",
            "warning unknown-publish $.reactions[0].condition.xpr",
            "warning unknown-variable $.reactions[0].condition.xpr",
            "warning outbound-event-outside-on-publish $.reactions[0].condition.xpr",
            "warning unset-local $.reactions[0].condition.onTrue.xpr",
        ],
    );
    // A computed name may be any name.
    finds(
        &filter(json!({ "onTrue": { "xpr": "$setLocal($event.id, 1); $local('b')" } })),
        &["error expression-syntax $.reactions[0].condition.onTrue.xpr"],
    );
    finds(&filter(json!({ "onTrue": { "xpr": "($setLocal($event.id, 1); $local('b'))" } })), &[]);
}

#[test]
fn sources_and_recipients() {
    let mut pattern = filter(json!({
        "transform": { "eventDataTemplate": {} },
        "publish": { "name": "", "to": ["a", "", 5, ["$thred", null], { "$xpr": "'a'" }] }
    }));
    pattern["reactions"][0]["allowedSources"] = json!(["", "/(/", "/x/i", "/x/", "a/b"]);
    finds(
        &pattern,
        &[
            "warning empty-name $.reactions[0].condition.publish.name",
            "warning empty-address $.reactions[0].condition.publish.to[1]",
            "error bad-address $.reactions[0].condition.publish.to[2]",
            "error bad-address $.reactions[0].condition.publish.to[3][1]",
            "error bad-address $.reactions[0].condition.publish.to[4]",
            "warning empty-address $.reactions[0].allowedSources[0]",
            "error bad-regex $.reactions[0].allowedSources[1]",
            "warning unfinished-regex $.reactions[0].allowedSources[2]",
        ],
    );
}

#[test]
fn reactions_out_of_reach() {
    let reaction = |name: &str, transition: &str| json!({ "name": name, "condition": { "type": "filter", "xpr": "true", "transition": transition } });
    finds(
        &json!({ "name": "p", "reactions": [reaction("a", "$terminate"), reaction("b", "c"), reaction("c", "a")] }),
        &[
            "warning unreachable-reaction $.reactions[1].name",
            "warning unreachable-reaction $.reactions[2].name",
        ],
    );
}

#[test]
fn endless_forwards() {
    let forward = |name: &str, xpr: &str, to: &str| {
        let transition = json!({ "name": to, "input": "forward" });
        json!({ "name": name, "condition": { "type": "filter", "xpr": xpr, "transition": transition } })
    };
    let pattern = |reactions: &[Value]| json!({ "name": "p", "reactions": reactions });
    let cycle = ["warning forward-cycle $.reactions[0].condition.transition"];
    finds(&pattern(&[forward("a", "$event.type = 'x'", "$noTransition")]), &cycle);
    finds(&pattern(&[forward("a", "x", "b"), forward("b", "true", "a")]), &cycle);
    finds(&pattern(&[forward("a", "x", "b"), forward("b", "y", "a")]), &[]);
    finds(&pattern(&[forward("a", "$random() > 0.5", "$noTransition")]), &[]);
}

#[test]
fn sets_have_unique_ids_and_known_spawns() {
    let spawn = |name: &str, context: bool| {
        filter(json!({ "spawn": { "names": [name], "context": context } }))
    };
    let mut reader = filter(json!({ "onTrue": { "xpr": "$local('from parent')" } }));
    reader["name"] = json!("The Reader");
    let (a, b) = (spawn("the_reader", true), spawn("the reeder", false));
    let reports = validate_set([("a.json", &a), ("b.json", &b), ("reader.json", &reader)]);
    let lines: Vec<String> = reports.iter().map(ToString::to_string).collect();
    assert_eq!(lines[0], "");
    assert_eq!(
        lines[1],
        "error[duplicate-id]: the id `p` is taken by a.json at $.name: give one of the two another `id`, or \
         remove it\nwarning[unknown-spawn]: no pattern has the id or name `the reeder` at \
         $.reactions[0].condition.spawn.names[0]: did you mean `the_reader`?"
    );
    assert_eq!(lines[2], "");
    assert_eq!(validate(&reader).warnings().count(), 1);
}

#[test]
fn conditions_are_bounded() {
    let operand = json!({ "type": "filter", "xpr": "true" });
    let with =
        |operands| minimal(json!({ "type": "or", "operands": vec![operand.clone(); operands] }));
    finds(&with(65_533), &[]);
    finds(&with(65_534), &["error condition-too-large $.reactions[0].condition"]);
}

#[test]
fn what_looks_like_a_restriction_and_is_none_is_said() {
    let with = |sources: Value, roles: Value| {
        let mut pattern = minimal(json!({ "type": "filter", "xpr": "true" }));
        pattern["reactions"][0]["allowedSources"] = sources;
        pattern["reactions"][0]["permissions"] = json!({ "allowedRoles": roles });
        pattern
    };
    let everyone = |at: &str| format!("warning allows-everyone $.reactions[0].{at}");
    finds(&with(json!([]), json!(["r"])), &[&everyone("allowedSources")]);
    finds(&with(json!(["a"]), json!([])), &[&everyone("permissions.allowedRoles")]);
    for nothing in ["//", "/x*/", "/(a|)/", "/^/"] {
        finds(&with(json!([nothing]), json!("r")), &[&everyone("allowedSources[0]")]);
    }
    for something in ["/.*/", "/^$/", "/^sensor-/", "a"] {
        finds(&with(json!(something), json!("r")), &[]);
    }
}

#[test]
fn on_error_is_one_of_two_words() {
    let mut pattern = minimal(json!({ "type": "filter", "xpr": "$error.code = 'x'" }));
    pattern["reactions"][0]["onError"] = json!("match");
    finds(&pattern, &[]);
    pattern["reactions"][0]["onError"] = json!("ignore");
    finds(&pattern, &["error unknown-value $.reactions[0].onError"]);
}

#[test]
fn a_byte_order_mark_is_passed_over_and_half_a_surrogate_pair_is_named() {
    let text = minimal(json!({ "type": "filter", "xpr": "true" })).to_string();
    assert!(validate_text(&format!("\u{feff}{text}")).is_valid());
    let report = validate_text(&text.replace("true", "'\\ud83d'"));
    let finding = &report.findings()[0];
    assert_eq!(finding.code, "json-syntax");
    let expected = "at `reactions[0].condition.xpr`: `\\ud83d` is half of a surrogate pair";
    assert!(finding.message.contains(expected), "{}", finding.message);
}

#[test]
fn nesting_is_bounded() {
    let deep = |levels| {
        let innermost = json!({ "type": "filter", "xpr": "true" });
        (0..levels).fold(innermost, |inner, _| json!({ "type": "or", "operands": [inner] }))
    };
    assert!(validate(&minimal(deep(53))).is_valid());
    finds(&minimal(deep(54)), &["error nesting-too-deep $"]);
    let mut text = "[".repeat(100_000);
    text.push_str(&"]".repeat(100_000));
    assert_eq!(validate_text(&text).findings()[0].code, "json-syntax");
}

/// What to put in place of some value of a valid pattern.
fn any_json() -> impl Strategy<Value = Value> {
    let text = prop_oneof![
        "[$a-z(){}'\"/.\\[\\] :=]{0,12}",
        prop::sample::select(vec![
            "",
            "$xpr(",
            "$xpr()",
            "$next",
            "true",
            "/((a{99}){99}){99}/",
            "\u{1b}[2J"
        ])
        .prop_map(str::to_owned),
        any::<String>(),
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        text.prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec(("[a-z$]{0,4}|xpr|type|\\$xpr|operands", inner), 0..4)
                .prop_map(|fields| fields.into_iter().collect()),
        ]
    })
}

/// Replaces, removes or renames the nth value below a value; counts down what it passes.
fn mutate(value: &mut Value, nth: &mut usize, action: u8, with: &Value) -> bool {
    let children: Vec<&mut Value> = match value {
        Value::Array(items) => items.iter_mut().collect(),
        Value::Object(map) if *nth < map.len() && action > 0 => {
            let key = map.keys().nth(*nth).cloned().unwrap_or_default();
            let old = map.remove(&key);
            if action == 2 {
                map.insert(with.as_str().unwrap_or("other").to_owned(), old.unwrap_or_default());
            }
            return true;
        }
        Value::Object(map) => map.values_mut().collect(),
        _ => Vec::new(),
    };
    for child in children {
        if *nth == 0 {
            *child = with.clone();
            return true;
        }
        *nth -= 1;
        if mutate(child, nth, action, with) {
            return true;
        }
    }
    false
}

proptest! {
    #[test]
    fn mutated_patterns_never_panic_and_are_quick(
        mutations in prop::collection::vec((0..110_usize, 0..3_u8, any_json()), 1..4)
    ) {
        let mut pattern = whole();
        for (mut nth, action, with) in mutations {
            mutate(&mut pattern, &mut nth, action, &with);
        }
        let start = Instant::now();
        let report = validate(&pattern);
        // Debug builds on busy machines: the bound for a release build is 50 ms.
        prop_assert!(start.elapsed() < Duration::from_millis(500));
        prop_assert_eq!(report.is_valid(), report.model().is_some());
        prop_assert_eq!(validate_text(&pattern.to_string()).is_valid(), report.is_valid());
        let loads = serde_json::from_value::<crate::PatternModel>(pattern).is_ok();
        prop_assert!(loads || !report.is_valid());
        prop_assert!(report.findings().iter().all(|f| f.code != "malformed"), "{}", report);
        prop_assert!(!report.to_string().contains('\u{1b}'), "{}", report);
    }
}

#[test]
fn a_wait_without_a_key_is_noted() {
    let waiting = |condition: Value, flag: Value| {
        json!({ "name": "p", "reactions": [
            { "name": "start", "allowUnboundEvents": true, "condition": {
                "type": "filter", "xpr": "true", "onTrue": { "setLocal": { "order": 1 } } } },
            { "name": "wait", "allowUnboundEvents": flag, "condition": condition },
        ] })
    };
    let filter = |xpr: &str| json!({ "type": "filter", "xpr": xpr });
    let keyed = "$event.type = 'paid' and $valueNamed('order') = $local('order')";
    let unkeyed = "$event.type = 'paid'";
    let report = validate(&waiting(filter(unkeyed), json!(true)));
    assert!(report.is_valid() && report.warnings().next().is_none());
    let notes: Vec<_> = report.notes().collect();
    assert_eq!(notes.len(), 1);
    assert_eq!(notes[0].code, "wait-without-key");
    assert_eq!(notes[0].path, "$.reactions[1].allowUnboundEvents");
    assert!(notes[0].help.contains("$local('order')"), "{}", notes[0].help);

    let none = |condition: Value, flag: Value| finds(&waiting(condition, flag), &[]);
    none(filter(keyed), json!(true));
    none(filter(unkeyed), json!(false));
    let both = |kind: &str| json!({ "type": kind, "operands": [filter(keyed), filter(unkeyed)] });
    for kind in ["and", "or"] {
        assert_eq!(validate(&waiting(both(kind), json!(true))).notes().count(), 1, "{kind}");
    }
}
