//! A batch under way: the cases that came in, and the work that is left for each.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
};

use thredlib::{EventKey, PatternId, ThredId};

use super::{Engine, Held, Stopped, outgoing::Publishing};
use crate::{
    hash::FastHash,
    pattern::{Library, Pattern},
    port::{
        Accepted, Command, Delivery, DeliveryTag, Directory, Inbound, Routed, Start, Timer, Unmoved,
    },
    state::{Consumed, WaitKey, partition_of},
    thred::World,
};

/// Tasks of one round.
const ROUND: usize = 256;

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
    /// Records about events that changed nothing.
    pub(super) records: Vec<(u16, Unmoved)>,
    /// What leaves the inboxes of threds with their next step.
    pub(super) settled: HashMap<ThredId, Arc<[EventKey]>, FastHash>,
    /// Whether the timers that came before the batch's unbound events have been looked for.
    pub(super) looked_at_timers: bool,
    /// The last of them in each partition so far.
    pub(super) overdue: HashMap<u16, Timer>,
    /// Messages that belong to no thred's commit: errors to sources, answers to control events.
    pub(super) notices: Vec<Routed>,
    /// Commands that belong to no thred's commit.
    pub(super) commands: Vec<Command>,
    /// Threds that had consumed an event before: whoever committed it may have died before
    /// publishing.
    pub(super) unpublished: Vec<ThredId>,
    /// Threds of the round whose outboxes are being published.
    pub(super) outgoing: Option<Publishing>,
}

/// One delivery and how it fares.
pub(super) struct Case {
    /// Names the delivery; `None` for what the engine itself has put into the batch.
    pub(super) tag: Option<DeliveryTag>,
    pub(super) inbound: Inbound,
    /// What a thred's inbox keeps of it.
    pub(super) consumed: Consumed,
    /// How often it has been handed out, this time included.
    pub(super) attempt: u32,
    /// Whether it has been handed out before.
    pub(super) redelivered: bool,
    /// Whether a thred or the engine itself has taken the event, or did so before it came again.
    pub(super) taken: bool,
    /// Whether it has had its end before: it has a receipt.
    pub(super) settled: bool,
    /// The keys of the threds that its event may be awaited by, sorted; empty: none waits for it.
    pub(super) keys: Vec<WaitKey>,
    /// The threds that it has been offered to.
    pub(super) offered: HashSet<ThredId, FastHash>,
    /// The patterns that had no place for it, and why; on record if nobody takes it.
    pub(super) no_place: Vec<(PatternId, &'static str)>,
    /// Whether it must wait for something else, and is tried again later.
    pub(super) deferred: bool,
    /// The threds that it has moved.
    pub(super) moved: Vec<ThredId>,
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

impl Case {
    fn new(delivery: Delivery<Inbound>, partitions: u16, now: i64) -> Self {
        let attempt = delivery.attempt;
        Self {
            tag: Some(delivery.tag),
            attempt,
            redelivered: attempt > 1,
            ..Self::of(delivery.payload, partitions, now)
        }
    }

    /// What the engine puts into a batch itself.
    pub(super) fn of(inbound: Inbound, partitions: u16, now: i64) -> Self {
        let (at, receipt) = match &inbound {
            Inbound::Event(accepted) => (accepted.accepted_at, true),
            Inbound::Command(command) => (now, command.needs_receipt()),
        };
        let partition = if receipt {
            partition_of(inbound.partition_key(), partitions)
        } else {
            Consumed::NO_RECEIPT
        };
        let moved = match &inbound {
            Inbound::Event(Accepted { redriven: Some(redriven), .. }) => redriven.moved.clone(),
            _ => Vec::new(),
        };
        Self {
            tag: None,
            consumed: Consumed::new(inbound.key(), at, partition),
            inbound,
            attempt: 1,
            redelivered: false,
            taken: false,
            settled: false,
            keys: Vec::new(),
            offered: HashSet::default(),
            no_place: Vec::new(),
            deferred: false,
            moved,
            failures: Vec::new(),
            error: None,
        }
    }
}

impl Batch {
    pub(super) async fn open(
        engine: &Engine,
        deliveries: Vec<Delivery<Inbound>>,
    ) -> Result<Self, Stopped> {
        let is_unbound = |delivery: &Delivery<Inbound>| match &delivery.payload {
            Inbound::Event(accepted) => accepted.event.thred_id.is_none(),
            Inbound::Command(_) => false,
        };
        if deliveries.iter().any(is_unbound) {
            engine.keep_up_with_listening().await;
        }
        let directory = engine.insist(|| engine.ports().resolver.directory()).await?;
        let partitions = engine.storage().partitions();
        let now = engine.now();
        let cases = deliveries.into_iter().map(|it| Case::new(it, partitions, now)).collect();
        let mut batch = Self {
            cases,
            matched: 0,
            tasks: VecDeque::new(),
            held: Held::default(),
            library: engine.library(),
            directory,
            watchers: engine.watchers(),
            now,
            seed: engine.config().seed,
            limits: engine.config().react_limits,
            records: Vec::new(),
            settled: HashMap::default(),
            looked_at_timers: false,
            overdue: HashMap::new(),
            notices: Vec::new(),
            commands: Vec::new(),
            unpublished: Vec::new(),
            outgoing: None,
        };
        engine.look_up_receipts(&mut batch).await?;
        Ok(batch)
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
            settled: &[],
        }
    }

    pub(super) fn add(&mut self, case: usize, what: What) {
        self.tasks.push_back(Task { case, what, conflicts: 0 });
    }

    /// Puts a task back before all others: the thred's later ones wait for it.
    pub(super) fn again(&mut self, task: Task) {
        self.tasks.push_front(task);
    }

    /// The next tasks that can be done together: the first of each thred, in order; not too many, so
    /// that the round lets others have its thread in time.
    pub(super) fn next_round(&mut self) -> Option<Vec<Task>> {
        let first = self.tasks.front()?.what.thred_id();
        // A hot thred: its tasks stay where they are.
        if first.is_some() && self.tasks.iter().all(|task| task.what.thred_id() == first) {
            return self.tasks.pop_front().map(|task| vec![task]);
        }
        let rest = self.tasks.split_off(self.tasks.len().min(ROUND));
        let some = std::mem::replace(&mut self.tasks, rest);
        if some.iter().all(|task| task.what.thred_id().is_none()) {
            return Some(some.into());
        }
        let mut busy: HashSet<_, FastHash> = HashSet::default();
        let (mut round, mut later) = (Vec::new(), VecDeque::new());
        for task in some {
            match task.what.thred_id() {
                Some(id) if !busy.insert(id.clone()) => later.push_back(task),
                _ => round.push(task),
            }
        }
        later.append(&mut self.tasks);
        self.tasks = later;
        Some(round)
    }

    /// Whether more is to be done than one round does.
    pub(super) fn is_long(&self) -> bool {
        self.tasks.len() >= ROUND
    }

    /// Offers the case's event to a thred that waits, unless it has been, or has moved it in an
    /// earlier life.
    pub(super) fn offer(&mut self, case: usize, thred: ThredId) {
        let it = &mut self.cases[case];
        if !it.moved.contains(&thred) && it.offered.insert(thred.clone()) {
            let what = match it.inbound {
                Inbound::Event(_) => What::Offer(thred),
                // An offer that the holder of a place had no use for goes on to others.
                Inbound::Command(_) => What::Obey(thred),
            };
            self.add(case, what);
        }
    }

    /// The event of a case, or the one that an offer carries.
    pub(super) fn accepted(&self, case: usize) -> Option<&Accepted> {
        match &self.cases[case].inbound {
            Inbound::Event(accepted) => Some(accepted),
            Inbound::Command(command) => match &**command {
                Command::Offer { accepted, .. } => Some(accepted),
                _ => None,
            },
        }
    }

    /// Whether a case is an offer to the holder of a place.
    pub(super) fn is_offer(&self, case: usize) -> bool {
        let Inbound::Command(command) = &self.cases[case].inbound else { return false };
        matches!(**command, Command::Offer { .. })
    }

    /// What a thred's inbox keeps of the event of a case, or of the one that an offer carries.
    pub(super) fn consumed_event(&self, case: usize) -> Consumed {
        match &self.cases[case].inbound {
            Inbound::Command(command) => match &**command {
                Command::Offer { consumed, .. } => *consumed,
                _ => self.cases[case].consumed,
            },
            Inbound::Event(_) => self.cases[case].consumed,
        }
    }

    /// Takes out the deliveries that must wait for something else.
    pub(super) fn take_deferred(&mut self) -> Vec<Delivery<Inbound>> {
        let waiting = self.cases.iter().filter(|case| case.deferred);
        let deliveries = waiting.filter_map(|case| {
            let (payload, attempt) = (case.inbound.clone(), case.attempt);
            Some(Delivery { payload, tag: case.tag?, attempt, failures: 0 })
        });
        deliveries.collect()
    }

    /// Notes that the task's thred had consumed the event before.
    pub(super) fn seen_before(&mut self, task: &Task) {
        self.cases[task.case].taken = true;
        if let Some(id) = task.what.thred_id() {
            self.cases[task.case].moved.push(id.clone());
        }
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
