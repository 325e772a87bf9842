//! Announcements: how a prologue comes together before anything of a session is believed.
//!
//! Until a prologue is proved, a session costs bounded memory and no disk.

use std::collections::BTreeMap;

use bundle_format::datagram::{BODY_BYTES, CHUNK_BYTES, CHUNKS, Header, PLAN_BYTES, Plan};
use bundle_format::digest::Sha384;
use bundle_format::erasure::Decoder;

/// Sessions whose prologue is incomplete at most; a further one takes the place of the oldest.
const SESSIONS: usize = 4;

/// Prologues on their way.
#[derive(Default)]
pub struct Announcements {
    sessions: Vec<([u8; 8], Candidate)>,
}

struct Candidate {
    blocks: Vec<Option<Vec<u8>>>,
    shards: BTreeMap<(u32, u16), Vec<u8>>,
}

impl Announcements {
    /// Takes an announcement; a prologue that is whole comes out with its plan.
    pub fn take(&mut self, header: &Header, body: &[u8; BODY_BYTES]) -> Option<(Plan, Vec<u8>)> {
        let (plan, chunk) = body.split_first_chunk::<PLAN_BYTES>()?;
        let plan = Plan::parse(plan).filter(|plan| plan.session() == header.session)?;
        let chunks = plan.chunks_of(header.block);
        if chunks == 0 || usize::from(header.shard) >= 2 * chunks {
            return None;
        }
        if !self.sessions.iter().any(|(session, _)| *session == header.session) {
            if self.sessions.len() >= SESSIONS {
                self.sessions.remove(0);
            }
            let blocks = vec![None; usize::try_from(plan.announce_blocks()).unwrap_or(0)];
            self.sessions.push((header.session, Candidate { blocks, shards: BTreeMap::new() }));
        }
        let at = self.sessions.iter().position(|(session, _)| *session == header.session)?;
        let (_, candidate) = self.sessions.get_mut(at)?;
        candidate.take(header, chunk.get(..CHUNK_BYTES)?, chunks);
        if candidate.blocks.iter().any(Option::is_none) {
            return None;
        }
        let (_, candidate) = self.sessions.remove(at);
        let mut prologue = candidate.blocks.into_iter().flatten().flatten().collect::<Vec<u8>>();
        prologue.truncate(usize::try_from(plan.prologue_size).unwrap_or(0));
        (Sha384::of(&prologue) == plan.prologue_sha384).then_some((plan, prologue))
    }
}

impl Candidate {
    fn take(&mut self, header: &Header, chunk: &[u8], chunks: usize) {
        let Some(slot) = usize::try_from(header.block).ok().and_then(|at| self.blocks.get_mut(at)) else { return };
        if slot.is_some() {
            return;
        }
        self.shards.insert((header.block, header.shard), chunk.to_vec());
        let range = (header.block, 0)..=(header.block, u16::MAX);
        if self.shards.range(range.clone()).count() < chunks {
            return;
        }
        let mut content = vec![0; chunks * CHUNK_BYTES];
        let limit = u16::try_from(chunks).unwrap_or(u16::MAX);
        debug_assert!(chunks <= CHUNKS, "chunks_of() gives no more");
        let restored = Decoder::new(chunks, chunks, CHUNK_BYTES).and_then(|mut decoder| {
            for ((_, shard), bytes) in self.shards.range(range.clone()) {
                let index = usize::from(*shard);
                if *shard < limit {
                    decoder.add_original(index, bytes)?;
                    if let Some(to) = content.get_mut(index * CHUNK_BYTES..(index + 1) * CHUNK_BYTES) {
                        to.copy_from_slice(bytes);
                    }
                } else {
                    decoder.add_recovery(index - chunks, bytes)?;
                }
            }
            decoder.decode(|index, bytes| {
                if let Some(to) = content.get_mut(index * CHUNK_BYTES..(index + 1) * CHUNK_BYTES) {
                    to.copy_from_slice(bytes);
                }
            })
        });
        self.shards.retain(|(block, _), _| *block != header.block);
        if restored.is_ok() {
            *slot = Some(content);
        }
    }
}
