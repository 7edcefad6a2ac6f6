//! The trace of a run: every line that the product logs, with the simulated time and the process that it came from.

use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::{Mutex, PoisonError};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry;

/// How much is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Telling {
    /// Nothing is told; the digest is over what matters.
    Digest,
    /// Every line goes to the standard output.
    Story,
}

struct Tale {
    now_ns: u64,
    who: String,
    digest: u64,
    lines: u64,
    telling: Telling,
    voters_changed: u64,
    /// What must not depend on where the run takes place.
    hidden: String,
}

static TALE: Mutex<Option<Tale>> = Mutex::new(None);

fn with(tell: impl FnOnce(&mut Tale)) {
    if let Some(tale) = TALE.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
        tell(tale);
    }
}

/// Begins; once in a process. `hidden` is left out of every line.
pub fn begin(telling: Telling, hidden: &str) {
    let tale = Tale {
        now_ns: 0,
        who: "world".to_owned(),
        digest: 0xCBF2_9CE4_8422_2325,
        lines: 0,
        telling,
        voters_changed: 0,
        hidden: hidden.to_owned(),
    };
    *TALE.lock().unwrap_or_else(PoisonError::into_inner) = Some(tale);
    let subscriber = registry().with(Lines);
    // A second one in the same process would be a mistake of the caller; its lines are lost then.
    drop(tracing::subscriber::set_global_default(subscriber));
}

/// Who speaks from now on, and when.
pub fn now(now_ns: u64, who: &str) {
    with(|tale| {
        tale.now_ns = now_ns;
        who.clone_into(&mut tale.who);
    });
}

/// The number of lines so far and the sum over them.
#[must_use]
pub fn digest() -> (u64, u64) {
    let mut told = (0, 0);
    with(|tale| told = (tale.lines, tale.digest));
    told
}

/// How often a leader said that it changes the voters: the moment in which a fault hurts most.
#[must_use]
pub fn voters_changed() -> u64 {
    let mut told = 0;
    with(|tale| told = tale.voters_changed);
    told
}

/// A line of the simulation itself.
pub fn line(text: &str) {
    with(|tale| tale.add(text));
}

impl Tale {
    fn add(&mut self, text: &str) {
        let text = text.replace(&self.hidden, "");
        let seconds = self.now_ns / 1_000_000_000;
        let micros = self.now_ns / 1_000 % 1_000_000;
        let line = format!("{seconds:>3}.{micros:06} {:<9} {text}\n", self.who);
        for byte in line.bytes() {
            self.digest = (self.digest ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3);
        }
        self.lines += 1;
        self.voters_changed += u64::from(line.contains("change=SetVoters"));
        if self.telling == Telling::Story {
            // Whoever reads the story may have stopped reading.
            drop(std::io::stdout().write_all(line.as_bytes()));
        }
    }
}

struct Lines;

impl<S: Subscriber> Layer<S> for Lines {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        let level = if metadata.target().starts_with("muster") { Level::DEBUG } else { Level::WARN };
        *metadata.level() <= level
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields(String::new());
        event.record(&mut fields);
        let metadata = event.metadata();
        line(&format!("{:<5} {}: {}", metadata.level(), metadata.target(), fields.0));
    }
}

struct Fields(String);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let separator = if self.0.is_empty() { "" } else { " " };
        let written = if field.name() == "message" {
            write!(self.0, "{separator}{value:?}")
        } else {
            write!(self.0, "{separator}{}={value:?}", field.name())
        };
        written.expect("a String takes everything");
    }
}
