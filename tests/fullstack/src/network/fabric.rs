//! What is on the way, and what became of it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::task::Waker;

use bytes::Bytes;
use muster::security::principal::Principal;
use muster_tests::sim::rng::Rng;

use super::{MS, Weather};

/// The first wait before a segment is sent again; it doubles.
const RESEND_MIN_NS: u64 = 200 * MS;
/// The longest wait.
const RESEND_MAX_NS: u64 = 1_600 * MS;
/// Datagrams that a socket holds until they are read.
const DATAGRAMS_HELD: usize = 1024;
/// Time between two processes of one host.
const LOCAL_NS: u64 = 50_000;

/// One end of a connection: its number, and 0 for the end that connected, 1 for the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct EndId {
    pub(super) connection: u64,
    pub(super) side: usize,
}

impl EndId {
    pub(super) fn other(self) -> Self {
        Self { side: 1 - self.side, ..self }
    }
}

/// What TCP sends.
#[derive(Debug)]
pub(super) enum Segment {
    Open,
    Accepted,
    Data(Bytes),
    End,
    Reset,
}

impl Segment {
    fn size(&self) -> usize {
        if let Self::Data(bytes) = self { bytes.len() } else { 0 }
    }
}

#[derive(Debug)]
enum Arrival {
    /// The first segment of this end's outbox is due.
    Segment(EndId),
    Datagram {
        from: SocketAddr,
        to: SocketAddr,
        content: Bytes,
    },
}

/// One end of a connection.
#[derive(Debug)]
pub(super) struct End {
    pub(super) address: SocketAddr,
    /// Who is at the other end.
    pub(super) peer: Principal,
    pub(super) open: bool,
    pub(super) inbox: VecDeque<Bytes>,
    pub(super) inbox_bytes: usize,
    /// The other end has said that nothing more comes.
    pub(super) ended: bool,
    pub(super) reset: bool,
    /// Its process has let go of it.
    pub(super) dropped: bool,
    pub(super) end_sent: bool,
    pub(super) reader: Option<Waker>,
    pub(super) writer: Option<Waker>,
    outbox: VecDeque<(u64, Segment)>,
    pub(super) outbox_bytes: usize,
    resend_ns: u64,
}

impl End {
    fn new(address: SocketAddr, peer: Principal) -> Self {
        Self {
            address,
            peer,
            open: false,
            inbox: VecDeque::new(),
            inbox_bytes: 0,
            ended: false,
            reset: false,
            dropped: false,
            end_sent: false,
            reader: None,
            writer: None,
            outbox: VecDeque::new(),
            outbox_bytes: 0,
            resend_ns: RESEND_MIN_NS,
        }
    }

    /// Forgets what waits to be sent, but for what is on the way already.
    fn keep_first(&mut self) {
        self.outbox.truncate(1);
        self.outbox_bytes = self.outbox.front().map_or(0, |(_, segment)| segment.size());
    }

    fn wake(&mut self) {
        for waker in [self.reader.take(), self.writer.take()].into_iter().flatten() {
            waker.wake();
        }
    }
}

/// Connections that wait to be accepted.
#[derive(Debug, Default)]
pub(super) struct Listener {
    pub(super) waiting: VecDeque<EndId>,
    pub(super) waker: Option<Waker>,
}

/// Datagrams that wait to be read.
#[derive(Debug, Default)]
pub(super) struct Socket {
    pub(super) held: VecDeque<(SocketAddr, Bytes)>,
    pub(super) waker: Option<Waker>,
}

/// Everything about the network.
pub(super) struct Fabric {
    now_ns: u64,
    rng: Rng,
    pub(super) weather: Weather,
    pub(super) cuts: BTreeSet<(IpAddr, IpAddr)>,
    pub(super) without_power: BTreeSet<IpAddr>,
    on_the_way: BTreeMap<(u64, u64), Arrival>,
    pub(super) ends: BTreeMap<EndId, End>,
    pub(super) listeners: BTreeMap<SocketAddr, Listener>,
    pub(super) sockets: BTreeMap<SocketAddr, Socket>,
    numbers: u64,
    ports: BTreeMap<IpAddr, u16>,
    pub(super) digest: u64,
    pub(super) delivered: u64,
}

impl Fabric {
    pub(super) fn new(rng: Rng) -> Self {
        Self {
            now_ns: 0,
            rng,
            weather: Weather::FAIR,
            cuts: BTreeSet::new(),
            without_power: BTreeSet::new(),
            on_the_way: BTreeMap::new(),
            ends: BTreeMap::new(),
            listeners: BTreeMap::new(),
            sockets: BTreeMap::new(),
            numbers: 0,
            ports: BTreeMap::new(),
            digest: 0,
            delivered: 0,
        }
    }

    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// A port that no one has used for long on that host.
    pub(super) fn port(&mut self, host: IpAddr) -> u16 {
        let port = self.ports.entry(host).or_insert(32_768);
        *port = port.checked_add(1).unwrap_or(32_768);
        *port
    }

    fn latency_ns(&mut self, from: IpAddr, to: IpAddr) -> u64 {
        if from == to {
            return LOCAL_NS;
        }
        self.weather.latency_ns + self.rng.below(self.weather.jitter_ns + 1)
    }

    fn reaches(&self, from: IpAddr, to: IpAddr) -> bool {
        from == to || !self.cuts.contains(&(from, to))
    }

    fn schedule(&mut self, at_ns: u64, arrival: Arrival) {
        let number = self.number();
        self.on_the_way.insert((at_ns, number), arrival);
    }

    fn note(&mut self, what: u64, size: usize) {
        self.delivered += 1;
        let size = u64::try_from(size).unwrap_or(u64::MAX);
        for part in [self.now_ns, what, size] {
            self.digest = (self.digest ^ part).wrapping_mul(0x0000_0100_0000_01B3).rotate_left(17);
        }
    }

    pub(super) fn advance(&mut self, now_ns: u64) {
        self.now_ns = now_ns;
        while let Some(entry) = self.on_the_way.first_entry().filter(|entry| entry.key().0 <= now_ns) {
            match entry.remove() {
                Arrival::Segment(end) => self.segment_due(end),
                Arrival::Datagram { from, to, content } => self.datagram_due(from, to, content),
            }
        }
    }

    // ---- datagrams ----------------------------------------------------------------------------------------

    pub(super) fn send_datagram(&mut self, from: SocketAddr, to: SocketAddr, content: &[u8]) {
        let local = from.ip() == to.ip();
        if self.without_power.contains(&from.ip()) || (!local && self.rng.percent(self.weather.loss_percent))
        {
            return;
        }
        let copies = if !local && self.rng.percent(self.weather.twice_percent) { 2 } else { 1 };
        let content = Bytes::copy_from_slice(content);
        for _ in 0..copies {
            let at_ns = self.now_ns + self.latency_ns(from.ip(), to.ip());
            self.schedule(at_ns, Arrival::Datagram { from, to, content: content.clone() });
        }
    }

    fn datagram_due(&mut self, from: SocketAddr, to: SocketAddr, content: Bytes) {
        if !self.reaches(from.ip(), to.ip()) {
            return;
        }
        let size = content.len();
        let Some(socket) = self.sockets.get_mut(&to) else { return };
        if socket.held.len() >= DATAGRAMS_HELD {
            return;
        }
        socket.held.push_back((from, content));
        if let Some(waker) = socket.waker.take() {
            waker.wake();
        }
        self.note(u64::from(to.port()), size);
    }

    // ---- connections --------------------------------------------------------------------------------------

    /// A new connection; its opening is on the way.
    pub(super) fn open(&mut self, from: SocketAddr, to: SocketAddr, who: Principal) -> EndId {
        let connection = self.number();
        let near = EndId { connection, side: 0 };
        self.ends.insert(near, End::new(from, Principal::Stranger));
        self.ends.insert(near.other(), End::new(to, who));
        self.push(near, Segment::Open);
        near
    }

    /// Sends a segment behind those that are under way.
    pub(super) fn push(&mut self, id: EndId, segment: Segment) {
        let (Some(near), Some(far)) = (self.ends.get(&id), self.ends.get(&id.other())) else { return };
        let (from, to) = (near.address.ip(), far.address.ip());
        if self.without_power.contains(&from) {
            return;
        }
        let mut due_ns = self.now_ns + self.latency_ns(from, to);
        if from != to && self.rng.percent(self.weather.loss_percent) {
            due_ns += RESEND_MIN_NS;
        }
        let Some(near) = self.ends.get_mut(&id) else { return };
        let due_ns = due_ns.max(near.outbox.back().map_or(0, |(last_ns, _)| *last_ns));
        near.outbox_bytes += segment.size();
        near.outbox.push_back((due_ns, segment));
        if near.outbox.len() == 1 {
            self.schedule(due_ns, Arrival::Segment(id));
        }
    }

    fn segment_due(&mut self, id: EndId) {
        let (Some(near), Some(far)) = (self.ends.get(&id), self.ends.get(&id.other())) else { return };
        let (from, to) = (near.address.ip(), far.address.ip());
        let stuck = !self.reaches(from, to) || self.without_power.contains(&to);
        let Some(near) = self.ends.get_mut(&id) else { return };
        if stuck {
            let wait_ns = near.resend_ns;
            near.resend_ns = (wait_ns * 2).min(RESEND_MAX_NS);
            return self.schedule(self.now_ns + wait_ns, Arrival::Segment(id));
        }
        near.resend_ns = RESEND_MIN_NS;
        let Some((_, segment)) = near.outbox.pop_front() else { return };
        let size = segment.size();
        near.outbox_bytes -= size;
        if let Some(due_ns) = near.outbox.front().map(|(due_ns, _)| *due_ns) {
            self.schedule(due_ns.max(self.now_ns), Arrival::Segment(id));
        }
        self.note(id.connection, size);
        self.take(id.other(), segment);
        self.forget_if_over(id);
    }

    /// A segment arrives at this end.
    fn take(&mut self, id: EndId, segment: Segment) {
        if matches!(segment, Segment::Open) {
            return self.take_opening(id);
        }
        let Some(end) = self.ends.get_mut(&id) else { return };
        match segment {
            Segment::Open => {}
            Segment::Accepted => end.open = true,
            Segment::Data(_) if end.dropped => return self.push(id, Segment::Reset),
            Segment::Data(bytes) => {
                end.inbox_bytes += bytes.len();
                end.inbox.push_back(bytes);
            }
            Segment::End => end.ended = true,
            Segment::Reset => {
                end.reset = true;
                end.keep_first();
            }
        }
        end.wake();
    }

    fn take_opening(&mut self, id: EndId) {
        let Some(end) = self.ends.get_mut(&id) else { return };
        let Some(listener) = self.listeners.get_mut(&end.address) else {
            end.dropped = true;
            end.end_sent = true;
            return self.push(id, Segment::Reset);
        };
        end.open = true;
        listener.waiting.push_back(id);
        if let Some(waker) = listener.waker.take() {
            waker.wake();
        }
        self.push(id, Segment::Accepted);
    }

    /// The process lets go of an end.
    pub(super) fn release(&mut self, id: EndId) {
        let Some(end) = self.ends.get_mut(&id) else { return };
        end.dropped = true;
        let unread = end.inbox_bytes > 0;
        let silent = end.end_sent || end.reset;
        end.end_sent = true;
        if !silent {
            self.push(id, if unread { Segment::Reset } else { Segment::End });
        }
        self.forget_if_over(id);
    }

    fn forget_if_over(&mut self, id: EndId) {
        let over = |end: Option<&End>| end.is_none_or(|end| end.dropped && end.outbox.is_empty());
        if over(self.ends.get(&id)) && over(self.ends.get(&id.other())) {
            self.ends.remove(&id);
            self.ends.remove(&id.other());
        }
    }

    pub(super) fn power_off(&mut self, host: IpAddr) {
        self.without_power.insert(host);
        self.listeners.retain(|address, _| address.ip() != host);
        self.sockets.retain(|address, _| address.ip() != host);
        for end in self.ends.values_mut().filter(|end| end.address.ip() == host) {
            end.dropped = true;
            end.end_sent = true;
            end.inbox.clear();
            end.inbox_bytes = 0;
            end.keep_first();
        }
    }
}
