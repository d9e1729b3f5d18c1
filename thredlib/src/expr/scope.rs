//! What an expression sees: one event, the locals, the engine's clock and seed.

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::{Event, ThredId};

/// The locals of a thred; shared until changed.
pub type Locals = Arc<Map<String, Value>>;

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
    pub(super) seed: u64,
}

impl Scope {
    /// A scope for an event, at a time (milliseconds since the Unix epoch), with a seed for
    /// `$random()`. Equal arguments give equal evaluations.
    pub fn new(event: Arc<Event>, now: i64, seed: u64) -> Self {
        Self { event, thred_id: None, locals: Locals::default(), outbound: None, now, seed }
    }

    /// Evaluates for a running thred from here on.
    pub fn enter_thred(&mut self, id: ThredId, locals: Locals) {
        self.thred_id = Some(id);
        self.locals = locals;
    }

    /// The event that expressions see as `$event`.
    pub fn event(&self) -> &Arc<Event> {
        &self.event
    }

    /// Shows another event to the expressions from here on.
    pub fn set_event(&mut self, event: Arc<Event>) {
        self.event = event;
    }

    /// Binds `$outboundEvent`, or unbinds it.
    pub fn set_outbound(&mut self, event: Option<Arc<Event>>) {
        self.outbound = event;
    }

    /// The locals as they are now.
    pub fn locals(&self) -> &Locals {
        &self.locals
    }

    /// Sets one local; `None` removes it.
    pub fn set_local(&mut self, name: &str, value: Option<Value>) {
        let locals = Arc::make_mut(&mut self.locals);
        match value {
            Some(value) => locals.insert(name.to_owned(), value),
            None => locals.shift_remove(name),
        };
    }
}
