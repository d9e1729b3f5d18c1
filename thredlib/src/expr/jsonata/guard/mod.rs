//! Limits inside of built-in functions and operators.
//!
//! jsonata-core looks at its limits between the nodes of the tree, so one node may still take all
//! memory: `$pad('x', 1e9)`, `$a & $a` again and again, `[$a, $a]` that shares its parts until a
//! walk over it never ends. Therefore each evaluation has a *budget* in bytes, and the tree is
//! rewritten so that whatever copies, multiplies or keeps a value pays for it first:
//!
//! - what goes into an array, an object, a variable or a collected result pays its full size, shared
//!   parts counted each time, so the sum of all values kept is within the budget;
//! - operators and functions whose result may be larger than their arguments have those checked.
//!
//! - a function of the expression, and what is done for each item of a list and loops itself, counts
//!   a step each time, so that an evaluation ends at the same place on every machine.
//!
//! The checks are functions that return their argument. Their names hold a space, which no
//! expression can write.

mod budget;
mod calls;
mod inspect;
mod rewrite;
#[cfg(test)]
mod tests;
mod tree;

pub(super) use budget::{Budget, CHECKS, check_date};
pub(super) use inspect::{binds_items, bound_names, children, inspect};
pub(super) use rewrite::rewrite;
pub(super) use tree::{map_children, map_filters};

/// Functions that the rewritten tree calls.
pub(super) mod name {
    /// Pays for the argument.
    pub(super) const KEEP: &str = "guard keep";
    /// Pays for the argument and the object that it becomes the first value of.
    pub(super) const FIRST: &str = "guard first";
    /// Pays for the argument, which becomes text; it may not be longer than a result.
    pub(super) const TEXT: &str = "guard text";
    /// Pays for the argument and notes its length for the next `BY`.
    pub(super) const TIMES: &str = "guard times";
    /// Pays for the argument as many times as was noted.
    pub(super) const BY: &str = "guard by";
    /// Must be a text or a function, as what replaces a match.
    pub(in super::super) const REPLACEMENT: &str = "guard replacement";
    /// A number may not be larger than a result is long.
    pub(super) const WIDTH: &str = "guard width";
    /// Texts must be short; for pictures of numbers, and what is read by one.
    pub(super) const PICTURE: &str = "guard picture";
    /// As `PICTURE`; numbers must be small too.
    pub(super) const NUMERAL: &str = "guard numeral";
    /// As `PICTURE`; no field may be wide. For pictures of dates.
    pub(super) const DATE: &str = "guard date";
    /// Counts what it takes to compile a regular expression.
    pub(super) const REGEX: &str = "guard regex";
    /// Counts a step.
    pub(super) const STEP: &str = "guard step";
    /// What is no number is false.
    pub(super) const TRUTH: &str = "guard truth";
    /// A number may not be larger than integers are exact.
    pub(super) const BOUND: &str = "guard bound";
    /// A list may not be longer than a sequence.
    pub(super) const LIST: &str = "guard list";
    /// As `LIST`; pays for comparing each item with each other.
    pub(super) const PAIRS: &str = "guard pairs";
    /// Pays for a text of which each character may become an item.
    pub(super) const CHARS: &str = "guard chars";
    /// Pays for a text of which each character may become a match.
    pub(super) const MATCHES: &str = "guard matches";
    /// The number, or one more than a sequence may have items when that is less.
    pub(super) const AT_MOST: &str = "guard at most";
}
