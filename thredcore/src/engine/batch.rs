//! A batch under way: the cases that came in, and the work that is left for each.

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
};

use thredlib::{Event, ThredId};

use super::{Engine, Held, Stopped};
use crate::{
    hash::FastHash,
    pattern::{Library, Pattern},
    port::{Command, Delivery, DeliveryTag, Directory, Inbound, LogRecord, Routed, Start},
    thred::World,
};

/// What was received together, with all that its decisions depend on.
pub(super) struct Batch {
    pub(super) cases: Vec<Case>,
    /// How many cases have been matched.
    pub(super) matched: usize,
    tasks: VecDeque<Task>,
    pub(super) held: Held,
    pub(super) library: Arc<Library>,
    directory: Arc<Directory>,
    watchers: Arc<Vec<thredlib::ParticipantId>>,
    pub(super) now: i64,
    pub(super) seed: u64,
    limits: crate::thred::ReactLimits,
    /// Records about events that moved no thred.
    pub(super) records: Vec<(LogRecord, Arc<Event>)>,
    /// Messages that belong to no thred's commit: errors to sources, answers to control events.
    pub(super) notices: Vec<Routed>,
    /// Commands that belong to no thred's commit.
    pub(super) commands: Vec<Command>,
    /// Threds that had consumed an event before: whoever committed it may have died before
    /// publishing.
    pub(super) unpublished: Vec<ThredId>,
    /// Threds of the round whose outboxes are being published.
    pub(super) outgoing: Vec<ThredId>,
}

/// One delivery and how it fares.
pub(super) struct Case {
    pub(super) tag: DeliveryTag,
    pub(super) inbound: Inbound,
    /// Whether it has been handed out before.
    pub(super) redelivered: bool,
    /// Whether a thred or the engine itself has taken the event, or did so before it came again.
    pub(super) taken: bool,
    /// What failed; together they make the reason of a dead letter.
    pub(super) failures: Vec<String>,
    pub(super) error: Option<thredlib::EventError>,
}

/// One thing to do for a case.
#[derive(Clone)]
pub(super) struct Task {
    pub(super) case: usize,
    pub(super) what: What,
    /// How often it has met a conflict.
    pub(super) conflicts: u32,
}

/// What is to be done.
#[derive(Clone)]
pub(super) enum What {
    /// Offer the event to a pattern, to start a thred.
    Begin(Arc<Pattern>),
    /// Give the event to the thred that it is bound to.
    Bound(ThredId),
    /// Offer the event to a thred that waits for unbound ones.
    Offer(ThredId),
    /// Give the command to its thred.
    Obey(ThredId),
    /// Start a spawned thred.
    Spawn(Start),
}

impl What {
    /// The thred that it concerns; a pattern's new thred has none yet.
    pub(super) fn thred_id(&self) -> Option<&ThredId> {
        match self {
            Self::Begin(_) => None,
            Self::Bound(id) | Self::Offer(id) | Self::Obey(id) => Some(id),
            Self::Spawn(start) => Some(&start.thred_id),
        }
    }
}

impl Batch {
    pub(super) async fn open(
        engine: &Engine,
        deliveries: Vec<Delivery<Inbound>>,
    ) -> Result<Self, Stopped> {
        let directory = engine.insist(|| engine.ports().resolver.directory()).await?;
        let settled = engine.settled(&deliveries).await?;
        let cases = deliveries
            .into_iter()
            .map(|delivery| Case {
                tag: delivery.tag,
                redelivered: delivery.attempt > 1,
                taken: settled.contains(&delivery.payload.id()),
                inbound: delivery.payload,
                failures: Vec::new(),
                error: None,
            })
            .collect();
        Ok(Self {
            cases,
            matched: 0,
            tasks: VecDeque::new(),
            held: Held::default(),
            library: engine.library(),
            directory,
            watchers: engine.watchers(),
            now: engine.now(),
            seed: engine.config().seed,
            limits: engine.config().react_limits,
            records: Vec::new(),
            notices: Vec::new(),
            commands: Vec::new(),
            unpublished: Vec::new(),
            outgoing: Vec::new(),
        })
    }

    pub(super) fn directory(&self) -> &Directory {
        &self.directory
    }

    pub(super) fn world(&self) -> World<'_> {
        World {
            now: self.now,
            seed: self.seed,
            directory: &self.directory,
            library: &*self.library,
            limits: &self.limits,
            watchers: &self.watchers,
        }
    }

    pub(super) fn add(&mut self, case: usize, what: What) {
        self.tasks.push_back(Task { case, what, conflicts: 0 });
    }

    /// Puts a task back before all others: the thred's later ones wait for it.
    pub(super) fn again(&mut self, task: Task) {
        self.tasks.push_front(task);
    }

    /// The next tasks that can be done together: the first of each thred, in order.
    pub(super) fn next_round(&mut self) -> Option<Vec<Task>> {
        let first = self.tasks.front()?.what.thred_id();
        // A hot thred: its tasks stay where they are.
        if first.is_some() && self.tasks.iter().all(|task| task.what.thred_id() == first) {
            return self.tasks.pop_front().map(|task| vec![task]);
        }
        if self.tasks.iter().all(|task| task.what.thred_id().is_none()) {
            return Some(self.tasks.drain(..).collect());
        }
        let mut busy: HashSet<_, FastHash> = HashSet::default();
        let (mut round, mut later) = (Vec::new(), VecDeque::new());
        for task in self.tasks.drain(..) {
            match task.what.thred_id() {
                Some(id) if !busy.insert(id.clone()) => later.push_back(task),
                _ => round.push(task),
            }
        }
        self.tasks = later;
        Some(round)
    }

    /// Notes that the task's thred had consumed the event before.
    pub(super) fn seen_before(&mut self, task: &Task) {
        self.cases[task.case].taken = true;
        if let Some(id) = task.what.thred_id()
            && self.held.get(id).is_some_and(|loaded| !loaded.outbox.is_empty())
        {
            self.unpublished.push(id.clone());
        }
    }

    pub(super) fn fail(&mut self, case: usize, reason: String, error: thredlib::EventError) {
        let case = &mut self.cases[case];
        case.failures.push(reason);
        case.error.get_or_insert(error);
    }
}
