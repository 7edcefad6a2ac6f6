//! `secret …`

use std::path::PathBuf;

use clap::Subcommand;

/// What to do with secrets.
#[derive(Debug, Subcommand)]
pub enum SecretVerb {
    /// Make one: the value comes from a file or from stdin, and is never shown
    #[command(after_help = "One line end at the end of the value is left out. At most 32 KiB of UTF-8 text.

Examples:
  musterctl secret create db-password --from-file password.txt
  pwgen 32 1 | musterctl secret create db-password")]
    Create {
        /// Its name
        name: String,
        /// Where the value is [default: stdin]
        #[arg(long, value_name = "FILE")]
        from_file: Option<PathBuf>,
    },
    /// Give one another value, which services see from their next start on
    #[command(after_help = "Examples:
  musterctl secret set db-password --from-file password.txt
  pwgen 32 1 | musterctl secret set db-password --restart")]
    Set {
        /// Its name
        name: String,
        /// Where the value is [default: stdin]
        #[arg(long, value_name = "FILE")]
        from_file: Option<PathBuf>,
        /// Restart all services that use it, and wait until they run
        #[arg(long)]
        restart: bool,
        /// Do not wait until they run again
        #[arg(long, requires = "restart")]
        detach: bool,
    },
    /// List them: names and who uses them, never values
    List,
    /// Remove one
    #[command(after_help = "Examples:
  musterctl secret remove db-password
  musterctl secret remove db-password --force --yes    although a service uses it, which can't start anew then")]
    Remove {
        /// Its name
        name: String,
        /// Although a service uses it
        #[arg(long)]
        force: bool,
    },
    /// Encrypt all of them with a new key, and forget the old one
    #[command(
        after_help = "Services don't notice. Do it once a member of the control plane is not trusted any more and was removed.

Example:\n  musterctl secret rotate-key"
    )]
    RotateKey,
}
