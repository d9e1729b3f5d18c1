//! Whether the threds that wait for unbound events are found by a key.

use super::{
    finding::Findings,
    tree::{Condition, Node, Pattern, Reaction},
};
use crate::{
    ConditionType, ExprLimits, ExpressionLanguage,
    expr::{self, Expression},
};

/// The engine tells no more alternatives of a reaction apart.
const MOST: usize = 64;

/// Notes reactions whose waiting threds are all tried on each event. Nothing is wrong with that.
pub(super) fn check(pattern: &Pattern, findings: &mut Findings) {
    for reaction in &pattern.reactions {
        let Some(flag) = waits_for_unbound(reaction) else { continue };
        let Some(condition) = &reaction.condition else { continue };
        let mut alternatives = 0;
        if is_keyed(condition, pattern.language, &mut alternatives) && alternatives <= MOST {
            continue;
        }
        let message = "each event of its type is tried against every thred that waits here: the \
                       filter does not compare the event with a local";
        let help = "fine if few threds wait at a time; otherwise add a comparison, as in \
                    `$event.type = 'paid' and $valueNamed('order') = $local('order')`";
        findings.note("wait-without-key", &flag.path, message, help);
    }
}

/// The flag of a reaction that threds wait in for unbound events. The first one starts threds.
fn waits_for_unbound<'v>(reaction: &Reaction<'v>) -> Option<Node<'v>> {
    let flag = reaction.node.get("allowUnboundEvents")?;
    (reaction.index > 0 && flag.value == true).then_some(flag)
}

/// As the engine derives keys: each filter has one, and none sets a local.
fn is_keyed(condition: &Condition, language: ExpressionLanguage, alternatives: &mut usize) -> bool {
    if condition.kind != Some(ConditionType::Filter) {
        return condition.operands.iter().all(|it| is_keyed(it, language, alternatives));
    }
    let Some(xpr) = filter(condition, language) else { return false };
    let known = xpr.correlations();
    *alternatives += known.alternatives().len();
    !known.is_none() && !xpr.may_set_locals()
}

fn filter(
    condition: &Condition,
    language: ExpressionLanguage,
) -> Option<std::sync::Arc<dyn Expression>> {
    let (_, language, text) = condition.node.get("xpr")?.expression(language)?;
    // What does not compile is an error of its own.
    expr::compile(language, text, &ExprLimits::default()).ok()
}
