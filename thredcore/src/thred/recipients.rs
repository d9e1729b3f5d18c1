//! From addresses to messages.

use std::{collections::HashSet, sync::Arc};

use thredlib::{Address, Event, Message, MessageId, ParticipantId, Topic};

use super::{
    StepError,
    step::{Step, decimal},
};
use crate::port::{Directory, LogType, OutboxEntry, Outgoing};

/// Who gets an event, in order, nobody twice.
pub(super) type Recipients = Vec<ParticipantId>;

/// A list without repetitions; searched in a line while it is short or little is added.
struct Unique {
    list: Vec<ParticipantId>,
    added: usize,
    seen: HashSet<ParticipantId>,
}

impl Unique {
    const SHORT: usize = 16;

    fn new(list: Vec<ParticipantId>) -> Self {
        Self { list, added: 0, seen: HashSet::new() }
    }

    fn add(&mut self, id: ParticipantId) {
        self.added += 1;
        if self.seen.is_empty() && self.list.len().min(self.added) > Self::SHORT {
            self.seen = self.list.iter().cloned().collect();
        }
        let known =
            if self.seen.is_empty() { self.list.contains(&id) } else { self.seen.contains(&id) };
        if known {
            return;
        }
        if !self.seen.is_empty() {
            self.seen.insert(id.clone());
        }
        if self.list.len() < Self::SHORT && self.list.len() == self.list.capacity() {
            // Most lists stay short, and a participant list is kept as long as its thred.
            self.list.reserve_exact(1);
        }
        self.list.push(id);
    }
}

impl<'a> Step<'a> {
    /// The participants and services behind addresses. Names that stand for nobody are recorded.
    pub(super) fn resolve(&mut self, addresses: &[Address]) -> Result<Recipients, StepError> {
        let directory = self.world.directory;
        let mut found = Unique::new(Vec::new());
        for address in addresses {
            let before = found.list.len();
            let everybody;
            let members: &[ParticipantId] = match address {
                Address::Direct(id) => {
                    // A text of its own: threads that count references to one wait for each other.
                    found.add(id.as_str().into());
                    continue;
                }
                Address::Group(name) => self.group(name),
                Address::RoleOrGroup(name) => match directory.role(name) {
                    Some(holders) => {
                        self.facts().role(name, holders);
                        holders
                    }
                    None => self.group(name),
                },
                Address::Thred => {
                    everybody = self.state.participants.clone();
                    &everybody
                }
                Address::Everyone => {
                    self.facts().everyone(directory);
                    directory.everyone()
                }
            };
            let persons = *address == Address::Thred;
            members
                .iter()
                .filter(|id| !(persons && self.is_service(id)))
                .for_each(|id| found.add(id.clone()));
            if members.is_empty() && found.list.len() == before {
                self.record(LogType::NoRecipient, None, Some(&address.to_string()));
            }
        }
        self.check("recipients", found.list.len(), self.world.limits.recipients)?;
        Ok(found.list)
    }

    /// The members of a group.
    fn group(&mut self, name: &str) -> &'a [ParticipantId] {
        let Some(members) = self.world.directory.group(name) else { return &[] };
        self.facts().group(name, members);
        members
    }

    /// Whether an address is a service.
    pub(super) fn is_service(&mut self, address: &ParticipantId) -> bool {
        let is = self.world.directory.is_service(address);
        if is {
            self.facts().directory.add_service(address.clone());
        }
        is
    }

    /// Where somebody's messages go.
    fn session_nodes(&mut self, id: &ParticipantId) -> &'a [Topic] {
        let nodes = self.world.directory.session_nodes(id);
        if !matches!(nodes, [node] if *node == *Directory::DEFAULT_NODE) {
            self.facts().nodes(id, nodes);
        }
        nodes
    }

    /// Makes participants of the thred.
    pub(super) fn join(
        &mut self,
        newcomers: impl IntoIterator<Item = ParticipantId>,
    ) -> Result<(), StepError> {
        let mut participants = Unique::new(std::mem::take(&mut self.state.participants));
        newcomers.into_iter().for_each(|id| participants.add(id));
        self.state.participants = participants.list;
        let count = self.state.participants.len();
        self.check("participants", count, self.world.limits.participants)
    }

    /// Puts out one message to each service, and one to each session node for the participants
    /// that it holds.
    pub(super) fn send(&mut self, event: Arc<Event>, recipients: Recipients) {
        if let [only] = &*recipients {
            let topic = if self.is_service(only) {
                Some(Topic::new(only.as_arc().clone()))
            } else {
                match self.session_nodes(only) {
                    [node] => Some(node.clone()),
                    _ => None,
                }
            };
            if let Some(topic) = topic {
                self.outbox.reserve_exact(1);
                return self.put_out(event, 0, topic, recipients);
            }
        }
        let mut routes: Vec<(Topic, Vec<ParticipantId>)> = Vec::new();
        for id in recipients {
            if self.is_service(&id) {
                routes.push((Topic::new(id.as_arc().clone()), vec![id]));
                continue;
            }
            for node in self.session_nodes(&id) {
                match routes.iter_mut().find(|(topic, _)| topic == node) {
                    Some((_, held)) => held.push(id.clone()),
                    None => routes.push((node.clone(), vec![id.clone()])),
                }
            }
        }
        for (number, (topic, to)) in routes.into_iter().enumerate() {
            self.put_out(event.clone(), number, topic, to);
        }
    }

    fn put_out(&mut self, event: Arc<Event>, number: usize, topic: Topic, to: Recipients) {
        let mut digits = [0; 20];
        let parts = [event.id.as_str(), ".", decimal(number, &mut digits)];
        let id = MessageId::new(thredlib::join_id(&parts));
        let timestamp = self.world.now;
        let message = Arc::new(Message { id: id.clone(), event, to, timestamp });
        let outgoing = Outgoing::Message { topic, message };
        self.outbox.push(OutboxEntry { id, at: timestamp, outgoing });
    }
}
