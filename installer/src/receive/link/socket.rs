//! The receiving socket: many datagrams for each system call, as much room in the kernel as it gives.

use std::io::IoSliceMut;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::time::Duration;

use bundle_format::datagram::DATAGRAM_BYTES;
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, MultiHeaders, getsockopt, recvmmsg, setsockopt, sockopt};
use nix::sys::time::{TimeVal, TimeValLike as _};

use crate::error::{Error, Result};

/// Receive buffer asked for, bytes: a tenth of a second at 5 Gbit/s.
pub const BUFFER: usize = 64 << 20;
/// Messages in one system call.
const MESSAGES: usize = 16;
/// Bytes of one message at most: datagrams that the kernel put together (`UDP_GRO`).
const MESSAGE_BYTES: usize = 65_536;
/// How long a call waits for the first datagram.
const WAIT: Duration = Duration::from_millis(50);

/// A socket that only receives.
pub struct Incoming {
    socket: UdpSocket,
    buffers: Vec<Vec<u8>>,
    at: SocketAddr,
    /// Receive buffer that the kernel granted, bytes.
    pub granted: usize,
}

impl Incoming {
    /// Listens at `at`.
    pub fn open(at: SocketAddr) -> Result<Self> {
        let io = |e| Error::io(format!("socket {at}"), e);
        let errno = |e: Errno| Error::io(format!("socket {at}"), e.into());
        let socket = UdpSocket::bind(at).map_err(io)?;
        // What was granted is asked below and told to the person.
        let _ = setsockopt(&socket, sockopt::RcvBufForce, &BUFFER)
            .or_else(|_| setsockopt(&socket, sockopt::RcvBuf, &BUFFER));
        // Without it every datagram comes as its own message: slower, not wrong.
        let _ = setsockopt(&socket, sockopt::UdpGroSegment, &true);
        let wait = TimeVal::milliseconds(i64::try_from(WAIT.as_millis()).unwrap_or(50));
        setsockopt(&socket, sockopt::ReceiveTimeout, &wait).map_err(errno)?;
        let granted = getsockopt(&socket, sockopt::RcvBuf).map_err(errno)?;
        let at = socket.local_addr().map_err(io)?;
        Ok(Self { socket, buffers: vec![vec![0; MESSAGE_BYTES]; MESSAGES], at, granted })
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.at
    }

    /// Waits shortly for datagrams and hands each to `take`; returns how many came.
    pub fn receive(&mut self, mut take: impl FnMut(&[u8])) -> Result<u64> {
        let lengths = {
            let mut slices: Vec<[IoSliceMut<'_>; 1]> =
                self.buffers.iter_mut().map(|buffer| [IoSliceMut::new(buffer)]).collect();
            let mut headers = MultiHeaders::<()>::preallocate(MESSAGES, None);
            let flags = MsgFlags::MSG_WAITFORONE;
            match recvmmsg(self.socket.as_raw_fd(), &mut headers, slices.iter_mut(), flags, None) {
                Ok(results) => results.map(|message| message.bytes).collect::<Vec<_>>(),
                Err(Errno::EAGAIN | Errno::EINTR) => Vec::new(),
                Err(errno) => return Err(Error::io(format!("socket {}", self.at), errno.into())),
            }
        };
        let mut count = 0;
        for (buffer, length) in self.buffers.iter().zip(lengths) {
            // All of ours have one size, so that is where the kernel joined them.
            for datagram in buffer.get(..length).unwrap_or(&[]).chunks(DATAGRAM_BYTES) {
                take(datagram);
                count += 1;
            }
        }
        Ok(count)
    }

    /// Datagrams that the kernel dropped because the buffer was full (`/proc/net/udp`, last column).
    pub fn dropped(&self) -> u64 {
        use std::os::unix::fs::MetadataExt as _;
        let fd = format!("/proc/self/fd/{}", self.socket.as_raw_fd());
        let Ok(inode) = std::fs::metadata(fd).map(|metadata| metadata.ino().to_string()) else { return 0 };
        let table = if self.at.is_ipv4() { "/proc/self/net/udp" } else { "/proc/self/net/udp6" };
        let text = std::fs::read_to_string(table).unwrap_or_default();
        let row = text.lines().find(|line| line.split_whitespace().nth(9) == Some(inode.as_str()));
        row.and_then(|line| line.split_whitespace().last()).and_then(|drops| drops.parse().ok()).unwrap_or(0)
    }
}
