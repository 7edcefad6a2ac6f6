//! Clients that are slow, or send too much: they are cut, and nobody else notices.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use muster_core::command::UserRole;
use muster_proto::v1;
use muster_proto::v1::cluster_client::ClusterClient;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tonic::Code;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;

use super::solo::Solo;

/// A test that hangs has failed.
const PATIENCE: Duration = Duration::from_secs(20);
/// How many connections the HTTP server keeps from one address.
const HTTP_CONNECTIONS_OF_ADDRESS: usize = 64;

/// Messages as their bytes: what is no message of the method can be sent too.
#[derive(Clone, Copy, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = ();
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = tonic::Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), tonic::Status> {
        bytes::BufMut::put(buffer, item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = ();
    type Error = tonic::Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<()>, tonic::Status> {
        let all = bytes::Buf::remaining(buffer);
        bytes::Buf::advance(buffer, all);
        Ok(Some(()))
    }
}

async fn call(channel: &Channel, path: &'static str, message: Bytes) -> Result<(), tonic::Status> {
    let mut grpc = Grpc::new(channel.clone());
    grpc.ready().await.map_err(|error| tonic::Status::unavailable(error.to_string()))?;
    let path = PathAndQuery::from_static(path);
    grpc.unary(tonic::Request::new(message), path, Raw).await.map(|_| ())
}

/// A connection for HTTP from that address of this host.
async fn http_from(solo: &Solo, from: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(format!("{from}:0").parse().unwrap()).unwrap();
    let address: SocketAddr = solo.http_address().parse().unwrap();
    socket.connect(address).await.unwrap()
}

/// Everything that comes until the other side closes; also when it resets.
async fn until_closed(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let ended = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
    assert!(ended.is_ok(), "it is still open");
    String::from_utf8_lossy(&answer).into_owned()
}

async fn probe(solo: &Solo, from: &str) -> String {
    let mut stream = http_from(solo, from).await;
    let sent = stream.write_all(b"GET /livez HTTP/1.1\r\nHost: m\r\nConnection: close\r\n\r\n").await;
    assert!(sent.is_ok());
    until_closed(&mut stream).await
}

#[tokio::test]
async fn slow_writers_of_http_take_no_places_of_others_and_are_cut() {
    let solo = Solo::start().await;
    let mut slow = Vec::new();
    for _ in 0..HTTP_CONNECTIONS_OF_ADDRESS {
        let mut stream = http_from(&solo, "127.0.0.2").await;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: ").await.unwrap();
        slow.push(stream);
    }
    // The places of that address are taken one by one, behind its connections.
    let refused = async {
        while !solo.rejections.counts().contains_key("too_many_http") {
            drop(http_from(&solo, "127.0.0.2").await);
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, refused).await.expect("no more of them are kept");
    assert!(probe(&solo, "127.0.0.3").await.starts_with("HTTP/1.1 200"), "others are served");
    for stream in &mut slow {
        until_closed(stream).await;
    }
    assert!(probe(&solo, "127.0.0.2").await.starts_with("HTTP/1.1 200"), "the places are free again");
    solo.stop().await;
}

#[tokio::test]
async fn too_large_a_header_of_http_is_refused() {
    let solo = Solo::start().await;
    let mut stream = http_from(&solo, "127.0.0.2").await;
    let header = format!("GET /metrics HTTP/1.1\r\nHost: m\r\nX-Long: {}\r\n\r\n", "x".repeat(64 << 10));
    // It may be refused before all of it is sent.
    let _sent = stream.write_all(header.as_bytes()).await;
    let mut start = [0; 12];
    match tokio::time::timeout(PATIENCE, stream.read_exact(&mut start)).await.expect("in time") {
        Ok(_) => assert_eq!(&start, b"HTTP/1.1 431"),
        // The refusal may be overtaken by the reset of a connection with bytes that nobody read.
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
    }
    assert!(probe(&solo, "127.0.0.2").await.starts_with("HTTP/1.1 200"));
    solo.stop().await;
}

#[tokio::test]
async fn too_large_messages_and_bytes_that_are_none_are_refused_by_every_method() {
    let solo = Solo::start().await;
    let root = solo.with(solo.user("root", UserRole::Admin).await);
    let too_large = Bytes::from(vec![0x22; (4 << 20) + 1]);
    let refused = call(&root, "/muster.v1.Cluster/Apply", too_large).await.unwrap_err();
    assert_eq!(refused.code(), Code::OutOfRange, "{refused}");
    for path in [
        "/muster.v1.Cluster/GetStatus",
        "/muster.v1.Cluster/Apply",
        "/muster.v1.Cluster/Move",
        "/muster.v1.Cluster/Drain",
        "/muster.v1.Cluster/Simulate",
        "/muster.v1.Cluster/IssueUser",
    ] {
        // A field of 2 GiB that isn't there, a group that never ends, a varint that does not.
        for bytes in [&[0x12, 0xff, 0xff, 0xff, 0xff, 0x07][..], &[0x0b; 200], &[0xff; 20]] {
            let refused = call(&root, path, Bytes::from_static(bytes)).await.unwrap_err();
            assert_eq!(refused.code(), Code::Internal, "{path}: {refused}");
        }
    }
    let mut api = ClusterClient::new(root);
    api.get_status(v1::GetStatusRequest { stale: true }).await.expect("the same connection goes on");
    solo.stop().await;
}

#[tokio::test]
async fn whoever_watches_too_often_keeps_no_node_from_following() {
    let solo = Solo::start().await;
    let mut held = Vec::new();
    let refused = 'full: loop {
        let viewer = solo.user(&format!("eve-{}", held.len()), UserRole::Viewer).await;
        let mut api = ClusterClient::new(solo.with(viewer));
        for _ in 0..600 {
            match api.watch(v1::WatchRequest { follow: true, ..Default::default() }).await {
                Ok(stream) => held.push(stream),
                Err(status) => break 'full status,
            }
        }
    };
    assert_eq!(
        (refused.code(), super::meta(&refused, "muster-code").as_str()),
        (Code::ResourceExhausted, "MU2009")
    );
    let request = v1::FollowRequest { sender: Some(solo.sender()), after_revision: 0 };
    let mut items = solo.link().follow(request).await.expect("a node follows all the same").into_inner();
    assert!(items.message().await.unwrap().is_some());
    solo.stop().await;
}
