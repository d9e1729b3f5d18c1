//! The entry points: start a thred, react to an input.

use std::sync::Arc;

use thredlib::{
    Event, EventKey, PatternId, ThredId, derive_id, event_type, expr::Scope, transition_name,
};

use super::{Input, Outcome, StepError, World, step::Step};
use crate::{
    pattern::{NextInput, Pattern, Target, Transition},
    port::{Command, Commit, LogType, Start},
    state::{Consumed, Status, ThredState},
};

/// Offers an unbound event (the scope's) to a pattern; `None` when it starts no thred.
///
/// The new thred's id is derived from the event's key and the pattern: the same event, delivered
/// again, starts the same thred.
///
/// # Errors
/// When the step fails; nothing starts.
pub fn start(
    pattern: &Pattern,
    scope: &mut Scope,
    consumed: Consumed,
    world: &World<'_>,
) -> Result<Option<Commit>, StepError> {
    let event = scope.event().clone();
    if !pattern.entry().allows(&event.source.id, world.directory) {
        return Ok(None);
    }
    let state = Step::fresh(pattern, world, started_id(&consumed.key, &pattern.key.id));
    scope.enter_thred(state.id.clone(), state.locals.clone());
    let mut step = Step::new(pattern, world, state, consumed, Some(event.clone()), None);
    step.testing = true;
    let started = step.run(scope);
    scope.set_event(event);
    if started? { step.finish(Some(scope.locals())).map(Some) } else { Ok(None) }
}

/// The id of the thred that an event starts of a pattern.
pub fn started_id(event: &EventKey, pattern: &PatternId) -> ThredId {
    ThredId::new(derive_id("thred", &[event.encode(&mut [0; 32]), pattern.as_str()]))
}

/// Starts a spawned thred.
///
/// # Errors
/// When the step fails; nothing starts.
pub fn spawn(
    pattern: &Pattern,
    start: &Start,
    consumed: Consumed,
    world: &World<'_>,
) -> Result<Commit, StepError> {
    let mut state = Step::fresh(pattern, world, start.thred_id.clone());
    state.parent = start.parent.clone();
    state.locals = start.locals.clone();
    state.participants = start.participants.clone();
    state.label = Some(pattern.name.clone());
    let command = Arc::new(Command::Start(start.clone()));
    let event = start.input.as_ref().unwrap_or(&start.cause).clone();
    // It has come of these: delivered again, they are not for it.
    state.inbox.push(start.consumed);
    if event.id != start.cause.id {
        let key = EventKey::of(event.source.id.as_str(), event.id.as_str());
        state.inbox.push(Consumed { key, partition: Consumed::NO_RECEIPT, ..start.consumed });
    }
    let mut step = Step::new(pattern, world, state, consumed, Some(event), Some(command));
    step.record(LogType::Started, None, start.parent.as_ref().map(ThredId::as_str));
    match &start.input {
        Some(event) => {
            let mut scope = Scope::new(event.clone(), world.now, world.seed);
            scope.enter_thred(start.thred_id.clone(), start.locals.clone());
            step.run(&mut scope)?;
            step.finish(Some(scope.locals()))
        }
        None => step.finish(None),
    }
}

/// What an input does to a thred.
///
/// # Errors
/// When the step fails; the thred keeps its state.
pub fn react(
    pattern: &Pattern,
    state: &ThredState,
    input: Input<'_>,
    consumed: Consumed,
    world: &World<'_>,
) -> Result<Outcome, StepError> {
    if state.has_consumed(&consumed.key) {
        return Ok(Outcome::Duplicate);
    }
    if state.status == Status::Terminated {
        return Ok(Outcome::Ended);
    }
    let (event, offer) = match input {
        Input::Command(command) => match command {
            Command::Offer { accepted, consumed, .. } => {
                if state.has_consumed(&consumed.key) {
                    return Ok(Outcome::Duplicate);
                } else {
                    (&accepted.event, Some((command, *consumed)))
                }
            }
            other => return obey(pattern, state, other, consumed, world),
        },
        Input::Bound(event) | Input::Offered(event) => (event, None),
    };
    let bound = matches!(input, Input::Bound(_));
    // Offered to where the thred stood when the event was matched; it may have moved since.
    if !bound && !state.is_listening() {
        return Ok(Outcome::Nothing);
    }
    if let Some((at, entry)) = state.timer()
        && at <= world.now
    {
        let due = Command::Expire { thred_id: state.id.clone(), entry, at };
        let consumed = Consumed { key: due.key(), partition: Consumed::NO_RECEIPT, ..consumed };
        return match obey(pattern, state, &due, consumed, world)? {
            Outcome::Commit(commit) => Ok(Outcome::ExpireFirst(commit)),
            other => Ok(other),
        };
    }
    let command = offer.map(|(command, _)| Arc::new(command.clone()));
    let mut step = Step::new(pattern, world, state.clone(), consumed, Some(event.clone()), command);
    step.state.inbox.extend(offer.map(|(_, of_event)| of_event));
    if bound && event.error().is_some() {
        return hear_error(step, state, event);
    }
    if bound && *event.event_type == *event_type::CLIENT_BROADCAST {
        step.broadcast(event)?;
    } else if state.status == Status::Finished {
        if !bound {
            return Ok(Outcome::Nothing);
        }
        step.record(LogType::NoMatch, None, Some("the thred is past its last reaction"));
        return Ok(step.unmoved());
    } else {
        let mut scope = Scope::new(event.clone(), world.now, world.seed);
        scope.enter_thred(state.id.clone(), state.locals.clone());
        let moved = step.run(&mut scope)? || !Arc::ptr_eq(scope.locals(), &state.locals);
        return match (moved, bound) {
            (true, _) => step.finish(Some(scope.locals())).map(Outcome::Commit),
            (false, true) => Ok(step.unmoved()),
            (false, false) => Ok(Outcome::Nothing),
        };
    }
    step.finish(None).map(Outcome::Commit)
}

/// Offers an event with an error to a reaction that matches errors; reports it otherwise.
fn hear_error(
    mut step: Step<'_>,
    state: &ThredState,
    event: &Arc<Event>,
) -> Result<Outcome, StepError> {
    let mut locals = state.locals.clone();
    if state.status == Status::Active && step.reaction()?.match_errors {
        let mut scope = Scope::new(event.clone(), step.world.now, step.world.seed);
        scope.enter_thred(state.id.clone(), locals);
        if step.run(&mut scope)? {
            return step.finish(Some(scope.locals())).map(Outcome::Commit);
        }
        locals = scope.locals().clone();
    }
    let is_reported = step.report_error(event)?;
    if is_reported || !Arc::ptr_eq(&locals, &state.locals) {
        step.finish(Some(&locals)).map(Outcome::Commit)
    } else {
        Ok(step.unmoved())
    }
}

/// Does what the engine says.
fn obey(
    pattern: &Pattern,
    state: &ThredState,
    command: &Command,
    consumed: Consumed,
    world: &World<'_>,
) -> Result<Outcome, StepError> {
    let begin = |world| {
        let command = Some(Arc::new(command.clone()));
        Step::new(pattern, world, state.clone(), consumed, None, command)
    };
    match command {
        // The thred is there, so it has been started; the inbox no longer says so.
        Command::Start(_) => Ok(Outcome::Duplicate),
        // The engine gives the thred the event that is in it.
        Command::Offer { .. } => Ok(Outcome::Nothing),
        Command::Expire { entry, at, .. } => {
            // Whoever said that it was due may have a clock that is ahead.
            let world = &World { now: world.now.max(*at), ..*world };
            expire(begin, *entry, world)
        }
        Command::Transition { to, .. } => {
            let target = match to.as_str() {
                transition_name::NEXT => Target::Next,
                transition_name::TERMINATE => Target::Terminate,
                name => match pattern.position(name) {
                    Some(index) if state.status == Status::Active => Target::To(index),
                    _ => return Ok(Outcome::Nothing),
                },
            };
            let transition = Transition { target, input: NextInput::Wait };
            take(begin(world), &transition, LogType::Transitioned).map(Outcome::Commit)
        }
        Command::Terminate { .. } => {
            let mut step = begin(world);
            step.terminate();
            step.finish(None).map(Outcome::Commit)
        }
        Command::Disown { child, .. } => {
            let Some(place) = state.children.iter().position(|id| id == child) else {
                return Ok(Outcome::Nothing);
            };
            let mut step = begin(world);
            step.state.children.remove(place);
            step.record(LogType::ChildEnded, None, Some(child.as_str()));
            step.finish(None).map(Outcome::Commit)
        }
    }
}

/// Lets the reaction expire, if its timer is the one that was due.
///
/// A step that fails here fails again with the next try. So the thred keeps its reaction and puts
/// its timer off, for as long as it has been due but between half a minute and a day: each try
/// comes later than the last, and holds up nobody.
fn expire<'a>(
    begin: impl Fn(&'a World<'a>) -> Step<'a>,
    entry: u64,
    world: &'a World<'a>,
) -> Result<Outcome, StepError> {
    let mut step = begin(world);
    let state = &step.state;
    let is_due = state.timer().is_some_and(|(at, armed)| armed == entry && at <= world.now);
    let Some(expiry) = step.reaction()?.expiry.as_ref().filter(|_| is_due) else {
        return Ok(Outcome::Nothing);
    };
    // Where the transition keeps the reaction, its timer has had its one effect.
    step.state.expires_at = None;
    match take(step, &expiry.transition, LogType::Expired) {
        Ok(commit) => Ok(Outcome::Commit(commit)),
        Err(error) => {
            let mut step = begin(world);
            step.put_off(expiry.interval);
            step.record(LogType::ExpiryFailed, None, Some(&error.to_string()));
            step.finish(None).map(Outcome::Commit)
        }
    }
}

/// Takes a transition that no event has caused.
fn take(mut step: Step<'_>, transition: &Transition, why: LogType) -> Result<Commit, StepError> {
    step.go(transition, why);
    let locals = step.state.locals.clone();
    match step.next_event(&transition.input, None, &locals)? {
        Some(event) => {
            let mut scope = Scope::new(Arc::clone(&event), step.world.now, step.world.seed);
            scope.enter_thred(step.state.id.clone(), locals);
            step.run(&mut scope)?;
            step.finish(Some(scope.locals()))
        }
        None => step.finish(None),
    }
}
