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
}

/// Voters are three, and one host more, which takes over when one is lost for long.
pub const HOSTS: usize = 4;
/// A cluster is played with so many rounds, then another one is made.
pub const ROUNDS_OF_A_CLUSTER: u64 = 60;

impl Options {
    /// The command that plays a seed again.
    #[must_use]
    pub fn replay(seed: u64, rounds: u64) -> String {
        format!("cargo run --release -p muster-tests --bin soak -- --only campaign --seed {seed} --rounds {rounds}")
    }
}
