//! The invariants, each as a check of its own.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use thredcore::{
    pattern::Target,
    port::{Command, History, LogRecord, LogType, Timer, Unmoved},
    state::{Status, ThredState},
    thred::{replay, started_id},
};
use thredlib::{Event, EventId, EventKey, MessageId, SYSTEM, ThredId, Topic, derive_id};

use super::{Evidence, Past};

/// Checks that every invariant holds; the answer tells each breach, with the thred or event.
///
/// Two things are left to other tests, as what remains of one run cannot show them: that equal
/// input gives an equal outcome, and what lies further back than the dedupe window.
///
/// # Errors
/// All breaches, a line for each.
pub fn check_invariants(evidence: &Evidence) -> Result<(), String> {
    let mut breaches = Vec::new();
    let accepted = Accepted::of(evidence);
    for past in &evidence.threds {
        check_versions(past, &mut breaches);
        check_one_effect(past, &mut breaches);
        check_order(evidence, &accepted, past, &mut breaches);
        check_replay(evidence, past, &mut breaches);
    }
    check_published(evidence, &mut breaches);
    check_publish_order(evidence, &mut breaches);
    check_fates(evidence, &mut breaches);
    check_timers(evidence, &mut breaches);
    check_families(evidence, &mut breaches);
    check_places(evidence, &mut breaches);
    check_quiet(evidence, &mut breaches);
    if breaches.is_empty() { Ok(()) } else { Err(breaches.join("\n")) }
}

/// The event or command that a step consumed.
fn consumed(step: &History) -> Option<&EventId> {
    step.log.first().map(|record| &record.event)
}

/// 1 and 3: a version for each step, a step for each version, with its decisions.
fn check_versions(past: &Past, breaches: &mut Vec<String>) {
    let id = &past.state.id;
    let versions: Vec<_> = past.history.iter().map(|step| step.version).collect();
    if !versions.iter().copied().eq(1..=past.state.version) {
        let version = past.state.version;
        breaches.push(format!("thred {id} is at version {version}, its steps are {versions:?}"));
    }
    for step in &past.history {
        let same = |record: &LogRecord| {
            Some(&record.event) == consumed(step) && record.thred_id.as_ref() == Some(id)
        };
        if step.log.is_empty() || !step.log.iter().all(same) {
            let version = step.version;
            breaches.push(format!("thred {id}: the log of version {version} is not of one event"));
        }
    }
}

/// 2: one effect for an event, over the whole run, however it came.
fn check_one_effect(past: &Past, breaches: &mut Vec<String>) {
    let mut seen: HashMap<EventKey, u64> = HashMap::new();
    for step in &past.history {
        let key = match (&step.command, &step.event) {
            (None, Some(event)) => Some(key_of(event)),
            (Some(command), _) => match &**command {
                Command::Offer { accepted, .. } => Some(key_of(&accepted.event)),
                _ => step.consumed.map(|consumed| consumed.key),
            },
            (None, None) => None,
        };
        let Some(event) = key else { continue };
        if let Some(before) = seen.insert(event, step.version) {
            let (id, version) = (&past.state.id, step.version);
            breaches.push(format!(
                "thred {id}: event {event} had an effect at version {before} and at {version}"
            ));
        }
    }
}

fn key_of(event: &Event) -> EventKey {
    EventKey::of(event.source.id.as_str(), event.id.as_str())
}

/// 4: a published message was made by a commit, or derives from an event as a notice: an error for
/// its source or the answer to a control event. And what a commit made was published.
fn check_published(evidence: &Evidence, breaches: &mut Vec<String>) {
    let mut made = HashMap::new();
    for past in &evidence.threds {
        for message in past.history.iter().flat_map(|step| &step.messages) {
            if made.insert(&message.id, message).is_some() {
                breaches.push(format!("message {} was made twice", message.id));
            }
        }
    }
    let accepted: HashMap<&EventId, &Event> =
        evidence.accepted.iter().map(|event| (&event.id, &**event)).collect();
    let mut published: HashSet<&MessageId> = HashSet::new();
    for routed in &evidence.published {
        let message = &routed.message;
        published.insert(&message.id);
        match made.get(&message.id) {
            Some(commits) if *commits == message => {}
            Some(_) => breaches.push(format!("message {} is not as committed", message.id)),
            None if is_notice(&message.event, &accepted) => {}
            None => breaches.push(format!("message {} belongs to no commit", message.id)),
        }
    }
    for id in made.keys().filter(|id| !published.contains(*id)) {
        breaches.push(format!("message {id} was committed and never published"));
    }
}

/// Whether the engine may have made an event without a thred: its id is derived from the event
/// that it answers.
fn is_notice(event: &Event, accepted: &HashMap<&EventId, &Event>) -> bool {
    let Some(re) = event.re.as_ref().and_then(|re| accepted.get(re)) else { return false };
    let key = key_of(re).to_string();
    let code = event.error().and_then(|error| error.get("code")?.as_str());
    [Some("answer"), Some(code.unwrap_or_default())]
        .into_iter()
        .flatten()
        .any(|part| *event.id.as_str() == *derive_id("notice", &[&key, &event.event_type, part]))
}

/// 5: an accepted event is in some thred's log, on record as having moved none, or dead; on record
/// as matching nothing only if nothing else came of it. Refused by one pattern's limits it may have
/// started threds of others; and an event that was accepted twice may have two fates that exclude
/// each other for one.
fn check_fates(evidence: &Evidence, breaches: &mut Vec<String>) {
    let mut times: BTreeMap<&EventId, usize> = BTreeMap::new();
    for event in &evidence.accepted {
        *times.entry(&event.id).or_default() += 1;
    }
    let moved: HashSet<&EventId> = (evidence.threds.iter())
        .flat_map(|past| past.history.iter().filter_map(consumed))
        .collect();
    let dead: HashSet<EventId> = evidence.dead.iter().map(|dead| dead.payload.id()).collect();
    let mut unmoved: HashMap<&EventId, Vec<LogType>> = HashMap::new();
    for record in evidence.unmoved.iter().map(|unmoved| &unmoved.record) {
        unmoved.entry(&record.event).or_default().push(record.log_type);
    }
    for (event, times) in times {
        let records = unmoved.get(event).map_or(&[][..], |records| records);
        let lonely = records
            .iter()
            .any(|record| matches!(record, LogType::NoPatternMatch | LogType::NoThred));
        let elsewhere = moved.contains(event) || dead.contains(event) || records.len() > 1;
        if records.is_empty() && !elsewhere {
            breaches.push(format!("event {event} was accepted and is nowhere"));
        }
        if lonely && elsewhere && times == 1 && !evidence.repeated {
            breaches.push(format!("event {event} matched nothing, and yet something came of it"));
        }
    }
    let threds = evidence.states();
    for Unmoved { key, record, .. } in &evidence.unmoved {
        let Some(pattern) = record.pattern_id.as_ref() else { continue };
        let started = threds.get(&started_id(key, pattern));
        if record.log_type == LogType::Constrained
            && started.is_some_and(|thred| thred.started_at < record.timestamp)
        {
            let event = &record.event;
            breaches.push(format!("event {event} started a thred of {pattern}, then was refused"));
        }
    }
}

/// Where each accepted event stands among them, as often as it was accepted.
struct Accepted<'a>(HashMap<&'a EventId, Vec<usize>>);

impl<'a> Accepted<'a> {
    fn of(evidence: &'a Evidence) -> Self {
        let mut places: HashMap<_, Vec<_>> = HashMap::with_capacity(evidence.accepted.len());
        for (place, event) in evidence.accepted.iter().enumerate() {
            places.entry(&event.id).or_default().push(place);
        }
        Self(places)
    }

    /// The place of an event that was accepted once.
    fn only(&self, event: &EventId) -> Option<usize> {
        match self.0.get(event)?[..] {
            [place] => Some(place),
            _ => None,
        }
    }
}

/// 6: bound events that came once, of one source, are in the log as they were accepted; unbound
/// ones among themselves, too, unless a process died.
fn check_order(
    evidence: &Evidence,
    accepted: &Accepted<'_>,
    past: &Past,
    breaches: &mut Vec<String>,
) {
    let mut last: HashMap<(&str, bool), (usize, &EventId)> = HashMap::new();
    for step in past.history.iter().filter(|step| step.command.is_none()) {
        let Some(event) = &step.event else { continue };
        let Some(place) = accepted.only(&event.id) else { continue };
        let bound = event.thred_id.is_some();
        if evidence.interrupted && !bound {
            continue;
        }
        let key = (event.source.id.as_str(), bound);
        if let Some((before, earlier)) = last.insert(key, (place, &event.id))
            && before > place
        {
            let (id, event) = (&past.state.id, &event.id);
            breaches
                .push(format!("thred {id} met event {event} after {earlier}, which came later"));
        }
    }
}

/// 6: first publishes of a thred follow its versions, on each topic.
fn check_publish_order(evidence: &Evidence, breaches: &mut Vec<String>) {
    if evidence.redelivered {
        return;
    }
    let mut places: HashMap<&MessageId, (&ThredId, usize)> = HashMap::new();
    for past in &evidence.threds {
        let messages = past.history.iter().flat_map(|step| &step.messages);
        for (place, message) in messages.enumerate() {
            places.insert(&message.id, (&past.state.id, place));
        }
    }
    let mut seen = HashSet::new();
    let mut last: HashMap<(&ThredId, &Topic), usize> = HashMap::new();
    for routed in evidence.published.iter().filter(|it| seen.insert(&it.message.id)) {
        let Some((thred, place)) = places.get(&routed.message.id) else { continue };
        if let Some(before) = last.insert((thred, &routed.topic), *place)
            && before > *place
        {
            let id = &routed.message.id;
            breaches.push(format!("thred {thred}: message {id} was published after a later one"));
        }
    }
}

/// 7: a timer for each active reaction with an expiry, and no other.
fn check_timers(evidence: &Evidence, breaches: &mut Vec<String>) {
    let mut expected: Vec<Timer> = (evidence.threds.iter())
        .filter_map(|past| {
            let (at, entry) = past.state.timer()?;
            Some(Timer { at, thred_id: past.state.id.clone(), entry })
        })
        .collect();
    let mut timers = evidence.timers.clone();
    expected.sort();
    timers.sort();
    if timers != expected {
        breaches.push(format!("the timers are {timers:?}, the reactions ask for {expected:?}"));
    }
    for past in &evidence.threds {
        let reaction = evidence
            .pattern(&past.state)
            .and_then(|pattern| Some(&pattern.reactions[pattern.position(&past.state.reaction)?]));
        let expiry = reaction.and_then(|reaction| reaction.expiry.as_ref());
        // One that keeps the reaction happens once, and then there is none.
        let kept = expiry.is_some_and(|expiry| expiry.transition.target == Target::Stay);
        let expires = past.state.status == Status::Active && expiry.is_some();
        if past.state.expires_at.is_some() != expires && !(kept && expires) {
            let id = &past.state.id;
            breaches.push(format!("thred {id}: its reaction's expiry and its timer disagree"));
        }
    }
}

/// 8: the history gives the stored state again, byte for byte; and 10, as far as one run shows it.
fn check_replay(evidence: &Evidence, past: &Past, breaches: &mut Vec<String>) {
    let id = &past.state.id;
    let Some(pattern) = evidence.pattern(&past.state) else {
        breaches.push(format!("thred {id}: its pattern revision is not stored"));
        return;
    };
    let text = |state: &ThredState| serde_json::to_string(state).unwrap_or_default();
    match replay(pattern, &past.history, evidence.limits()) {
        Ok(again) if text(&again) == text(&past.state) => {}
        Ok(again) => breaches.push(format!(
            "thred {id}: its history leads to {}, stored is {}",
            text(&again),
            text(&past.state)
        )),
        Err(error) => breaches.push(format!("thred {id}: {error}: {error:?}")),
    }
}

/// 9: a live thred's parent lives and lists it; whom a parent lists lives and knows it.
fn check_families(evidence: &Evidence, breaches: &mut Vec<String>) {
    let threds = evidence.states();
    for (id, thred) in &threds {
        for child in &thred.children {
            match threds.get(child) {
                Some(it) if it.status.is_live() && it.parent.as_ref() == Some(*id) => {}
                Some(_) => breaches.push(format!("thred {id} lists {child}, which has ended")),
                None => breaches.push(format!("thred {id} lists {child}, which does not exist")),
            }
        }
        let Some(parent) = thred.parent.as_ref().filter(|_| thred.status.is_live()) else {
            continue;
        };
        if !threds.get(parent).is_some_and(|it| it.children.contains(id)) {
            breaches.push(format!("thred {id} lives, and its parent {parent} does not list it"));
        }
    }
}

/// 9: the places of a pattern are taken by its live threds.
fn check_places(evidence: &Evidence, breaches: &mut Vec<String>) {
    for (pattern, reserved) in &evidence.reserved {
        let reserved: BTreeSet<_> = reserved.iter().collect();
        let live: BTreeSet<_> = (evidence.threds.iter().map(|past| &past.state))
            .filter(|state| state.status.is_live() && state.pattern.id == *pattern)
            .filter(|state| evidence.pattern(state).is_some_and(|pattern| pattern.is_limited()))
            .map(|state| &state.id)
            .collect();
        if reserved != live {
            breaches.push(format!(
                "pattern {pattern}: places are taken by {reserved:?}, its live threds are {live:?}"
            ));
        }
        let limits = evidence.library.current(pattern).map_or(0, |pattern| pattern.max_instances);
        if limits > 0 && reserved.len() as u64 > limits {
            breaches.push(format!("pattern {pattern}: more than {limits} places are taken"));
        }
    }
}

/// 11: nothing is left to do.
fn check_quiet(evidence: &Evidence, breaches: &mut Vec<String>) {
    if evidence.depth > 0 {
        breaches.push(format!("{} events are left in the queue", evidence.depth));
    }
    for outbox in &evidence.outboxes {
        let (id, count) = (&outbox.thred_id, outbox.entries.len());
        breaches.push(format!("thred {id} has {count} entries left to publish"));
    }
    for timer in evidence.timers.iter().filter(|timer| timer.at <= evidence.now) {
        breaches.push(format!("thred {}: its timer is due and has not fired", timer.thred_id));
    }
    for routed in &evidence.published {
        if routed.message.event.source.id != SYSTEM {
            breaches.push(format!("message {} is not from the engine", routed.message.id));
        }
    }
}
