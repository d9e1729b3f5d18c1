//! What an expression sees: one event, the locals, the engine's clock and seed.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::{jsonata::Session, published};
use crate::{Event, EventId, ThredId};

/// The locals of a thred; shared until changed.
pub type Locals = Arc<Map<String, Value>>;

/// No locals: one value for all that have none, since most threds have none and a map of its own
/// would cost each of them 100 bytes.
///
/// One for each thread, that is: two that count references to one value wait for each other.
pub fn no_locals() -> Locals {
    thread_local! {
        static NONE: Locals = Locals::default();
    }
    NONE.with(Arc::clone)
}

/// The evaluation context for one event. Whatever an evaluator needs for more than one expression
/// (the event converted, the host functions bound) is made once and kept here.
///
/// Not `Send`: it lives within one synchronous step.
#[derive(Debug)]
pub struct Scope {
    pub(super) event: Arc<Event>,
    pub(super) thred_id: Option<ThredId>,
    pub(super) locals: Locals,
    pub(super) outbound: Option<Arc<Event>>,
    pub(super) now: i64,
    seed: u64,
    /// Where `$random()` stands in its sequence; `None` before the first draw.
    pub(super) random: Option<u64>,
    pub(super) logs: Vec<String>,
    /// The work done by expressions so far.
    steps: usize,
    pub(super) session: Option<Box<Session>>,
}

impl Scope {
    /// A scope for an event, at a time (milliseconds since the Unix epoch), with a seed for
    /// `$random()`. Equal arguments give equal evaluations.
    pub fn new(event: Arc<Event>, now: i64, seed: u64) -> Self {
        Self {
            event,
            thred_id: None,
            locals: no_locals(),
            outbound: None,
            now,
            seed,
            random: None,
            logs: Vec::new(),
            steps: 0,
            session: None,
        }
    }

    /// Evaluates for a running thred from here on.
    pub fn enter_thred(&mut self, id: ThredId, locals: Locals) {
        self.thred_id = Some(id);
        self.random = None;
        self.locals = locals;
        self.unbind();
    }

    /// The event that expressions see as `$event`.
    pub fn event(&self) -> &Arc<Event> {
        &self.event
    }

    /// Shows another event to the expressions from here on.
    pub fn set_event(&mut self, event: Arc<Event>) {
        if !Arc::ptr_eq(&self.event, &event) {
            self.session = None;
        }
        self.event = event;
    }

    /// Binds `$outboundEvent`, or unbinds it.
    pub fn set_outbound(&mut self, event: Option<Arc<Event>>) {
        self.outbound = event;
        self.unbind();
    }

    /// The locals as they are now.
    pub fn locals(&self) -> &Locals {
        &self.locals
    }

    /// Sets one local; `None` removes it.
    pub fn set_local(&mut self, name: &str, value: Option<Value>) {
        put(&mut self.locals, name, value);
        if let Some(session) = &self.session {
            session.forget_locals();
        }
    }

    /// Puts the locals back to what they were, after an evaluation that failed.
    pub fn restore_locals(&mut self, locals: Locals) {
        if !Arc::ptr_eq(&self.locals, &locals) {
            self.locals = locals;
            if let Some(session) = &self.session {
                session.forget_locals();
            }
        }
    }

    /// Remembers the id of an event that was published under a name; of earlier ones of that name
    /// the latest, [`MAX_PUBLISHED`](published::MAX_PUBLISHED) in all.
    pub fn remember_published(&mut self, name: &str, id: &EventId) {
        let latest = published::latest_local(name);
        if let Some(before) = self.locals.get(&latest).cloned() {
            let local = published::earlier_local(name);
            let earlier = published::add(self.locals.get(&local), before);
            self.set_local(&local, Some(earlier));
        }
        self.set_local(&latest, Some(id.as_str().into()));
    }

    /// What the sequence of `$random()` starts from.
    pub(super) fn origin(&self) -> Origin {
        Origin { seed: self.seed, event: self.event.id.clone(), thred: self.thred_id.clone() }
    }

    /// What expressions have logged with `$log` since the last call, oldest first; no more than
    /// 100 lines of 1,000 characters are kept.
    pub fn take_logs(&mut self) -> Vec<String> {
        std::mem::take(&mut self.logs)
    }

    /// The steps that expressions have taken so far in this scope.
    pub fn steps(&self) -> usize {
        self.steps
    }

    pub(super) fn spend(&mut self, steps: usize) {
        self.steps = self.steps.saturating_add(steps);
    }

    /// Lets the session go, but not the converted event.
    fn unbind(&mut self) {
        if let Some(session) = &mut self.session {
            session.unbind();
        }
    }
}

/// What the sequence of `$random()` starts from: another one for each seed, event and thred.
#[derive(Clone, Debug)]
pub(super) struct Origin {
    seed: u64,
    event: EventId,
    thred: Option<ThredId>,
}

impl Origin {
    pub(super) fn start(&self) -> u64 {
        let thred = self.thred.as_ref().map_or("", |id| id.as_str());
        crate::stable_hash(format!("{}/{}/{thred}", self.seed, self.event).as_bytes())
    }
}

/// Sets or removes one local, in a copy when the locals are shared.
pub(super) fn put(locals: &mut Locals, name: &str, value: Option<Value>) {
    let locals = Arc::make_mut(locals);
    match value {
        Some(value) => locals.insert(name.to_owned(), value),
        None => locals.shift_remove(name),
    };
}
