//! The judge must find every forged history guilty, and agree with another implementation on thousands of small ones.

use stateright::semantics::{ConsistencyTester, LinearizabilityTester, SequentialSpec};

use super::*;
use crate::history::operation::Call;
use crate::sim::rng::Rng;

fn call(client: usize, call: Call, invoked: u64, returned: u64) -> Operation {
    Operation { client, call, invoked: Moment(invoked), returned: Some(Moment(returned)) }
}

fn unknown(client: usize, call: Call, invoked: u64) -> Operation {
    Operation { client, call, invoked: Moment(invoked), returned: None }
}

fn read(value: u64) -> Call {
    Call::Read(Value(value))
}

fn write(value: u64) -> Call {
    Call::Write(Value(value))
}

fn replace(expected: u64, new: u64, succeeded: bool) -> Call {
    Call::CompareAndSet { expected: Value(expected), new: Value(new), succeeded }
}

fn is_linearizable(calls: &[Operation]) -> bool {
    match judge(calls, Value(0)) {
        Verdict::Linearizable => true,
        Verdict::Broken(_) => false,
        Verdict::TooHard => panic!("too hard: {calls:?}"),
    }
}

#[test]
fn one_after_the_other_is_judged_like_one_register() {
    assert!(is_linearizable(&[call(0, read(0), 0, 1), call(0, write(1), 2, 3), call(1, read(1), 4, 5)]));
    assert!(is_linearizable(&[]));
}

#[test]
fn a_stale_read_is_found() {
    let told = [call(0, write(1), 0, 10), call(0, write(2), 20, 30), call(1, read(1), 40, 50)];
    assert!(!is_linearizable(&told));
    // While the second write is under way both values may be seen, but not the old one after the new one.
    let during = [call(0, write(1), 0, 10), call(0, write(2), 20, 100)];
    assert!(is_linearizable(&[during[0], during[1], call(1, read(1), 30, 40), call(1, read(2), 50, 60)]));
    assert!(!is_linearizable(&[during[0], during[1], call(1, read(2), 30, 40), call(2, read(1), 50, 60)]));
}

#[test]
fn a_lost_update_is_found() {
    let both_won = [call(0, replace(0, 1, true), 0, 10), call(1, replace(0, 2, true), 0, 10)];
    assert!(!is_linearizable(&both_won));
    assert!(is_linearizable(&[call(0, replace(0, 1, true), 0, 10), call(1, replace(0, 2, false), 0, 10)]));
}

#[test]
fn an_acknowledged_write_that_vanished_is_found() {
    assert!(!is_linearizable(&[call(0, write(1), 0, 10), call(0, read(0), 20, 30)]));
}

#[test]
fn a_write_that_took_effect_twice_is_found() {
    // The first write is under way all the time, and seen before and after the second one.
    let twice = [
        call(0, write(1), 0, 100),
        call(1, read(1), 10, 20),
        call(1, write(2), 30, 40),
        call(1, read(2), 50, 60),
        call(1, read(1), 70, 80),
    ];
    assert!(!is_linearizable(&twice));
    assert!(is_linearizable(&twice[..4]));
}

#[test]
fn a_refusal_without_a_reason_is_found() {
    assert!(!is_linearizable(&[call(0, write(1), 0, 10), call(0, replace(1, 2, false), 20, 30)]));
}

#[test]
fn an_unknown_write_may_come_late_or_never_but_not_go_again() {
    let late = [unknown(0, write(1), 0), call(1, read(0), 10, 20), call(1, read(1), 30, 40)];
    assert!(is_linearizable(&late));
    assert!(is_linearizable(&[late[0], late[1]]));
    assert!(!is_linearizable(&[late[0], late[1], late[2], call(1, read(0), 50, 60)]));
    // Nor may it take effect before it was asked for.
    assert!(!is_linearizable(&[call(1, read(1), 0, 10), unknown(0, write(1), 20)]));
    let replaced = [unknown(0, replace(0, 1, false), 0), call(1, read(1), 10, 20)];
    assert!(is_linearizable(&replaced));
}

#[test]
fn a_value_that_nobody_wrote_is_found() {
    assert!(!is_linearizable(&[call(0, read(7), 0, 10)]));
}

#[test]
fn long_histories_of_many_clients_are_judged_in_time() {
    let mut rng = Rng::new(1);
    let good = history(&mut rng, 8, 2_000, false);
    assert!(is_linearizable(&good));
    let mut bad = good;
    let late = bad.iter().rposition(|call| matches!(call.call, Call::Read(_))).unwrap();
    bad[late].call = read(bad.iter().find_map(Operation::written).unwrap().0);
    assert!(!is_linearizable(&bad));
}

/// A history of clients that each do one call after the other on a real register; a lying one sometimes answers at
/// random.
fn history(rng: &mut Rng, clients: usize, length: usize, lies: bool) -> Vec<Operation> {
    let mut calls = Vec::new();
    let (mut held, mut now, mut written) = (Value(0), 0, 0);
    let mut free_at = vec![0; clients];
    for _ in 0..length {
        now += 1 + rng.below(8);
        let client = usize::try_from(rng.below(clients as u64)).unwrap();
        let invoked = free_at[client].max(now - now.min(rng.below(30)));
        let returned = now + 1 + rng.below(30);
        if invoked > now {
            continue;
        }
        free_at[client] = returned + 1;
        let guess = |rng: &mut Rng, true_value: Value| {
            if lies && rng.percent(40) { Value(rng.below(written + 1)) } else { true_value }
        };
        let call = match rng.below(3) {
            0 => Call::Read(guess(rng, held)),
            1 => {
                written += 1;
                held = Value(written);
                Call::Write(held)
            }
            _ => {
                let expected = guess(rng, held);
                let succeeded = expected == held;
                written += 1;
                if succeeded {
                    held = Value(written);
                }
                let told = if lies && rng.percent(5) { !succeeded } else { succeeded };
                Call::CompareAndSet { expected, new: Value(written), succeeded: told }
            }
        };
        calls.push(Operation { client, call, invoked: Moment(invoked), returned: Some(Moment(returned)) });
    }
    calls
}

/// The same register for stateright.
#[derive(Clone, Debug, PartialEq)]
struct Register(Value);

#[derive(Clone, Debug, PartialEq)]
enum Answer {
    Done,
    Saw(Value),
    Replaced(bool),
}

impl SequentialSpec for Register {
    type Op = Call;
    type Ret = Answer;

    fn invoke(&mut self, op: &Call) -> Answer {
        match *op {
            Call::Read(_) => Answer::Saw(self.0),
            Call::Write(value) => {
                self.0 = value;
                Answer::Done
            }
            Call::CompareAndSet { expected, new, .. } => {
                let fits = self.0 == expected;
                if fits {
                    self.0 = new;
                }
                Answer::Replaced(fits)
            }
        }
    }
}

fn stateright_says(calls: &[Operation]) -> bool {
    let mut moments: Vec<(u64, bool, usize)> = Vec::new();
    for (number, call) in calls.iter().enumerate() {
        moments.push((call.invoked.0, false, number));
        moments.push((call.end().0, true, number));
    }
    moments.sort_unstable();
    let mut tester = LinearizabilityTester::new(Register(Value(0)));
    for (_, ends, number) in moments {
        let call = &calls[number];
        if ends {
            let answer = match call.call {
                Call::Read(value) => Answer::Saw(value),
                Call::Write(_) => Answer::Done,
                Call::CompareAndSet { succeeded, .. } => Answer::Replaced(succeeded),
            };
            tester.on_return(call.client, answer).unwrap();
        } else {
            tester.on_invoke(call.client, call.call).unwrap();
        }
    }
    tester.is_consistent()
}

#[test]
fn it_agrees_with_another_implementation() {
    let (mut good, mut bad) = (0, 0);
    for seed in 0..3_000 {
        let mut rng = Rng::new(seed);
        let length = 5 + usize::try_from(rng.below(8)).unwrap();
        let calls = history(&mut rng, 3, length, true);
        let own = is_linearizable(&calls);
        assert_eq!(own, stateright_says(&calls), "seed {seed}: {calls:#?}");
        if own { good += 1 } else { bad += 1 }
    }
    assert!(good > 300 && bad > 300, "the histories are all of one kind: {good} good, {bad} bad");
}
