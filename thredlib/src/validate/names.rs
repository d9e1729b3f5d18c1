//! The names that expressions use: variables, locals, publishes.

use std::collections::HashSet;

use super::{
    JsonPath,
    expressions::{Expressions, Place, Usage},
    finding::Findings,
    set::Surroundings,
    tree::{Node, Pattern},
    variables::{Variable, variables},
    words::{did_you_mean, quoted},
};
use crate::ExpressionLanguage;

/// What the engine binds.
const HOST: [&str; 12] = [
    "event",
    "data",
    "content",
    "values",
    "advice",
    "thredId",
    "outboundEvent",
    "valueNamed",
    "local",
    "setLocal",
    "isResponseFor",
    "log",
];

/// The functions of JSONata 2.
#[rustfmt::skip]
const BUILT_IN: [&str; 65] = [
    "abs", "append", "assert", "average", "base64decode", "base64encode", "boolean", "ceil",
    "clone", "contains", "count", "decodeUrl", "decodeUrlComponent", "distinct", "each",
    "encodeUrl", "encodeUrlComponent", "error", "eval", "exists", "filter", "floor", "formatBase",
    "formatInteger", "formatNumber", "fromMillis", "join", "keys", "length", "lookup",
    "lowercase", "map", "match", "max", "merge", "millis", "min", "not", "now", "number", "pad",
    "parseInteger", "power", "random", "reduce", "replace", "reverse", "round", "shuffle", "sift",
    "single", "sort", "split", "spread", "sqrt", "string", "substring", "substringAfter",
    "substringBefore", "sum", "toMillis", "trim", "type", "uppercase", "zip",
];

pub(super) fn check(
    pattern: &Pattern,
    expressions: &Expressions,
    surroundings: Surroundings,
    findings: &mut Findings,
) {
    let used: Vec<(&Usage, Variable)> = expressions
        .usages
        .iter()
        .filter(|usage| usage.language == ExpressionLanguage::Jsonata)
        .flat_map(|usage| variables(usage.text).into_iter().map(move |found| (usage, found)))
        .filter(|(_, variable)| !variable.bound)
        .collect();
    let publishes: Vec<&str> = publish_names(pattern);
    let locals = Locals::of(pattern, &publishes, &used, surroundings);
    for (usage, variable) in &used {
        placed(usage, variable, findings);
        match (variable.name, variable.argument) {
            ("isResponseFor", Some(name)) if !publishes.contains(&name) => {
                let all = || r#"name the publish with `"name": "…"`"#.to_owned();
                let help = did_you_mean(name, publishes.iter().copied(), all);
                let message = format!("no publish is called {}", quoted(name));
                findings
                    .warning("unknown-publish", &usage.path, message, help)
                    .at(usage.spot(variable.column));
            }
            ("local", Some(name)) => {
                if let Some((message, help)) = locals.missing(name) {
                    findings
                        .warning("unset-local", &usage.path, message, help)
                        .at(usage.spot(variable.column));
                }
            }
            (name, _) if !HOST.contains(&name) && !BUILT_IN.contains(&name) => {
                let message = format!("nothing gives {} a value", quoted(&format!("${name}")));
                let help = did_you_mean_variable(name);
                findings
                    .warning("unknown-variable", &usage.path, message, help)
                    .at(usage.spot(variable.column));
            }
            _ => {}
        }
    }
    local_inputs(pattern, &locals, findings);
}

fn did_you_mean_variable(name: &str) -> String {
    let known = HOST.into_iter().chain(BUILT_IN);
    match super::words::nearest(name, known) {
        Some(near) => format!("did you mean `${near}`?"),
        None => format!("give it one in the expression, as `(${name} := 1; …)`"),
    }
}

/// Names that mean something in some places only.
fn placed(usage: &Usage, variable: &Variable, findings: &mut Findings) {
    let spot = usage.spot(variable.column);
    match (variable.name, usage.place) {
        ("outboundEvent", Place::EntryFilter | Place::Step) => {
            let message = "`$outboundEvent` has a value in `onPublish` only";
            let help = "move this into the publish's `onPublish`, or use `$event`";
            findings
                .warning("outbound-event-outside-on-publish", &usage.path, message, help)
                .at(spot);
        }
        ("setLocal", Place::EntryFilter) => {
            let message = "`$setLocal` has no effect while an event is tested for a start";
            let help = "move it into the condition's `onTrue`";
            findings.warning("set-local-in-entry-filter", &usage.path, message, help).at(spot);
        }
        _ => {}
    }
}

fn local_inputs(pattern: &Pattern, locals: &Locals, findings: &mut Findings) {
    let mut takers: Vec<Node> = Vec::new();
    for (_, condition) in pattern.conditions() {
        takers.extend(condition.transition.iter().chain(&condition.spawn).cloned());
    }
    for taker in takers.iter().filter(|taker| taker.text("input") == Some("local")) {
        let Some(name) = taker.text("localName").filter(|name| !name.is_empty()) else { continue };
        if let Some((message, help)) = locals.missing(name) {
            findings.warning("unset-local", &taker.path.key("localName"), message, help);
        }
    }
}

fn publish_names<'v>(pattern: &Pattern<'v>) -> Vec<&'v str> {
    let conditions = pattern.conditions();
    let publishes = conditions.iter().filter_map(|(_, condition)| condition.publish.as_ref());
    publishes.filter_map(|publish| publish.text("name")).filter(|name| !name.is_empty()).collect()
}

/// The locals that a thred of the pattern can have.
enum Locals<'v> {
    /// Any: some name is computed, or the thred starts with another one's locals.
    Any,
    Known {
        set: HashSet<&'v str>,
        publishes: HashSet<String>,
    },
}

impl<'v> Locals<'v> {
    fn of(
        pattern: &Pattern<'v>,
        publishes: &[&str],
        used: &[(&Usage<'v>, Variable<'v>)],
        surroundings: Surroundings,
    ) -> Self {
        if surroundings.gives_locals(pattern.node.value) {
            return Self::Any;
        }
        let mut set = HashSet::new();
        for (_, variable) in used.iter().filter(|(_, variable)| variable.name == "setLocal") {
            match variable.argument {
                Some(name) => _ = set.insert(name),
                None => return Self::Any,
            }
        }
        for (_, condition) in pattern.conditions() {
            let on_publish = condition.publish.as_ref().and_then(|node| node.get("onPublish"));
            for consequent in condition.node.get("onTrue").iter().chain(&on_publish) {
                let fields = consequent.get("setLocal");
                set.extend(fields.iter().flat_map(Node::fields).map(|(name, _)| name));
            }
        }
        Self::Known { set, publishes: publishes.iter().map(|n| format!("out_id_{n}")).collect() }
    }

    /// What to say when nothing sets the local.
    fn missing(&self, name: &str) -> Option<(String, String)> {
        let Self::Known { set, publishes } = self else { return None };
        if set.contains(name) || publishes.contains(name) {
            return None;
        }
        let mut known: Vec<&str> = set.iter().copied().collect();
        known.sort_unstable();
        let help = did_you_mean(name, known, || {
            "set it in an `onTrue`; only a thred spawned with `context: true` may get it from its \
             parent"
                .to_owned()
        });
        Some((format!("nothing in the pattern sets the local {}", quoted(name)), help))
    }
}

/// Where to point for a pattern as a whole.
pub(super) fn own_name(pattern: &Pattern) -> JsonPath {
    let named = ["id", "name"].into_iter().find_map(|key| pattern.node.get(key));
    named.map_or_else(JsonPath::root, |node| node.path)
}
