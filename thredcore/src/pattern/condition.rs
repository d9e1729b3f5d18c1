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

impl Condition {
    /// Offers an event (the scope's) to the condition. `memory` holds the operands that have
    /// matched so far, sorted; `ran` collects what is to run, innermost first.
    ///
    /// # Errors
    /// When an expression fails; memory and `ran` are then of no use.
    pub fn offer<'p>(
        &'p self,
        scope: &mut Scope,
        memory: &mut ThinVec<u16>,
        ran: &mut Vec<&'p Consequent>,
    ) -> Result<Verdict<'p>, ExprError> {
        let verdict = match &self.kind {
            Kind::Filter(xpr) => match xpr.test(scope)? {
                true => Verdict::Match(&self.directives),
                false => Verdict::No,
            },
            Kind::And(operands) => self.offer_all(operands, scope, memory, ran)?,
            Kind::Or(operands) => Self::offer_any(operands, scope, memory, ran)?,
        };
        if let (Verdict::Match(_), Some(on_true)) = (&verdict, &self.on_true) {
            ran.push(on_true);
        }
        Ok(verdict)
    }

    fn offer_all<'p>(
        &'p self,
        operands: &'p [Condition],
        scope: &mut Scope,
        memory: &mut ThinVec<u16>,
        ran: &mut Vec<&'p Consequent>,
    ) -> Result<Verdict<'p>, ExprError> {
        let mut progress = false;
        let mut complete = true;
        for operand in operands {
            if memory.binary_search(&operand.node).is_ok() {
                continue;
            }
            match operand.offer(scope, memory, ran)? {
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
        ran: &mut Vec<&'p Consequent>,
    ) -> Result<Verdict<'p>, ExprError> {
        let mut progress = false;
        for operand in operands {
            match operand.offer(scope, memory, ran)? {
                matched @ Verdict::Match(_) => return Ok(matched),
                Verdict::Partial => progress = true,
                Verdict::No => {}
            }
        }
        Ok(if progress { Verdict::Partial } else { Verdict::No })
    }
}
