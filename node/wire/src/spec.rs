//! Declared services.

mod task;

use std::time::Duration;

use muster_core::spec::selector::{Requirement, Test};
use muster_core::spec::{
    Failback, Mode, OnQuorumLoss, PlacementSpec, Preference, RestartPolicy, ServiceSpec,
};
use muster_proto::v1;

use crate::error::{DecodeError, known, required, service_name, service_names, to_ms};
use crate::node::{resources_from_proto, resources_to_proto};
use crate::session::{enforcement_from_proto, enforcement_to_proto};
use task::{task_from_proto, task_to_proto};

/// A declaration as a message. Times have whole milliseconds.
#[must_use]
pub fn spec_to_proto(spec: &ServiceSpec) -> v1::ServiceSpec {
    v1::ServiceSpec {
        name: spec.name.as_str().to_owned(),
        mode: Some(mode_to_proto(spec.mode)),
        priority: spec.priority,
        stop_timeout_ms: to_ms(spec.stop_timeout),
        continue_on_quorum_loss: spec.on_quorum_loss == OnQuorumLoss::Continue,
        enforcement: enforcement_to_proto(spec.enforcement).into(),
        replace_after_ms: to_ms(spec.replace_after),
        failback_auto: spec.failback == Failback::Auto,
        rto_ms: spec.rto.map(to_ms),
        placement: Some(placement_to_proto(&spec.placement)),
        resources: Some(resources_to_proto(spec.resources)),
        restart: Some(restart_to_proto(&spec.restart)),
        tasks: spec.tasks.iter().map(task_to_proto).collect(),
    }
}

/// A declaration of a message. It has not been judged: `apply` does that, and
/// [`muster_core::spec::validate::check`]. Without placement or resources it asks for nothing.
///
/// # Errors
/// [`DecodeError`] names the field; a mode, driver or check that this version does not know is a missing field.
pub fn spec_from_proto(spec: v1::ServiceSpec) -> Result<ServiceSpec, DecodeError> {
    Ok(ServiceSpec {
        name: service_name(&spec.name, "service.name")?,
        mode: mode_from_proto(required(spec.mode, "service.mode")?),
        priority: spec.priority,
        stop_timeout: Duration::from_millis(spec.stop_timeout_ms),
        on_quorum_loss: if spec.continue_on_quorum_loss {
            OnQuorumLoss::Continue
        } else {
            OnQuorumLoss::Stop
        },
        enforcement: enforcement_from_proto(spec.enforcement)?,
        replace_after: Duration::from_millis(spec.replace_after_ms),
        failback: if spec.failback_auto { Failback::Auto } else { Failback::Manual },
        rto: spec.rto_ms.map(Duration::from_millis),
        placement: placement_from_proto(spec.placement.unwrap_or_default())?,
        resources: spec.resources.as_ref().map(resources_from_proto).unwrap_or_default(),
        restart: restart_from_proto(&required(spec.restart, "service.restart")?),
        tasks: spec.tasks.into_iter().map(task_from_proto).collect::<Result<_, _>>()?,
    })
}

fn mode_to_proto(mode: Mode) -> v1::service_spec::Mode {
    use v1::service_spec::Mode as Wire;
    match mode {
        Mode::Exclusive => Wire::Exclusive(v1::ExclusiveMode {}),
        Mode::Replicated { count } => Wire::Replicated(v1::ReplicatedMode { count }),
        Mode::Everywhere => Wire::Everywhere(v1::EverywhereMode {}),
    }
}

fn mode_from_proto(mode: v1::service_spec::Mode) -> Mode {
    use v1::service_spec::Mode as Wire;
    match mode {
        Wire::Exclusive(v1::ExclusiveMode {}) => Mode::Exclusive,
        Wire::Replicated(v1::ReplicatedMode { count }) => Mode::Replicated { count },
        Wire::Everywhere(v1::EverywhereMode {}) => Mode::Everywhere,
    }
}

fn restart_to_proto(restart: &RestartPolicy) -> v1::RestartPolicy {
    v1::RestartPolicy {
        attempts: restart.attempts,
        window_ms: to_ms(restart.window),
        backoff_min_ms: to_ms(restart.backoff_min),
        backoff_max_ms: to_ms(restart.backoff_max),
    }
}

fn restart_from_proto(restart: &v1::RestartPolicy) -> RestartPolicy {
    RestartPolicy {
        attempts: restart.attempts,
        window: Duration::from_millis(restart.window_ms),
        backoff_min: Duration::from_millis(restart.backoff_min_ms),
        backoff_max: Duration::from_millis(restart.backoff_max_ms),
    }
}

fn placement_to_proto(placement: &PlacementSpec) -> v1::PlacementSpec {
    let names =
        |names: &[muster_core::id::ServiceName]| names.iter().map(|n| n.as_str().to_owned()).collect();
    v1::PlacementSpec {
        require: placement.require.iter().map(requirement_to_proto).collect(),
        prefer: placement
            .prefer
            .iter()
            .map(|p| v1::Preference { label: Some(requirement_to_proto(&p.label)), weight: p.weight })
            .collect(),
        spread: placement.spread.clone(),
        with: names(&placement.with),
        apart: names(&placement.apart),
        after: names(&placement.after),
    }
}

fn placement_from_proto(placement: v1::PlacementSpec) -> Result<PlacementSpec, DecodeError> {
    let preference = |p: v1::Preference| {
        let label = requirement_from_proto(required(p.label, "placement.prefer.label")?)?;
        Ok(Preference { label, weight: p.weight })
    };
    Ok(PlacementSpec {
        require: placement.require.into_iter().map(requirement_from_proto).collect::<Result<_, _>>()?,
        prefer: placement.prefer.into_iter().map(preference).collect::<Result<_, DecodeError>>()?,
        spread: placement.spread,
        with: service_names(&placement.with, "placement.with")?,
        apart: service_names(&placement.apart, "placement.apart")?,
        after: service_names(&placement.after, "placement.after")?,
    })
}

fn requirement_to_proto(requirement: &Requirement) -> v1::Requirement {
    use v1::requirement::Test as Wire;
    let (test, values) = match &requirement.test {
        Test::In(values) => (Wire::In, values.clone()),
        Test::NotIn(values) => (Wire::NotIn, values.clone()),
        Test::Has => (Wire::Has, Vec::new()),
        Test::HasNot => (Wire::HasNot, Vec::new()),
    };
    v1::Requirement { label: requirement.label.clone(), test: test.into(), values }
}

fn requirement_from_proto(requirement: v1::Requirement) -> Result<Requirement, DecodeError> {
    use v1::requirement::Test as Wire;
    let test = match known::<Wire>(requirement.test, "requirement.test")? {
        Wire::In => Test::In(requirement.values),
        Wire::NotIn => Test::NotIn(requirement.values),
        Wire::Has => Test::Has,
        Wire::HasNot => Test::HasNot,
    };
    Ok(Requirement { label: requirement.label, test })
}
