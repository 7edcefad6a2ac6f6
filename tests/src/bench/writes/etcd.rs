//! etcd with three members, one inside each host's namespace, with its default settings; and the two of its calls
//! that are needed, written by hand.

use std::path::Path;
use std::process::Child;
use std::time::Duration;

use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic::{Request, Status};
use tonic_prost::ProstCodec;

use super::load::Load;
use super::target::{Target, value};
use crate::harness::wait;
use crate::harness::{Cluster, HarnessError, tool};

const PROGRAM: &str = "/usr/bin/etcd";
const CLIENT_PORT: u16 = 2379;
const PEER_PORT: u16 = 2380;
/// How long it may take to elect a leader.
const START_TIMEOUT: Duration = Duration::from_secs(20);

/// Whether there is an etcd to compare with.
pub(super) fn is_installed() -> bool {
    Path::new(PROGRAM).is_file()
}

/// What goes over its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wire {
    /// TLS between members and with clients, with certificates that etcd makes itself.
    Encrypted,
    /// Nothing is encrypted: its default.
    Plain,
}

impl Wire {
    fn scheme(self) -> &'static str {
        match self {
            Self::Encrypted => "https",
            Self::Plain => "http",
        }
    }

    fn args(self) -> &'static [&'static str] {
        match self {
            Self::Encrypted => &["--auto-tls", "--peer-auto-tls"],
            Self::Plain => &[],
        }
    }
}

/// The members. They end when this is dropped, before the cluster whose hosts they use.
pub(super) struct Etcd {
    members: Vec<Child>,
    endpoints: Vec<String>,
}

impl Etcd {
    pub(super) fn start(cluster: &Cluster, wire: Wire) -> Result<Self, HarnessError> {
        let scheme = wire.scheme();
        let peers: Vec<String> = cluster
            .hosts()
            .iter()
            .map(|host| format!("{}={scheme}://{}:{PEER_PORT}", host.name(), host.address()))
            .collect();
        let mut etcd = Self { members: Vec::new(), endpoints: Vec::new() };
        for host in cluster.hosts() {
            let client = format!("{}:{CLIENT_PORT}", host.address());
            let (client_url, peer_url) =
                (format!("{scheme}://{client}"), format!("{scheme}://{}:{PEER_PORT}", host.address()));
            let data = cluster.dir().join(format!("etcd-{}", host.name()));
            let (data, peers) = (data.display().to_string(), peers.join(","));
            let mut args = vec![
                "--name",
                host.name(),
                "--data-dir",
                &data,
                "--listen-client-urls",
                &client_url,
                "--advertise-client-urls",
                &client_url,
                "--listen-peer-urls",
                &peer_url,
                "--initial-advertise-peer-urls",
                &peer_url,
                "--initial-cluster",
                &peers,
                "--initial-cluster-state",
                "new",
            ];
            args.extend(wire.args());
            let log = cluster.dir().join(format!("etcd-{}.log", host.name()));
            let member = tool::spawn_inside(host.namespace(), Path::new(PROGRAM), &args, &log)?;
            etcd.members.push(member);
            etcd.endpoints.push(client);
        }
        Ok(etcd)
    }

    /// Where the member listens that leads.
    pub(super) fn leader(&self, load: &Load) -> Result<String, HarnessError> {
        wait::until(START_TIMEOUT, "etcd to elect a leader", || {
            let mut last = String::new();
            for endpoint in &self.endpoints {
                let channel = load.connect(endpoint).map_err(|e| e.to_string())?;
                match load.run(status(channel)).map_err(|e| e.to_string())? {
                    Ok(status) if status.leads() => return Ok(endpoint.clone()),
                    Ok(status) => last = format!("{status:?}"),
                    Err(status) => status.message().clone_into(&mut last),
                }
            }
            Err(last)
        })
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        for member in &mut self.members {
            if let Err(error) = member.kill().and_then(|()| member.wait()) {
                eprintln!("cleaning up etcd: {error}");
            }
        }
    }
}

async fn call<Q, A>(channel: Channel, path: &'static str, request: Q) -> Result<A, Status>
where
    Q: prost::Message + 'static,
    A: prost::Message + Default + 'static,
{
    let mut grpc = Grpc::new(channel);
    grpc.ready().await.map_err(|e| Status::unavailable(e.to_string()))?;
    let path = PathAndQuery::from_static(path);
    let answer = grpc.unary(Request::new(request), path, ProstCodec::<Q, A>::default()).await?;
    Ok(answer.into_inner())
}

async fn status(channel: Channel) -> Result<StatusReply, Status> {
    call(channel, "/etcdserverpb.Maintenance/Status", Nothing {}).await
}

/// A put of a key.
pub(super) struct Put(Channel);

impl Put {
    pub(super) fn new(channel: Channel) -> Self {
        Self(channel)
    }
}

impl Target for Put {
    async fn write(&mut self, client: usize, number: u64) -> Result<(), Status> {
        let request =
            PutRequest { key: format!("k{client}").into_bytes(), value: value(number).into_bytes() };
        call::<_, Nothing>(self.0.clone(), "/etcdserverpb.KV/Put", request).await.map(|_| ())
    }
}

/// `etcdserverpb.PutRequest`, as far as it is used.
#[derive(Clone, PartialEq, prost::Message)]
struct PutRequest {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// A message without fields, or of which none is of interest.
#[derive(Clone, PartialEq, prost::Message)]
struct Nothing {}

/// `etcdserverpb.ResponseHeader`, as far as it is used.
#[derive(Clone, PartialEq, prost::Message)]
struct Header {
    #[prost(uint64, tag = "2")]
    member_id: u64,
}

/// `etcdserverpb.StatusResponse`, as far as it is used.
#[derive(Clone, PartialEq, prost::Message)]
struct StatusReply {
    #[prost(message, optional, tag = "1")]
    header: Option<Header>,
    #[prost(uint64, tag = "4")]
    leader: u64,
}

impl StatusReply {
    fn leads(&self) -> bool {
        self.leader != 0 && self.header.as_ref().is_some_and(|header| header.member_id == self.leader)
    }
}
