use serde_json::json;
use thredlib::ExprLimits;

use super::*;
use crate::port::StoredPattern;

#[test]
fn keys_are_32_hexadecimal_digits() {
    let key = WaitKey::from_bytes([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 0xff]);
    let text = "000102030405060708090a0b0c0d0eff";
    assert_eq!(key.to_string(), text);
    assert_eq!(text.parse(), Ok(key));
    assert_eq!(serde_json::to_value(key).unwrap(), text);
    assert_eq!(serde_json::from_value::<WaitKey>(text.into()).unwrap(), key);
    for wrong in [
        "",
        "0",
        &text[1..],
        &text.to_uppercase(),
        &format!("+{}", &text[1..]),
        &format!("{text}0"),
    ] {
        assert_eq!(wrong.parse::<WaitKey>(), Err(thredlib::NotAKey), "{wrong}");
    }
}

/// The validator looks at the raw document, and must come to the same end.
#[test]
fn the_validator_notes_just_those_without_a_key() {
    let filter = |xpr: &str| json!({ "type": "filter", "xpr": xpr });
    let order = "$valueNamed('order') = $local('order')";
    let or_of = |count: usize| {
        let side = |n: usize| filter(&format!("$valueNamed('order') = $local('l{n}')"));
        json!({ "type": "or", "operands": (0..count).map(side).collect::<Vec<_>>() })
    };
    for (condition, keyed) in [
        (filter(order), true),
        (filter("$event.type = 'paid'"), false),
        (filter("$event.re in $local('asked')"), true),
        (filter(&format!("{order} or $event.type = 'all'")), false),
        (filter(&format!("$setLocal('x', 1) = 1 and {order}")), false),
        (filter("true"), false),
        (json!({ "type": "and", "operands": [filter(order), filter(order)] }), true),
        (json!({ "type": "and", "operands": [filter(order), filter("true")] }), false),
        (json!({ "type": "or", "operands": [filter(order), filter("true")] }), false),
        (or_of(64), true),
        (or_of(65), false),
    ] {
        let document = json!({ "name": "p", "reactions": [
            { "name": "start", "condition": filter("true") },
            { "name": "wait", "allowUnboundEvents": true, "condition": condition },
        ] });
        let model = serde_json::from_value(document.clone()).unwrap();
        let stored = StoredPattern::new(model);
        let pattern = Pattern::compile(&stored, &ExprLimits::default()).unwrap();
        assert_eq!(pattern.reactions[1].waits.is_keyed(), keyed, "{condition}");
        let report = thredlib::validate::validate(&document);
        let noted = report.notes().any(|note| note.code == "wait-without-key");
        assert_eq!(noted, !keyed, "{condition}: {report}");
    }
}
