//! What the campaign's cluster runs.

use std::path::Path;

use crate::harness::stamps;

/// How many copies a service has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copies {
    /// One, never two.
    Exclusive,
    /// So many.
    Replicated(usize),
    /// One on each host.
    Everywhere,
}

/// A service that stamps.
#[derive(Clone, Copy, Debug)]
pub struct Service {
    /// Its name.
    pub name: &'static str,
    /// How many copies.
    pub copies: Copies,
}

/// All stamping services. Several exclusive ones, so that one host has more than one and each host has some.
pub const SERVICES: [Service; 7] = [
    Service { name: "db-1", copies: Copies::Exclusive },
    Service { name: "db-2", copies: Copies::Exclusive },
    Service { name: "db-3", copies: Copies::Exclusive },
    Service { name: "db-4", copies: Copies::Exclusive },
    Service { name: "db-5", copies: Copies::Exclusive },
    Service { name: "web", copies: Copies::Replicated(2) },
    Service { name: "each", copies: Copies::Everywhere },
];

impl Service {
    /// Its declaration.
    #[must_use]
    pub fn file(&self, muster: &Path, directory: &Path) -> String {
        let head = match self.copies {
            Copies::Exclusive => "mode = \"exclusive\"\nstop_timeout = \"2s\"".to_owned(),
            Copies::Replicated(count) => format!(
                "mode = \"replicated\"\ncount = {count}\nstop_timeout = \"2s\"\n\
                 [service.placement]\nspread = \"zone\""
            ),
            Copies::Everywhere => "mode = \"everywhere\"\nstop_timeout = \"2s\"".to_owned(),
        };
        stamps::service(muster, directory, self.name, &head)
    }

    /// Whether it may never run twice.
    #[must_use]
    pub fn is_exclusive(&self) -> bool {
        self.copies == Copies::Exclusive
    }

    /// How many copies a cluster of so many hosts runs.
    #[must_use]
    pub fn wanted(&self, hosts: usize) -> usize {
        match self.copies {
            Copies::Exclusive => 1,
            Copies::Replicated(count) => count,
            Copies::Everywhere => hosts,
        }
    }
}
