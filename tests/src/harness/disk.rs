//! A file system of its own for a host's data: it can be full, stand still, or lose what was not synced.
//!
//! The device is a file. What the kernel has written to it is what a disk holds; what it keeps in memory is lost with
//! the power. A volatile cache in the disk itself is not modelled. It is mounted inside the host's machine only, and
//! so gone with it.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::{HarnessError, Host, tool};

/// Above the headroom below which an agent writes no more snapshots; sparse.
const BYTES: u64 = 800 << 20;
/// A file that takes all space.
const FILLER: &str = "filler";

/// The device of one host's data directory.
#[derive(Debug)]
pub struct Disk {
    image: PathBuf,
    is_stalled: bool,
}

impl Disk {
    /// Why there can be none.
    #[must_use]
    pub fn obstacle() -> Option<String> {
        static FOUND: OnceLock<Option<String>> = OnceLock::new();
        FOUND
            .get_or_init(|| {
                let missing = ["mkfs.ext4", "fsfreeze", "fallocate", "losetup"].into_iter().find(|program| {
                    tool::run(program, &["--version"]).and_then(|_| tool::run(program, &["-V"])).is_err()
                });
                if let Some(program) = missing {
                    return Some(format!("{program} is not installed"));
                }
                let free = tool::run("losetup", &["--find"]).and_then(tool::Finished::success);
                free.err().map(|error| format!("no loop device: {error}"))
            })
            .clone()
    }

    /// Takes the host's power away and gives it a disk with its data; its agent is not started.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn give(host: &mut Host) -> Result<Self, HarnessError> {
        let image = host.dir().join("disk.img");
        let file = std::fs::File::create(&image).map_err(HarnessError::io("the disk's file"))?;
        file.set_len(BYTES).map_err(HarnessError::io("the disk's size"))?;
        tool::run("mkfs.ext4", &["-q", "-F", "-E", "lazy_itable_init=0", &text(&image)])?.success()?;
        host.crash()?;
        let disk = Self { image, is_stalled: false };
        let data = text(&host.data_dir());
        let before = text(&host.dir().join("data-before"));
        // Nothing old must be found where the disk is mounted, should it ever be missing there.
        run(host, "mv", &[&data, &before])?;
        run(host, "mkdir", &[&data])?;
        disk.mount(host)?;
        run(host, "cp", &["-a", &format!("{before}/."), &data])?;
        run(host, "rm", &["-rf", &before])?;
        // What was copied counts as synced long ago.
        run(host, "sync", &["--file-system", &data])?;
        Ok(disk)
    }

    fn mount(&self, host: &Host) -> Result<(), HarnessError> {
        run(host, "mount", &["-o", "loop", &text(&self.image), &text(&host.data_dir())])
    }

    /// Takes all its space, also what is kept for root.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn fill(&self, host: &Host) -> Result<(), HarnessError> {
        let filler = text(&host.data_dir().join(FILLER));
        // It ends with an error because no space is left.
        let written =
            host.machine().run(Path::new("dd"), &["if=/dev/zero", &format!("of={filler}"), "bs=1M"])?;
        if written.status == 0 {
            return Err(HarnessError::broken("the disk can't be filled"));
        }
        Ok(())
    }

    /// Every write and sync waits from now on.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn stall(&mut self, host: &Host) -> Result<(), HarnessError> {
        run(host, "fsfreeze", &["--freeze", &text(&host.data_dir())])?;
        self.is_stalled = true;
        Ok(())
    }

    /// The power goes in this moment: the host comes back with what the device holds, its agent not started.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn cut_power(&mut self, host: &mut Host) -> Result<(), HarnessError> {
        let copy = self.image.with_extension("cut");
        host.freeze()?;
        tool::run("cp", &["--sparse=always", &text(&self.image), &text(&copy)])?.success()?;
        host.crash()?;
        std::fs::rename(&copy, &self.image).map_err(HarnessError::io("the disk after the power cut"))?;
        self.mount(host)?;
        host.start()
    }

    /// Takes the host's power away and puts its data back to where they were; its agent is not started.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn take_away(mut self, host: &mut Host) -> Result<(), HarnessError> {
        let data = text(&host.data_dir());
        if std::mem::take(&mut self.is_stalled) {
            run(host, "fsfreeze", &["--unfreeze", &data])?;
        }
        run(host, "rm", &["-f", &format!("{data}/{FILLER}")])?;
        host.crash()?;
        let after = text(&host.dir().join("data-after"));
        self.mount(host)?;
        run(host, "cp", &["-a", &data, &after])?;
        run(host, "umount", &[&data])?;
        run(host, "rm", &["-rf", &data, &format!("{after}/lost+found")])?;
        run(host, "mv", &[&after, &data])?;
        std::fs::remove_file(&self.image).map_err(HarnessError::io("the disk's file"))
    }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

fn run(host: &Host, program: &str, args: &[&str]) -> Result<(), HarnessError> {
    host.machine().run(Path::new(program), args)?.success().map(|_| ())
}
