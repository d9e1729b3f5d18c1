//! The judge: holds what was accepted against what is stored, logged and received. Pure.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
    str::FromStr,
};

/// What tells an event apart from all others: who sent it, to which thred, as which of theirs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mark {
    /// The source.
    pub source: u32,
    /// The thred.
    pub thred: u32,
    /// The number among what this source sends to this thred, rising.
    pub number: u32,
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.source, self.thred, self.number)
    }
}

impl FromStr for Mark {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Option<Vec<u32>> = text.split('/').map(|part| part.parse().ok()).collect();
        match parts.as_deref() {
            Some(&[source, thred, number]) => Ok(Self { source, thred, number }),
            _ => Err(format!("`{text}` is no mark")),
        }
    }
}

/// All that is known of a run.
#[derive(Clone, Debug, Default)]
pub struct Account {
    /// What was accepted, for each thred; of one source in the order of acceptance.
    pub accepted: BTreeMap<u32, Vec<Mark>>,
    /// What became of each thred.
    pub threds: BTreeMap<u32, Fate>,
    /// What the receivers got, in the order of receipt, repeated messages included.
    pub received: Vec<Receipt>,
    /// Whether an agent answers each message, so that the thred must record each answer.
    pub answered: bool,
}

/// What became of a thred.
#[derive(Clone, Debug, Default)]
pub struct Fate {
    /// Its stored version.
    pub version: u64,
    /// What its stored state has recorded, in its order.
    pub recorded: Vec<Mark>,
    /// Whose answers its stored state has recorded.
    pub answers: Vec<Mark>,
    /// The marks of the events in its history, each with the version it led to.
    pub logged: Vec<(u64, Mark)>,
}

/// A message that a receiver got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The message's id.
    pub id: String,
    /// The event that it answers.
    pub mark: Mark,
}

/// Where the oracle looked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// The stored state.
    State,
    /// The history.
    Log,
    /// The answers of an agent, as the state recorded them.
    Answers,
}

/// Something that must not be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Breach {
    /// The thred of an accepted event does not exist.
    NoThred(u32),
    /// An accepted event is not there.
    Lost(Place, Mark),
    /// An event is there more than once.
    Doubled(Place, Mark),
    /// An event stands after a later one of its source.
    Inverted(Place, Mark),
    /// An event is there that was not accepted.
    Unknown(Place, Mark),
    /// The versions in the history of a thred do not rise one by one to the stored one.
    Versions(u32),
    /// No message answers an accepted event.
    NoMessage(Mark),
    /// Messages of different ids answer one event.
    TwoMessages(Mark),
    /// A message answers an event that was not accepted, or one id stands for two events.
    StrangeMessage(String),
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoThred(thred) => write!(f, "thred {thred} does not exist"),
            Self::Lost(place, mark) => write!(f, "{mark} is lost from the {place:?}"),
            Self::Doubled(place, mark) => write!(f, "{mark} is twice in the {place:?}"),
            Self::Inverted(place, mark) => write!(f, "{mark} comes late in the {place:?}"),
            Self::Unknown(place, mark) => write!(f, "{mark} in the {place:?} was not accepted"),
            Self::Versions(thred) => write!(f, "thred {thred} has versions without steps"),
            Self::NoMessage(mark) => write!(f, "no message answers {mark}"),
            Self::TwoMessages(mark) => write!(f, "messages of different ids answer {mark}"),
            Self::StrangeMessage(id) => write!(f, "message {id} answers nothing that was accepted"),
        }
    }
}

/// Everything that is wrong with a run; nothing means that it was safe.
pub fn judge(account: &Account) -> BTreeSet<Breach> {
    let mut breaches = BTreeSet::new();
    let all = account.accepted.keys().chain(account.threds.keys());
    for thred in all.collect::<BTreeSet<_>>() {
        let accepted = account.accepted.get(thred).map_or(&[][..], |marks| marks);
        let Some(fate) = account.threds.get(thred) else {
            breaches.insert(Breach::NoThred(*thred));
            continue;
        };
        compare(Place::State, accepted, &fate.recorded, &mut breaches);
        let logged: Vec<Mark> = fate.logged.iter().map(|(_, mark)| *mark).collect();
        compare(Place::Log, accepted, &logged, &mut breaches);
        if account.answered {
            compare(Place::Answers, accepted, &fate.answers, &mut breaches);
        }
        check_versions(*thred, fate, &mut breaches);
    }
    check_messages(account, &mut breaches);
    breaches
}

/// The same marks, each once, those of each source in order. An agent answers late what it could
/// not do at first: answers have no order.
fn compare(place: Place, accepted: &[Mark], found: &[Mark], breaches: &mut BTreeSet<Breach>) {
    let mut open: BTreeSet<Mark> = accepted.iter().copied().collect();
    let mut seen = BTreeSet::new();
    let mut last: HashMap<u32, u32> = HashMap::new();
    for mark in found {
        if !seen.insert(*mark) {
            breaches.insert(Breach::Doubled(place, *mark));
            continue;
        }
        if !open.remove(mark) {
            breaches.insert(Breach::Unknown(place, *mark));
        }
        let last = last.entry(mark.source).or_insert(mark.number);
        if mark.number < *last && place != Place::Answers {
            breaches.insert(Breach::Inverted(place, *mark));
        }
        *last = (*last).max(mark.number);
    }
    breaches.extend(open.into_iter().map(|mark| Breach::Lost(place, mark)));
}

/// The versions rise, and none is above the stored one. That each version has its step, commands
/// and answers included, is the invariants' to check: the history here is that of the marks.
fn check_versions(thred: u32, fate: &Fate, breaches: &mut BTreeSet<Breach>) {
    let rises = fate.logged.windows(2).all(|pair| pair[0].0 < pair[1].0);
    let ends = fate.logged.last().is_none_or(|(version, _)| *version <= fate.version);
    let enough = fate.version >= fate.logged.len() as u64;
    if !(rises && ends && enough) {
        breaches.insert(Breach::Versions(thred));
    }
}

fn check_messages(account: &Account, breaches: &mut BTreeSet<Breach>) {
    let mut open: BTreeMap<Mark, Option<&str>> =
        account.accepted.values().flatten().map(|mark| (*mark, None)).collect();
    let mut known: HashMap<&str, Mark> = HashMap::new();
    for Receipt { id, mark } in &account.received {
        if *known.entry(id).or_insert(*mark) != *mark {
            breaches.insert(Breach::StrangeMessage(id.clone()));
        }
        match open.get_mut(mark) {
            None => {
                breaches.insert(Breach::StrangeMessage(id.clone()));
            }
            Some(answer) => {
                if *answer.get_or_insert(id) != *id {
                    breaches.insert(Breach::TwoMessages(*mark));
                }
            }
        }
    }
    let missing = open.into_iter().filter(|(_, answer)| answer.is_none());
    breaches.extend(missing.map(|(mark, _)| Breach::NoMessage(mark)));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(source: u32, number: u32) -> Mark {
        Mark { source, thred: 0, number }
    }

    /// Two sources, three events each, all well.
    fn sound() -> Account {
        let marks: Vec<_> = (0..3).flat_map(|number| [mark(1, number), mark(2, number)]).collect();
        let fate = Fate {
            version: 6,
            recorded: marks.clone(),
            answers: marks.clone(),
            logged: (1..).zip(marks.clone()).collect(),
        };
        let receipt = |mark: &Mark| Receipt { id: format!("m{mark}"), mark: *mark };
        Account {
            accepted: [(0, marks.clone())].into(),
            threds: [(0, fate)].into(),
            received: marks.iter().map(receipt).collect(),
            answered: true,
        }
    }

    fn fate(account: &mut Account) -> &mut Fate {
        account.threds.get_mut(&0).unwrap()
    }

    #[track_caller]
    fn finds(account: &Account, breaches: impl IntoIterator<Item = Breach>) {
        assert_eq!(judge(account), breaches.into_iter().collect());
    }

    #[test]
    fn a_sound_run_is_safe() {
        finds(&sound(), []);
    }

    #[test]
    fn repeated_messages_are_no_harm() {
        let mut account = sound();
        account.received.extend(account.received.clone());
        finds(&account, []);
    }

    #[test]
    fn sources_have_no_order_between_them() {
        let mut account = sound();
        fate(&mut account).recorded.swap(0, 1);
        finds(&account, []);
    }

    #[test]
    fn a_lost_event_is_found() {
        let mut account = sound();
        let fate = fate(&mut account);
        fate.recorded.remove(2);
        fate.logged.remove(2);
        fate.answers.remove(2);
        let lost = mark(1, 1);
        let places = [Place::State, Place::Log, Place::Answers];
        finds(&account, places.map(|place| Breach::Lost(place, lost)));
    }

    #[test]
    fn a_lost_thred_is_found() {
        let mut account = sound();
        account.threds.clear();
        finds(&account, [Breach::NoThred(0)]);
    }

    #[test]
    fn a_doubled_transition_is_found_in_the_state_and_in_the_log() {
        let mut account = sound();
        fate(&mut account).recorded.push(mark(2, 2));
        finds(&account, [Breach::Doubled(Place::State, mark(2, 2))]);
        let mut account = sound();
        fate(&mut account).version = 7;
        fate(&mut account).logged.push((7, mark(2, 0)));
        finds(&account, [Breach::Doubled(Place::Log, mark(2, 0))]);
    }

    #[test]
    fn a_doubled_answer_is_found() {
        let mut account = sound();
        fate(&mut account).answers.push(mark(2, 2));
        finds(&account, [Breach::Doubled(Place::Answers, mark(2, 2))]);
        account.answered = false;
        finds(&account, []);
    }

    #[test]
    fn an_inversion_is_found() {
        let mut account = sound();
        fate(&mut account).recorded.swap(2, 4);
        finds(&account, [Breach::Inverted(Place::State, mark(1, 1))]);
    }

    #[test]
    fn an_event_from_nowhere_is_found() {
        let mut account = sound();
        account.accepted.get_mut(&0).unwrap().pop();
        account.received.pop();
        let strange = mark(2, 2);
        let places = [Place::State, Place::Log, Place::Answers];
        finds(&account, places.map(|place| Breach::Unknown(place, strange)));
    }

    #[test]
    fn a_missing_message_is_found() {
        let mut account = sound();
        account.received.retain(|receipt| receipt.mark != mark(1, 2));
        finds(&account, [Breach::NoMessage(mark(1, 2))]);
    }

    #[test]
    fn a_second_message_of_another_id_is_found() {
        let mut account = sound();
        account.received.push(Receipt { id: "other".into(), mark: mark(1, 2) });
        finds(&account, [Breach::TwoMessages(mark(1, 2))]);
    }

    #[test]
    fn a_strange_message_is_found() {
        let mut account = sound();
        account.received.push(Receipt { id: "strange".into(), mark: mark(3, 0) });
        finds(&account, [Breach::StrangeMessage("strange".into())]);
    }

    #[test]
    fn versions_without_steps_are_found() {
        let mut account = sound();
        fate(&mut account).version = 5;
        finds(&account, [Breach::Versions(0)]);
    }

    #[test]
    fn a_mark_reads_as_it_is_written() {
        let it = Mark { source: 1, thred: 22, number: 333 };
        assert_eq!(it.to_string().parse(), Ok(it));
        assert!("1/2".parse::<Mark>().is_err());
    }
}
