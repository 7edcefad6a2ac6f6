//! All hosts together, step by step.

use std::path::{Path, PathBuf};

use muster::storage::directory::Identity;
use muster_tests::sim::rng::Rng;
use tokio_util::sync::CancellationToken;

use crate::agent::{self, Invitation, Setting};
use crate::disk::Disk;
use crate::invariants::Checker;
use crate::machine::{Machine, Place, Skew};
use crate::mutant::Mutant;
use crate::network::Network;
use crate::process::Process;
use crate::tasks::Tasks;
use crate::trace;
use crate::{guard, kernel, operators};

/// Clocks of a host that is not judged.
const HONEST: Skew = Skew { boottime_ppm: 0, raw_ppm: 0, up_ns: 1_000_000_000, wall_ms: 0 };
/// How soon the service manager starts a process again that ended by itself.
const RESTART_PAUSE_NS: u64 = 100_000_000;
/// One step. What is sent in it arrives in a later one.
pub const STEP_NS: u64 = 1_000_000;

/// The world.
pub struct World {
    now_ns: u64,
    /// Between all hosts.
    pub network: Network,
    /// The hosts.
    pub machines: Vec<Machine>,
    /// Whoever sits at another host and calls the API.
    operators: Option<Process>,
    /// Judges the run.
    pub checker: Checker,
    profile: &'static str,
    snapshot_every: u64,
    mutant: Option<Mutant>,
    invitation: Invitation,
}

impl World {
    /// `count` hosts that have just been switched on; the first one has made a cluster, the others want to join.
    ///
    /// # Errors
    /// When the directory can't be used.
    pub fn new(seed: u64, count: u8, root: &Path, mutant: Option<Mutant>) -> Result<Self, String> {
        let mut rng = Rng::new(seed);
        let checker = Checker::default();
        let machine = |number: u8, rng: &mut Rng| Machine {
            place: Place {
                number,
                name: format!("n{number}"),
                guard_name: format!("n{number} guard"),
                data_dir: root.join(format!("n{number}")),
                skew: Skew::random(rng),
            },
            disk: Disk::new(rng.number()),
            tasks: Tasks::new(&format!("n{number}"), checker.clone()),
            agent: None,
            stop: CancellationToken::new(),
            agent_due_ns: None,
            guard: None,
            guard_due_ns: None,
            powered: true,
        };
        let mut machines: Vec<Machine> = (1..=count).map(|number| machine(number, &mut rng)).collect();
        kernel::begin(rng.number(), machines[0].place.skew.read(0));
        let profile = "lan";
        let token = agent::init(&machines[0].place, profile)?;
        let agents = machines.iter().map(|machine| machine.place.agent().to_string()).collect();
        let network = Network::new(rng.number());
        break_on_purpose(&mut machines, mutant);
        let mut world = Self {
            now_ns: 0,
            network,
            machines,
            operators: None,
            checker,
            profile,
            snapshot_every: 200,
            mutant,
            invitation: Invitation { token, agents },
        };
        for index in 0..world.machines.len() {
            world.start_guard(index);
            world.start_agent(index);
        }
        Ok(world)
    }

    /// The world's time.
    #[must_use]
    pub fn now_ns(&self) -> u64 {
        self.now_ns
    }

    /// Starts a host's agent, unless it runs.
    pub fn start_agent(&mut self, index: usize) {
        let machine = &mut self.machines[index];
        if machine.agent.is_some() || !machine.powered {
            return;
        }
        machine.agent_due_ns = None;
        machine.stop = CancellationToken::new();
        let setting = Setting {
            place: machine.place.clone(),
            network: self.network.clone(),
            disk: machine.disk.clone(),
            profile: self.profile,
            snapshot_every: self.snapshot_every,
            invitation: Some(self.invitation.clone()),
            stop: machine.stop.clone(),
        };
        let clocks = machine.place.skew.read(self.now_ns);
        kernel::set_clocks(clocks);
        machine.agent = Some(Process::start(clocks.monotonic_ns, agent::run(setting)));
        trace::line(&format!("{}: the agent starts", machine.place.name));
    }

    /// Starts a host's guard, unless it runs.
    pub fn start_guard(&mut self, index: usize) {
        let machine = &mut self.machines[index];
        if machine.guard.is_some() || !machine.powered {
            return;
        }
        machine.guard_due_ns = None;
        let setting = guard::Setting {
            place: machine.place.clone(),
            network: self.network.clone(),
            tasks: machine.tasks.clone(),
            mutant: self.mutant,
        };
        let clocks = machine.place.skew.read(self.now_ns);
        kernel::set_clocks(clocks);
        machine.guard = Some(Process::start(clocks.monotonic_ns, guard::run(setting)));
        trace::line(&format!("{}: the guard starts", machine.place.name));
    }

    /// One step.
    pub fn step(&mut self) {
        self.now_ns += STEP_NS;
        kernel::set_world_ns(self.now_ns);
        trace::now(self.now_ns, "world");
        self.network.advance(self.now_ns);
        for index in 0..self.machines.len() {
            let machine = &mut self.machines[index];
            machine.tasks.advance(self.now_ns, machine.place.skew.read(self.now_ns));
            let is_due = |at: Option<u64>| at.is_some_and(|at_ns| at_ns <= self.now_ns);
            let (guard_due, agent_due) = (is_due(machine.guard_due_ns), is_due(machine.agent_due_ns));
            if guard_due {
                self.start_guard(index);
            }
            if agent_due {
                self.start_agent(index);
            }
            self.run_guard(index);
            self.run_agent(index);
        }
        if let Some(operators) = &mut self.operators {
            kernel::set_clocks(HONEST.read(self.now_ns));
            trace::now(self.now_ns, "operators");
            if let Some(exit) = operators.run(self.now_ns, HONEST.read(self.now_ns).monotonic_ns) {
                self.operators = None;
                self.checker.report("the operators work", self.now_ns, format!("{exit:?}"));
            }
        }
    }

    /// Operators come.
    pub fn start_operators(&mut self, setting: operators::Setting) {
        kernel::set_clocks(HONEST.read(self.now_ns));
        let now_ns = HONEST.read(self.now_ns).monotonic_ns;
        self.operators = Some(Process::start(now_ns, operators::run(setting)));
    }

    // ---- what happens to hosts ----------------------------------------------------------------------------

    /// The agent is killed; it is started again after a pause.
    pub fn kill_agent(&mut self, index: usize, pause_ns: u64) {
        let due_ns = self.now_ns + pause_ns;
        let machine = &mut self.machines[index];
        if machine.agent.take().is_some() {
            trace::line(&format!("{}: the agent is killed", machine.place.name));
            machine.agent_due_ns = Some(due_ns);
        }
    }

    /// The guard is killed, and with it everything that it started; it is started again after a pause.
    pub fn kill_guard(&mut self, index: usize, pause_ns: u64) {
        let now_ns = self.now_ns;
        let machine = &mut self.machines[index];
        if machine.guard.take().is_some() {
            trace::line(&format!("{}: the guard is killed", machine.place.name));
            machine.tasks.guard_died(now_ns);
            machine.guard_due_ns = Some(now_ns + pause_ns);
        }
    }

    /// The host loses its power.
    pub fn power_off(&mut self, index: usize) {
        let now_ns = self.now_ns;
        let machine = &mut self.machines[index];
        trace::line(&format!("{}: the power fails", machine.place.name));
        machine.powered = false;
        self.network.power_off(machine.place.ip());
        (machine.agent, machine.guard) = (None, None);
        (machine.agent_due_ns, machine.guard_due_ns) = (None, None);
        machine.disk.power_off();
        machine.tasks.power_off(now_ns);
    }

    /// The host has power again.
    pub fn power_on(&mut self, index: usize) {
        let machine = &mut self.machines[index];
        if !machine.powered {
            trace::line(&format!("{}: the power is back", machine.place.name));
            machine.powered = true;
            self.network.power_on(machine.place.ip());
        }
        self.start_guard(index);
        self.start_agent(index);
    }

    fn run_guard(&mut self, index: usize) {
        let now_ns = self.now_ns;
        let machine = &mut self.machines[index];
        let Some(guard) = &mut machine.guard else { return };
        let clocks = machine.place.skew.read(now_ns);
        kernel::set_clocks(clocks);
        trace::now(now_ns, &machine.place.guard_name);
        if let Some(exit) = guard.run(now_ns, clocks.monotonic_ns) {
            machine.guard = None;
            machine.guard_due_ns = Some(now_ns + RESTART_PAUSE_NS);
            trace::line(&format!("{}: the guard ended: {exit:?}", machine.place.name));
        }
    }

    fn run_agent(&mut self, index: usize) {
        let now_ns = self.now_ns;
        let machine = &mut self.machines[index];
        let Some(agent) = &mut machine.agent else { return };
        let clocks = machine.place.skew.read(now_ns);
        kernel::set_clocks(clocks);
        trace::now(now_ns, &machine.place.name);
        if let Some(exit) = agent.run(now_ns, clocks.monotonic_ns) {
            machine.agent = None;
            machine.agent_due_ns = Some(now_ns + RESTART_PAUSE_NS);
            trace::line(&format!("{}: the agent ended: {exit:?}", machine.place.name));
        }
    }

    /// A directory for the files of the run.
    #[must_use]
    pub fn scratch() -> PathBuf {
        let memory = Path::new("/dev/shm");
        if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() }
    }

    /// The cluster's identity, as agents name it to each other.
    ///
    /// # Errors
    /// When the first host's data directory can't be read.
    pub fn cluster(&self) -> Result<Vec<u8>, String> {
        let path = self.machines[0].place.data_dir.join("identity.json");
        let text = std::fs::read(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        let identity: Identity = serde_json::from_slice(&text).map_err(|e| e.to_string())?;
        let number = u128::from_str_radix(&identity.cluster_id, 16).map_err(|e| e.to_string())?;
        Ok(number.to_be_bytes().to_vec())
    }
}

/// What a mutant changes about the hosts themselves.
fn break_on_purpose(machines: &mut [Machine], mutant: Option<Mutant>) {
    match mutant {
        Some(Mutant::UnsyncedLog) => machines.iter().for_each(|machine| machine.disk.begin_to_lie()),
        Some(Mutant::ForgottenVote) => machines.iter().for_each(|machine| machine.disk.begin_to_forget()),
        Some(Mutant::FastClocks) => {
            for machine in machines.iter_mut().skip(1) {
                let skew = &mut machine.place.skew;
                (skew.boottime_ppm, skew.raw_ppm) = (300_000, 300_000);
            }
        }
        _ => {}
    }
}
