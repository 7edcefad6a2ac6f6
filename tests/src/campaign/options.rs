//! What is to be played.

/// A campaign's parameters.
#[derive(Clone, Debug)]
pub struct Options {
    /// Decides which faults come in which order, upon whom and for how long.
    pub seed: u64,
    /// So many rounds at most.
    pub rounds: u64,
    /// Only faults whose name contains this.
    pub only: Option<String>,
    /// Whether the story is printed while it happens.
    pub told: bool,
    /// In so many of a hundred rounds a second fault comes on top.
    pub pairs_percent: u64,
}

/// How often two things break at once, unless told otherwise.
pub const PAIRS_PERCENT: u64 = 15;

/// Voters are three, and one host more, which takes over when one is lost for long.
pub const HOSTS: usize = 4;
/// A cluster is played with so many rounds, then another one is made.
pub const ROUNDS_OF_A_CLUSTER: u64 = 60;

impl Options {
    /// The command that plays a seed again.
    #[must_use]
    pub fn replay(&self, rounds: u64) -> String {
        let fault = self.only.as_ref().map_or(String::new(), |only| format!(" --fault '{only}'"));
        let (seed, pairs) = (self.seed, self.pairs_percent);
        format!(
            "cargo run --release -p muster-tests --bin soak -- --only campaign --seed {seed} --rounds {rounds} --pairs {pairs}{fault} --story"
        )
    }
}
