//! The sending socket: whole runs of datagrams in one system call.

use std::io::IoSlice;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd as _;

use bundle_format::datagram::DATAGRAM_BYTES;
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, sendmmsg, setsockopt, sockopt};

use crate::error::{Error, Result};

/// Datagrams in one segmented send: the most whole ones in 65,507 bytes.
pub const SEGMENTS: usize = 45;
/// Messages in one system call.
const MESSAGES: usize = 16;
/// Send buffer asked for, bytes.
const BUFFER: usize = 8 << 20;

/// A socket that only sends.
pub struct Outgoing {
    socket: UdpSocket,
    segmented: bool,
    to: SocketAddr,
}

impl Outgoing {
    /// A socket towards `to`.
    pub fn open(to: SocketAddr) -> Result<Self> {
        let io = |e| Error::io(format!("socket to {to}"), e);
        let any: SocketAddr = if to.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
        let socket = UdpSocket::bind(any).map_err(io)?;
        socket.connect(to).map_err(io)?;
        // A smaller buffer than asked for only makes sends block earlier.
        let _ = setsockopt(&socket, sockopt::SndBufForce, &BUFFER)
            .or_else(|_| setsockopt(&socket, sockopt::SndBuf, &BUFFER));
        let size = i32::try_from(DATAGRAM_BYTES).unwrap_or(0);
        let segmented = setsockopt(&socket, sockopt::UdpGsoSegment, &size).is_ok();
        Ok(Self { socket, segmented, to })
    }

    /// Whether the kernel cuts the datagrams (`UDP_SEGMENT`).
    pub const fn is_segmented(&self) -> bool {
        self.segmented
    }

    /// Sends whole datagrams that lie one behind the other.
    pub fn send(&mut self, datagrams: &[u8]) -> Result<()> {
        let piece = if self.segmented { SEGMENTS * DATAGRAM_BYTES } else { DATAGRAM_BYTES };
        let pieces: Vec<[IoSlice<'_>; 1]> = datagrams.chunks(piece).map(|piece| [IoSlice::new(piece)]).collect();
        let mut rest = pieces.as_slice();
        while !rest.is_empty() {
            let batch = rest.get(..MESSAGES).unwrap_or(rest);
            let addresses = vec![None::<SockaddrStorage>; batch.len()];
            let mut headers = MultiHeaders::preallocate(batch.len(), None);
            let sent = sendmmsg(self.socket.as_raw_fd(), &mut headers, batch, &addresses, [], MsgFlags::empty())
                .map(Iterator::count);
            match sent {
                Ok(count) => rest = rest.get(count..).unwrap_or(&[]),
                // Nobody listens there yet, or the queue below is full for a moment: one-way goes on.
                Err(Errno::ECONNREFUSED | Errno::EINTR) => {}
                Err(Errno::ENOBUFS) => std::thread::sleep(std::time::Duration::from_millis(1)),
                Err(Errno::EINVAL | Errno::EIO | Errno::EOPNOTSUPP) if self.segmented => {
                    // This device cannot cut datagrams: the same ones, one by one.
                    let off = 0;
                    let io = |e: Errno| Error::io(format!("socket to {}", self.to), e.into());
                    setsockopt(&self.socket, sockopt::UdpGsoSegment, &off).map_err(io)?;
                    self.segmented = false;
                    let sent = datagrams.len()
                        - rest.iter().map(|piece| piece.iter().map(|s| s.len()).sum::<usize>()).sum::<usize>();
                    return self.send(datagrams.get(sent..).unwrap_or(&[]));
                }
                Err(errno) => return Err(Error::io(format!("socket to {}", self.to), errno.into())),
            }
        }
        Ok(())
    }
}
