//! Frames between agent and guard over the Unix socket, in both directions, in pieces of any size.

use muster_core::id::{BootId, Generation, ServiceName, SessionId, SlotId, TaskName};
use muster_guard::protocol::codec::{FrameDecoder, encode_frame};
use muster_guard::protocol::{
    ClientRole, Event, FRAME_BYTES_MAX, GuardFrame, Hello, LeasePhase, Outcome, Refusal, Reply, Request,
    RequestFrame,
};

use super::input::{Input, Output};

pub(super) fn body(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let piece = usize::from(input.byte()).max(1);
    let stream = input.rest();
    let (in_pieces, whole) = (frames(stream, piece), frames(stream, 4096));
    assert_eq!(in_pieces, whole, "how the bytes come decides what they are");
    for frame in whole {
        // As the guard takes them, and as the agent does.
        if let Ok(request) = serde_json::from_slice::<RequestFrame>(&frame) {
            assert_eq!(again(&request), Some(request));
        }
        if let Ok(message) = serde_json::from_slice::<GuardFrame>(&frame) {
            assert_eq!(again(&message), Some(message));
        }
    }
}

/// What came out as frames, until the connection would be closed.
fn frames(stream: &[u8], piece: usize) -> Vec<Vec<u8>> {
    let mut decoder = FrameDecoder::new();
    let mut frames = Vec::new();
    for bytes in stream.chunks(piece) {
        decoder.push(bytes);
        loop {
            match decoder.next_bytes() {
                Ok(Some(frame)) => {
                    assert!(frame.len() <= FRAME_BYTES_MAX);
                    frames.push(frame.to_vec());
                }
                Ok(None) => break,
                Err(_) => return frames,
            }
        }
    }
    frames
}

/// The message once more, if it can be sent at all.
fn again<T: serde::Serialize + serde::de::DeserializeOwned>(message: &T) -> Option<T> {
    let frame = encode_frame(message).ok()?;
    let mut decoder = FrameDecoder::new();
    decoder.push(&frame);
    decoder.next().expect("what was sent can be read")
}

pub(super) fn seeds() -> Vec<(String, Vec<u8>)> {
    let slot = SlotId { service: ServiceName::new("db").expect("a legal name"), index: 0 };
    let task = TaskName::new("server").expect("a legal name");
    let hello =
        Hello { lowest: 1, highest: 1, role: ClientRole::Agent, events: true, name: "seed".to_owned() };
    let requests = [
        Request::Hello(hello),
        Request::PrepareSession,
        Request::CloseSession { session: SessionId(7) },
        Request::StopTask { slot: slot.clone(), task: task.clone(), grace_ms: 100 },
        Request::Revoke { slot: slot.clone(), generation: Generation(3) },
        Request::RunCheck { slot, task, argv: vec!["true".to_owned()], timeout_ms: 5 },
        Request::StopGuard { grace_ms: 9 },
        Request::Reload { exe: "/bin/true".to_owned() },
    ];
    let mut asked = vec![3];
    for (id, request) in (1..).zip(requests) {
        asked.extend(encode_frame(&RequestFrame { id, request }).expect("it is small"));
    }
    let done = GuardFrame::Reply { id: 1, outcome: Outcome::Done(Reply::Started { pid: 4, notes: vec![] }) };
    let wrong = Refusal::WrongBoot { boot: BootId(9) };
    let refused = GuardFrame::Reply { id: 2, outcome: Outcome::Refused(wrong) };
    let mut answered = vec![200];
    let lapsed = GuardFrame::Event(Event::LeasePhase { session: SessionId(7), phase: LeasePhase::Lapsed });
    for frame in [done, refused, lapsed] {
        answered.extend(encode_frame(&frame).expect("it is small"));
    }
    let huge = Output(vec![9]).0.into_iter().chain(u32::MAX.to_be_bytes()).collect();
    vec![("requests".to_owned(), asked), ("answers".to_owned(), answered), ("huge".to_owned(), huge)]
}
