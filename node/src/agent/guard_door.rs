//! Where an agent finds its guard.

use std::fmt::Debug;
use std::io;
use std::path::PathBuf;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;

/// A connection to a guard.
pub trait GuardStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> GuardStream for S {}

/// The way to this host's guard.
pub trait GuardDoor: Debug + Send + Sync + 'static {
    /// Connects to the guard. The errors `NotFound` and `ConnectionRefused` say that there is none.
    fn connect(&self) -> BoxFuture<'_, io::Result<Box<dyn GuardStream>>>;

    /// Starts a guard because there is none; `false`: that is not the agent's business.
    ///
    /// # Errors
    /// When it can't be started.
    fn start_guard(&self) -> io::Result<bool>;
}

/// The guard behind a socket of this host.
#[derive(Clone, Debug)]
pub struct LocalGuard {
    /// Holds `guard.sock`.
    pub run_dir: PathBuf,
    /// Handed to a guard that is started here.
    pub data_dir: PathBuf,
    /// The binary to start a guard from.
    pub guard_exe: PathBuf,
    /// Whether to start a guard when nobody answers. Under systemd the guard has a unit of its own.
    pub autostart_guard: bool,
}

impl GuardDoor for LocalGuard {
    fn connect(&self) -> BoxFuture<'_, io::Result<Box<dyn GuardStream>>> {
        async {
            let stream = UnixStream::connect(self.run_dir.join("guard.sock")).await?;
            Ok(Box::new(stream) as Box<dyn GuardStream>)
        }
        .boxed()
    }

    fn start_guard(&self) -> io::Result<bool> {
        if self.autostart_guard {
            muster_guard::spawn_detached(&self.guard_exe, &self.run_dir, &self.data_dir)
                .map_err(|error| io::Error::other(format!("{}: {error}", self.guard_exe.display())))?;
        }
        Ok(self.autostart_guard)
    }
}
