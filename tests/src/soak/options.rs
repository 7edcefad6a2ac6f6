//! The command line.

/// What `soak` takes.
pub const USAGE: &str = "usage: soak [MINUTES] [--only STAGE] [--seed N] [--rounds N] [--fault NAME] [--pairs PERCENT] \
                         [--beside] [--story] [--json FILE]\n\
                         it needs root for network namespaces, and the binaries: cargo build --release -p muster -p musterctl";
const MINUTES: u64 = 60;

/// What was asked for.
#[derive(Clone, Debug)]
pub struct Options {
    /// How long, in all.
    pub minutes: u64,
    /// Only stages whose name contains this.
    pub only: Option<String>,
    /// The first seed; drawn by lot unless given.
    pub seed: u64,
    /// At most so many rounds of the campaign.
    pub rounds: Option<u64>,
    /// Only faults whose name contains this.
    pub fault: Option<String>,
    /// In so many of a hundred rounds a second fault comes on top; the campaign's own share unless given.
    pub pairs: Option<u64>,
    /// Whether the stages that compute run beside those that judge times, instead of after them.
    pub beside: bool,
    /// Whether the campaign tells what happens while it does.
    pub story: bool,
    /// Where the report goes as JSON.
    pub json: Option<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            minutes: MINUTES,
            only: None,
            // Below 2^32, so that it is short enough to be typed.
            seed: getrandom::u64().map_or(1, |number| number >> 32),
            rounds: None,
            fault: None,
            pairs: None,
            beside: false,
            story: false,
            json: None,
        }
    }
}

impl Options {
    /// Reads the words behind the program's name.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn parse(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self::default();
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
            match word.as_str() {
                "--only" => options.only = Some(value()?),
                "--seed" => options.seed = number(&value()?)?,
                "--rounds" => options.rounds = Some(number(&value()?)?),
                "--pairs" => options.pairs = Some(number(&value()?)?),
                "--fault" => options.fault = Some(value()?),
                "--json" => options.json = Some(value()?),
                "--beside" => options.beside = true,
                "--story" => options.story = true,
                minutes => options.minutes = number(minutes)?,
            }
        }
        Ok(options)
    }
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("'{text}' is neither a number nor a known word"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, String> {
        Options::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn minutes_and_options_are_read_and_nonsense_is_refused() {
        let options = parse("15 --only campaign --seed 7 --rounds 3 --beside --story").unwrap();
        assert_eq!((options.minutes, options.seed, options.rounds), (15, 7, Some(3)));
        assert_eq!(options.only.as_deref(), Some("campaign"));
        assert!(options.beside && options.story);
        assert!(parse("--seed").is_err());
        assert!(parse("--sead 7").is_err());
        assert_eq!(parse("").unwrap().minutes, MINUTES);
    }
}
