//! What waits to be recorded: equal calls summed up, and a bound on everything.

use std::collections::BTreeMap;
use std::time::Duration;

use muster_core::audit::{Actor, ActorRole, MAX_CALLS, RecordedCall};
use muster_core::time::Stamp;
use tokio::time::Instant;

use super::AnsweredCall;

/// How many different calls of one caller wait by themselves; the others are summed up in one line.
const WAITING_OF_ONE: usize = 8;
/// How many lines wait in all; the callers that find no place are summed up in one line.
const WAITING: usize = 128;
/// How many lines of one caller are recorded in a minute. All strangers together are one caller.
const LINES_OF_ONE: u32 = 10;
/// How many lines are recorded in a minute: with a few hundred bytes each, nothing that a disk notices.
const LINES: u32 = 60;
/// The minute of [`LINES`].
const WINDOW: Duration = Duration::from_secs(60);
/// How long the same call of the same caller is only counted after it was recorded; it doubles each time.
const FIRST_REST: Duration = Duration::from_secs(60);
/// The longest of them.
const LONGEST_REST: Duration = Duration::from_secs(3600);
/// How many recorded calls are remembered for that.
const RESTING: usize = 256;
/// The verb of a line that stands for different calls.
const SEVERAL: &str = "several";

/// What makes calls equal.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    who: Who,
    from: String,
    verb: String,
    target: String,
    code: String,
}

/// Whose limits count. Callers with a certificate come before strangers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Who {
    is_stranger: bool,
    role: &'static str,
    name: String,
}

#[derive(Clone, Debug)]
struct Waiting {
    call: AnsweredCall,
    first: Stamp,
    count: u32,
}

#[derive(Clone, Copy, Debug)]
struct Rest {
    until: Instant,
    rest: Duration,
}

/// A line that is to be recorded now.
pub(super) struct Due {
    key: Key,
    waiting: Waiting,
}

/// See the file.
#[derive(Default)]
pub(super) struct Desk {
    waiting: BTreeMap<Key, Waiting>,
    resting: BTreeMap<Key, Rest>,
    window_began: Option<Instant>,
    lines: BTreeMap<Who, u32>,
    summed: u64,
}

impl Due {
    pub(super) fn call(&self) -> RecordedCall {
        let Waiting { call, first, count } = self.waiting.clone();
        RecordedCall {
            time: first,
            before: call.before,
            actor: call.actor,
            verb: call.verb,
            target: call.target,
            refused: call.refused,
            count,
        }
    }
}

impl Desk {
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn summed(&self) -> u64 {
        self.summed
    }

    /// Takes a call, in its own line or, where there is no room, in one that only counts.
    pub(super) fn take(&mut self, now: Stamp, call: AnsweredCall) {
        let (key, call) = self.line_of(call);
        let waiting = self.waiting.entry(key).or_insert(Waiting { call, first: now, count: 0 });
        waiting.count = waiting.count.saturating_add(1);
    }

    /// The line of a call.
    fn line_of(&mut self, call: AnsweredCall) -> (Key, AnsweredCall) {
        let own = key_of(&call);
        if self.waiting.contains_key(&own) {
            return (own, call);
        }
        if self.waiting.len() >= WAITING {
            self.summed += 1;
            let others = Actor { name: "others".to_owned(), ..Actor::default() };
            let others = Actor { role: ActorRole::Stranger, via: call.actor.via.clone(), ..others };
            let call = several(AnsweredCall { actor: others, ..call });
            return (key_of(&call), call);
        }
        if self.waiting.keys().filter(|key| key.who == own.who).count() >= WAITING_OF_ONE {
            self.summed += 1;
            let call = several(call);
            return (key_of(&call), call);
        }
        (own, call)
    }

    /// What may be recorded now, and is taken away.
    pub(super) fn due(&mut self, now: Instant) -> Vec<Due> {
        if self.window_began.is_none_or(|began| now.duration_since(began) >= WINDOW) {
            self.window_began = Some(now);
            self.lines.clear();
        }
        // A caller that was quiet for as long again as it had to rest begins anew.
        self.resting.retain(|_, rest| rest.until + rest.rest > now);
        let mut total: u32 = self.lines.values().sum();
        let mut due = Vec::new();
        let keys: Vec<Key> = self.waiting.keys().cloned().collect();
        for key in keys {
            let lines = self.lines.entry(key.who.clone()).or_default();
            let rests = self.resting.get(&key).is_some_and(|rest| rest.until > now);
            if rests || *lines >= LINES_OF_ONE || total >= LINES || due.len() >= MAX_CALLS {
                continue;
            }
            (*lines, total) = (*lines + 1, total + 1);
            if let Some(waiting) = self.waiting.remove(&key) {
                self.rest(now, &key);
                due.push(Due { key, waiting });
            }
        }
        // Whoever has nothing recorded in this minute needs no place.
        self.lines.retain(|_, lines| *lines > 0);
        due
    }

    fn rest(&mut self, now: Instant, key: &Key) {
        let rest = self.resting.get(key).map_or(FIRST_REST, |rest| (rest.rest * 2).min(LONGEST_REST));
        if self.resting.len() < RESTING || self.resting.contains_key(key) {
            self.resting.insert(key.clone(), Rest { until: now + rest, rest });
        }
    }

    /// What could not be handed in waits on.
    pub(super) fn put_back(&mut self, due: Vec<Due>) {
        for Due { key, waiting } in due {
            self.resting.remove(&key);
            match self.waiting.get_mut(&key) {
                Some(newer) => {
                    newer.count = newer.count.saturating_add(waiting.count);
                    newer.first = waiting.first;
                }
                None => {
                    self.waiting.insert(key, waiting);
                }
            }
        }
    }
}

/// A line that stands for different calls of one caller.
fn several(call: AnsweredCall) -> AnsweredCall {
    let refused = call.refused.map(|_| (String::new(), "too many different calls to tell each".to_owned()));
    let actor = Actor { from: String::new(), ..call.actor };
    AnsweredCall { actor, verb: SEVERAL.to_owned(), target: String::new(), refused, ..call }
}

fn key_of(call: &AnsweredCall) -> Key {
    let role = call.actor.role;
    Key {
        who: Who {
            is_stranger: role == ActorRole::Stranger,
            role: role.as_str(),
            name: call.actor.name.clone(),
        },
        from: call.actor.from.clone(),
        verb: call.verb.clone(),
        target: call.target.clone(),
        code: call.refused.as_ref().map_or_else(String::new, |(code, _)| code.clone()),
    }
}

#[cfg(test)]
mod tests {
    use muster_core::command::UserRole;
    use muster_core::id::Revision;

    use super::*;

    fn call(name: &str, role: ActorRole, verb: &str) -> AnsweredCall {
        AnsweredCall {
            actor: Actor { name: name.to_owned(), role, from: "10.0.0.9".to_owned(), via: "n1".to_owned() },
            verb: verb.to_owned(),
            target: String::new(),
            refused: Some(("MU2030".to_owned(), "no".to_owned())),
            before: Revision(7),
        }
    }

    fn counts(due: &[Due]) -> Vec<(String, u32)> {
        due.iter().map(Due::call).map(|call| (call.verb, call.count)).collect()
    }

    #[test]
    fn equal_calls_are_one_line_and_rest_longer_and_longer() {
        let mut desk = Desk::default();
        let alice = || call("user alice", ActorRole::User(UserRole::Viewer), "token create");
        let start = crate::clock::monotonic();
        (0..3).for_each(|at| desk.take(Stamp(at), alice()));
        let due = desk.due(start);
        assert_eq!((counts(&due), due[0].call().time), (vec![("token create".to_owned(), 3)], Stamp(0)));
        (0..100).for_each(|at| desk.take(Stamp(at), alice()));
        assert!(desk.due(start + Duration::from_secs(59)).is_empty(), "it was told a moment ago");
        assert_eq!(counts(&desk.due(start + FIRST_REST)), [("token create".to_owned(), 100)]);
        desk.take(Stamp(9), alice());
        assert!(desk.due(start + FIRST_REST * 2).is_empty(), "it rests twice as long now");
        assert_eq!(counts(&desk.due(start + FIRST_REST * 3)), [("token create".to_owned(), 1)]);
    }

    #[test]
    fn a_flood_of_strangers_is_bounded_and_hides_nobody() {
        let mut desk = Desk::default();
        let start = crate::clock::monotonic();
        let mut recorded = 0;
        for second in 0..600u64 {
            for at in 0..1000 {
                let mut stranger =
                    call("somebody without a certificate", ActorRole::Stranger, &format!("x{at}"));
                stranger.actor.from = format!("10.{}.{}.{}", second % 250, at / 250, at % 250);
                desk.take(Stamp(second), stranger);
            }
            if second == 300 {
                desk.take(
                    Stamp(second),
                    call("user alice", ActorRole::User(UserRole::Viewer), "token create"),
                );
            }
            let due = desk.due(start + Duration::from_secs(second));
            assert!(desk.waiting.len() <= WAITING + 1 && desk.resting.len() <= RESTING);
            let alice = due.iter().any(|due| due.call().actor.name == "user alice");
            assert_eq!(alice, second == 300, "whoever has a certificate does not wait for strangers");
            recorded += due.len();
        }
        assert!(recorded <= 10 * 10 + 1 + 10, "{recorded} lines in ten minutes");
        assert!(desk.summed() > 500_000);
    }

    #[test]
    fn many_callers_cannot_pass_the_limit_of_all() {
        let mut desk = Desk::default();
        let start = crate::clock::monotonic();
        for at in 0..10_000 {
            let name = format!("user u{at}");
            desk.take(Stamp(at), call(&name, ActorRole::User(UserRole::Viewer), "token create"));
        }
        assert!(desk.waiting.len() <= WAITING + 1);
        let (first, second) = (desk.due(start), desk.due(start + Duration::from_secs(1)));
        assert_eq!((first.len(), second.len()), (60, 0));
    }

    #[test]
    fn what_could_not_be_handed_in_is_handed_in_later() {
        let mut desk = Desk::default();
        let start = crate::clock::monotonic();
        let alice = || call("user alice", ActorRole::User(UserRole::Viewer), "token create");
        desk.take(Stamp(1), alice());
        let due = desk.due(start);
        desk.take(Stamp(2), alice());
        desk.put_back(due);
        let again = desk.due(start + Duration::from_secs(5));
        assert_eq!((counts(&again), again[0].call().time), (vec![("token create".to_owned(), 2)], Stamp(1)));
    }
}
