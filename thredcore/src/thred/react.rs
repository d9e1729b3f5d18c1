//! The entry points: start a thred, react to an input.

use std::sync::Arc;

use thredlib::{EventId, PatternId, ThredId, derive_id, event_type, expr::Scope, transition_name};

use super::{Input, Outcome, StepError, World, step::Step};
use crate::{
    pattern::{NextInput, Pattern, Target, Transition},
    port::{Command, Commit, LogType, Start},
    state::{Status, ThredState},
};

/// Offers an unbound event (the scope's) to a pattern; `None` when it starts no thred.
///
/// The new thred's id is derived from the event and the pattern: the same event, delivered again,
/// starts the same thred.
///
/// # Errors
/// When the step fails; nothing starts.
pub fn start(
    pattern: &Pattern,
    scope: &mut Scope,
    world: &World<'_>,
) -> Result<Option<Commit>, StepError> {
    let event = scope.event().clone();
    if !pattern.entry().allows(&event.source.id, world.directory) {
        return Ok(None);
    }
    let state = Step::fresh(pattern, world, started_id(&event.id, &pattern.key.id));
    scope.enter_thred(state.id.clone(), state.locals.clone());
    let mut step = Step::new(pattern, world, state, event.id.clone(), Some(event.clone()));
    step.testing = true;
    let started = step.run(scope);
    scope.set_event(event);
    match started? {
        true => step.finish(Some(scope.locals())).map(Some),
        false => Ok(None),
    }
}

/// The id of the thred that an event starts of a pattern.
pub fn started_id(event: &EventId, pattern: &PatternId) -> ThredId {
    ThredId::new(derive_id("thred", &[event.as_str(), pattern.as_str()]))
}

/// Starts a spawned thred.
///
/// # Errors
/// When the step fails; nothing starts.
pub fn spawn(pattern: &Pattern, start: &Start, world: &World<'_>) -> Result<Commit, StepError> {
    let mut state = Step::fresh(pattern, world, start.thred_id.clone());
    state.parent = start.parent.clone();
    state.locals = start.locals.clone();
    state.participants = start.participants.clone();
    state.label = Some(pattern.name.clone());
    let command = Arc::new(Command::Start(start.clone()));
    let id = command.id();
    let event = start.input.as_ref().unwrap_or(&start.cause).clone();
    // It has come of these: delivered again, they are not for it.
    state.inbox.push(start.cause.id.clone());
    if event.id != start.cause.id {
        state.inbox.push(event.id.clone());
    }
    let mut step = Step::new(pattern, world, state, id, Some(event));
    step.command = Some(command);
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
    world: &World<'_>,
) -> Result<Outcome, StepError> {
    let id = input.id();
    if state.has_consumed(&id) {
        return Ok(Outcome::Duplicate);
    }
    if state.status == Status::Terminated {
        return Ok(Outcome::Ended);
    }
    let event = match input {
        Input::Command(command) => return obey(pattern, state, command, id, world),
        Input::Bound(event) | Input::Offered(event) => event,
    };
    let bound = matches!(input, Input::Bound(_));
    // Offered to where the thred stood when the event was matched; it may have moved since.
    if !bound && !state.listening {
        return Ok(Outcome::Nothing);
    }
    if let Some((at, entry)) = state.timer()
        && at <= world.now
    {
        let due = Command::Expire { thred_id: state.id.clone(), entry };
        return match obey(pattern, state, &due, due.id(), world)? {
            Outcome::Commit(commit) => Ok(Outcome::ExpireFirst(commit)),
            other => Ok(other),
        };
    }
    let mut step = Step::new(pattern, world, state.clone(), id, Some(event.clone()));
    if bound && event.error().is_some() {
        step.report_error(event)?;
    } else if bound && *event.event_type == *event_type::CLIENT_BROADCAST {
        step.broadcast(event)?;
    } else if state.status == Status::Finished {
        if !bound {
            return Ok(Outcome::Nothing);
        }
        step.record(LogType::NoMatch, None, Some("the thred is past its last reaction"));
    } else {
        let mut scope = Scope::new(event.clone(), world.now, world.seed);
        scope.enter_thred(state.id.clone(), state.locals.clone());
        if !step.run(&mut scope)? && !bound {
            return Ok(Outcome::Nothing);
        }
        return step.finish(Some(scope.locals())).map(Outcome::Commit);
    }
    step.finish(None).map(Outcome::Commit)
}

/// Does what the engine says.
fn obey(
    pattern: &Pattern,
    state: &ThredState,
    command: &Command,
    id: EventId,
    world: &World<'_>,
) -> Result<Outcome, StepError> {
    let mut step = Step::new(pattern, world, state.clone(), id, None);
    step.command = Some(Arc::new(command.clone()));
    match command {
        // The thred is there, so it has been started; the inbox no longer says so.
        Command::Start(_) => return Ok(Outcome::Duplicate),
        Command::Expire { entry, .. } => {
            let due = state.timer() == state.expires_at.map(|at| (at, *entry))
                && state.expires_at.is_some_and(|at| at <= world.now);
            let Some(expiry) = step.reaction()?.expiry.as_ref().filter(|_| due) else {
                return Ok(Outcome::Nothing);
            };
            // Where the transition keeps the reaction, its timer has had its one effect.
            step.state.expires_at = None;
            return take(step, &expiry.transition, LogType::Expired);
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
            return take(step, &transition, LogType::Transitioned);
        }
        Command::Terminate { .. } => step.terminate(),
        Command::Disown { child, .. } => {
            let Some(place) = state.children.iter().position(|id| id == child) else {
                return Ok(Outcome::Nothing);
            };
            step.state.children.remove(place);
            step.record(LogType::ChildEnded, None, Some(child.as_str()));
        }
    }
    step.finish(None).map(Outcome::Commit)
}

/// Takes a transition that no event has caused.
fn take(mut step: Step<'_>, transition: &Transition, why: LogType) -> Result<Outcome, StepError> {
    step.go(transition, why);
    let locals = step.state.locals.clone();
    match step.next_event(&transition.input, None, &locals)? {
        Some(event) => {
            let mut scope = Scope::new(Arc::clone(&event), step.world.now, step.world.seed);
            scope.enter_thred(step.state.id.clone(), locals);
            step.run(&mut scope)?;
            step.finish(Some(scope.locals())).map(Outcome::Commit)
        }
        None => step.finish(None).map(Outcome::Commit),
    }
}
