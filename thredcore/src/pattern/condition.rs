//! Conditions: whether an event matches, and what follows.

use std::sync::Arc;

use thin_vec::ThinVec;
use thredlib::{
    ExprError,
    expr::{Expression, Scope},
};

use super::directive::{Consequent, Directives};

/// A node of a condition tree.
#[derive(Debug)]
pub struct Condition {
    /// Its number in preorder; names the node in a thred's memory.
    pub node: u16,
    /// The number of the last node below it.
    pub last: u16,
    /// What it asks for.
    pub kind: Kind,
    /// What runs on a match.
    pub on_true: Option<Consequent>,
    /// What follows from a match; what an operand of an `or` leaves out is filled in from the `or`.
    pub directives: Directives,
}

/// What a condition asks for.
#[derive(Debug)]
pub enum Kind {
    /// A true expression.
    Filter(Arc<dyn Expression>),
    /// All operands, over one or more events.
    And(Vec<Condition>),
    /// The first operand that matches.
    Or(Vec<Condition>),
}

/// How an event meets a condition.
#[derive(Debug)]
pub enum Verdict<'p> {
    /// It does not match.
    No,
    /// An operand matched that had not before; the rest is still waited for.
    Partial,
    /// It matches; these are the directives in force.
    Match(&'p Directives),
}

/// What comes of offering an event to a condition, beside the verdict.
#[derive(Debug, Default)]
pub struct Offer<'p> {
    /// What is to run, innermost first.
    pub ran: Vec<&'p Consequent>,
    /// Why operands of an `or` failed that another one has made up for.
    pub failures: Vec<ExprError>,
}

impl Condition {
    /// Offers an event (the scope's) to the condition. `memory` holds the operands that have
    /// matched so far, sorted.
    ///
    /// # Errors
    /// When an expression fails, and in an `or` no other operand matches; memory and the offer are
    /// then of no use.
    pub fn offer<'p>(
        &'p self,
        scope: &mut Scope,
        memory: &mut ThinVec<u16>,
        offer: &mut Offer<'p>,
    ) -> Result<Verdict<'p>, ExprError> {
        let verdict = match &self.kind {
            Kind::Filter(xpr) => {
                if xpr.test(scope)? {
                    Verdict::Match(&self.directives)
                } else {
                    Verdict::No
                }
            }
            Kind::And(operands) => self.offer_all(operands, scope, memory, offer)?,
            Kind::Or(operands) => Self::offer_any(operands, scope, memory, offer)?,
        };
        if let (Verdict::Match(_), Some(on_true)) = (&verdict, &self.on_true) {
            offer.ran.push(on_true);
        }
        Ok(verdict)
    }

    fn offer_all<'p>(
        &'p self,
        operands: &'p [Condition],
        scope: &mut Scope,
        memory: &mut ThinVec<u16>,
        offer: &mut Offer<'p>,
    ) -> Result<Verdict<'p>, ExprError> {
        let mut progress = false;
        let mut complete = true;
        for operand in operands {
            if memory.binary_search(&operand.node).is_ok() {
                continue;
            }
            match operand.offer(scope, memory, offer)? {
                Verdict::Match(_) => {
                    progress = true;
                    if let Err(place) = memory.binary_search(&operand.node) {
                        memory.insert(place, operand.node);
                    }
                }
                Verdict::Partial => (progress, complete) = (true, false),
                Verdict::No => complete = false,
            }
        }
        if complete && progress {
            memory.retain(|node| !(self.node < *node && *node <= self.last));
            return Ok(Verdict::Match(&self.directives));
        }
        Ok(if progress { Verdict::Partial } else { Verdict::No })
    }

    fn offer_any<'p>(
        operands: &'p [Condition],
        scope: &mut Scope,
        memory: &mut ThinVec<u16>,
        offer: &mut Offer<'p>,
    ) -> Result<Verdict<'p>, ExprError> {
        let mut progress = false;
        let mut first_failure = None;
        for operand in operands {
            let before = (scope.locals().clone(), memory.clone(), offer.ran.len());
            match operand.offer(scope, memory, offer) {
                Ok(matched @ Verdict::Match(_)) => return Ok(matched),
                Ok(Verdict::Partial) => progress = true,
                Ok(Verdict::No) => {}
                Err(failure) => {
                    let (locals, remembered, ran) = before;
                    scope.restore_locals(locals);
                    *memory = remembered;
                    offer.ran.truncate(ran);
                    offer.failures.push(failure.clone());
                    first_failure.get_or_insert(failure);
                }
            }
        }
        if let Some(failure) = first_failure {
            return Err(failure);
        }
        Ok(if progress { Verdict::Partial } else { Verdict::No })
    }
}
