//! The names that expressions use: variables, locals, publishes.

use std::collections::HashSet;

use super::{
    expressions::{Expressions, Place, Usage},
    finding::Findings,
    set::Surroundings,
    tree::{Node, Pattern},
    variables::{Variable, variables},
    words::{did_you_mean, nearest, quoted},
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
        let spot = usage.spot(variable.column);
        let misused = misplaced(usage.place, variable.name);
        for (code, message, help) in
            misused.into_iter().chain(unknown(variable, &publishes, &locals))
        {
            findings.warning(code, &usage.path, message, help).at(spot);
        }
    }
    local_inputs(pattern, &locals, findings);
}

/// Code, message and help.
type Complaint = (&'static str, String, String);

/// A name that nothing has.
fn unknown(variable: &Variable, publishes: &[&str], locals: &Locals) -> Option<Complaint> {
    match (variable.name, variable.argument) {
        ("isResponseFor", Some(name)) if !publishes.contains(&name) => {
            let all = || r#"name the publish with `"name": "…"`"#.to_owned();
            let help = did_you_mean(name, publishes.iter().copied(), all);
            Some(("unknown-publish", format!("no publish is called {}", quoted(name)), help))
        }
        ("local", Some(name)) => locals.missing(name),
        (name, _) if !HOST.contains(&name) && !BUILT_IN.contains(&name) => {
            let message = format!("nothing gives {} a value", quoted(&format!("${name}")));
            let help = match nearest(name, HOST.into_iter().chain(BUILT_IN)) {
                Some(near) => format!("did you mean `${near}`?"),
                None => "give it one in the expression, as `($x := 1; …)`".to_owned(),
            };
            Some(("unknown-variable", message, help))
        }
        _ => None,
    }
}

/// A name that means something in other places only.
fn misplaced(place: Place, name: &str) -> Option<Complaint> {
    let (code, message, help) = match (name, place) {
        ("outboundEvent", Place::EntryFilter | Place::Step) => (
            "outbound-event-outside-on-publish",
            "`$outboundEvent` has a value in `onPublish` only",
            "move this into the publish's `onPublish`, or use `$event`",
        ),
        ("setLocal", Place::EntryFilter) => (
            "set-local-in-entry-filter",
            "`$setLocal` has no effect while an event is tested for a start",
            "move it into the condition's `onTrue`",
        ),
        _ => return None,
    };
    Some((code, message.to_owned(), help.to_owned()))
}

fn local_inputs(pattern: &Pattern, locals: &Locals, findings: &mut Findings) {
    let mut takers: Vec<Node> = Vec::new();
    for (_, condition) in pattern.conditions() {
        takers.extend(condition.transition.iter().chain(&condition.spawn).cloned());
    }
    let expiries = pattern.reactions.iter().filter_map(|reaction| reaction.node.get("expiry"));
    takers.extend(expiries.filter_map(|expiry| expiry.get("transition")));
    for taker in takers.iter().filter(|taker| taker.text("input") == Some("local")) {
        let Some(name) = taker.text("localName").filter(|name| !name.is_empty()) else { continue };
        if let Some((code, message, help)) = locals.missing(name) {
            findings.warning(code, &taker.path.key("localName"), message, help);
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
    fn missing(&self, name: &str) -> Option<Complaint> {
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
        let message = format!("nothing in the pattern sets the local {}", quoted(name));
        Some(("unset-local", message, help))
    }
}
