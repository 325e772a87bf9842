//! A bad link: takes datagrams at one address and hands them on to another, by a seeded plan of
//! drops, doubles, delays, flipped bits, bursts and outages. It counts exactly what it did.
//!
//! What may hurt a test: a relay that loses datagrams of its own accord, or that is the slowest part
//! of the path. So many datagrams go through each system call (`UDP_GRO` in, `UDP_SEGMENT` out), the
//! kernel's buffer is as large as it gets, and what the kernel dropped is counted beside the plan's.

use std::collections::VecDeque;
use std::io::{IoSlice, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg, sendmmsg, setsockopt, sockopt,
};

/// Later datagrams for which a late one is held back at most.
pub const LATEST: u64 = 64;
/// Bits that are flipped in a spoilt datagram at most.
pub const FLIPS: u64 = 4;

/// What happens to datagrams; the chances are parts of a thousand.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Same seed, same fate of each datagram.
    pub seed: u64,
    /// Chance to be dropped.
    pub drop: u64,
    /// Chance to be sent on twice.
    pub double: u64,
    /// Chance to be held back for up to [`LATEST`] later ones.
    pub reorder: u64,
    /// Chance that up to [`FLIPS`] bits flip.
    pub corrupt: u64,
    /// Of each so many datagrams the last [`Self::burst_length`] are dropped; 0 for none.
    pub burst_every: u64,
    /// Length of a burst, in datagrams.
    pub burst_length: u64,
    /// Of each so many milliseconds the last [`Self::outage`] drop everything; 0 for none.
    pub outage_every: u64,
    /// Length of an outage, in milliseconds.
    pub outage: u64,
}

/// What the plan says about one datagram.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fate {
    /// It ends here.
    pub dropped: bool,
    /// Sent on twice.
    pub doubled: bool,
    /// Later datagrams that go first.
    pub held: u64,
    /// Numbers that choose the bits to flip, each once, by the remainder of the datagram's bits.
    pub flips: Vec<u64>,
}

/// `SplitMix64` (Steele, Lea, Flood 2014).
#[derive(Debug)]
struct Dice(u64);

impl Dice {
    fn throw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// True in `chance` of a thousand.
    fn falls(&mut self, chance: u64) -> bool {
        self.throw() % 1000 < chance
    }
}

impl Plan {
    /// The fate of the datagram with this ordinal, counted from 0: nothing else decides it but an outage.
    pub fn fate(&self, ordinal: u64) -> Fate {
        let mut dice = Dice(Dice(self.seed).throw() ^ ordinal);
        let burst = self.burst_every > 0 && ordinal % self.burst_every >= self.burst_every - self.burst_length;
        // Always the same number of throws, so that one chance does not move the others.
        let (dropped, doubled) = (dice.falls(self.drop) || burst, dice.falls(self.double));
        let (late, spoilt) = (dice.falls(self.reorder), dice.falls(self.corrupt));
        if dropped {
            return Fate { dropped, ..Fate::default() };
        }
        let held = if late { 1 + dice.throw() % LATEST } else { 0 };
        let flips = if spoilt { (0..=dice.throw() % FLIPS).map(|_| dice.throw()).collect() } else { Vec::new() };
        Fate { dropped, doubled, held, flips }
    }

    /// Whether the link is out at this time after the first datagram.
    pub fn is_out(&self, since: Duration) -> bool {
        let since = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        self.outage_every > 0 && since % self.outage_every >= self.outage_every - self.outage
    }
}

/// What the relay did, in datagrams. `forwarded` is `seen - dropped + doubled`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Came in.
    pub seen: u64,
    /// Dropped by the plan.
    pub dropped: u64,
    /// Sent on twice.
    pub doubled: u64,
    /// Held back.
    pub late: u64,
    /// Sent on with flipped bits, doubles included.
    pub corrupted: u64,
    /// Handed to the kernel, doubles included.
    pub forwarded: u64,
    /// Not let in by the kernel for want of room; a sound test has none.
    pub kernel_drops: u64,
}

impl Counts {
    /// One JSON object.
    pub fn to_json(&self) -> String {
        serde_json::json!({
            "seen": self.seen, "dropped": self.dropped, "doubled": self.doubled, "late": self.late,
            "corrupted": self.corrupted, "forwarded": self.forwarded, "kernel_drops": self.kernel_drops,
        })
        .to_string()
    }
}

/// The plan at work, without sockets and without a clock.
#[derive(Debug)]
pub struct Link {
    plan: Plan,
    /// What it did so far.
    pub counts: Counts,
    held: VecDeque<(u64, bool, Vec<u8>)>,
}

impl Link {
    /// A link that follows `plan`.
    pub const fn new(plan: Plan) -> Self {
        let none = Counts { seen: 0, dropped: 0, doubled: 0, late: 0, corrupted: 0, forwarded: 0, kernel_drops: 0 };
        Self { plan, counts: none, held: VecDeque::new() }
    }

    /// Takes a datagram that came `since` the first one; `send` gets what leaves now.
    pub fn take(&mut self, datagram: &mut [u8], since: Duration, send: &mut impl FnMut(&[u8])) {
        let ordinal = self.counts.seen;
        self.counts.seen += 1;
        let fate = self.plan.fate(ordinal);
        if fate.dropped || self.plan.is_out(since) {
            self.counts.dropped += 1;
        } else {
            let flips = bits(&fate.flips, datagram.len());
            self.counts.corrupted += u64::from(!flips.is_empty()) * (1 + u64::from(fate.doubled));
            for bit in flips {
                datagram[bit / 8] ^= 1 << (bit % 8);
            }
            self.counts.doubled += u64::from(fate.doubled);
            if fate.held > 0 {
                self.counts.late += 1;
                let due = ordinal + fate.held;
                let at = self.held.partition_point(|(other, ..)| *other <= due);
                self.held.insert(at, (due, fate.doubled, datagram.to_vec()));
            } else {
                self.forward(datagram, fate.doubled, send);
            }
        }
        self.release(ordinal, send);
    }

    /// Lets go of what is held back: silence fell, nothing later is to come.
    pub fn flush(&mut self, send: &mut impl FnMut(&[u8])) {
        self.release(u64::MAX, send);
    }

    fn release(&mut self, ordinal: u64, send: &mut impl FnMut(&[u8])) {
        while self.held.front().is_some_and(|(due, ..)| *due <= ordinal) {
            if let Some((_, doubled, datagram)) = self.held.pop_front() {
                self.forward(&datagram, doubled, send);
            }
        }
    }

    fn forward(&mut self, datagram: &[u8], doubled: bool, send: &mut impl FnMut(&[u8])) {
        for _ in 0..=u64::from(doubled) {
            self.counts.forwarded += 1;
            send(datagram);
        }
    }
}

/// Different bits of a datagram of `length` bytes, one for each number as long as there are so many.
fn bits(numbers: &[u64], length: usize) -> Vec<usize> {
    let mut bits: Vec<usize> = Vec::new();
    for number in numbers.iter().take(length * 8) {
        let mut bit = usize::try_from(number % (u64::try_from(length).unwrap() * 8)).unwrap();
        while bits.contains(&bit) {
            bit = (bit + 1) % (length * 8);
        }
        bits.push(bit);
    }
    bits
}

/// Messages in one system call.
const MESSAGES: usize = 16;
/// Bytes of one message at most, several datagrams put together by the kernel.
const MESSAGE: usize = 65_536;
/// Bytes of one segmented send at most.
const LARGEST_SEND: usize = 65_507;
/// Datagrams of one segmented send at most (Linux, `UDP_MAX_SEGMENTS` of older kernels).
const SEGMENTS: usize = 64;
/// Receive buffer asked for, bytes.
const BUFFER: usize = 256 << 20;
/// After so much silence nothing is held back any longer.
const SILENCE: Duration = Duration::from_millis(50);

/// A relay between two sockets.
#[derive(Debug)]
pub struct Relay {
    socket: UdpSocket,
    out: Out,
    link: Link,
}

impl Relay {
    /// Listens at `listen`; sends on to `to`.
    pub fn open(listen: SocketAddr, to: SocketAddr, plan: Plan) -> std::io::Result<Self> {
        let socket = UdpSocket::bind(listen)?;
        setsockopt(&socket, sockopt::RcvBufForce, &BUFFER)?;
        setsockopt(&socket, sockopt::UdpGroSegment, &true)?;
        socket.set_read_timeout(Some(SILENCE))?;
        let any: SocketAddr = if to.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
        let out = UdpSocket::bind(any)?;
        out.connect(to)?;
        setsockopt(&out, sockopt::SndBufForce, &BUFFER)?;
        Ok(Self { socket, out: Out { socket: out, size: 0, waiting: Vec::new() }, link: Link::new(plan) })
    }

    /// Where it listens.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Relays until `stop` says so, which is asked in silence and now and then, or until silence lasts
    /// for `idle` after the first datagram. What was in the kernel's queue by then is still relayed.
    pub fn run(&mut self, idle: Option<Duration>, stop: &mut dyn FnMut() -> bool) -> std::io::Result<Counts> {
        let mut buffers = vec![vec![0; MESSAGE]; MESSAGES];
        let (mut first, mut last) = (None::<Instant>, Instant::now());
        let (mut asked, mut stopping) = (Instant::now(), false);
        loop {
            let came = receive(&self.socket, &mut buffers)?;
            let now = Instant::now();
            if came.is_empty() {
                self.link.flush(&mut |datagram| self.out.push(datagram));
                self.out.flush()?;
                let silent = first.is_some() && idle.is_some_and(|idle| now.duration_since(last) >= idle);
                if stopping || stop() || silent {
                    self.link.counts.kernel_drops = kernel_drops(&self.socket)?;
                    return Ok(self.link.counts.clone());
                }
                continue;
            }
            last = now;
            let since = now.duration_since(*first.get_or_insert(now));
            for (buffer, message) in buffers.iter_mut().zip(came) {
                for datagram in buffer[..message.length].chunks_mut(message.datagram.max(1)) {
                    self.link.take(datagram, since, &mut |datagram| self.out.push(datagram));
                }
            }
            self.out.flush()?;
            if now.duration_since(asked) >= SILENCE {
                asked = now;
                stopping = stopping || stop();
            }
        }
    }
}

/// One message of the kernel: equal datagrams one behind the other, the last may be shorter.
#[derive(Debug, Clone, Copy)]
struct Came {
    length: usize,
    datagram: usize,
}

/// Waits shortly for messages.
fn receive(socket: &UdpSocket, buffers: &mut [Vec<u8>]) -> std::io::Result<Vec<Came>> {
    let mut slices: Vec<[IoSliceMut<'_>; 1]> = buffers.iter_mut().map(|buffer| [IoSliceMut::new(buffer)]).collect();
    // Made anew for each call: the kernel writes the space it used over the space there is.
    let mut headers = MultiHeaders::<()>::preallocate(MESSAGES, Some(nix::cmsg_space!(i32)));
    match recvmmsg(socket.as_raw_fd(), &mut headers, slices.iter_mut(), MsgFlags::MSG_WAITFORONE, None) {
        Ok(messages) => messages
            .map(|message| {
                let joined = message.cmsgs()?.find_map(|part| match part {
                    ControlMessageOwned::UdpGroSegments(size) => usize::try_from(size).ok(),
                    _ => None,
                });
                Ok(Came { length: message.bytes, datagram: joined.unwrap_or(message.bytes) })
            })
            .collect(),
        Err(Errno::EAGAIN | Errno::EINTR) => Ok(Vec::new()),
        Err(errno) => Err(errno.into()),
    }
}

/// Datagrams for which the socket's queue had no room: the last column of the kernel's table. A
/// control message (`SO_RXQ_OVFL`) would come only with a later datagram and miss the last drops.
fn kernel_drops(socket: &UdpSocket) -> std::io::Result<u64> {
    let inode = std::fs::metadata(format!("/proc/self/fd/{}", socket.as_raw_fd()))?.ino().to_string();
    let table = if socket.local_addr()?.is_ipv4() { "/proc/self/net/udp" } else { "/proc/self/net/udp6" };
    let text = std::fs::read_to_string(table)?;
    let row = text.lines().map(str::split_whitespace).find(|row| row.clone().nth(9) == Some(&inode));
    row.and_then(Iterator::last)
        .and_then(|drops| drops.parse().ok())
        .ok_or_else(|| std::io::Error::other(format!("{table} does not list socket {inode}")))
}

/// The way out: gathers datagrams of one size.
#[derive(Debug)]
struct Out {
    socket: UdpSocket,
    size: usize,
    waiting: Vec<u8>,
}

impl Out {
    /// Takes a datagram; one of another size makes those before it leave first.
    fn push(&mut self, datagram: &[u8]) {
        if datagram.len() != self.size {
            self.flush().unwrap();
            self.size = datagram.len();
            setsockopt(&self.socket, sockopt::UdpGsoSegment, &i32::try_from(self.size).unwrap()).unwrap();
        }
        self.waiting.extend_from_slice(datagram);
    }

    /// Hands everything to the kernel.
    fn flush(&mut self) -> std::io::Result<()> {
        let together = (LARGEST_SEND / self.size.max(1)).clamp(1, SEGMENTS) * self.size.max(1);
        let pieces: Vec<[IoSlice<'_>; 1]> = self.waiting.chunks(together).map(|piece| [IoSlice::new(piece)]).collect();
        let mut rest = pieces.as_slice();
        while !rest.is_empty() {
            let batch = &rest[..rest.len().min(MESSAGES)];
            let mut headers = MultiHeaders::preallocate(batch.len(), None);
            let addresses = vec![None::<SockaddrStorage>; batch.len()];
            let sent = sendmmsg(self.socket.as_raw_fd(), &mut headers, batch, &addresses, [], MsgFlags::empty());
            match sent.map(Iterator::count) {
                Ok(count) => rest = &rest[count..],
                // A receiver that left: the link does not know. The error was of an earlier send.
                Err(Errno::ECONNREFUSED | Errno::EINTR | Errno::ENOBUFS) => std::thread::yield_now(),
                Err(errno) => return Err(errno.into()),
            }
        }
        self.waiting.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    const MANY: u64 = 100_000;

    /// Sends `count` numbered datagrams through a plan; what came out, in order.
    fn through(plan: Plan, count: u64) -> (Counts, Vec<Vec<u8>>) {
        let mut link = Link::new(plan);
        let mut out = Vec::new();
        for number in 0..count {
            let mut datagram = [number.to_be_bytes(); 4].concat();
            link.take(&mut datagram, Duration::ZERO, &mut |datagram| out.push(datagram.to_vec()));
        }
        link.flush(&mut |datagram| out.push(datagram.to_vec()));
        (link.counts, out)
    }

    fn number(datagram: &[u8]) -> u64 {
        u64::from_be_bytes(datagram[..8].try_into().unwrap())
    }

    #[test]
    fn the_seed_decides_and_nothing_else() {
        let plan = |seed| Plan { seed, drop: 100, double: 30, reorder: 50, corrupt: 20, ..Plan::default() };
        let fates = |seed| (0..1000).map(|ordinal| plan(seed).fate(ordinal)).collect::<Vec<_>>();
        assert_eq!(fates(1), fates(1));
        assert_ne!(fates(1), fates(2));
        // Another chance beside it does not move the drops.
        let dropped = |plan: &Plan| (0..1000).filter(|ordinal| plan.fate(*ordinal).dropped).collect::<Vec<_>>();
        assert_eq!(dropped(&plan(1)), dropped(&Plan { double: 0, corrupt: 500, ..plan(1) }));
        // Frozen: a failed run is repeated by its seed.
        assert_eq!(dropped(&plan(7))[..6], FROZEN);
    }

    const FROZEN: [u64; 6] = [3, 8, 10, 13, 21, 30];

    #[test]
    fn chances_are_what_they_say() {
        for (name, plan, count) in [
            ("drop", Plan { drop: 50, ..Plan::default() }, (|c| c.dropped) as fn(&Counts) -> u64),
            ("double", Plan { double: 50, ..Plan::default() }, |c| c.doubled),
            ("reorder", Plan { reorder: 50, ..Plan::default() }, |c| c.late),
            ("corrupt", Plan { corrupt: 50, ..Plan::default() }, |c| c.corrupted),
        ] {
            let (counts, out) = through(Plan { seed: 3, ..plan }, MANY);
            // Six standard deviations of a binomial with 5%.
            assert!(count(&counts).abs_diff(5000) < 420, "{name}: {counts:?}");
            assert_eq!(counts.seen, MANY);
            assert_eq!(counts.forwarded, counts.seen - counts.dropped + counts.doubled);
            assert_eq!(counts.forwarded, out.len() as u64, "{name}");
        }
    }

    #[test]
    fn every_datagram_comes_out_as_its_fate_says() {
        let plan = Plan { seed: 5, drop: 20, double: 30, reorder: 50, corrupt: 10, ..Plan::default() };
        let (counts, out) = through(plan.clone(), 20_000);
        let mut came: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
        let mut spoilt = 0;
        for (place, datagram) in out.iter().enumerate() {
            // Four copies of the number are in it: at most four bits flipped leave a difference.
            if datagram.chunks(8).any(|copy| copy != &datagram[..8]) {
                spoilt += 1;
            } else {
                came.entry(number(datagram)).or_default().push(place);
            }
        }
        assert_eq!(spoilt, counts.corrupted);
        for ordinal in 0..20_000 {
            let fate = plan.fate(ordinal);
            let copies = came.get(&ordinal).map_or(0, Vec::len);
            let expected = if fate.dropped || !fate.flips.is_empty() { 0 } else { 1 + usize::from(fate.doubled) };
            assert_eq!(copies, expected, "datagram {ordinal}: {fate:?}");
        }
    }

    #[test]
    fn late_ones_are_late_by_what_they_were_told() {
        let plan = Plan { seed: 6, reorder: 50, ..Plan::default() };
        let (_, out) = through(plan.clone(), 10_000);
        let places: BTreeMap<u64, usize> = out.iter().enumerate().map(|(at, d)| (number(d), at)).collect();
        for ordinal in 0..9_900 {
            let held = plan.fate(ordinal).held;
            let prompt = |other: &u64| plan.fate(*other).held == 0;
            let passed = (ordinal + 1..=ordinal + LATEST).filter(prompt).filter(|o| places[o] < places[&ordinal]);
            let expected = (ordinal + 1..=ordinal + held).filter(prompt);
            assert_eq!(passed.count(), expected.count(), "datagram {ordinal}, held for {held}");
        }
    }

    #[test]
    fn bursts_and_outages_are_where_they_belong() {
        let (counts, out) = through(Plan { burst_every: 1000, burst_length: 256, ..Plan::default() }, 5000);
        assert_eq!((counts.dropped, out.len()), (5 * 256, 5 * 744));
        assert!(out.iter().all(|datagram| number(datagram) % 1000 < 744));
        let plan = Plan { outage_every: 300, outage: 50, ..Plan::default() };
        let out = [0, 249, 250, 299, 300, 549, 550].map(|ms| plan.is_out(Duration::from_millis(ms)));
        assert_eq!(out, [false, false, true, true, false, false, true]);
        assert!(!Plan::default().is_out(Duration::from_secs(1)));
    }

    #[test]
    fn what_arrives_is_what_was_counted() {
        let plan = Plan {
            seed: 9,
            drop: 100,
            double: 50,
            reorder: 50,
            corrupt: 50,
            burst_every: 997,
            burst_length: 13,
            ..Plan::default()
        };
        let far = UdpSocket::bind("127.0.0.1:0").unwrap();
        setsockopt(&far, sockopt::RcvBufForce, &BUFFER).unwrap();
        far.set_nonblocking(true).unwrap();
        let mut relay = Relay::open("127.0.0.1:0".parse().unwrap(), far.local_addr().unwrap(), plan.clone()).unwrap();
        let near = UdpSocket::bind("127.0.0.1:0").unwrap();
        near.connect(relay.address().unwrap()).unwrap();
        let over = std::sync::Arc::new(AtomicBool::new(false));
        let told = std::sync::Arc::clone(&over);
        let running = std::thread::spawn(move || relay.run(None, &mut || told.load(Ordering::Acquire)).unwrap());
        // Two sizes, so that runs of one size are broken up.
        for number in 0..20_000u64 {
            let size = if number % 50 == 49 { 700 } else { 1448 };
            near.send(&vec![7; size]).unwrap();
        }
        // On the loopback what was sent is in the next queue: nothing has to be waited for.
        over.store(true, Ordering::Release);
        let counts = running.join().unwrap();
        let mut buffer = [0; 2048];
        let arrived = std::iter::from_fn(|| far.recv(&mut buffer).ok()).count() as u64;
        assert_eq!((counts.seen, counts.kernel_drops), (20_000, 0), "{counts:?}");
        assert_eq!(counts.dropped, (0..20_000).filter(|ordinal| plan.fate(*ordinal).dropped).count() as u64);
        assert_eq!(counts.forwarded, counts.seen - counts.dropped + counts.doubled);
        assert_eq!(arrived, counts.forwarded);
    }
}
