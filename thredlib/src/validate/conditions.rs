//! Whether conditions and their directives make sense together.

use super::{
    finding::Findings,
    tree::{Condition, Node, Pattern},
};
use crate::ConditionType;

pub(super) fn check(pattern: &Pattern, findings: &mut Findings) {
    for (_, condition) in pattern.conditions() {
        operands(condition, findings);
        directives_below_and(condition, findings);
        consequents(condition, findings);
        inputs(condition, findings);
        transform(condition, findings);
        spawn_names(condition, findings);
    }
    for reaction in &pattern.reactions {
        if let Some(condition) = &reaction.condition {
            unpaired(condition, findings);
            size(condition, findings);
        }
        expiry(&reaction.node, findings);
    }
}

/// The engine numbers the parts of a condition with 16 bits.
fn size(condition: &Condition, findings: &mut Findings) {
    const MOST: usize = 65_534;
    if condition.size() > MOST {
        let message = format!("the condition has more than {MOST} parts");
        let help = "split the reaction into several";
        findings.error("condition-too-large", &condition.node.path, message, help);
    }
}

fn operands(condition: &Condition, findings: &mut Findings) {
    let Some(kind) = condition.kind else { return };
    let path = &condition.node.path;
    let (xpr, operands) = (condition.node.get("xpr"), condition.node.get("operands"));
    let has_operands = operands.as_ref().is_some_and(|list| list.items().next().is_some());
    if kind == ConditionType::Filter {
        if xpr.is_none() {
            let help = r#"add `"xpr": "…"`, or `"xpr": "true"` to match every event"#;
            findings.error("missing-xpr", path, "a filter needs an expression", help);
        }
        if let Some(operands) = operands.filter(|_| has_operands) {
            let help = "make the condition an `and` or an `or`, or remove the operands";
            findings.warning("unused-operands", &operands.path, "a filter has no operands", help);
        }
        return;
    }
    let word = if kind == ConditionType::And { "`and`" } else { "`or`" };
    // A list that is no list is reported as such already.
    if !has_operands && operands.is_none_or(|list| list.value.is_array()) {
        let message = format!("an {word} needs at least one operand");
        let help = "add conditions to `operands`, or make the condition a filter";
        findings.error("missing-operands", path, message, help);
    }
    if let Some(xpr) = xpr {
        let message = format!("the expression of an {word} is never evaluated");
        findings.warning("unused-xpr", &xpr.path, message, "move it into a filter operand");
    }
}

fn directives_below_and(condition: &Condition, findings: &mut Findings) {
    if !condition.below_and {
        return;
    }
    let Condition { transform, publish, transition, spawn, .. } = condition;
    let named = [
        ("transform", transform),
        ("publish", publish),
        ("transition", transition),
        ("spawn", spawn),
    ];
    for (name, directive) in named {
        let Some(directive) = directive else { continue };
        let message = format!("a `{name}` below an `and` never applies");
        let help = format!("move the `{name}` to the `and` itself");
        findings.warning("ignored-directive", &directive.path, message, help);
    }
}

fn consequents(condition: &Condition, findings: &mut Findings) {
    let on_publish = condition.publish.as_ref().and_then(|publish| publish.get("onPublish"));
    for consequent in condition.node.get("onTrue").into_iter().chain(on_publish) {
        let empty = consequent.get("xpr").is_none() && consequent.get("setLocal").is_none();
        if consequent.value.is_object() && empty {
            let message = "this does nothing: it has neither `xpr` nor `setLocal`";
            findings.warning("empty-consequent", &consequent.path, message, "add one or remove it");
        }
    }
}

fn inputs(condition: &Condition, findings: &mut Findings) {
    for taker in condition.transition.iter().chain(&condition.spawn) {
        local_input(taker, findings);
    }
}

fn local_input(taker: &Node, findings: &mut Findings) {
    let local = taker.text("input") == Some("local");
    match (local, taker.get("localName")) {
        (true, None) => {
            let message = "the input `local` needs the name of the local that holds the event";
            findings.error("missing-local-name", &taker.path, message, r#"add `"localName": "…"`"#);
        }
        (true, Some(name)) if name.value == "" => {
            let message = "the name of the local that holds the event is empty";
            findings.error("missing-local-name", &name.path, message, "name the local");
        }
        (false, Some(name)) if taker.value.is_object() => {
            let message = "`localName` has no effect without the input `local`";
            let help = r#"add `"input": "local"` or remove `localName`"#;
            findings.warning("unused-local-name", &name.path, message, help);
        }
        _ => {}
    }
}

fn transform(condition: &Condition, findings: &mut Findings) {
    let Some(transform) = condition.transform.as_ref().filter(|node| node.value.is_object()) else {
        return;
    };
    match (transform.get("eventDataTemplate"), transform.get("templateXpr")) {
        (None, None) => {
            let message = "a transform needs `eventDataTemplate` or `templateXpr`";
            let help = "add the outbound event's `data` as `eventDataTemplate`";
            findings.error("empty-transform", &transform.path, message, help);
        }
        (Some(_), Some(xpr)) => {
            let message = "a transform has `eventDataTemplate` or `templateXpr`, not both";
            findings.error("two-templates", &xpr.path, message, "remove one of the two");
        }
        _ => {}
    }
}

fn spawn_names(condition: &Condition, findings: &mut Findings) {
    let Some(names) = condition.spawn.as_ref().and_then(|spawn| spawn.get("names")) else {
        return;
    };
    let given = names.one_or_many();
    if given.is_empty() {
        let help = "name the patterns to start, or remove the spawn";
        findings.warning("empty-name", &names.path, "the spawn names no pattern", help);
    }
    for name in given.iter().filter(|name| name.value == "") {
        findings.warning("empty-name", &name.path, "the name of a pattern is empty", "remove it");
    }
}

fn expiry(reaction: &Node, findings: &mut Findings) {
    let Some(expiry) = reaction.get("expiry") else { return };
    if let Some(interval) = expiry.get("interval").filter(|node| node.value.as_u64() == Some(0)) {
        let message = "the reaction never expires: its interval is 0";
        let help = "give the milliseconds to wait, or remove the expiry";
        findings.warning("zero-expiry", &interval.path, message, help);
    }
    if let Some(transition) = expiry.get("transition") {
        local_input(&transition, findings);
    }
}

/// Warns of a transform that is never published and of a publish that never has an event to send.
fn unpaired(condition: &Condition, findings: &mut Findings) {
    let mut outcomes = Vec::new();
    collect(condition, Directives::default(), &mut outcomes);
    let mut told: Vec<&Node> = Vec::new();
    for outcome in &outcomes {
        let (lonely, paired, code, message, help) = match (outcome.transform, outcome.publish) {
            (Some(transform), None) => (
                transform,
                outcomes.iter().any(|o| same(o.transform, transform) && o.publish.is_some()),
                "transform-without-publish",
                "no message goes out: there is a transform but no publish",
                r#"add `"publish": { "to": … }`, or remove the transform"#,
            ),
            (None, Some(publish)) => (
                publish,
                outcomes.iter().any(|o| same(o.publish, publish) && o.transform.is_some()),
                "publish-without-transform",
                "no message goes out: there is a publish but no transform",
                r#"add `"transform": { "eventDataTemplate": … }`, or remove the publish"#,
            ),
            _ => continue,
        };
        // Below an `or` a shared directive may lack its partner under some operands on purpose.
        if !paired && !told.iter().any(|node| std::ptr::eq(*node, lonely)) {
            told.push(lonely);
            findings.warning(code, &lonely.path, message, help);
        }
    }
}

fn same(a: Option<&Node>, b: &Node) -> bool {
    a.is_some_and(|a| std::ptr::eq(a, b))
}

/// What follows when a condition matches in one of the ways it can.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Directives<'c, 'v> {
    pub(super) transform: Option<&'c Node<'v>>,
    pub(super) publish: Option<&'c Node<'v>>,
    pub(super) transition: Option<&'c Node<'v>>,
}

/// All ways in which a condition can match: an operand of an `or` overrides its directives.
pub(super) fn collect<'c, 'v>(
    condition: &'c Condition<'v>,
    outer: Directives<'c, 'v>,
    outcomes: &mut Vec<Directives<'c, 'v>>,
) {
    let own = Directives {
        transform: condition.transform.as_ref().or(outer.transform),
        publish: condition.publish.as_ref().or(outer.publish),
        transition: condition.transition.as_ref().or(outer.transition),
    };
    if condition.kind == Some(ConditionType::Or) {
        for operand in &condition.operands {
            collect(operand, own, outcomes);
        }
    } else {
        outcomes.push(own);
    }
}
