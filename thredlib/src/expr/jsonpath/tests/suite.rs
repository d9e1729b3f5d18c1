//! The compliance test suite of RFC 9535, from a checkout that `JSONPATH_SUITE` names.

use std::{fs, path::Path};

use serde_json::Value;

use super::super::{Node, Walk, parse};
use crate::{ExprLimits, expr::jsonpath::Jsonpath};

#[test]
fn the_suite_of_the_rfc_passes() {
    let Some(root) = std::env::var_os("JSONPATH_SUITE") else {
        eprintln!("JSONPATH_SUITE is not set: the suite of RFC 9535 was not run");
        return;
    };
    let path = Path::new(&root).join("cts.json");
    let suite: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let cases = suite["tests"].as_array().unwrap();
    let failed: Vec<String> = cases.iter().filter_map(|case| check(case).err()).collect();
    for failure in &failed {
        eprintln!("{failure}");
    }
    eprintln!("{} of {} cases pass", cases.len() - failed.len(), cases.len());
    assert!(!cases.is_empty() && failed.is_empty(), "{} cases fail", failed.len());
}

fn check(case: &Value) -> Result<(), String> {
    let selector = case["selector"].as_str().unwrap();
    let outcome = select(selector, &case["document"]);
    if case["invalid_selector"] == true {
        return match outcome {
            Err(_) => Ok(()),
            Ok(found) => Err(format!("{selector} gives {found}, and is invalid")),
        };
    }
    let found = outcome.map_err(|error| format!("{selector}: {error}"))?;
    let one = case.get("result");
    let any = case.get("results").and_then(Value::as_array);
    if one.into_iter().chain(any.into_iter().flatten()).any(|expected| *expected == found) {
        Ok(())
    } else {
        Err(format!("{selector} gives {found}"))
    }
}

/// The nodes that a query selects of a document that is the root.
fn select(source: &str, document: &Value) -> Result<Value, String> {
    let query = parse::parse(source).map_err(|error| error.to_string())?;
    let limits = ExprLimits::default();
    let expression = Jsonpath { source: source.into(), query, limits };
    let root = Node::from(document);
    let mut walk = Walk::new(root, &limits);
    let value = expression.value(&mut walk, root).map_err(str::to_owned)?;
    Ok(match value {
        Some(Value::Array(nodes)) if !expression.query.is_singular() => Value::Array(nodes),
        other => other.into_iter().collect(),
    })
}
