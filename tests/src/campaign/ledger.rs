//! All runs of all services, also the ended ones, whose files are set aside so that looking stays cheap.

use std::path::PathBuf;
use std::time::Duration;

use muster::stamp::Run;

use super::services::{SERVICES, Service};
use crate::harness::wait::Moment;
use crate::harness::{HarnessError, Stamps};

/// A copy whose last stamp is older than this has ended or stands still: it stamps every millisecond.
pub const SILENT: Duration = Duration::from_millis(500);
/// A file is set aside when it was silent for so long while its service ran elsewhere.
const ENDED: Duration = Duration::from_secs(3);

/// The runs of the campaign's services.
#[derive(Debug)]
pub struct Ledger {
    stamps: Stamps,
    aside: PathBuf,
    ended: Vec<(&'static str, Run)>,
}

impl Ledger {
    /// Of services that stamp there.
    ///
    /// # Errors
    /// When a directory can't be made.
    pub fn new(stamps: Stamps) -> Result<Self, HarnessError> {
        let aside = stamps.directory().join("ended");
        std::fs::create_dir_all(&aside).map_err(HarnessError::io("a directory for ended runs"))?;
        Ok(Self { stamps, aside, ended: Vec::new() })
    }

    /// The runs of a service that are not set aside.
    ///
    /// # Errors
    /// When they can't be read.
    pub fn runs(&self, service: &Service) -> Result<Vec<Run>, HarnessError> {
        self.stamps.runs(service.name)
    }

    /// The runs of a service that stamp now.
    ///
    /// # Errors
    /// When they can't be read.
    pub fn living(&self, service: &Service) -> Result<Vec<Run>, HarnessError> {
        let now = Moment::now();
        let runs = self.runs(service)?.into_iter();
        Ok(runs.filter(|run| now.since(Moment(run.last_ns)) < SILENT).collect())
    }

    /// Sets aside what has ended. To be called while everything runs.
    ///
    /// # Errors
    /// When a file can't be moved.
    pub fn set_aside(&mut self) -> Result<(), HarnessError> {
        let now = Moment::now();
        for service in &SERVICES {
            for mut run in self.runs(service)? {
                if now.since(Moment(run.last_ns)) < ENDED {
                    continue;
                }
                let to = self.aside.join(run.path.file_name().unwrap_or_default());
                std::fs::rename(&run.path, &to).map_err(HarnessError::io("setting a run aside"))?;
                run.path = to;
                self.ended.push((service.name, run));
            }
        }
        Ok(())
    }

    /// Every run of a service since the beginning. A run that was taken for ended and stamped again is seen here
    /// with its true end.
    ///
    /// # Errors
    /// When they can't be read.
    pub fn history(&self, service: &Service) -> Result<Vec<Run>, HarnessError> {
        let aside = Stamps::new(self.aside.clone()).runs(service.name)?;
        let mut all = self.runs(service)?;
        all.extend(aside);
        all.sort_by_key(|run| run.first_ns);
        Ok(all)
    }

    /// How many runs were set aside.
    #[must_use]
    pub fn ended(&self) -> usize {
        self.ended.len()
    }
}
