//! `service apply`, `plan` and `edit`.

use std::time::Duration;

use muster_core::spec::ServiceSpec;
use muster_proto::v1 as pb;
use tokio::time::sleep;

use super::Run;
use super::service::{fetch, to_file, to_spec};
use crate::cli::service::WaitingArgs;
use crate::editor::Edited;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::file::Declared;
use crate::view::outcome::Applied;
use crate::view::plan::Plan;
use crate::view::service::Service;
use crate::wait::service::Running;
use crate::{editor, file, wait};

/// Long enough for a pending signal to be seen.
const AFTER_EDITOR: Duration = Duration::from_millis(10);

/// Declares the services of these files, and waits until they run.
///
/// # Errors
/// What is wrong in a file, or why a service does not run.
pub async fn apply(
    run: &mut Run,
    files: &[String],
    if_revision: Option<u64>,
    detach: bool,
) -> Result<Exit, Failure> {
    let services = file::load(files)?;
    declare(run, &services, if_revision, detach).await
}

/// Shows what `apply` would do.
///
/// # Errors
/// What is wrong in a file.
pub async fn plan(run: &mut Run, files: &[String]) -> Result<Exit, Failure> {
    let services = file::load(files)?;
    let reply = run.client.apply(pb::ApplyRequest { dry_run: true, ..request(&services, None) }).await?;
    reply.warnings.iter().for_each(|warning| run.out.warn(warning));
    let mut plan = Plan { warnings: reply.warnings, ..Plan::from(reply.plan.unwrap_or_default()) };
    if plan.revision == 0 {
        plan.revision = reply.revision;
    }
    if plan.summary.is_empty() {
        plan.summary = if plan.changes { "there are changes" } else { "nothing would change" }.to_owned();
    }
    run.out.show(&plan)?;
    Ok(if plan.changes { Exit::Attention } else { Exit::Done })
}

/// Lets the operator change a declaration in an editor, shows what that does, and declares it unless somebody
/// else has changed it meanwhile.
///
/// # Errors
/// What is wrong in the edited file, or why the service does not run.
pub async fn edit(run: &mut Run, args: &WaitingArgs) -> Result<Exit, Failure> {
    let (view, revision) = fetch(run, &args.service).await?;
    let before = to_spec(view.spec.unwrap_or_default())?;
    let draft = to_file(&before)?;
    run.client.set_editing(true);
    let edited = editor::edit(&args.service, &draft);
    // A Ctrl-C that was meant for the editor is noticed, and dropped, in this pause.
    sleep(AFTER_EDITOR).await;
    run.client.set_editing(false);
    let edited = edited?;
    let done = declare_edited(run, args, &before, revision, &edited).await;
    if run.client.has_acted() {
        return done;
    }
    done.map_err(|failure| Failure::Edited { failure: Box::new(failure), kept: edited.keep() })
}

async fn declare_edited(
    run: &mut Run,
    args: &WaitingArgs,
    before: &ServiceSpec,
    revision: u64,
    edited: &Edited,
) -> Result<Exit, Failure> {
    let services = file::parse(&edited.path().to_string_lossy(), &edited.text)?;
    if matches!(services.as_slice(), [only] if only.spec == *before) {
        run.out.note("nothing was changed");
        if run.out.is_structured() {
            run.out.show(&Applied::nothing(&before.name, revision))?;
        }
        return Ok(Exit::Done);
    }
    if services.iter().all(|declared| declared.spec.name != before.name) {
        return Err(Failure::Usage(format!(
            "the edited file does not declare {} any more; a service cannot be renamed, apply it as a new one",
            args.service
        )));
    }
    // Editing took the operator's time, not the command's.
    run.wait_at_most(super::TIMEOUT);
    declare(run, &services, Some(revision), args.detach).await
}

fn request(services: &[Declared], if_revision: Option<u64>) -> pb::ApplyRequest {
    let services = services.iter().map(|declared| muster_wire::spec_to_proto(&declared.spec)).collect();
    pb::ApplyRequest { services, if_revision, ..Default::default() }
}

async fn declare(
    run: &mut Run,
    services: &[Declared],
    if_revision: Option<u64>,
    detach: bool,
) -> Result<Exit, Failure> {
    let mut applied = Applied::from(run.client.apply(request(services, if_revision)).await?);
    applied.warnings.iter().for_each(|warning| run.out.warn(warning));
    let structured = run.out.is_structured();
    if !structured {
        run.out.show_outcome(&applied)?;
    }
    if detach {
        if structured {
            run.out.show(&applied)?;
        }
        return Ok(Exit::Done);
    }
    let names: Vec<String> = applied.services.iter().map(|service| service.name.clone()).collect();
    let mut running = Running::new(names).or_stopped();
    let result = wait::until(run, |status, now| {
        for service in &mut applied.services {
            let found = status.services.iter().find(|found| found.name == service.name);
            service.status = found.cloned().map(Service::from);
        }
        running.judge(status, now)
    })
    .await;
    if structured {
        run.out.show(&applied)?;
    }
    result?;
    let stopped = applied.services.iter().filter_map(|s| s.status.as_ref()).filter(|s| s.state == "stopped");
    for service in stopped {
        run.out.note(&format!("{} stays stopped; 'musterctl service start {0}' starts it", service.name));
    }
    Ok(Exit::Done)
}
