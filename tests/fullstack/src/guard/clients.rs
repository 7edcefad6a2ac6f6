//! Connections of agents.

use std::sync::Arc;

use muster_guard::protocol::codec::{FrameDecoder, encode_frame};
use muster_guard::protocol::{ClientRole, GuardFrame, Request, RequestFrame};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use crate::network::SimStream;

/// Frames that wait for the network.
const UNSENT_MAX: usize = 1024;

/// Which request of which client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) client: u64,
    pub(super) request: u64,
}

/// What a client said.
pub(super) enum Heard {
    Request(Asked, Box<Request>),
    Gone(u64),
}

/// One connection.
pub(super) struct Client {
    pub(super) role: Option<ClientRole>,
    pub(super) wants_events: bool,
    frames: mpsc::Sender<Vec<u8>>,
    _tasks: Arc<[AbortOnDropHandle<()>; 2]>,
}

impl Client {
    pub(super) fn new(number: u64, stream: SimStream, heard: mpsc::Sender<Heard>) -> Self {
        let (reader, writer) = tokio::io::split(stream);
        let (frames, unsent) = mpsc::channel(UNSENT_MAX);
        let reading = tokio::spawn(read(number, reader, heard));
        let writing = tokio::spawn(write(writer, unsent));
        let tasks = Arc::new([AbortOnDropHandle::new(reading), AbortOnDropHandle::new(writing)]);
        Self { role: None, wants_events: false, frames, _tasks: tasks }
    }

    pub(super) fn is_agent(&self) -> bool {
        self.role == Some(ClientRole::Agent)
    }

    /// A client that reads nothing for so long loses what it was to be told, and so its connection's sense.
    pub(super) fn send(&self, frame: &GuardFrame) {
        let bytes = encode_frame(frame).expect("a guard's frames are small");
        drop(self.frames.try_send(bytes));
    }
}

async fn read(number: u64, mut stream: ReadHalf<SimStream>, heard: mpsc::Sender<Heard>) {
    let mut decoder = FrameDecoder::new();
    let mut bytes = [0; 4096];
    'connection: loop {
        match stream.read(&mut bytes).await {
            Ok(0) | Err(_) => break,
            Ok(count) => decoder.push(&bytes[..count]),
        }
        loop {
            match decoder.next::<RequestFrame>() {
                Ok(Some(frame)) => {
                    let asked = Asked { client: number, request: frame.id };
                    if heard.send(Heard::Request(asked, Box::new(frame.request))).await.is_err() {
                        break 'connection;
                    }
                }
                Ok(None) => break,
                Err(_) => break 'connection,
            }
        }
    }
    // The guard is gone with its runtime only.
    drop(heard.send(Heard::Gone(number)).await);
}

async fn write(mut stream: WriteHalf<SimStream>, mut unsent: mpsc::Receiver<Vec<u8>>) {
    while let Some(frame) = unsent.recv().await {
        if stream.write_all(&frame).await.is_err() {
            return;
        }
    }
}
