//! The budget of an evaluation and the checks that are paid from it.

use std::cell::{Cell, RefCell};

use jsonata_core::value::JValue;

use super::name;
use crate::ExprLimits;

/// The budget, in results of the largest size.
const RESULTS: usize = 128;

/// What a value costs beside its text.
const NODE: usize = 16;

/// And an object beside its entries.
const OBJECT: usize = 192;

/// How much deeper than a result a value on its way may nest.
const DEPTH_FACTOR: usize = 8;

/// Items made of one character each take about this much.
const PER_CHARACTER: usize = 96;

/// And matches about this much.
const PER_MATCH: usize = 512;

/// How many steps it takes to compile a regular expression, which the interpreter does each time.
const REGEX_STEPS: usize = 20;

/// How many checks cost as much as one step.
const CHECKS_PER_STEP: usize = 10;

const MAX_PICTURE: usize = 256;
const MAX_WIDTH_DIGITS: usize = 4;
const MAX_BOUND: f64 = 9_007_199_254_740_992.0;
const MAX_NUMERAL: f64 = 100_000.0;

/// The name of a limit that was gone over.
type Breach = &'static str;

type Check = fn(&Budget, &JValue) -> Result<Option<JValue>, Breach>;

/// The checks by name. Each gives another value in place of its argument, or `None` to let it be.
pub(in super::super) const CHECKS: &[(&str, Check)] = &[
    (name::KEEP, |budget, value| budget.pay_for(value, usize::MAX)),
    (name::FIRST, |budget, value| {
        budget.pay(2 * OBJECT)?;
        budget.pay_for(value, usize::MAX)
    }),
    (name::TEXT, |budget, value| budget.pay_for(value, budget.limits.result_bytes)),
    (name::TIMES, Budget::times),
    (name::BY, Budget::by),
    (name::WIDTH, Budget::width),
    (name::PICTURE, |_, value| check_picture(value)),
    (name::NUMERAL, |_, value| match value {
        JValue::Number(n) if n.abs() > MAX_NUMERAL => Err("size"),
        value => check_picture(value),
    }),
    (name::DATE, |_, value| check_date(value)),
    (name::STEP, |budget, _| budget.spend(CHECKS_PER_STEP).map(|()| None)),
    (name::REGEX, |budget, _| budget.spend(REGEX_STEPS * CHECKS_PER_STEP).map(|()| None)),
    (name::TRUTH, |_, value| match value {
        JValue::Number(n) if n.is_nan() => Ok(Some(JValue::Bool(false))),
        _ => Ok(None),
    }),
    (name::BOUND, |_, value| match value {
        JValue::Number(n) if n.abs() > MAX_BOUND => Err("sequence"),
        _ => Ok(None),
    }),
    (name::LIST, |budget, value| budget.list(value).map(|_| None)),
    (name::PAIRS, |budget, value| {
        let items = budget.list(value)?;
        budget.pay(items.saturating_mul(items).saturating_mul(2))
    }),
    (name::CHARS, |budget, value| match value {
        JValue::String(s) => budget.pay(s.len().saturating_mul(PER_CHARACTER)),
        _ => Ok(None),
    }),
    (name::MATCHES, |budget, value| match value {
        JValue::String(s) => budget.pay(s.len().min(budget.limits.sequence) * PER_MATCH),
        _ => Ok(None),
    }),
    (name::AT_MOST, |budget, value| {
        let most = (budget.limits.sequence + 1) as f64;
        Ok(match value {
            JValue::Number(n) if *n <= most => None,
            JValue::Number(_) | JValue::Undefined => Some(JValue::Number(most)),
            _ => None,
        })
    }),
];

/// What an evaluation may still spend.
#[derive(Debug)]
pub(in super::super) struct Budget {
    limits: ExprLimits,
    left: Cell<usize>,
    checks: Cell<usize>,
    /// Lengths noted by `TIMES`, for calls within calls.
    noted: RefCell<Vec<usize>>,
}

impl Budget {
    pub(in super::super) fn new(limits: ExprLimits) -> Self {
        Self { limits, left: Cell::default(), checks: Cell::default(), noted: RefCell::default() }
    }

    /// Fills it for the next evaluation.
    pub(in super::super) fn refill(&self) {
        self.left.set(self.limits.result_bytes.saturating_mul(RESULTS));
        self.checks.set(0);
        self.noted.borrow_mut().clear();
    }

    /// The steps since then.
    pub(in super::super) fn steps(&self) -> usize {
        self.checks.get() / CHECKS_PER_STEP
    }

    /// Counts a check.
    pub(in super::super) fn count(&self) -> Result<(), Breach> {
        self.spend(1)
    }

    fn spend(&self, checks: usize) -> Result<(), Breach> {
        self.checks.set(self.checks.get().saturating_add(checks));
        if self.steps() <= self.limits.steps { Ok(()) } else { Err("steps") }
    }

    /// Pays for a copy of a value, shared parts counted each time they occur.
    pub(in super::super) fn keep(&self, value: &JValue) -> Result<(), Breach> {
        self.pay_for(value, usize::MAX).map(|_| ())
    }

    fn pay(&self, bytes: usize) -> Result<Option<JValue>, Breach> {
        self.left.set(self.left.get().checked_sub(bytes).ok_or("size")?);
        Ok(None)
    }

    /// The walk ends as soon as the money does.
    fn pay_for(&self, value: &JValue, at_most: usize) -> Result<Option<JValue>, Breach> {
        let left = self.left.get();
        let purse = left.min(at_most.saturating_mul(2));
        let rest = match value {
            JValue::String(s) if s.len() > at_most => return Err("size"),
            JValue::String(s) => purse.checked_sub(NODE + s.len()).ok_or("size")?,
            JValue::Array(_) | JValue::Object(_) => self.walk(value, purse)?,
            _ => purse.checked_sub(NODE).ok_or("size")?,
        };
        self.left.set(left - (purse - rest));
        Ok(None)
    }

    fn walk(&self, value: &JValue, mut left: usize) -> Result<usize, Breach> {
        let deepest = self.limits.depth.saturating_mul(DEPTH_FACTOR);
        let mut open = vec![(value, 0_usize)];
        while let Some((value, depth)) = open.pop() {
            if depth > deepest {
                return Err("depth");
            }
            let own = match value {
                JValue::String(s) => s.len(),
                JValue::Array(items) => {
                    // Paid before they are noted down, so that the list of open ones stays short.
                    let room = items.len().saturating_mul(NODE);
                    open.extend(items.iter().map(|item| (item, depth + 1)));
                    room
                }
                JValue::Object(map) => {
                    open.extend(map.values().map(|item| (item, depth + 1)));
                    map.keys().fold(OBJECT, |sum: usize, key| sum.saturating_add(key.len() + NODE))
                }
                _ => 0,
            };
            left = left.checked_sub(own.saturating_add(NODE)).ok_or("size")?;
        }
        Ok(left)
    }

    fn times(&self, value: &JValue) -> Result<Option<JValue>, Breach> {
        let length = match value {
            JValue::String(s) => s.len() + 1,
            JValue::Array(items) => items.len(),
            _ => 1,
        };
        self.noted.borrow_mut().push(length);
        self.pay_for(value, usize::MAX)
    }

    fn by(&self, value: &JValue) -> Result<Option<JValue>, Breach> {
        let times = self.noted.borrow_mut().pop().unwrap_or(1);
        match value {
            JValue::String(s) => self.pay(s.len().saturating_mul(times)),
            _ => Ok(None),
        }
    }

    fn width(&self, value: &JValue) -> Result<Option<JValue>, Breach> {
        match value {
            JValue::Number(n) if n.abs() > self.limits.result_bytes as f64 => Err("size"),
            _ => Ok(None),
        }
    }

    fn list(&self, value: &JValue) -> Result<usize, Breach> {
        match value {
            JValue::Array(items) if items.len() > self.limits.sequence => Err("sequence"),
            JValue::Array(items) => Ok(items.len()),
            _ => Ok(1),
        }
    }
}

/// Refuses long pictures.
fn check_picture(value: &JValue) -> Result<Option<JValue>, Breach> {
    match value {
        JValue::String(s) if s.len() > MAX_PICTURE => Err("size"),
        _ => Ok(None),
    }
}

/// Refuses pictures of dates that are long or ask for wide fields, as `[Y,*-99999]` does.
pub(in super::super) fn check_date(value: &JValue) -> Result<Option<JValue>, Breach> {
    check_picture(value)?;
    match value {
        JValue::String(s) if s.split(',').skip(1).any(is_wide) => Err("size"),
        _ => Ok(None),
    }
}

/// Whether what follows the comma of a field has a long number.
fn is_wide(rest: &str) -> bool {
    let width = rest.split(']').next().unwrap_or_default();
    width.split(|c: char| !c.is_ascii_digit()).any(|number| number.len() > MAX_WIDTH_DIGITS)
}
