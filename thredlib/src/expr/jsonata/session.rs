//! The interpreter as one scope uses it: made when first needed, kept for the next expression.

use std::{
    cell::{Cell, RefCell},
    fmt,
    panic::AssertUnwindSafe,
    rc::Rc,
};

use super::{
    super::{ExprError, Locals, Scope},
    Jsonata,
    convert::{self, Refused},
    error_variable,
    host::{self, Host},
};
use crate::{Event, EventData, ExprLimits, json::View};
use jsonata_core::{
    evaluator::{Context, Evaluator, EvaluatorError, EvaluatorOptions},
    value::JValue,
};

/// Levels of evaluation that a nested call takes, about.
const LEVELS_PER_CALL: usize = 6;

/// The event converted, and an evaluator with everything bound.
pub(in super::super) struct Session {
    event: JValue,
    bound: Option<Bound>,
    locals: RefCell<Option<JValue>>,
    /// Whether the event has integers beyond doubles.
    has_large: bool,
    /// Whether the locals have; `None` when they have not been looked at.
    locals_have_large: Cell<Option<bool>>,
}

struct Bound {
    evaluator: Evaluator,
    host: Rc<Host>,
    limits: ExprLimits,
}

impl Session {
    /// Lets go what depends on more than the event.
    pub(in super::super) fn unbind(&mut self) {
        self.bound = None;
        self.forget_locals();
    }

    /// Lets go the converted locals.
    pub(in super::super) fn forget_locals(&self) {
        self.locals.take();
        self.locals_have_large.set(None);
    }

    /// Whether an expression may meet integers beyond doubles.
    fn has_large(&self, expression: &Jsonata, scope: &Scope) -> bool {
        expression.has_large
            || self.has_large
            || scope.outbound.as_deref().is_some_and(has_large)
            || expression.reads_locals && self.locals_have_large(&scope.locals)
    }

    fn locals_have_large(&self, locals: &Locals) -> bool {
        let known = self.locals_have_large.get();
        let has = known.unwrap_or_else(|| View::Object((&**locals).into()).has_beyond_double());
        self.locals_have_large.set(Some(has));
        has
    }

    fn input(&self, thred_id: Option<&str>, locals: &Locals) -> JValue {
        let locals = self
            .locals
            .borrow_mut()
            .get_or_insert_with(|| convert::map_to_interpreter(&**locals))
            .clone();
        let thred_id = thred_id.map(|id| ("thredId".to_owned(), JValue::string(id)));
        let context = convert::object(thred_id.into_iter().chain([("locals".to_owned(), locals)]));
        self.input_with(context)
    }

    fn input_with(&self, context: JValue) -> JValue {
        let entries = [("event", self.event.clone()), ("context", context)];
        convert::object(entries.into_iter().map(|(key, value)| (key.to_owned(), value)))
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").finish_non_exhaustive()
    }
}

/// Why an evaluation has no result.
pub(super) enum Fault {
    Refused(Refused),
    Failed(EvaluatorError),
}

impl From<Refused> for Fault {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

/// Evaluates in the scope's session and reads the result off with `read`.
pub(super) fn run<T>(
    expression: &Jsonata,
    scope: &mut Scope,
    read: impl FnOnce(&JValue, &ExprLimits) -> Result<T, Fault>,
) -> Result<T, ExprError> {
    let limits = &expression.limits;
    if expression.binds_items && holds_long_list(scope, limits.sequence) {
        return Err(ExprError::limit(&expression.source, "sequence", limits));
    }
    let mut session = scope.session.take().unwrap_or_else(|| {
        let event = convert::event_to_interpreter(&scope.event);
        let has_large = has_large(&scope.event);
        Box::new(Session {
            event,
            bound: None,
            locals: RefCell::default(),
            has_large,
            locals_have_large: Cell::default(),
        })
    });
    let is_exact = session.has_large(expression, scope);
    let ast = if is_exact { expression.exact() } else { &expression.ast };
    let input = if expression.reads_context {
        session.input(scope.thred_id.as_ref().map(|id| id.as_str()), &scope.locals)
    } else {
        session.input_with(JValue::Undefined)
    };
    let mut bound = match session.bound.take() {
        Some(bound) if bound.limits == *limits => bound,
        _ => bind(scope, &session.event, limits),
    };
    bound.host.enter(scope);
    // A panic in the interpreter fails the event, not the engine. Nothing of the evaluator is used
    // after one.
    let evaluation = AssertUnwindSafe(|| bound.evaluator.evaluate(ast, &input));
    let outcome = std::panic::catch_unwind(evaluation);
    let (locals_changed, breach) = bound.host.leave(scope);
    if locals_changed {
        session.forget_locals();
    }
    let Ok(outcome) = outcome else {
        return Err(ExprError::failed(&expression.source, "fault of the JSONata interpreter"));
    };
    let outcome = match breach {
        Some(limit) => Err(Fault::Refused(Refused::Limit(limit))),
        None => outcome.map_err(Fault::Failed).and_then(|value| read(&value, limits)),
    };
    session.bound = Some(bound);
    scope.session = Some(session);
    outcome.map_err(|fault| explain(&expression.source, &fault, limits))
}

fn bind(scope: &Scope, event: &JValue, limits: &ExprLimits) -> Bound {
    let part = |of: &JValue, key: &str| of.get(key).cloned().unwrap_or(JValue::Undefined);
    let data = part(event, "data");
    let content = part(&data, "content");
    let mut context = Context::new();
    context.bind("values".into(), part(&content, "values"));
    context.bind("advice".into(), part(&data, "advice"));
    context.bind("event".into(), event.clone());
    let error = scope.event.error_view().map_or(JValue::Undefined, convert::to_interpreter);
    context.bind(error_variable::NAME.into(), error);
    context.bind("data".into(), data);
    context.bind("content".into(), content.clone());
    let thred_id = scope.thred_id.as_ref().map(|id| JValue::string(id.as_str()));
    context.bind("thredId".into(), thred_id.unwrap_or(JValue::Undefined));
    let outbound = scope.outbound.as_deref().map(convert::event_to_interpreter);
    context.bind("outboundEvent".into(), outbound.unwrap_or(JValue::Undefined));
    let options = EvaluatorOptions {
        timeout_ms: Some(limits.time.as_millis() as u64),
        max_stack_depth: Some(limits.depth * LEVELS_PER_CALL),
        max_sequence_length: Some(limits.sequence),
        ..EvaluatorOptions::default()
    };
    let mut evaluator = Evaluator::with_options(context, options);
    let host = Rc::new(Host::new(part(&content, "values"), *limits));
    host::register(&mut evaluator, &host);
    Bound { evaluator, host, limits: *limits }
}

fn explain(source: &str, fault: &Fault, limits: &ExprLimits) -> ExprError {
    let over = |limit| ExprError::limit(source, limit, limits);
    match fault {
        Fault::Refused(Refused::Limit(limit)) => over(limit),
        Fault::Refused(Refused::Function) => {
            ExprError::failed(source, "the result holds a function, which is no data; call it")
        }
        Fault::Refused(Refused::OutOfRange) => ExprError::failed(source, convert::OUT_OF_RANGE),
        Fault::Failed(error) => match error.code() {
            Some("D1012") => over("time"),
            Some("D1011" | "U1001") => over("depth"),
            Some("D2014" | "D2015") => over("sequence"),
            _ => ExprError::failed(source, error.message().chars().take(500).collect::<String>()),
        },
    }
}

/// Whether an event has integers that a double cannot hold.
fn has_large(event: &Event) -> bool {
    let data = event.data.as_ref().map(|data| View::Object(data.view()));
    let trace = event.trace.as_deref().map(View::from);
    let extra = event.extra.iter().chain(event.source.extra.iter());
    data.into_iter()
        .chain(trace)
        .chain(extra.map(|(_, value)| value.into()))
        .any(View::has_beyond_double)
}

/// Whether a list in the event or the locals has more items than a sequence may have.
fn holds_long_list(scope: &Scope, most: usize) -> bool {
    fn is_long(value: View<'_>, most: usize) -> bool {
        match value {
            View::Array(items) => {
                items.len() > most || items.iter().any(|item| is_long(item, most))
            }
            View::Object(members) => members.iter().any(|(_, item)| is_long(item, most)),
            _ => false,
        }
    }
    let events = [Some(&scope.event), scope.outbound.as_ref()];
    let data = events.into_iter().flatten().filter_map(|event| event.data.as_ref());
    data.map(EventData::view)
        .chain([(&*scope.locals).into()])
        .any(|members| is_long(View::Object(members), most))
}
