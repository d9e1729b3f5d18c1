//! The suite of jsonata-js, from a checkout that `JSONATA_SUITE` names.

use std::{collections::BTreeMap, fs, path::Path, rc::Rc};

use jsonata_core::{
    evaluator::{Context, Evaluator, EvaluatorOptions},
    value::JValue,
};
use serde_json::Value;

use super::{Jsonata, convert, host, host::Host};
use crate::{Event, ExprLimits, expr::Scope};

/// Cases that may fail: what the reference lists as differences.
const KNOWN: usize = 18;

#[test]
fn the_suite_of_jsonata_js_passes_but_for_known_differences() {
    let Some(root) = std::env::var_os("JSONATA_SUITE") else {
        eprintln!("JSONATA_SUITE is not set: the suite of jsonata-js was not run");
        return;
    };
    let root = Path::new(&root).join("test/test-suite");
    let datasets = root.join("datasets");
    let mut passed = 0;
    let mut failed = BTreeMap::new();
    for (name, case) in cases(&root.join("groups")) {
        match check(&case, &datasets) {
            Ok(()) => passed += 1,
            Err(reason) => _ = failed.insert(name, reason),
        }
    }
    for (name, reason) in &failed {
        eprintln!("{name}: {reason}");
    }
    eprintln!("{passed} of {} cases pass", passed + failed.len());
    assert!(passed > 0, "there are no cases in {}", root.display());
    assert!(failed.len() <= KNOWN, "{} cases fail", failed.len());
}

fn cases(groups: &Path) -> Vec<(String, Value)> {
    let read = |path: &Path| {
        let mut entries: Vec<_> = fs::read_dir(path)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
            .map(|entry| entry.unwrap().path())
            .collect();
        entries.sort();
        entries
    };
    let mut cases = Vec::new();
    for file in read(groups).iter().flat_map(|group| read(group)) {
        if file.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let name = file.strip_prefix(groups).unwrap().display().to_string();
        let content: Value = match serde_json::from_slice(&fs::read(&file).unwrap()) {
            Ok(content) => content,
            Err(error) => {
                eprintln!("{name} is left out: {error}");
                continue;
            }
        };
        let list = match content {
            Value::Array(list) => list,
            one => vec![one],
        };
        for (index, mut case) in list.into_iter().enumerate() {
            if let Some(source) = case.get("expr-file").and_then(Value::as_str) {
                let path = file.with_file_name(source);
                case["expr"] = fs::read_to_string(path).unwrap().into();
            }
            cases.push((format!("{name}[{index}]"), case));
        }
    }
    cases
}

fn check(case: &Value, datasets: &Path) -> Result<(), String> {
    let source = case["expr"].as_str().unwrap();
    let code = case.get("code").or_else(|| case["error"].get("code")).and_then(Value::as_str);
    let data = match (case.get("data"), case.get("dataset").and_then(Value::as_str)) {
        (Some(data), _) => Some(data.clone()),
        (None, Some(name)) => {
            let text = fs::read(datasets.join(format!("{name}.json"))).unwrap();
            Some(serde_json::from_slice(&text).unwrap())
        }
        _ => None,
    };
    let outcome = evaluate(source, data.as_ref(), &case["bindings"]);
    match (code, outcome) {
        (Some(_), Err(_)) => Ok(()),
        (Some(code), Ok(value)) => Err(format!("{source} gives {value:?}, not {code}")),
        (None, Err(error)) => Err(format!("{source} fails: {error}")),
        (None, Ok(value)) => {
            let expected = case.get("result").filter(|_| case.get("undefinedResult").is_none());
            match (&value, expected) {
                (None, None) => Ok(()),
                (Some(value), Some(expected)) if is_same(value, expected) => Ok(()),
                _ => Err(format!("{source} gives {value:?}, not {expected:?}")),
            }
        }
    }
}

/// Equal, numbers by value.
fn is_same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_same(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| is_same(a, b)))
        }
        (a, b) => a == b,
    }
}

fn evaluate(source: &str, data: Option<&Value>, bindings: &Value) -> Result<Option<Value>, String> {
    let limits = ExprLimits { sequence: 10_000_000, ..ExprLimits::default() };
    let expression = Jsonata::compile(source, &limits).map_err(|error| error.to_string())?;
    let input = data.map_or(JValue::Undefined, convert::to_interpreter);
    let mut context = Context::new();
    for (name, value) in bindings.as_object().into_iter().flatten() {
        context.bind(name.clone(), convert::to_interpreter(value));
    }
    let options = EvaluatorOptions { timeout_ms: Some(5_000), ..EvaluatorOptions::default() };
    let mut evaluator = Evaluator::with_options(context, options);
    let host = Rc::new(Host::new(JValue::Undefined, limits));
    host::register(&mut evaluator, &host);
    let now = 1_700_000_000_000;
    let mut scope = Scope::new(std::sync::Arc::new(Event::builder("a", "b").build()), now, 1);
    host.enter(&mut scope);
    let has_large = data.is_some_and(|data| crate::json::View::from(data).has_beyond_double());
    let exact = expression.has_large || has_large;
    let ast = if exact { expression.exact() } else { &expression.ast };
    let outcome = evaluator.evaluate(ast, &input);
    let (_, breach) = host.leave(&mut scope);
    match (breach, outcome) {
        (Some(limit), _) => Err(format!("over the {limit} limit")),
        (None, Err(error)) => Err(error.message().to_owned()),
        (None, Ok(value)) => convert::from_interpreter(&value, &limits)
            .map_err(|refused| format!("no data: {refused:?}")),
    }
}
