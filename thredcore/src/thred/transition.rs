//! Where a thred goes next, and what it is given there.

use std::sync::Arc;

use thin_vec::ThinVec;
use thredlib::{Event, expr::Locals, transition_name};

use super::{StepError, step::Step};
use crate::{
    pattern::{NextInput, Reaction, Target, Transition},
    port::LogType,
    state::Status,
};

impl Step<'_> {
    /// Takes a transition.
    pub(super) fn go(&mut self, transition: &Transition, why: LogType) {
        let from = self.state.reaction.clone();
        self.state.errors = 0;
        let here = self.pattern.position(&from);
        let next = match transition.target {
            Target::Stay => {
                self.record(why, Some(transition_name::NO_TRANSITION.into()), None);
                return;
            }
            Target::Terminate => None,
            Target::To(index) => Some(index),
            Target::Next => here.map(|index| index + 1),
        };
        match next.and_then(|index| self.pattern.reactions.get(index)) {
            Some(reaction) => {
                self.record(why, Some(reaction.name.clone()), None);
                self.enter(reaction);
            }
            None if transition.target == Target::Next && self.pattern.broadcast_allowed => {
                self.record(why, Some("$finished".into()), None);
                self.leave(Status::Finished);
            }
            None => {
                self.record(why, Some(transition_name::TERMINATE.into()), None);
                self.terminate();
            }
        }
    }

    fn enter(&mut self, reaction: &Reaction) {
        let state = &mut self.state;
        state.reaction = reaction.name.clone();
        state.entry = state.version + 1;
        state.entered_at = self.world.now;
        state.expires_at =
            reaction.expiry.as_ref().map(|e| self.world.now.saturating_add(e.interval));
        state.matched = ThinVec::new();
    }

    fn leave(&mut self, status: Status) {
        let state = &mut self.state;
        state.status = status;
        state.expires_at = None;
        state.matched = ThinVec::new();
    }

    /// Ends the thred.
    pub(super) fn terminate(&mut self) {
        self.record(LogType::Terminated, None, None);
        self.leave(Status::Terminated);
    }

    /// The event that the next reaction is given at once.
    pub(super) fn next_event(
        &self,
        input: &NextInput,
        event: Option<Arc<Event>>,
        locals: &Locals,
    ) -> Result<Option<Arc<Event>>, StepError> {
        if self.state.status != Status::Active {
            return Ok(None);
        }
        match input {
            NextInput::Wait => Ok(None),
            NextInput::Forward => Ok(event),
            NextInput::Local(name) => self.stored_event(name, locals).map(Some),
        }
    }

    pub(super) fn stored_event(
        &self,
        name: &str,
        locals: &Locals,
    ) -> Result<Arc<Event>, StepError> {
        let Some(value) = locals.get(name) else {
            return Err(self.misshapen(format!("there is no local `{name}` to take as input")));
        };
        serde::Deserialize::deserialize(value)
            .map(Arc::new)
            .map_err(|error| self.misshapen(format!("the local `{name}` holds no event: {error}")))
    }
}
