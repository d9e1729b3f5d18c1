//! One step of a thred: a working copy of its state, and what it puts out.

use std::sync::Arc;

use serde_json::Value;
use thin_vec::ThinVec;
use thredlib::{
    Event, EventData, EventId, ExprError, ParticipantId, SYSTEM, Source, ThredId, derive_id,
    event_type,
    expr::{Locals, Scope, no_locals},
};

use super::{Outcome, StepError, World, recipients::Recipients};
use crate::{
    pattern::{
        AddressError, Consequent, Directives, Offer, Pattern, Publish, Reaction, Transform, Verdict,
    },
    port::{Command, Commit, Facts, LogRecord, LogType, OutboxEntry},
    state::{Consumed, Status, ThredState},
};

thread_local! {
    // One for each thread: two that count references to one text wait for each other.
    static TELL: Arc<str> = event_type::TELL.into();
    static SYSTEM_ID: ParticipantId = SYSTEM.into();
}

/// A step under way. Dropping it leaves no trace.
pub(super) struct Step<'a> {
    pub(super) pattern: &'a Pattern,
    pub(super) world: &'a World<'a>,
    pub(super) state: ThredState,
    /// The event or command that is consumed.
    pub(super) consumed: Consumed,
    event: Option<Arc<Event>>,
    pub(super) command: Option<Arc<Command>>,
    pub(super) outbox: Vec<OutboxEntry>,
    log: Vec<LogRecord>,
    /// How many events have been made so far; part of their ids.
    pub(super) made: usize,
    /// Whether something has matched already.
    matched: bool,
    /// Whether the next match is a test of the entry, which has no side effects.
    pub(super) testing: bool,
    /// What was asked of the world; most steps ask for nothing special.
    facts: Option<Box<Facts>>,
}

impl<'a> Step<'a> {
    pub(super) fn new(
        pattern: &'a Pattern,
        world: &'a World<'a>,
        state: ThredState,
        consumed: Consumed,
        event: Option<Arc<Event>>,
        command: Option<Arc<Command>>,
    ) -> Self {
        Self {
            pattern,
            world,
            state,
            consumed,
            event,
            command,
            outbox: Vec::new(),
            // Most steps are told in one or two.
            log: Vec::with_capacity(2),
            made: 0,
            matched: false,
            testing: false,
            facts: None,
        }
    }

    /// Where to write down what was asked of the world.
    pub(super) fn facts(&mut self) -> &mut Facts {
        self.facts.get_or_insert_default()
    }

    /// Whether a source may move the thred here.
    fn allows(&mut self, reaction: &Reaction, source: &ParticipantId) -> bool {
        let directory = self.world.directory;
        for name in reaction.names_asked() {
            if directory.is_member(source, name) {
                self.facts().directory.add_group(name, [source.clone()]);
            }
            if directory.has_role(source, name) {
                self.facts().directory.add_role(name, [source.clone()]);
            }
        }
        reaction.allows(source, directory)
    }

    /// A thred that has just entered the first reaction of its pattern, not committed yet.
    pub(super) fn fresh(pattern: &Pattern, world: &World<'_>, id: ThredId) -> ThredState {
        let entry = pattern.entry();
        ThredState {
            id,
            pattern: pattern.key.clone(),
            version: 0,
            status: Status::Active,
            reaction: entry.name.clone(),
            waits: ThinVec::new(),
            entry: 1,
            entered_at: world.now,
            expires_at: entry.expiry.as_ref().map(|e| world.now.saturating_add(e.interval)),
            started_at: world.now,
            modified_at: world.now,
            locals: no_locals(),
            participants: Vec::new(),
            errors: 0,
            matched: ThinVec::new(),
            inbox: Vec::new(),
            label: None,
            description: None,
            display: None,
            parent: None,
            children: ThinVec::new(),
        }
    }

    /// Offers an event to the current reaction, and on through `forward` and `local` inputs; says
    /// whether anything about the thred has changed.
    pub(super) fn run(&mut self, scope: &mut Scope) -> Result<bool, StepError> {
        let mut moved = false;
        for _ in 0..self.world.limits.chain {
            let reaction = self.reaction()?;
            if !self.allows(reaction, &scope.event().source.id) {
                let source = scope.event().source.id.clone();
                self.record(LogType::Unauthorized, None, Some(source.as_str()));
                return Ok(moved);
            }
            let mut offer = Offer::default();
            let verdict = reaction
                .condition
                .offer(scope, &mut self.state.matched, &mut offer)
                .map_err(|error| self.failed(error))?;
            for failure in &offer.failures {
                self.record(LogType::OperandFailed, None, Some(&failure.to_string()));
            }
            if std::mem::take(&mut self.testing) && !Arc::ptr_eq(scope.locals(), &self.state.locals)
            {
                scope.enter_thred(self.state.id.clone(), self.state.locals.clone());
            }
            self.run_consequents(&offer.ran, scope)?;
            for line in scope.take_logs() {
                tracing::info!(thred = %self.state.id, "{line}");
            }
            match verdict {
                Verdict::No => {
                    self.record(LogType::NoMatch, None, None);
                    return Ok(moved);
                }
                Verdict::Partial => {
                    self.record(LogType::PartialMatch, None, None);
                    return Ok(true);
                }
                Verdict::Match(directives) => {
                    moved = true;
                    match self.follow(directives, scope)? {
                        Some(next) => scope.set_event(next),
                        None => return Ok(true),
                    }
                }
            }
        }
        let limit = self.world.limits.chain;
        Err(StepError::Cycle { reaction: self.state.reaction.clone(), limit })
    }

    /// What follows from a match; gives the event for the next reaction, if it is not to wait.
    fn follow(
        &mut self,
        directives: &Directives,
        scope: &mut Scope,
    ) -> Result<Option<Arc<Event>>, StepError> {
        let event = scope.event().clone();
        let outbound = match (&directives.transform, &directives.publish) {
            (Some(transform), Some(publish)) => Some(self.build(transform, publish, scope)?),
            _ => None,
        };
        if self.pattern.echo_responses && self.is_first_of_input(&event) {
            self.echo(&event)?;
        }
        let transition = directives.transition.clone().unwrap_or_default();
        self.go(&transition, LogType::Match);
        if let Some((outbound, recipients)) = outbound {
            if self.state.participants.is_empty() {
                // And the source.
                self.state.participants.reserve_exact(recipients.len() + 1);
            }
            self.join(recipients.iter().cloned())?;
            self.send(outbound, recipients);
        }
        if event.source.id != SYSTEM {
            self.join([event.source.id.clone()])?;
        }
        self.label(&event);
        if let Some(spawn) = &directives.spawn {
            self.spawn(spawn, &event, scope)?;
        }
        self.next_event(&transition.input, Some(event), scope.locals())
    }

    /// Whether this is the first match of what the thred was given, and that is an event: not a
    /// stored one, nor one that another thred was given.
    fn is_first_of_input(&mut self, event: &Arc<Event>) -> bool {
        let is_first = !std::mem::replace(&mut self.matched, true);
        let is_input = self.event.as_ref().is_some_and(|input| Arc::ptr_eq(input, event));
        is_first && is_input && self.command.is_none()
    }

    /// Builds the outbound event and finds its recipients.
    fn build(
        &mut self,
        transform: &Transform,
        publish: &Publish,
        scope: &mut Scope,
    ) -> Result<(Arc<Event>, Recipients), StepError> {
        let data = transform.data.build(scope).map_err(|error| match error {
            Some(error) => self.failed(error),
            None => self.misshapen("the transform gives no object"),
        })?;
        let re = match &transform.re {
            Some(xpr) => match xpr.evaluate(scope).map_err(|error| self.failed(error))? {
                Some(Value::String(re)) => Some(EventId::from(re)),
                None | Some(Value::Null) => None,
                Some(_) => return Err(self.misshapen("`reXpr` gives no text")),
            },
            None => None,
        };
        let trace = scope.event().trace.clone();
        let outbound = self.make_event(TELL.with(Arc::clone), Some(data), re, trace);
        let addresses = publish.addresses(scope).map_err(|error| match error {
            AddressError::Expression(error) => self.failed(error),
            AddressError::Shape(what) => self.misshapen(what),
        })?;
        if let Some(name) = &publish.name {
            scope.remember_published(name, &outbound.id);
        }
        if let Some(on_publish) = &publish.on_publish {
            scope.set_outbound(Some(outbound.clone()));
            let result = on_publish.run(scope).map_err(|error| self.failed(error));
            scope.set_outbound(None);
            result?;
        }
        let recipients = self.resolve(&addresses)?;
        Ok((outbound, recipients))
    }

    /// Makes an event from the engine to the thred's participants.
    pub(super) fn make_event(
        &mut self,
        event_type: Arc<str>,
        data: Option<EventData>,
        re: Option<EventId>,
        trace: Option<Arc<Value>>,
    ) -> Arc<Event> {
        let number = self.made;
        self.made += 1;
        let mut digits = [0; 20];
        let mut key = [0; 32];
        let key = self.consumed.key.encode(&mut key);
        let parts = [self.state.id.as_str(), key, decimal(number, &mut digits)];
        Arc::new(Event {
            id: EventId::new(derive_id("out", &parts)),
            event_type,
            thred_id: Some(self.state.id.clone()),
            re,
            source: Source::new(SYSTEM_ID.with(Clone::clone)),
            timestamp: Some(self.world.now),
            data,
            trace,
            extra: Default::default(),
        })
    }

    fn label(&mut self, event: &Event) {
        let state = &mut self.state;
        state.label = Some(event.title().map_or_else(|| self.pattern.name.clone(), Into::into));
        state.description =
            Some(event.description().map_or_else(|| event.event_type.clone(), Into::into));
        if let Some(uri) = event.display_uri() {
            state.display = Some(uri.into());
        }
    }

    /// The reaction that the thred is in.
    pub(super) fn reaction(&self) -> Result<&'a Reaction, StepError> {
        let index = self.pattern.position(&self.state.reaction);
        index.map(|index| &self.pattern.reactions[index]).ok_or_else(|| {
            self.misshapen("the pattern has no such reaction; it was changed under one revision")
        })
    }

    fn run_consequents(
        &self,
        consequents: &[&Consequent],
        scope: &mut Scope,
    ) -> Result<(), StepError> {
        let mut consequents = consequents.iter();
        consequents.try_for_each(|it| it.run(scope)).map_err(|error| self.failed(error))
    }

    /// The id of the event or command that is consumed.
    fn input_id(&self) -> EventId {
        match (&self.command, &self.event) {
            (Some(command), _) => command.id(),
            (None, Some(event)) => event.id.clone(),
            (None, None) => EventId::new(""),
        }
    }

    /// Lets the timer run again: for as long as the reaction is overdue already.
    pub(super) fn put_off(&mut self, interval: i64) {
        const SHORTEST: i64 = 30_000;
        const LONGEST: i64 = 24 * 3_600_000;
        let due = self.state.entered_at.saturating_add(interval);
        let overdue = self.world.now.saturating_sub(due).clamp(SHORTEST, LONGEST);
        self.state.expires_at = Some(self.world.now.saturating_add(overdue));
    }

    /// Gives up the step: nothing changes, and what was decided goes on record.
    pub(super) fn unmoved(self) -> Outcome {
        Outcome::Unmoved(self.log)
    }

    /// Files the thred under what it waits for.
    fn file(&mut self) {
        let state = &mut self.state;
        state.waits = ThinVec::new();
        if state.status != Status::Active {
            return;
        }
        if let Some(index) = self.pattern.position(&state.reaction)
            && self.pattern.reactions[index].allow_unbound
        {
            state.waits = self.pattern.wait_keys(index, &state.locals).into_iter().collect();
        }
    }

    /// Notes a decision.
    pub(super) fn record(&mut self, log_type: LogType, to: Option<Arc<str>>, detail: Option<&str>) {
        self.log.push(LogRecord {
            log_type,
            event: self.input_id(),
            thred_id: Some(self.state.id.clone()),
            pattern_id: Some(self.state.pattern.id.clone()),
            from: Some(self.state.reaction.clone()),
            to,
            timestamp: self.world.now,
            detail: detail.map(Into::into),
        });
    }

    pub(super) fn check(
        &self,
        what: &'static str,
        count: usize,
        limit: usize,
    ) -> Result<(), StepError> {
        if count <= limit {
            Ok(())
        } else {
            Err(StepError::Limit { reaction: self.state.reaction.clone(), limit, what })
        }
    }

    pub(super) fn failed(&self, source: ExprError) -> StepError {
        StepError::Expression { reaction: self.state.reaction.clone(), source }
    }

    pub(super) fn misshapen(&self, what: impl Into<String>) -> StepError {
        StepError::Shape { reaction: self.state.reaction.clone(), what: what.into() }
    }

    /// Lets go of what cannot come again.
    fn trim_inbox(&mut self) {
        let settled = self.world.settled;
        if !settled.is_empty() {
            self.state.inbox.retain(|consumed| !settled.contains(&consumed.key));
            self.facts().settled = settled.to_vec();
        }
        // What has no second effect anyway is kept while there is room.
        let mut surplus =
            (self.state.inbox.len() + 1).saturating_sub(self.world.limits.inbox.max(1));
        if surplus > 0 {
            self.state.inbox.retain(|consumed| {
                let stays = surplus == 0 || consumed.needs_receipt();
                surplus -= usize::from(!stays);
                stays
            });
        }
    }

    /// The whole change as one value.
    pub(super) fn finish(mut self, locals: Option<&Locals>) -> Result<Commit, StepError> {
        if let Some(locals) = locals
            && !Arc::ptr_eq(locals, &self.state.locals)
        {
            let size = super::view::json_size(locals);
            self.check("bytes of locals", size, self.world.limits.locals_bytes)?;
            self.state.locals = locals.clone();
        }
        if self.state.status == Status::Terminated {
            self.end();
        }
        let expected = self.state.version;
        self.state.version += 1;
        self.state.modified_at = self.world.now;
        self.tell_watchers();
        if self.world.seed != 0 {
            self.facts().seed = self.world.seed;
        }
        self.file();
        self.trim_inbox();
        let state = &mut self.state;
        // Most threds consume few events: room for one more costs less than room for four.
        state.inbox.reserve_exact(1);
        state.inbox.push(self.consumed);
        Ok(Commit {
            expected,
            consumed: self.consumed,
            state: Arc::new(self.state),
            outbox: self.outbox,
            log: self.log,
            event: self.event,
            command: self.command,
            facts: self.facts.filter(|facts| **facts != Facts::default()).map(Arc::from),
        })
    }
}

/// A small number as text, without an allocation.
pub(super) fn decimal(number: usize, buffer: &mut [u8; 20]) -> &str {
    let mut rest = number;
    let mut at = buffer.len();
    loop {
        at -= 1;
        buffer[at] = b'0' + u8::try_from(rest % 10).unwrap_or(0);
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    std::str::from_utf8(&buffer[at..]).unwrap_or("0")
}
