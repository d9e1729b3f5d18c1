//! Parents and children, and what else the end of a thred concerns.

use std::sync::Arc;

use thredlib::{Event, MessageId, SpawnType, ThredId, derive_id, expr::Scope};

use super::{StepError, step::Step};
use crate::{
    pattern::{NextInput, Spawn},
    port::{Command, LogType, OutboxEntry, Outgoing, Start},
};

impl Step<'_> {
    /// Starts threds, once this step is committed.
    pub(super) fn spawn(
        &mut self,
        spawn: &Spawn,
        event: &Arc<Event>,
        scope: &Scope,
    ) -> Result<(), StepError> {
        let input = match &spawn.input {
            NextInput::Wait => None,
            NextInput::Forward => Some(event.clone()),
            NextInput::Local(name) => Some(self.stored_event(name, scope.locals())?),
        };
        for name in &spawn.names {
            let Some(pattern) = self.world.library.pattern_named(name) else {
                self.record(LogType::NoPattern, None, Some(name));
                continue;
            };
            self.facts().patterns.insert((**name).into(), pattern.clone());
            let number = self.made.to_string();
            self.made += 1;
            let id = self.state.id.as_str();
            let child = derive_id("child", &[id, self.consumed.key.encode(&mut [0; 32]), &number]);
            let child = ThredId::new(child);
            let is_child = spawn.spawn_type == SpawnType::Child;
            let (locals, participants) = if spawn.context {
                (scope.locals().clone(), self.state.participants.clone())
            } else {
                Default::default()
            };
            self.record(LogType::Spawned, Some(pattern.as_arc().clone()), Some(child.as_str()));
            if is_child {
                self.state.children.push(child.clone());
            }
            self.order(Command::Start(Start {
                thred_id: child,
                pattern_id: pattern,
                parent: is_child.then(|| self.state.id.clone()),
                cause: event.clone(),
                consumed: self.consumed,
                input: input.clone(),
                locals,
                participants,
            }));
        }
        self.check("children", self.state.children.len(), self.world.limits.children)
    }

    /// Tells another thred something, once this step is committed.
    pub(super) fn order(&mut self, command: Command) {
        let id = MessageId::new(command.id().as_arc().clone());
        let outgoing = Outgoing::Command(Arc::new(command));
        self.outbox.push(OutboxEntry { id, at: self.world.now, outgoing });
    }

    /// What the end of a thred entails: its children end, its parent forgets it, its place among
    /// the pattern's instances is free.
    pub(super) fn end(&mut self) {
        for child in std::mem::take(&mut self.state.children) {
            self.order(Command::Terminate { thred_id: child, cause: self.consumed.key });
        }
        if let Some(parent) = self.state.parent.clone() {
            self.order(Command::Disown { thred_id: parent, child: self.state.id.clone() });
        }
        if self.pattern.is_limited() {
            self.outbox.push(OutboxEntry {
                id: MessageId::new(derive_id("release", &[self.state.id.as_str()])),
                at: self.world.now,
                outgoing: Outgoing::Release(self.pattern.key.id.clone()),
            });
        }
    }
}
