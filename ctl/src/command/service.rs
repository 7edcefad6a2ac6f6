//! `service …`.

use muster_core::id::ServiceName;
use muster_core::spec::ServiceSpec;
use muster_core::spec::file::{ServiceEntry, ServiceFile};
use muster_proto::v1 as pb;
use pb::act_on_service_request::Act;

use super::template::{DRIVERS, template};
use super::{Run, apply, assignment, events, find_service, logs};
use crate::cli::Verb;
use crate::cli::service::{ServiceVerb, WaitingArgs};
use crate::context::nearest_name;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Printer;
use crate::view::outcome::{Outcome, Outcomes, Validated, ValidatedService};
use crate::view::plan::Plan;
use crate::view::service::{ServiceDetail, ServiceList};
use crate::view::status::Status;
use crate::wait::service::{Instance, Running};
use crate::{file, wait, when};

/// Runs the verbs that need no cluster; none if the verb needs one.
pub fn without_cluster(verb: &Verb, out: Printer) -> Option<Result<Exit, Failure>> {
    match verb {
        Verb::Service { verb: ServiceVerb::Init { driver, name } } => Some(init(driver, name, out)),
        Verb::Service { verb: ServiceVerb::Validate(args) } => Some(validate(&args.files, out)),
        _ => None,
    }
}

fn init(driver: &str, name: &str, out: Printer) -> Result<Exit, Failure> {
    ServiceName::new(name).map_err(|error| Failure::Usage(error.to_string()))?;
    let text = template(driver, name).ok_or_else(|| {
        let near = nearest_name(driver, DRIVERS.iter().copied());
        let near = near.map(|near| format!("; did you mean {near}?")).unwrap_or_default();
        Failure::Usage(format!("there is no driver '{driver}'{near}; available: {}", DRIVERS.join(", ")))
    })?;
    out.put(&text)?;
    Ok(Exit::Done)
}

fn validate(files: &[String], out: Printer) -> Result<Exit, Failure> {
    let found = file::load(files)?;
    let services = found
        .into_iter()
        .map(|declared| ValidatedService { file: declared.file, name: declared.spec.name.to_string() })
        .collect();
    out.show_outcome(&Validated { services })?;
    Ok(Exit::Done)
}

/// Runs a verb on services.
///
/// # Errors
/// As of any call.
pub async fn service(run: &mut Run, verb: ServiceVerb) -> Result<Exit, Failure> {
    match verb {
        ServiceVerb::List => {
            let services = Status::from(run.status().await?).services;
            run.out.show(&ServiceList { services })?;
            Ok(Exit::Done)
        }
        ServiceVerb::Show { service } => show(run, &service).await,
        ServiceVerb::Apply { files, if_revision, detach } => {
            apply::apply(run, &files.files, if_revision, detach).await
        }
        ServiceVerb::Plan(args) => apply::plan(run, &args.files).await,
        ServiceVerb::Edit(args) => apply::edit(run, &args).await,
        ServiceVerb::Rollback(args) => {
            act(run, &args, Act::Rollback(true), "has its former declaration").await
        }
        ServiceVerb::Start(args) => act(run, &args, Act::Wanted(true), "is started").await,
        ServiceVerb::Restart(args) => act(run, &args, Act::Restart(true), "is started anew").await,
        ServiceVerb::Scale { service, count, detach } => {
            let message = format!("is scaled to {count}");
            act(run, &WaitingArgs { service, detach }, Act::Scale(count), &message).await
        }
        ServiceVerb::Stop(args) => stop(run, &args).await,
        ServiceVerb::Remove(args) => remove(run, &args).await,
        ServiceVerb::Logs { instance, task, follow, all_hosts, tail } => {
            logs::logs(run, logs::Wanted { instance, task, follow, all_hosts, tail }).await
        }
        ServiceVerb::Explain { instance } => explain(run, &instance).await,
        ServiceVerb::History { service, limit } => events::history(run, service, limit).await,
        ServiceVerb::Annotate { service, annotations } => annotate(run, &service, &annotations).await,
        // Done before a cluster was looked for.
        ServiceVerb::Init { .. } | ServiceVerb::Validate(_) => Ok(Exit::Done),
    }
}

/// A service's declaration and status.
pub async fn fetch(run: &mut Run, name: &str) -> Result<(pb::ServiceView, u64), Failure> {
    let request = pb::ListServicesRequest { names: vec![name.to_owned()], stale: run.stale };
    let reply = run.client.list_services(request).await?;
    let is_named = |view: &pb::ServiceView| view.spec.as_ref().is_some_and(|spec| spec.name == name);
    if let Some(view) = reply.services.into_iter().find(is_named) {
        return Ok((view, reply.revision));
    }
    // Only for the nearest name.
    let status = run.status().await?;
    find_service(&status, name)?;
    Err(Failure::NoSuch { what: "service", name: name.to_owned(), nearest: None })
}

/// A declaration as a service file.
pub fn to_file(spec: &ServiceSpec) -> Result<String, Failure> {
    let file = ServiceFile::from_iter([spec]);
    toml::to_string(&file).map_err(|error| Failure::Unreadable(error.to_string()))
}

/// A declaration as the cluster has it.
pub fn to_spec(wire: pb::ServiceSpec) -> Result<ServiceSpec, Failure> {
    muster_wire::spec_from_proto(wire).map_err(|error| Failure::Unreadable(error.to_string()))
}

async fn show(run: &mut Run, name: &str) -> Result<Exit, Failure> {
    let (view, _) = fetch(run, name).await?;
    // A declaration of a newer version may not be readable here; the status still is.
    let spec = view.spec.and_then(|spec| to_spec(spec).ok());
    let detail = ServiceDetail {
        service: view.status.unwrap_or_default().into(),
        file: spec.as_ref().map(to_file).transpose()?.unwrap_or_default(),
        spec: spec.as_ref().map(ServiceEntry::from),
        annotations: view.annotations.into_iter().collect(),
        created: (view.created_ms > 0).then(|| when::iso(view.created_ms)),
        former: view.former,
    };
    run.out.show(&detail)?;
    Ok(Exit::Done)
}

async fn request(run: &mut Run, service: &str, act: Act) -> Result<pb::ActReply, Failure> {
    let request =
        pb::ActOnServiceRequest { service: service.to_owned(), act: Some(act), ..Default::default() };
    run.client.act_on_service(request).await
}

/// An act after which the service runs, unless it is stopped.
async fn act(run: &mut Run, args: &WaitingArgs, act: Act, message: &str) -> Result<Exit, Failure> {
    let name = &args.service;
    let mut running = Running::new(vec![name.clone()]);
    let is_restart = matches!(act, Act::Restart(_));
    if !matches!(act, Act::Wanted(_)) {
        running = running.or_stopped();
    }
    let reply = request(run, name, act).await?;
    if is_restart {
        running = running.since(reply.revision);
    }
    if args.detach {
        run.acted(reply, name, &format!("service {name} {message}"))?;
    } else {
        wait::until(run, |status, now| running.judge(status, now)).await?;
        run.done(reply, name, &format!("service {name} {message}"))?;
    }
    Ok(Exit::Done)
}

async fn stop(run: &mut Run, args: &WaitingArgs) -> Result<Exit, Failure> {
    let name = &args.service;
    let reply = request(run, name, Act::Wanted(false)).await?;
    if args.detach {
        run.acted(reply, name, &format!("service {name} is being stopped"))?;
    } else {
        wait::until(run, |status, _| wait::service::stopped(status, name)).await?;
        run.done(reply, name, &format!("service {name} is stopped"))?;
    }
    Ok(Exit::Done)
}

async fn remove(run: &mut Run, args: &WaitingArgs) -> Result<Exit, Failure> {
    let name = &args.service;
    run.confirm(format!("service {name} will be stopped and forgotten"))?;
    let reply = request(run, name, Act::Remove(true)).await?;
    if args.detach {
        run.acted(reply, name, &format!("service {name} is being removed"))?;
    } else {
        wait::until(run, |status, _| wait::service::gone(status, name)).await?;
        run.done(reply, name, &format!("service {name} is removed"))?;
    }
    Ok(Exit::Done)
}

async fn explain(run: &mut Run, instance: &str) -> Result<Exit, Failure> {
    let instance = Instance::parse(instance)?;
    let request = pb::ExplainRequest { service: instance.service, index: instance.index, stale: run.stale };
    let plan = Plan::from(run.client.explain(request).await?);
    run.out.show(&Plan { explains: true, ..plan })?;
    Ok(Exit::Done)
}

async fn annotate(run: &mut Run, service: &str, annotations: &[String]) -> Result<Exit, Failure> {
    let changes: Result<Vec<_>, Failure> = annotations.iter().map(|text| assignment(text)).collect();
    let mut outcomes = Vec::new();
    for (key, value) in changes? {
        let message = match &value {
            Some(value) => format!("{service}: {key} is {value}"),
            None => format!("{service}: {key} is removed"),
        };
        let request = pb::AnnotateRequest { service: service.to_owned(), key, value, ..Default::default() };
        let reply = run.client.annotate(request).await?;
        outcomes.push(Outcome::new(reply, service, &message));
    }
    run.out.show_outcome(&Outcomes(outcomes))?;
    Ok(Exit::Done)
}
