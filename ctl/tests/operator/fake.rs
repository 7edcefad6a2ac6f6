//! An agent of canned answers: enough of a cluster to see what the command asks and does with the answers.

mod examples;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};

use muster_proto::v1 as pb;
use muster_proto::v1::cluster_server::{Cluster, ClusterServer};
use tokio_stream::Stream;
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tonic::metadata::MetadataMap;
use tonic::{Code, Request, Response, Status};

pub use self::examples::{service, status};
use crate::run::{Ended, ctl};

type Reply<T> = Result<Response<T>, Status>;
type Step = Box<dyn FnMut(&mut pb::ClusterStatus) + Send>;
type Items<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// What the agent knows and was asked.
#[derive(Default)]
pub struct Scene {
    pub status: pb::ClusterStatus,
    pub specs: Vec<pb::ServiceSpec>,
    pub events: Vec<pb::Event>,
    /// Events that happen while the stream is broken.
    pub later: Vec<pb::Event>,
    pub lines: Vec<pb::LogLine>,
    /// Lines that are written while the stream is broken.
    pub lines_later: Vec<pb::LogLine>,
    pub followed: Vec<pb::LogsRequest>,
    pub plan: pb::PlanReply,
    /// Answered to the next calls, before anything else.
    pub refusals: VecDeque<Status>,
    /// The requests with an id, in order.
    pub writes: Vec<(String, pb::RequestId)>,
    /// Makes each look at the status differ from the one before.
    pub step: Option<Step>,
    /// How often the status was asked for.
    pub looks: u32,
    pub watched: Vec<pb::WatchRequest>,
    /// The audit trail, and what of it was asked for.
    pub audit: Vec<pb::AuditRecord>,
    pub audited: Vec<pb::ReadAuditRequest>,
    pub drained: Option<pb::DrainRequest>,
    pub timing: Option<pb::Timing>,
    /// Secrets with the values that came in.
    pub secrets: std::collections::BTreeMap<String, Vec<u8>>,
    /// Who has not left the old CA.
    pub old_certificates: Vec<String>,
}

/// A running agent.
pub struct Fake {
    scene: Arc<Mutex<Scene>>,
    pub address: SocketAddr,
    _runtime: tokio::runtime::Runtime,
}

#[derive(Clone)]
struct Service(Arc<Mutex<Scene>>);

/// An error as agents send it.
pub fn refusal(code: Code, message: &str, stable: &str, exit: &str) -> Status {
    let mut extra = MetadataMap::new();
    extra.insert("muster-code", stable.parse().unwrap());
    extra.insert("muster-hint", "a hint".parse().unwrap());
    extra.insert("muster-exit", exit.parse().unwrap());
    Status::with_metadata(code, message, extra)
}

impl Fake {
    /// An agent of a healthy cluster of three nodes with two services.
    pub fn start() -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let scene = Arc::new(Mutex::new(Scene { status: crate::fake::status(), ..Scene::default() }));
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let server =
            tonic::transport::Server::builder().add_service(ClusterServer::new(Service(Arc::clone(&scene))));
        let secured = {
            let _entered = runtime.enter();
            crate::trust::secured(listener)
        };
        runtime.spawn(server.serve_with_incoming(ReceiverStream::new(secured)));
        Self { scene, address, _runtime: runtime }
    }

    /// Listens on a Unix socket too.
    pub fn listen_on(&self, path: &Path) {
        let _entered = self._runtime.enter();
        let listener = tokio::net::UnixListener::bind(path).unwrap();
        let server = tonic::transport::Server::builder()
            .add_service(ClusterServer::new(Service(Arc::clone(&self.scene))));
        self._runtime.spawn(server.serve_with_incoming(UnixListenerStream::new(listener)));
    }

    /// The scene, to look at or to change.
    pub fn scene(&self) -> MutexGuard<'_, Scene> {
        self.scene.lock().unwrap()
    }

    /// Runs the command against this agent.
    pub fn ctl(&self, arguments: &[&str]) -> Ended {
        let endpoint = self.address.to_string();
        let mut all = vec!["--endpoint", &endpoint];
        all.extend(arguments);
        ctl(&all)
    }
}

impl Service {
    fn scene(&self) -> Result<MutexGuard<'_, Scene>, Status> {
        let mut scene = self.0.lock().unwrap();
        match scene.refusals.pop_front() {
            Some(refusal) => Err(refusal),
            None => Ok(scene),
        }
    }

    /// Notes a write, also one that is refused.
    fn write(&self, what: &str, request: Option<pb::RequestId>) -> Result<MutexGuard<'_, Scene>, Status> {
        self.0.lock().unwrap().writes.push((what.to_owned(), request.unwrap_or_default()));
        self.scene()
    }
}

fn changed(revision: u64) -> Reply<pb::ActReply> {
    Ok(Response::new(pb::ActReply { revision, changed: true, ..Default::default() }))
}

#[tonic::async_trait]
impl Cluster for Service {
    async fn get_status(&self, request: Request<pb::GetStatusRequest>) -> Reply<pb::ClusterStatus> {
        let stale = request.into_inner().stale;
        let mut scene = if stale { self.0.lock().unwrap() } else { self.scene()? };
        scene.looks += 1;
        if let Some(mut step) = scene.step.take() {
            step(&mut scene.status);
            scene.step = Some(step);
        }
        Ok(Response::new(pb::ClusterStatus { stale, ..scene.status.clone() }))
    }

    async fn list_services(&self, request: Request<pb::ListServicesRequest>) -> Reply<pb::ListServicesReply> {
        let names = request.into_inner().names;
        let scene = self.scene()?;
        let view = |spec: &pb::ServiceSpec| pb::ServiceView {
            spec: Some(spec.clone()),
            status: scene.status.services.iter().find(|s| s.name == spec.name).cloned(),
            created_ms: 1_767_225_600_000,
            ..Default::default()
        };
        let services = scene.specs.iter().filter(|spec| names.contains(&spec.name)).map(view).collect();
        Ok(Response::new(pb::ListServicesReply { services, revision: scene.status.revision }))
    }

    async fn get_raft(&self, _: Request<pb::GetRaftRequest>) -> Reply<pb::RaftView> {
        let _scene = self.scene()?;
        let member = |name: &str, id, matched_index| pb::RaftMemberView {
            name: name.into(),
            id,
            voter: true,
            addresses: vec![format!("10.0.0.{id}:7420")],
            matched_index: Some(matched_index),
        };
        Ok(Response::new(pb::RaftView {
            node: "n2".into(),
            leader: "n2".into(),
            state: "leader".into(),
            term: 4,
            last_log_index: 130,
            committed_index: 130,
            applied_index: 130,
            snapshot_index: 100,
            members: vec![member("n1", 1, 129), member("n2", 2, 130), member("n3", 3, 130)],
            membership_id: 9,
            joint: false,
        }))
    }

    async fn list_tokens(&self, _: Request<pb::ListTokensRequest>) -> Reply<pb::ListTokensReply> {
        let _scene = self.scene()?;
        Ok(Response::new(pb::ListTokensReply::default()))
    }

    async fn apply(&self, request: Request<pb::ApplyRequest>) -> Reply<pb::ApplyReply> {
        let request = request.into_inner();
        let mut scene = self.write("apply", request.request)?;
        let mut services = Vec::new();
        for spec in &request.services {
            let known = scene.specs.iter().find(|known| known.name == spec.name);
            let what = match known {
                None => pb::declared_service::What::Created,
                Some(known) if known == spec => pb::declared_service::What::Unchanged,
                Some(_) => pb::declared_service::What::Changed,
            };
            services.push(pb::DeclaredService { service: spec.name.clone(), what: what.into() });
        }
        let changes = services.iter().any(|s| s.what() != pb::declared_service::What::Unchanged);
        let plan = request.dry_run.then(|| pb::PlanReply { changes, ..scene.plan.clone() });
        if !request.dry_run {
            scene.status.revision += 1;
            let revision = scene.status.revision;
            for spec in request.services {
                let name = spec.name.clone();
                scene.specs.retain(|known| known.name != name);
                scene.specs.push(spec);
                if !scene.status.services.iter().any(|s| s.name == name) {
                    let added = service(&name, "exclusive", &[("n1", "running", revision)]);
                    scene.status.services.push(added);
                }
            }
        }
        Ok(Response::new(pb::ApplyReply {
            revision: scene.status.revision,
            services,
            plan,
            warnings: Vec::new(),
        }))
    }

    async fn act_on_service(&self, request: Request<pb::ActOnServiceRequest>) -> Reply<pb::ActReply> {
        let request = request.into_inner();
        let mut scene = self.write("act_on_service", request.request)?;
        scene.status.revision += 1;
        changed(scene.status.revision)
    }

    async fn annotate(&self, request: Request<pb::AnnotateRequest>) -> Reply<pb::ActReply> {
        let scene = self.write("annotate", request.into_inner().request)?;
        changed(scene.status.revision + 1)
    }

    async fn r#move(&self, request: Request<pb::MoveRequest>) -> Reply<pb::ActReply> {
        let scene = self.write("move", request.into_inner().request)?;
        changed(scene.status.revision + 1)
    }

    async fn act_on_node(&self, request: Request<pb::ActOnNodeRequest>) -> Reply<pb::ActReply> {
        let request = request.into_inner();
        let scene = self.write("act_on_node", request.request)?;
        if !scene.status.nodes.iter().any(|node| node.name == request.node) {
            let text = format!("there is no node {}", request.node);
            return Err(refusal(Code::NotFound, &text, "MU1003", "105"));
        }
        changed(scene.status.revision + 1)
    }

    async fn drain(&self, request: Request<pb::DrainRequest>) -> Reply<pb::PlanReply> {
        let request = request.into_inner();
        let mut scene = self.write("drain", request.request)?;
        if !request.dry_run {
            let node = scene.status.nodes.iter_mut().find(|node| node.name == request.node).unwrap();
            node.drain = Some(pb::DrainStatus { remaining: node.instances, ..Default::default() });
        }
        scene.drained = Some(request);
        Ok(Response::new(scene.plan.clone()))
    }

    async fn create_token(&self, request: Request<pb::CreateTokenRequest>) -> Reply<pb::CreateTokenReply> {
        let _scene = self.write("create_token", request.into_inner().request)?;
        Ok(Response::new(pb::CreateTokenReply {
            token: "mt1-secret".into(),
            id: "abc".into(),
            expires_ms: u64::MAX / 4096,
            addresses: vec!["10.0.0.1:7420".into()],
        }))
    }

    async fn list_secrets(&self, _: Request<pb::ListSecretsRequest>) -> Reply<pb::ListSecretsReply> {
        let scene = self.scene()?;
        let view = |name: &String| pb::SecretView {
            name: name.clone(),
            revision: 7,
            created_ms: 1,
            changed_ms: 1,
            used_by: vec!["orders-db".into()],
        };
        let secrets = scene.secrets.keys().map(view).collect();
        Ok(Response::new(pb::ListSecretsReply { secrets, key: "0a0b".into(), keys: 1 }))
    }

    async fn put_secret(&self, request: Request<pb::PutSecretRequest>) -> Reply<pb::PutSecretReply> {
        let request = request.into_inner();
        let what = if request.create { "create secret" } else { "set secret" };
        let mut scene = self.write(what, request.request)?;
        scene.secrets.insert(request.name, request.value.to_vec());
        Ok(Response::new(pb::PutSecretReply { revision: 8, used_by: vec!["orders-db".into()] }))
    }

    async fn remove_secret(&self, request: Request<pb::RemoveSecretRequest>) -> Reply<pb::ActReply> {
        let request = request.into_inner();
        let what = if request.force { "force secret away" } else { "remove secret" };
        self.write(what, request.request)?.secrets.remove(&request.name);
        changed(9)
    }

    async fn rotate_secret_key(&self, request: Request<pb::RotateSecretKeyRequest>) -> Reply<pb::ActReply> {
        let _scene = self.write("rotate key", request.into_inner().request)?;
        changed(10)
    }

    async fn revoke_token(&self, request: Request<pb::RevokeTokenRequest>) -> Reply<pb::ActReply> {
        let _scene = self.write("revoke_token", request.into_inner().request)?;
        changed(1)
    }

    async fn transfer_leader(&self, _: Request<pb::HandOverRequest>) -> Reply<pb::ActReply> {
        let _scene = self.write("transfer_leader", None)?;
        changed(1)
    }

    async fn set_timing(&self, request: Request<pb::SetTimingRequest>) -> Reply<pb::ActReply> {
        let request = request.into_inner();
        let mut scene = self.write("set_timing", request.request)?;
        scene.timing = request.timing;
        changed(1)
    }

    async fn read_audit(&self, request: Request<pb::ReadAuditRequest>) -> Reply<pb::ReadAuditReply> {
        let request = request.into_inner();
        let mut scene = self.scene()?;
        scene.audited.push(request);
        let after = (request.after_revision, request.after_sequence);
        let behind = |record: &&pb::AuditRecord| (record.revision, record.sequence) > after;
        // A page of two, whatever is asked for.
        let records: Vec<_> = scene.audit.iter().filter(behind).take(2).cloned().collect();
        let more = scene.audit.iter().filter(behind).count() > records.len();
        let answered_by = "n1".to_owned();
        Ok(Response::new(pb::ReadAuditReply { records, more, missing: 7, answered_by }))
    }

    async fn list_certificates(
        &self,
        _: Request<pb::ListCertificatesRequest>,
    ) -> Reply<pb::ListCertificatesReply> {
        let scene = self.scene()?;
        let view = |holder: &str, name: &str, role: &str, id| pb::CertificateView {
            holder: holder.into(),
            name: name.into(),
            role: role.into(),
            id,
            ends_ms: u64::MAX / 4096,
            revoked: false,
        };
        Ok(Response::new(pb::ListCertificatesReply {
            authorities: vec![pb::AuthorityView {
                id: 3,
                pin: "ab".into(),
                since_ms: 1,
                ends_ms: u64::MAX / 4096,
            }],
            certificates: vec![view("node", "n1", "", 1), view("user", "alice", "viewer", 9)],
            old: scene.old_certificates.clone(),
        }))
    }

    async fn issue_user(&self, request: Request<pb::IssueUserRequest>) -> Reply<pb::IssuedUser> {
        let request = request.into_inner();
        let _scene = self.write("issue_user", request.request)?;
        Ok(Response::new(crate::trust::issue(&request.name, request.role(), &request.certificate_request)))
    }

    async fn renew_certificate(
        &self,
        request: Request<pb::RenewCertificateRequest>,
    ) -> Reply<pb::IssuedUser> {
        let request = request.into_inner();
        let _scene = self.write("renew_certificate", None)?;
        Ok(Response::new(crate::trust::issue("tester", pb::UserRole::Admin, &request.certificate_request)))
    }

    async fn remove_user(&self, request: Request<pb::RemoveUserRequest>) -> Reply<pb::ActReply> {
        let scene = self.write("remove_user", request.into_inner().request)?;
        changed(scene.status.revision + 1)
    }

    async fn revoke_certificates(
        &self,
        request: Request<pb::RevokeCertificatesRequest>,
    ) -> Reply<pb::ActReply> {
        let scene = self.write("revoke_certificates", request.into_inner().request)?;
        changed(scene.status.revision + 1)
    }

    async fn rotate_authority(
        &self,
        request: Request<pb::RotateAuthorityRequest>,
    ) -> Reply<pb::RotateAuthorityReply> {
        let request = request.into_inner();
        let what = if request.finish { "finish" } else { "rotate" };
        let scene = self.write(what, request.request)?;
        let (revision, message) = (scene.status.revision + 1, format!("{what} done"));
        Ok(Response::new(pb::RotateAuthorityReply { revision, message, old: Vec::new() }))
    }

    async fn explain(&self, _: Request<pb::ExplainRequest>) -> Reply<pb::PlanReply> {
        Ok(Response::new(self.scene()?.plan.clone()))
    }

    async fn simulate(&self, _: Request<pb::SimulateRequest>) -> Reply<pb::PlanReply> {
        Ok(Response::new(self.scene()?.plan.clone()))
    }

    async fn rebalance(&self, request: Request<pb::RebalanceRequest>) -> Reply<pb::PlanReply> {
        let scene = self.write("rebalance", request.into_inner().request)?;
        Ok(Response::new(scene.plan.clone()))
    }

    type WatchStream = Items<pb::Event>;

    /// With `follow`, the stream breaks after the first events: the command has to resume.
    async fn watch(&self, request: Request<pb::WatchRequest>) -> Reply<Self::WatchStream> {
        let request = request.into_inner();
        let mut scene = self.scene()?;
        let past = scene.events.iter().filter(|event| event.revision > request.since_revision);
        let mut items: Vec<Result<pb::Event, Status>> = past.cloned().map(Ok).collect();
        let is_first = scene.watched.is_empty();
        scene.watched.push(request.clone());
        if request.follow && is_first {
            items.push(Err(Status::unavailable("the agent stops")));
            let later = std::mem::take(&mut scene.later);
            scene.events.extend(later);
        }
        let items = tokio_stream::iter(items);
        if request.follow && !is_first {
            let for_ever = tokio_stream::StreamExt::chain(items, tokio_stream::pending());
            return Ok(Response::new(Box::pin(for_ever)));
        }
        Ok(Response::new(Box::pin(items)))
    }

    type LogsStream = Items<pb::LogLine>;

    /// With `follow`, the stream breaks after the first lines, and others are written meanwhile.
    async fn logs(&self, request: Request<pb::LogsRequest>) -> Reply<Self::LogsStream> {
        let request = request.into_inner();
        let mut scene = self.scene()?;
        let mut lines: Vec<Result<pb::LogLine, Status>> = scene.lines.clone().into_iter().map(Ok).collect();
        if request.follow && scene.followed.is_empty() {
            lines.push(Err(Status::unavailable("the agent stops")));
            scene.lines = std::mem::take(&mut scene.lines_later);
        }
        scene.followed.push(request);
        Ok(Response::new(Box::pin(tokio_stream::iter(lines))))
    }
}
