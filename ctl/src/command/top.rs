//! `top`: the status and the last events on one screen, drawn anew again and again; for programs, one object a line.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use muster_proto::v1 as pb;
use serde::Serialize;

use super::{Run, status};
use crate::cli::TopArgs;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Paint, Printer, Screen, View};
use crate::view::event::Event;
use crate::view::status::Status;

/// No picture stays shorter than this.
const SHORTEST: Duration = Duration::from_millis(100);
/// So many of the last events.
const EVENTS: u32 = 10;
/// What a terminal has that does not say how large it is.
const LINES: usize = 24;

/// Draws until Ctrl-C.
///
/// # Errors
/// When there is no terminal, or the caller is not let in. No answer is shown like anything else.
pub async fn top(run: &mut Run, args: TopArgs) -> Result<Exit, Failure> {
    let interval = args.interval.max(SHORTEST);
    if run.out.is_structured() {
        return print(run, interval).await;
    }
    if !io::stdout().is_terminal() {
        return Err(Failure::Usage(
            "'top' draws on a terminal, or prints an object a line with -o json; 'musterctl status' prints once"
                .to_owned(),
        ));
    }
    let full = FullScreen::enter(run.out)?;
    loop {
        let text = picture(run).await?;
        full.draw(&text)?;
        tokio::time::sleep(interval).await;
    }
}

/// What a program sees of one moment.
#[derive(Serialize)]
struct Moment {
    /// As of `status`; none: no answer.
    status: Option<Status>,
    /// Why this is only what one agent knows, or nothing.
    unanswered: Option<String>,
    /// The last ones, the newest at the end.
    events: Vec<Event>,
}

impl View for Moment {
    fn table(&self, screen: &Screen) -> String {
        self.status.as_ref().map(|status| status.table(screen)).unwrap_or_default()
    }

    fn names(&self) -> Vec<String> {
        self.status.as_ref().map(View::names).unwrap_or_default()
    }
}

async fn print(run: &mut Run, interval: Duration) -> Result<Exit, Failure> {
    loop {
        let (status, unanswered) = match status::look(run).await {
            Ok((status, unanswered)) => (Some(Status::from(status)), unanswered),
            Err(failure) if failure.is_unanswered() => (None, Some(failure)),
            Err(failure) => return Err(failure),
        };
        let unanswered = unanswered.map(|failure| failure.to_string());
        let events = events(run).await.unwrap_or_default();
        run.out.show_item(&Moment { status, unanswered, events })?;
        tokio::time::sleep(interval).await;
    }
}

/// Everything that is drawn.
async fn picture(run: &mut Run) -> Result<String, Failure> {
    let screen = run.out.screen();
    let shown = match status::look(run).await {
        Ok((status, unanswered)) => {
            let table = Status::from(status).table(&screen);
            let why = unanswered.map(|failure| Paint::Bad.on(&failure.to_string(), &screen) + "\n");
            format!("{table}{}", why.unwrap_or_default())
        }
        Err(failure) if failure.is_unanswered() => Paint::Bad.on(&failure.to_string(), &screen) + "\n",
        Err(failure) => return Err(failure),
    };
    let events = events(run).await.unwrap_or_default();
    let events: String = events.iter().map(|event| event.table(&screen)).collect();
    Ok(format!("{shown}\n{events}"))
}

/// The last events of the agent that answers.
async fn events(run: &mut Run) -> Result<Vec<Event>, Failure> {
    let request = pb::WatchRequest { since_ms: Some(0), limit: EVENTS, ..pb::WatchRequest::default() };
    let mut stream = run.client.watch(request).await?;
    let mut last = Vec::new();
    while let Some(event) = super::events::next(run, &mut stream, false).await? {
        last.push(Event::from(event));
    }
    Ok(last)
}

/// The terminal's other screen, without a cursor and without lines that wrap; what was on it before comes back in the end.
struct FullScreen(Printer);

impl FullScreen {
    fn enter(out: Printer) -> Result<Self, Failure> {
        out.put("\x1b[?1049h\x1b[?25l\x1b[?7l")?;
        Ok(Self(out))
    }

    /// Draws over what is there, line by line, so that nothing flickers.
    fn draw(&self, text: &str) -> Result<(), Failure> {
        let height = height();
        let lines = text.lines().take(height.saturating_sub(1));
        let drawn: String = lines.map(|line| format!("{line}\x1b[K\r\n")).collect();
        self.0.put(&format!("\x1b[H{drawn}\x1b[J"))
    }
}

impl Drop for FullScreen {
    fn drop(&mut self) {
        // Nothing can be done about a terminal that is gone.
        let mut out = io::stdout().lock();
        let _restored = out.write_all(b"\x1b[?7h\x1b[?25h\x1b[?1049l").and_then(|()| out.flush());
    }
}

/// The lines of the terminal.
fn height() -> usize {
    terminal_size::terminal_size().map_or(LINES, |(_, height)| height.0.into())
}
