//! The functions that the engine adds to JSONata, and those that it replaces.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

use jsonata_core::{
    ast::AstNode,
    evaluator::{Context, Evaluator, EvaluatorError, HostFnResult},
    value::JValue,
};

use super::{
    super::{
        Locals, Scope,
        published::Published,
        scope::{Origin, put},
    },
    convert::{self, Refused},
    exact,
    guard::{self, Budget, CHECKS, check_date},
};
use crate::{EventId, ExprLimits};

const MAX_LOGS: usize = 100;
const MAX_LOG_CHARS: usize = 1_000;

/// What the host functions see and change while an expression runs.
pub(super) struct Host {
    pub(super) limits: ExprLimits,
    values: JValue,
    now: Cell<i64>,
    random: Cell<Option<u64>>,
    origin: RefCell<Option<Origin>>,
    re: RefCell<Option<EventId>>,
    locals: RefCell<Locals>,
    locals_changed: Cell<bool>,
    logs: RefCell<Vec<String>>,
    breach: Cell<Option<&'static str>>,
    budget: Budget,
}

impl Host {
    pub(super) fn new(values: JValue, limits: ExprLimits) -> Self {
        Self {
            limits,
            values,
            now: Cell::default(),
            random: Cell::default(),
            origin: RefCell::default(),
            re: RefCell::default(),
            locals: RefCell::default(),
            locals_changed: Cell::default(),
            logs: RefCell::default(),
            breach: Cell::default(),
            budget: Budget::new(limits),
        }
    }

    /// Takes over from the scope what an evaluation may change.
    pub(super) fn enter(&self, scope: &mut Scope) {
        self.now.set(scope.now);
        self.random.set(scope.random);
        self.origin.replace(Some(scope.origin()));
        self.re.replace(scope.event.re.clone());
        self.locals.replace(std::mem::take(&mut scope.locals));
        self.locals_changed.set(false);
        self.logs.replace(std::mem::take(&mut scope.logs));
        self.breach.set(None);
        self.budget.refill();
    }

    /// Gives it back; says whether the locals were changed, and the limit that was gone over.
    pub(super) fn leave(&self, scope: &mut Scope) -> (bool, Option<&'static str>) {
        scope.random = self.random.get();
        scope.locals = self.locals.take();
        scope.logs = self.logs.take();
        scope.spend(self.budget.steps());
        (self.locals_changed.get(), self.breach.get())
    }

    /// Fails the evaluation for going over a limit.
    pub(super) fn breach(&self, limit: &'static str) -> EvaluatorError {
        self.breach.set(Some(limit));
        EvaluatorError::EvaluationError(format!("over the {limit} limit"))
    }

    fn value_named(&self, args: &[JValue]) -> HostFnResult {
        let name = name_argument("valueNamed", args)?;
        let found = match args.get(1) {
            None => value_named(&self.values, name),
            Some(event) => ["data", "content", "values"]
                .into_iter()
                .try_fold(event, |value, key| value.get(key))
                .and_then(|values| value_named(values, name)),
        };
        let found = found.unwrap_or(&JValue::Undefined);
        self.budget.keep(found).map_err(|limit| self.breach(limit))?;
        Ok(found.clone())
    }

    fn local(&self, args: &[JValue]) -> HostFnResult {
        let name = name_argument("local", args)?;
        let locals = self.locals.borrow();
        let value = locals.get(name).map_or(JValue::Undefined, convert::to_interpreter);
        self.budget.keep(&value).map_err(|limit| self.breach(limit))?;
        Ok(value)
    }

    fn set_local(&self, args: &[JValue]) -> HostFnResult {
        let name = name_argument("setLocal", args)?;
        let value = args.get(1).unwrap_or(&JValue::Undefined);
        let data =
            convert::from_interpreter(value, &self.limits).map_err(|refused| match refused {
                Refused::Limit(limit) => self.breach(limit),
                Refused::OutOfRange => failed(convert::OUT_OF_RANGE),
                Refused::Function => {
                    failed("a local cannot hold a function; set it to the function's result")
                }
            })?;
        put(&mut self.locals.borrow_mut(), name, data);
        self.locals_changed.set(true);
        Ok(value.clone())
    }

    fn is_response_for(&self, args: &[JValue]) -> HostFnResult {
        let name = name_argument("isResponseFor", args)?;
        let re = self.re.borrow();
        let locals = self.locals.borrow();
        Ok(JValue::Bool(Published::new(name).is_answered(re.as_ref(), &locals)))
    }

    fn log(&self, args: &[JValue]) -> HostFnResult {
        let mut logs = self.logs.borrow_mut();
        if logs.len() < MAX_LOGS {
            let line = match args.first().unwrap_or(&JValue::Undefined) {
                JValue::String(s) => s.chars().take(MAX_LOG_CHARS).collect(),
                value => match convert::from_interpreter(value, &self.limits) {
                    Ok(Some(data)) => data.to_string().chars().take(MAX_LOG_CHARS).collect(),
                    Ok(None) => "undefined".to_owned(),
                    Err(_) => "(no data, or too much of it)".to_owned(),
                },
            };
            logs.push(line);
        }
        Ok(JValue::Undefined)
    }

    fn now(&self, args: &[JValue]) -> HostFnResult {
        args.iter()
            .try_for_each(|arg| check_date(arg).map(|_| ()).map_err(|limit| self.breach(limit)))?;
        let mut arguments = vec![AstNode::Number(self.now.get() as f64)];
        for arg in args {
            arguments.push(match arg {
                JValue::String(s) => AstNode::String(s.to_string()),
                JValue::Undefined => AstNode::Undefined,
                _ => return Err(failed("`$now` takes a picture and a time zone, both texts")),
            });
        }
        let call =
            AstNode::Function { name: "fromMillis".into(), args: arguments, is_builtin: true };
        Evaluator::new().evaluate(&call, &JValue::Null)
    }

    /// `$toMillis`; what a picture leaves out before its first part is the scope's time.
    fn to_millis(&self, args: &[JValue]) -> HostFnResult {
        let call = |name: &str, args| {
            let call = AstNode::Function { name: name.to_owned(), args, is_builtin: true };
            Evaluator::new().evaluate(&call, &JValue::Null)
        };
        let text = match args.first() {
            Some(JValue::String(text)) => text,
            None | Some(JValue::Undefined) => return Ok(JValue::Undefined),
            Some(_) => return Err(failed("T0410: `$toMillis` takes a text and a picture")),
        };
        let picture = match args.get(1) {
            Some(JValue::String(picture)) => picture,
            None | Some(JValue::Undefined) => {
                return call("toMillis", vec![AstNode::String(text.to_string())]);
            }
            Some(_) => return Err(failed("T0410: the picture of `$toMillis` is a text")),
        };
        let missing = missing_parts(picture);
        let now = if missing.is_empty() {
            JValue::string("")
        } else {
            let now = AstNode::Number(self.now.get() as f64);
            call("fromMillis", vec![now, AstNode::String(missing.clone())])?
        };
        let now = now.as_str().unwrap_or_default();
        let args = [format!("{now}{text}"), format!("{missing}{picture}")];
        call("toMillis", args.into_iter().map(AstNode::String).collect())
    }

    /// `$zip`, which makes an array for each item, over no more than a sequence of them.
    fn zip(&self, args: &[JValue]) -> HostFnResult {
        let mut context = Context::new();
        let mut call = Vec::with_capacity(args.len());
        for (index, arg) in args.iter().enumerate() {
            if arg.as_array().is_some_and(|items| items.len() > self.limits.sequence) {
                return Err(self.breach("sequence"));
            }
            context.bind(format!("a{index}"), arg.clone());
            call.push(AstNode::Variable(format!("a{index}")));
        }
        let call = AstNode::Function { name: "zip".into(), args: call, is_builtin: true };
        Evaluator::with_context(context).evaluate(&call, &JValue::Null)
    }

    /// Fisher-Yates, from the scope's seed.
    fn shuffle(&self, args: &[JValue]) -> HostFnResult {
        let mut items = match args {
            [JValue::Array(items)] => items.to_vec(),
            [JValue::Undefined] => return Ok(JValue::Undefined),
            [one] => vec![one.clone()],
            _ => return Err(failed("`$shuffle` takes one list")),
        };
        for last in (1..items.len()).rev() {
            items.swap(last, (self.random() * (last + 1) as f64) as usize);
        }
        Ok(JValue::array(items))
    }

    /// SplitMix64 (Steele, Lea, Flood 2014): the seed alone decides the whole sequence.
    fn random(&self) -> f64 {
        let before = self.random.get();
        let before = before.or_else(|| self.origin.borrow().as_ref().map(Origin::start));
        let state = before.unwrap_or(0).wrapping_add(0x9E37_79B9_7F4A_7C15);
        self.random.set(Some(state));
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// The picture of the parts of a date and time that another picture leaves out before its first
/// one.
fn missing_parts(picture: &str) -> String {
    let picture = picture.replace("[[", "").replace(char::is_whitespace, "");
    let named: Vec<char> = picture.split('[').skip(1).filter_map(|s| s.chars().next()).collect();
    let has = |part: char| named.contains(&part);
    if named.iter().any(|part| "XxWw".contains(*part)) {
        return String::new();
    }
    let days: &[(char, &str)] = if has('d') && !has('M') && !has('D') {
        &[('Y', "[Y0001] "), ('d', "[d001] ")]
    } else {
        &[('Y', "[Y0001] "), ('M', "[M01] "), ('D', "[D01] ")]
    };
    let hours: &[(char, &str)] =
        if has('h') && !has('H') { &[('P', "[Pn] "), ('h', "[h01] ")] } else { &[('H', "[H01] ")] };
    let rest: &[(char, &str)] = &[('m', "[m01] "), ('s', "[s01] "), ('f', "[f001] ")];
    let parts = || days.iter().chain(hours).chain(rest);
    match parts().position(|(part, _)| has(*part)) {
        Some(first) => parts().take(first).map(|(_, picture)| *picture).collect(),
        None => String::new(),
    }
}

/// [`crate::value_named`] over the interpreter's values.
fn value_named<'v>(values: &'v JValue, name: &str) -> Option<&'v JValue> {
    match values {
        JValue::Object(map) => match map.get(name) {
            Some(found) if !found.is_null() && !found.is_undefined() => Some(found),
            _ => map.values().find_map(|child| value_named(child, name)),
        },
        JValue::Array(items) => items.iter().find_map(|item| value_named(item, name)),
        _ => None,
    }
}

/// The interpreter takes a number for a text here.
fn replacement(args: &[JValue]) -> HostFnResult {
    match args.first() {
        None => Ok(JValue::Undefined),
        Some(JValue::Null | JValue::Bool(_) | JValue::Number(_) | JValue::Array(_)) => Err(failed(
            "T0410: argument 3 of function \"replace\" does not match function signature",
        )),
        Some(other) => Ok(other.clone()),
    }
}

pub(super) fn failed(message: impl Into<String>) -> EvaluatorError {
    EvaluatorError::EvaluationError(message.into())
}

fn name_argument<'a>(function: &str, args: &'a [JValue]) -> Result<&'a str, EvaluatorError> {
    args.first()
        .and_then(JValue::as_str)
        .ok_or_else(|| failed(format!("`${function}` takes a name, a text, as first argument")))
}

/// Puts the functions into an evaluator.
pub(super) fn register(evaluator: &mut Evaluator, host: &Rc<Host>) {
    let mut add = |name: &str, call: fn(&Host, &[JValue]) -> HostFnResult| {
        let host = Rc::clone(host);
        // Refused for names that the compiler of jsonata-core inlines; none of these is.
        let added = evaluator.register_fn_override(name, move |args: &[JValue]| call(&host, args));
        debug_assert!(added.is_ok(), "`{name}` cannot be replaced");
    };
    add("valueNamed", Host::value_named);
    add("local", Host::local);
    add("setLocal", Host::set_local);
    add("isResponseFor", Host::is_response_for);
    add("log", Host::log);
    add("now", Host::now);
    add("millis", |host, _| Ok(JValue::Number(host.now.get() as f64)));
    add("random", |host, _| Ok(JValue::Number(host.random())));
    add("shuffle", Host::shuffle);
    add("zip", Host::zip);
    add("toMillis", Host::to_millis);
    add("eval", |_, _| Err(failed("`$eval` is not available; data is never evaluated")));
    let replacement: (&str, fn(&[JValue]) -> HostFnResult) =
        (guard::name::REPLACEMENT, replacement);
    for (name, function) in exact::FUNCTIONS.iter().chain([&replacement]) {
        let added = evaluator.register_fn(*name, *function);
        debug_assert!(added.is_ok(), "`{name}` is a built-in function");
    }
    for (name, check) in CHECKS {
        let host = Rc::clone(host);
        let check = move |args: &[JValue]| {
            let value = args.first().unwrap_or(&JValue::Undefined);
            match host.budget.count().and_then(|()| check(&host.budget, value)) {
                Ok(other) => Ok(other.unwrap_or_else(|| value.clone())),
                Err(limit) => Err(host.breach(limit)),
            }
        };
        let added = evaluator.register_fn(*name, check);
        debug_assert!(added.is_ok(), "`{name}` is a built-in function");
    }
}
