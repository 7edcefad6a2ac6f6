//! `top`: the status and the last events on one screen, drawn anew again and again.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use muster_proto::v1 as pb;

use super::{Run, status};
use crate::cli::TopArgs;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Paint, Printer, Screen, View};
use crate::view::event::Event;
use crate::view::status::Status;

/// So many of the last events.
const EVENTS: u32 = 10;
/// What a terminal has that does not say how large it is.
const LINES: usize = 24;

/// Draws until Ctrl-C.
///
/// # Errors
/// When there is no terminal, or the caller is not let in. No answer is shown like anything else.
pub async fn top(run: &mut Run, args: TopArgs) -> Result<Exit, Failure> {
    if run.out.is_structured() || !io::stdout().is_terminal() {
        return Err(Failure::Usage(
            "'top' draws on a terminal; 'musterctl status' prints once, 'musterctl events --follow' what changes"
                .to_owned(),
        ));
    }
    let full = FullScreen::enter(run.out)?;
    loop {
        let text = picture(run).await?;
        full.draw(&text)?;
        tokio::time::sleep(args.interval.max(Duration::from_millis(100))).await;
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
    let events = events(run, &screen).await.unwrap_or_default();
    Ok(format!("{shown}\n{events}"))
}

/// The last events of the agent that answers.
async fn events(run: &mut Run, screen: &Screen) -> Result<String, Failure> {
    let request = pb::WatchRequest { since_ms: Some(0), limit: EVENTS, ..pb::WatchRequest::default() };
    let mut stream = run.client.watch(request).await?;
    let mut text = String::new();
    while let Some(event) = super::events::next(run, &mut stream, false).await? {
        text += &Event::from(event).table(screen);
    }
    Ok(text)
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
