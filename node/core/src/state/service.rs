//! Services.

use std::sync::Arc;

use imbl::OrdMap;

use crate::id::Revision;
use crate::spec::ServiceSpec;
use crate::time::Stamp;

/// How many former declarations are kept for `rollback`.
pub const KEPT_DECLARATIONS: usize = 5;
/// The largest annotation, key and value together, in bytes.
pub const MAX_ANNOTATION_BYTES: usize = 4096;
/// How many annotations a service may have.
pub const MAX_ANNOTATIONS: usize = 64;

/// A service and what operators did to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// As declared now.
    pub spec: Arc<ServiceSpec>,
    /// The revision of that declaration (or of a scale, rollback).
    pub declared: Revision,
    /// Instances placed before this revision are started anew: the last change to what runs, or `restart`.
    pub rollout: Revision,
    /// Whether it should run.
    pub wanted: bool,
    /// It is removed as soon as nothing of it is left.
    pub removing: bool,
    /// Former declarations, newest last.
    pub former: Vec<Arc<ServiceSpec>>,
    /// Operators' notes and scripts' marks.
    pub annotations: OrdMap<String, Arc<str>>,
    /// When it was first declared.
    pub created: Stamp,
}
