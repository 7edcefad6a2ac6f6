//! `musterctl`: the operator's command. It talks to any agent of a cluster; nothing of the cluster runs in it.

#![forbid(unsafe_code)]

mod cli;
mod client;
mod clock;
mod command;
mod context;
mod editor;
mod exit;
mod failure;
mod file;
mod output;
mod progress;
mod view;
mod wait;
mod when;

use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

use cli::Cli;
use exit::Exit;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return wrong_usage(&error).into(),
    };
    // One thread is enough for one conversation, and starts fastest.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            output::tell(&format!("error: the runtime cannot start: {error}\n"));
            return Exit::Failed.into();
        }
    };
    runtime.block_on(command::run(cli)).into()
}

/// Tells what is wrong with the arguments; help and version are what was asked for.
fn wrong_usage(error: &clap::Error) -> Exit {
    let asked_for = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    if !asked_for && wants_json(std::env::args().skip(1)) {
        let text = error.render().to_string();
        let message = text.lines().next().unwrap_or_default().trim_start_matches("error: ");
        output::tell(&output::error_text(message, "MU9001", Some("see 'musterctl --help'"), true));
    } else if error.print().is_err() {
        // Neither stdout nor stderr can be written to: the status has to tell.
        return Exit::Failed;
    }
    if asked_for { Exit::Done } else { Exit::Usage }
}

/// Whether errors are wanted as JSON, found out from arguments that could not be parsed as a whole.
fn wants_json(arguments: impl Iterator<Item = String>) -> bool {
    let mut value_follows = false;
    for argument in arguments {
        let value = match argument.as_str() {
            value if value_follows => Some(value),
            "-o" | "--output" => None,
            other => other.strip_prefix("--output=").or_else(|| other.strip_prefix("-o")),
        };
        if value.is_some_and(|value| value.trim_start_matches('=') == "json") {
            return true;
        }
        value_follows = matches!(argument.as_str(), "-o" | "--output");
    }
    false
}

#[cfg(test)]
mod tests {
    use super::wants_json;

    #[test]
    fn json_is_found_in_every_spelling() {
        let found = |line: &str| wants_json(line.split(' ').map(str::to_owned));
        for line in ["x -o json", "-ojson x", "x --output json", "--output=json", "-o=json"] {
            assert!(found(line), "{line}");
        }
        for line in ["x -o yaml", "json", "x --json", "x -o"] {
            assert!(!found(line), "{line}");
        }
    }
}
