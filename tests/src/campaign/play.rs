//! Plays a campaign: one cluster, round after round.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Scene;
use super::fault::{self, Cost, Fault, Injury};
use super::invariants::{
    self, Severity, Violation, failover_time, generations_grow, never_two, replicas_agree,
};
use super::options::Options;
use super::round::Round;
use super::schedule::{Planned, Schedule};
use super::services::SERVICES;
use super::story::Story;
use super::tally::{Found, Tally};
use crate::harness::wait::{self, Moment, millis};
use crate::harness::{Cluster, HarnessError};
use crate::history::recorder::Judged;
use crate::sim::rng::Rng;

/// How long a copy that should be dead gets to show itself after its host is back: several leases.
const HAUNT: Duration = Duration::from_millis(1500);
/// How long the counting client may take to be answered once every service runs.
const COUNTER_LIMIT: Duration = Duration::from_secs(10);
/// Lines of the story and of each log that a broken promise shows.
const SHOWN_LINES: usize = 25;

/// Plays rounds on a cluster of its own until `is_over`, the rounds are played, or a promise is broken.
///
/// # Errors
/// When the cluster does not come up at all.
pub fn play(options: &Options, is_over: impl Fn() -> bool) -> Result<Tally, HarnessError> {
    let mut campaign = Campaign::open(options)?;
    let mut schedule = Schedule::new(options);
    for _round in 0..options.rounds {
        if is_over() || campaign.is_broken() {
            break;
        }
        let Some(planned) = schedule.draw() else { break };
        campaign.round(planned);
    }
    Ok(campaign.close())
}

struct Campaign {
    scene: Scene,
    story: Story,
    tally: Tally,
    options: Options,
    /// The cluster can't be used any more.
    is_lost: bool,
}

impl Campaign {
    fn open(options: &Options) -> Result<Self, HarnessError> {
        let mut story = Story::new(options.told);
        story.tell(&format!("seed {}: a cluster is made", options.seed));
        let mut tally = Tally { seeds: vec![options.seed], ..Tally::default() };
        for kind in fault::all() {
            tally.kinds.entry(kind.name().to_owned()).or_default().skipped = kind.obstacle();
        }
        let scene = Scene::open(options.seed)?;
        story.tell("it is whole, and every service runs");
        Ok(Self { scene, story, tally, options: options.clone(), is_lost: false })
    }

    fn is_broken(&self) -> bool {
        self.is_lost || self.tally.count(Severity::Wrong) > 0
    }

    fn round(&mut self, planned: Planned<'_>) {
        let (number, name) = (planned.number, planned.fault.name());
        self.tally.rounds += 1;
        self.tally.kinds.entry(name.to_owned()).or_default().rounds += 1;
        let found = match self.inflict(planned) {
            Ok(found) => found,
            Err(error) => {
                self.is_lost = true;
                vec![Violation::wrong("everything runs again", error.to_string())]
            }
        };
        for violation in found {
            self.found(number, name, violation);
        }
    }

    fn found(&mut self, round: u64, fault: &str, violation: Violation) {
        self.story.tell(&violation.to_string());
        // What was only late is not seen again for hours either.
        eprintln!("{violation}\nwhat happened:\n{}", self.story.tail(SHOWN_LINES));
        eprintln!("{}", self.scene.cluster.logs(SHOWN_LINES));
        let seed = self.options.seed;
        let replay = self.options.replay(round);
        self.tally.violations.push(Found { violation, seed, round, fault: fault.to_owned(), replay });
    }

    fn inflict(&mut self, mut planned: Planned<'_>) -> Result<Vec<Violation>, HarnessError> {
        let scene = &mut self.scene;
        let begun = Moment::now();
        let mut injury = planned.fault.inject(scene, &mut planned.rng)?;
        let told = format!("#{} {}: {}", planned.number, planned.fault.name(), injury.told);
        self.story.tell_at(begun, &format!("{told}, for {:.1} s", millis(injury.lasts) / 1000.0));
        if let Some(second) = planned.second {
            injury = on_top(second, injury, scene, &mut planned.rng, &mut self.story);
        }
        wait::pass(injury.lasts);
        let healing = Moment::now();
        (injury.heal)(&mut scene.cluster)?;
        let healed = Moment::now();
        let placed = scene.placed_at_all()?;
        scene.cluster.whole()?;
        wait::pass(HAUNT);
        let end = scene.placed_at_all()?;
        let counted = scene.counter.as_ref().map_or(Ok(()), |counter| counter.check(COUNTER_LIMIT));
        let round = Round {
            cost: &injury.cost,
            begun,
            healing,
            healed,
            placed,
            end,
            runs: runs_since(scene, begun)?,
            metronome: &scene.metronome,
        };
        let mut found = invariants::judge(&round);
        self.tally.note(planned.fault.name(), &round, &mut self.story);
        found.extend(counted.err().map(|error| Violation::wrong(never_two::COUNTER, error.to_string())));
        found.extend(replicas_agree::judge(&scene.cluster));
        found.extend(self.histories()?);
        self.scene.ledger.set_aside()?;
        Ok(found)
    }

    /// Ends a generation of registers, and judges what was done with them.
    fn histories(&mut self) -> Result<Vec<Violation>, HarnessError> {
        let judged = self.scene.clients.turn()?;
        let mut found: Vec<_> =
            judged.violations.iter().map(|v| Violation::wrong(LINEARIZABLE, v.clone())).collect();
        self.tally.note_calls(&judged);
        if let Some(counter) = &self.scene.counter {
            let count = counter.count();
            self.tally.counts_acknowledged = count.acknowledged;
            found.extend(count.violations.into_iter().map(|v| Violation::wrong(never_two::COUNTER, v)));
        }
        Ok(found)
    }

    /// Judges all runs of the cluster's life once more, also those that were taken for ended.
    fn close(mut self) -> Tally {
        let mut found = Vec::new();
        for service in &SERVICES {
            match self.scene.ledger.history(service) {
                Ok(runs) => {
                    self.tally.runs += runs.len() as u64;
                    if service.is_exclusive() {
                        found.extend(never_two::overlap(service.name, &runs));
                        found.extend(generations_grow::shrunk(service.name, &runs));
                    }
                }
                Err(error) => found.push(Violation::wrong("stamps", error.to_string())),
            }
        }
        let rounds = self.tally.rounds;
        for violation in found {
            self.found(rounds, "all together", violation);
        }
        self.story.tell(&format!("{rounds} rounds, {} violations", self.tally.violations.len()));
        self.tally
    }
}

/// A second fault while the first one lasts. With a majority gone it may be impossible; then it is left out.
fn on_top(second: &dyn Fault, first: Injury, scene: &mut Scene, rng: &mut Rng, story: &mut Story) -> Injury {
    let begun = Moment::now();
    match second.inject(scene, rng) {
        Ok(other) => {
            story.tell_at(begun, &format!("    and {}: {}", second.name(), other.told));
            let (mend_first, mend_other) = (first.heal, other.heal);
            let heal =
                Box::new(move |cluster: &mut Cluster| mend_other(cluster).and_then(|()| mend_first(cluster)));
            let lasts = first.lasts.max(other.lasts);
            Injury { told: first.told, lasts, cost: first.cost.and(other.cost), heal }
        }
        Err(error) => {
            story.tell(&format!("    and not {}: {error}", second.name()));
            Injury { cost: first.cost.and(Cost::nothing()), ..first }
        }
    }
}

const LINEARIZABLE: &str = "the API is linearizable";

fn runs_since(
    scene: &Scene,
    begun: Moment,
) -> Result<BTreeMap<&'static str, Vec<muster::stamp::Run>>, HarnessError> {
    let mut all = BTreeMap::new();
    for service in &SERVICES {
        let mut runs = scene.ledger.runs(service)?;
        runs.retain(|run| run.last_ns >= begun.0);
        all.insert(service.name, runs);
    }
    Ok(all)
}

impl Tally {
    fn note(&mut self, fault: &str, round: &Round<'_>, story: &mut Story) {
        self.host_faults += round.cost.hosts.len() as u64;
        let kind = self.kinds.entry(fault.to_owned()).or_default();
        kind.longest_recovery_ms = kind.longest_recovery_ms.max(millis(round.placed.since(round.healed)));
        for failover in failover_time::failovers(round) {
            let took_ms = millis(failover.took);
            kind.failovers += 1;
            story.tell_at(
                failover.at,
                &format!(
                    "    {} {} -> {}: {took_ms:.0} ms after the fault, gap {:.0} ms",
                    failover.service,
                    failover.hosts.0,
                    failover.hosts.1,
                    millis(failover.gap)
                ),
            );
            if round.cost.fails_over {
                kind.longest_failover_ms = kind.longest_failover_ms.max(took_ms);
                self.failovers_ms.push(took_ms);
            }
        }
        let late = round.metronome.late(round.begun, round.placed);
        story.tell(&format!(
            "    every service ran {:.0} ms after healing; the machine was late by {:.0} ms",
            millis(round.placed.since(round.healed)),
            millis(late)
        ));
    }

    fn note_calls(&mut self, judged: &Judged) {
        self.registers += judged.registers;
        self.calls += judged.known;
        self.calls_unknown += judged.unknown;
        self.writes_acknowledged += judged.acknowledged;
    }
}
