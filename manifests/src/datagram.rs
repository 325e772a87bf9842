//! Datagrams of the one-way link (spec 17): all of one size, each saying what it is and checking
//! itself.
//!
//! ```text
//!  0  magic "LG"     12  ordinal u32, of the sender's run     24  tag, 16 bytes
//!  2  version 1      16  block u32                            40  body, 1408 bytes
//!  3  kind           20  shard u16
//!  4  session, 8     22  run u16
//! ```
//! Numbers are big-endian. The tag covers bytes 0 to 23 and the body: with a key, HMAC-SHA-256
//! (FIPS 198-1) cut to 16 bytes; without one, CRC-32 (ISO-HDLC) and twelve zero bytes.
//!
//! Threats: noise, datagrams of another transfer, a stranger on the segment. Defences: the tag (a
//! receiver with a key takes nothing else), the session id, which is the hash of the transfer's
//! [`Plan`], and behind both the signed digests of the frames: no tag makes a byte trusted.

use hmac::{Hmac, KeyInit as _, Mac as _};

use crate::digest::Sha384;
use crate::{ErrorKind, Result, limits};

/// Bytes before the body.
pub const HEADER_BYTES: usize = 40;
/// Bytes of a body: what fits an IPv6 datagram at MTU 1500, in whole 64-byte units of the code.
pub const BODY_BYTES: usize = 1408;
/// Bytes of every datagram.
pub const DATAGRAM_BYTES: usize = HEADER_BYTES + BODY_BYTES;
/// Bytes of the prologue in one announcement.
pub const CHUNK_BYTES: usize = 1280;
/// Chunks of the prologue in one announcement block; as many recovery shards follow.
pub const CHUNKS: usize = 1024;
const TAGGED: usize = 24;
const TAG_BYTES: usize = 16;
const MAGIC: [u8; 3] = *b"LG\x01";

/// What a datagram is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A shard of a block of the archive.
    Data,
    /// The transfer's plan and a shard of the prologue.
    Announce,
    /// The sender's last pass is over; the body says how many datagrams it sent.
    End,
    /// A step of a rate calibration.
    Calibrate,
}

impl Kind {
    const ALL: [(Self, u8); 4] = [(Self::Data, 1), (Self::Announce, 2), (Self::End, 3), (Self::Calibrate, 4)];

    fn code(self) -> u8 {
        Self::ALL.iter().find(|(kind, _)| *kind == self).map_or(0, |(_, code)| *code)
    }
}

/// The fields of a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// What the datagram is.
    pub kind: Kind,
    /// First bytes of the SHA-384 of the plan.
    pub session: [u8; 8],
    /// Number of the datagram in this run of the sender; wraps.
    pub ordinal: u32,
    /// Number of the block.
    pub block: u32,
    /// Number of the shard in its block; recovery shards follow the originals.
    pub shard: u16,
    /// Drawn by each run of the sender.
    pub run: u16,
}

/// How datagrams are checked.
#[derive(Clone)]
pub struct Tagger(Option<Hmac<sha2::Sha256>>);

impl std::fmt::Debug for Tagger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() { "Tagger(keyed)" } else { "Tagger(crc)" })
    }
}

impl Tagger {
    /// Without a key: noise is found, a stranger is not.
    pub const fn plain() -> Self {
        Self(None)
    }

    /// With a pre-shared key of at least 16 bytes.
    pub fn keyed(key: &[u8]) -> Result<Self> {
        let short = || ErrorKind::BadValue {
            what: "link key".into(),
            expected: "at least 16 bytes".into(),
            found: format!("{} bytes", key.len()),
        };
        let mac = Hmac::new_from_slice(key).ok().filter(|_| key.len() >= TAG_BYTES).ok_or_else(short)?;
        Ok(Self(Some(mac)))
    }

    fn tag(&self, head: &[u8], body: &[u8]) -> [u8; TAG_BYTES] {
        let mut tag = [0; TAG_BYTES];
        match &self.0 {
            None => {
                let mut crc = crc32fast::Hasher::new();
                crc.update(head);
                crc.update(body);
                tag.iter_mut().zip(crc.finalize().to_be_bytes()).for_each(|(to, from)| *to = from);
            }
            Some(mac) => {
                let mut mac = mac.clone();
                mac.update(head);
                mac.update(body);
                tag.iter_mut().zip(mac.finalize().into_bytes()).for_each(|(to, from)| *to = from);
            }
        }
        tag
    }

    /// Writes header and tag in front of the body that lies in `datagram` already.
    pub fn seal(&self, header: &Header, datagram: &mut [u8; DATAGRAM_BYTES]) {
        let (head, body) = datagram.split_at_mut(HEADER_BYTES);
        head.copy_from_slice(&self.head(header, body));
    }

    /// Writes a whole datagram. The tag is made from `body` where it lies, which is likely a core's own
    /// cache: memory that was just written is slow to read (measured in `docs/adr/0010`).
    pub fn write(&self, header: &Header, body: &[u8; BODY_BYTES], datagram: &mut [u8; DATAGRAM_BYTES]) {
        let (head, to) = datagram.split_at_mut(HEADER_BYTES);
        head.copy_from_slice(&self.head(header, body));
        to.copy_from_slice(body);
    }

    /// Header and tag of a datagram.
    fn head(&self, header: &Header, body: &[u8]) -> [u8; HEADER_BYTES] {
        let mut fields = [0; TAGGED];
        fields[..3].copy_from_slice(&MAGIC);
        fields[3] = header.kind.code();
        fields[4..12].copy_from_slice(&header.session);
        fields[12..16].copy_from_slice(&header.ordinal.to_be_bytes());
        fields[16..20].copy_from_slice(&header.block.to_be_bytes());
        fields[20..22].copy_from_slice(&header.shard.to_be_bytes());
        fields[22..].copy_from_slice(&header.run.to_be_bytes());
        let mut head = [0; HEADER_BYTES];
        let (front, back) = head.split_at_mut(TAGGED);
        front.copy_from_slice(&fields);
        back.copy_from_slice(&self.tag(&fields, body));
        head
    }

    /// Reads a datagram; `None` if it is not one of ours or its tag is wrong.
    pub fn open<'a>(&self, datagram: &'a [u8]) -> Option<(Header, &'a [u8; BODY_BYTES])> {
        let datagram: &[u8; DATAGRAM_BYTES] = datagram.try_into().ok()?;
        let (head, body) = datagram.split_first_chunk::<TAGGED>()?;
        let (tag, body) = body.split_first_chunk::<TAG_BYTES>()?;
        let fields = head.strip_prefix(&MAGIC)?;
        let (code, fields) = fields.split_first()?;
        let kind = Kind::ALL.iter().find(|(_, known)| known == code)?.0;
        // Both tags have full length, and none is secret to who could time this.
        if self.tag(head, body) != *tag {
            return None;
        }
        let (session, fields) = fields.split_first_chunk::<8>()?;
        let (ordinal, fields) = fields.split_first_chunk::<4>()?;
        let (block, fields) = fields.split_first_chunk::<4>()?;
        let (shard, fields) = fields.split_first_chunk::<2>()?;
        let header = Header {
            kind,
            session: *session,
            ordinal: u32::from_be_bytes(*ordinal),
            block: u32::from_be_bytes(*block),
            shard: u16::from_be_bytes(*shard),
            run: u16::from_be_bytes(*fields.first_chunk::<2>()?),
        };
        Some((header, body.try_into().ok()?))
    }
}

/// The plan of a transfer: what an announcement says before its chunk of the prologue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// Bytes of the archive.
    pub archive_size: u64,
    /// Bytes of the archive before its first pack.
    pub prologue_size: u32,
    /// SHA-384 of those bytes. They pin all others.
    pub prologue_sha384: Sha384,
    /// Original shards of a block; the last block has fewer.
    pub originals: u16,
    /// Recovery shards of every block.
    pub recovery: u16,
}

/// Bytes of a plan.
pub const PLAN_BYTES: usize = 64;

impl Plan {
    /// Checks the numbers against the limits, before anything is allocated by them.
    pub fn check(&self) -> Result<()> {
        let refuse = |why: String| Err(ErrorKind::Inconsistent { what: "transfer plan".into(), why }.into());
        if self.originals == 0 || self.originals > limits::BLOCK_SHARDS || self.recovery > limits::BLOCK_SHARDS {
            return refuse(format!("{} original and {} recovery shards", self.originals, self.recovery));
        }
        if u64::from(self.prologue_size) > limits::PROLOGUE_BYTES || u64::from(self.prologue_size) > self.archive_size {
            return refuse(format!("a prologue of {} bytes", self.prologue_size));
        }
        if self.archive_size == 0 || self.archive_size > limits::ARCHIVE_BYTES || self.blocks() > limits::BLOCKS {
            return refuse(format!("an archive of {} bytes", self.archive_size));
        }
        Ok(())
    }

    /// The bytes in an announcement.
    pub fn to_bytes(&self) -> [u8; PLAN_BYTES] {
        let mut bytes = [0; PLAN_BYTES];
        let fields = self
            .archive_size
            .to_be_bytes()
            .into_iter()
            .chain(self.prologue_size.to_be_bytes())
            .chain(self.originals.to_be_bytes())
            .chain(self.recovery.to_be_bytes())
            .chain(*self.prologue_sha384.as_bytes());
        bytes.iter_mut().zip(fields).for_each(|(to, from)| *to = from);
        bytes
    }

    /// Reads what [`Plan::to_bytes`] wrote and checks it.
    pub fn parse(bytes: &[u8; PLAN_BYTES]) -> Option<Self> {
        let (size, rest) = bytes.split_first_chunk::<8>()?;
        let (prologue, rest) = rest.split_first_chunk::<4>()?;
        let (originals, rest) = rest.split_first_chunk::<2>()?;
        let (recovery, rest) = rest.split_first_chunk::<2>()?;
        let plan = Self {
            archive_size: u64::from_be_bytes(*size),
            prologue_size: u32::from_be_bytes(*prologue),
            prologue_sha384: Sha384::from_bytes(*rest.first_chunk::<48>()?),
            originals: u16::from_be_bytes(*originals),
            recovery: u16::from_be_bytes(*recovery),
        };
        plan.check().ok().map(|()| plan)
    }

    /// The session id of every datagram of this transfer.
    pub fn session(&self) -> [u8; 8] {
        let digest = Sha384::of(&self.to_bytes());
        digest.as_bytes().first_chunk::<8>().copied().unwrap_or_default()
    }

    /// Bytes of the archive in every block but the last.
    pub fn block_bytes(&self) -> u64 {
        u64::from(self.originals) * BODY_U64
    }

    /// Number of blocks.
    pub fn blocks(&self) -> u64 {
        self.archive_size.div_ceil(self.block_bytes().max(1))
    }

    /// Place in the archive of a block, and its bytes.
    pub fn place(&self, block: u64) -> (u64, u64) {
        let at = block * self.block_bytes();
        (at, self.archive_size.saturating_sub(at).min(self.block_bytes()))
    }

    /// Original shards of a block.
    pub fn originals_of(&self, block: u64) -> usize {
        usize::try_from(self.place(block).1.div_ceil(BODY_U64)).unwrap_or(0)
    }

    /// Announcement blocks of the prologue.
    pub fn announce_blocks(&self) -> u32 {
        u32::try_from(usize::try_from(self.prologue_size).unwrap_or(0).div_ceil(CHUNKS * CHUNK_BYTES)).unwrap_or(0)
    }

    /// Chunks of an announcement block; as many recovery shards follow them.
    pub fn chunks_of(&self, block: u32) -> usize {
        let all = usize::try_from(self.prologue_size).unwrap_or(0).div_ceil(CHUNK_BYTES);
        all.saturating_sub(usize::try_from(block).unwrap_or(usize::MAX).saturating_mul(CHUNKS)).min(CHUNKS)
    }
}

const BODY_U64: u64 = 1408;

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Plan {
        Plan {
            archive_size: 5_000_000,
            prologue_size: 3_000_000,
            prologue_sha384: Sha384::of(b"p"),
            originals: 1024,
            recovery: 128,
        }
    }

    fn header() -> Header {
        Header { kind: Kind::Data, session: plan().session(), ordinal: 7, block: 2, shard: 1100, run: 9 }
    }

    #[test]
    fn seal_and_open_with_and_without_a_key() {
        let keyed = Tagger::keyed(b"TEST key of sixteen bytes").unwrap();
        let other = Tagger::keyed(b"TEST other key of sixteen").unwrap();
        for tagger in [Tagger::plain(), keyed.clone()] {
            let mut datagram = [3; DATAGRAM_BYTES];
            tagger.seal(&header(), &mut datagram);
            let mut written = [0; DATAGRAM_BYTES];
            tagger.write(&header(), &[3; BODY_BYTES], &mut written);
            assert_eq!(written, datagram);
            let (found, body) = tagger.open(&datagram).unwrap();
            assert_eq!((found, *body), (header(), [3; BODY_BYTES]));
            for at in 0..DATAGRAM_BYTES {
                let mut bad = datagram;
                bad[at] ^= 0x10;
                assert!(tagger.open(&bad).is_none(), "byte {at}");
            }
            assert!(tagger.open(&datagram[1..]).is_none() && tagger.open(&[]).is_none());
            assert!(other.open(&datagram).is_none());
        }
        let mut plain = [3; DATAGRAM_BYTES];
        Tagger::plain().seal(&header(), &mut plain);
        assert!(keyed.open(&plain).is_none(), "a keyed receiver takes no plain datagram");
        assert!(matches!(Tagger::keyed(b"short").unwrap_err().kind(), ErrorKind::BadValue { .. }));
    }

    #[test]
    fn plans() {
        let plan = plan();
        assert_eq!(Plan::parse(&plan.to_bytes()), Some(plan));
        assert_eq!((plan.blocks(), plan.place(3), plan.originals_of(3)), (4, (4_325_376, 674_624), 480));
        assert_eq!(
            (plan.announce_blocks(), plan.chunks_of(0), plan.chunks_of(2), plan.chunks_of(3)),
            (3, 1024, 296, 0)
        );
        for bad in [
            Plan { originals: 0, ..plan },
            Plan { originals: 4097, ..plan },
            Plan { recovery: 4097, ..plan },
            Plan { archive_size: 0, prologue_size: 0, ..plan },
            Plan { archive_size: u64::MAX, ..plan },
            Plan { prologue_size: u32::MAX, ..plan },
            Plan { prologue_size: 6_000_000, ..plan },
        ] {
            assert!(matches!(bad.check().unwrap_err().kind(), ErrorKind::Inconsistent { .. }), "{bad:?}");
            assert_eq!(Plan::parse(&bad.to_bytes()), None);
        }
    }
}
