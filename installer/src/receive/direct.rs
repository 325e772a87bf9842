//! Files past the page cache.
//!
//! A bundle is written once and read much later. Through the page cache every page of it costs an
//! allocation, pushes out what the running platform needs, and stalls the writer when the kernel
//! decides to write back: on a link that does not wait, that is loss. Measured in
//! `docs/adr/0010-one-way-link.md`. Where a file system has no direct access, the cache is used:
//! writers then take turns, and what was just written is not read back out of memory to be proved.

use std::fs::File;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use nix::sys::statfs::{TMPFS_MAGIC, fstatfs};

/// What places, lengths and memory must be multiples of.
const ALIGN: usize = 4096;
const ALIGN_U64: u64 = 4096;
/// Bytes of one read: a hash that follows finds them in the second-level cache.
const PIECE: usize = 256 << 10;

/// Memory whose first byte lies at a multiple of 4096.
#[derive(Debug, Default)]
pub struct Aligned {
    bytes: Vec<u8>,
    start: usize,
    len: usize,
}

impl Aligned {
    /// `len` zeros.
    pub fn new(len: usize) -> Self {
        let bytes = vec![0u8; len + ALIGN];
        let start = bytes.as_ptr().align_offset(ALIGN).min(ALIGN);
        Self { bytes, start, len }
    }

    /// The bytes.
    pub fn get(&self) -> &[u8] {
        self.bytes.get(self.start..self.start + self.len).unwrap_or(&[])
    }

    /// The bytes, to be changed.
    pub fn get_mut(&mut self) -> &mut [u8] {
        self.bytes.get_mut(self.start..self.start + self.len).unwrap_or(&mut [])
    }

    /// Number of bytes.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// A file with both ways in.
#[derive(Debug)]
pub struct DirectFile {
    cached: File,
    direct: Option<File>,
    /// Whose turn it is to write through the cache. The kernel lets one in at a time too, but those
    /// who wait there burn their core.
    turn: Mutex<()>,
}

impl DirectFile {
    /// The file at `path`, open as `cached` already.
    pub fn new(cached: File, path: &Path) -> Self {
        let flags = nix::fcntl::OFlag::O_DIRECT.bits();
        // A memory file system takes the flag and copies all the same.
        let in_memory = fstatfs(&cached).is_ok_and(|stat| stat.filesystem_type() == TMPFS_MAGIC);
        let open = || File::options().read(true).write(true).custom_flags(flags).open(path).ok();
        Self { cached, direct: if in_memory { None } else { open() }, turn: Mutex::new(()) }
    }

    /// The way through the page cache.
    pub const fn cached(&self) -> &File {
        &self.cached
    }

    /// Writes the first `len` bytes of `buffer` at `at`, past the cache if all is aligned.
    pub fn write(&self, buffer: &Aligned, len: usize, at: u64) -> std::io::Result<()> {
        let bytes = buffer.get().get(..len).unwrap_or(buffer.get());
        if let Some(direct) = &self.direct
            && at.is_multiple_of(ALIGN_U64)
            && len.is_multiple_of(ALIGN)
        {
            match direct.write_all_at(bytes, at) {
                // A disk with larger sectors than ours.
                Err(error) if error.raw_os_error() == Some(nix::errno::Errno::EINVAL as i32) => {}
                other => return other,
            }
        }
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        self.cached.write_all_at(bytes, at)
    }

    /// Whether bytes are written and read past the cache.
    pub const fn is_direct(&self) -> bool {
        self.direct.is_some()
    }

    /// Hands the `len` bytes at `at` to `take`, in pieces. `fresh` are bytes that were written lately,
    /// and their places, ascending: the disk is asked for them all the same, in pieces that stay in a
    /// core's own cache, for which `buffer` is memory; where only the cache would answer they are taken
    /// as they are.
    pub fn read(
        &self,
        buffer: &mut Aligned,
        (at, len): (u64, usize),
        fresh: &[(u64, &[u8])],
        mut take: impl FnMut(&[u8]),
    ) -> std::io::Result<()> {
        let size = |bytes: u64| usize::try_from(bytes).unwrap_or(0);
        let (mut place, end) = (at, at + u64::try_from(len).unwrap_or(0));
        for (start, bytes) in fresh.iter().filter(|_| !self.is_direct()) {
            let (from, to) = (place.max(*start), end.min(start + u64::try_from(bytes.len()).unwrap_or(0)));
            if from < to {
                self.read_back(buffer, place, size(from - place), &mut take)?;
                take(bytes.get(size(from - start)..size(to - start)).unwrap_or(&[]));
                place = to;
            }
        }
        self.read_back(buffer, place, size(end - place), &mut take)
    }

    fn read_back(
        &self,
        buffer: &mut Aligned,
        at: u64,
        len: usize,
        take: &mut impl FnMut(&[u8]),
    ) -> std::io::Result<()> {
        if buffer.len() < PIECE {
            *buffer = Aligned::new(PIECE);
        }
        let (mut place, mut left) = (at, len);
        while left > 0 {
            let lead = usize::try_from(place % ALIGN_U64).unwrap_or(0);
            let count = left.min(PIECE - lead);
            self.read_piece(buffer, place - place % ALIGN_U64, lead + count)?;
            take(buffer.get().get(lead..lead + count).unwrap_or(&[]));
            place += u64::try_from(count).unwrap_or(0);
            left -= count;
        }
        Ok(())
    }

    /// The `len` bytes at the aligned place `start` into the front of `buffer`.
    fn read_piece(&self, buffer: &mut Aligned, start: u64, len: usize) -> std::io::Result<()> {
        let run = buffer.get_mut().get_mut(..len.next_multiple_of(ALIGN)).unwrap_or(&mut []);
        let place = |done: usize| start + u64::try_from(done).unwrap_or(0);
        let mut done = 0;
        if let Some(direct) = &self.direct {
            while done < len {
                match direct.read_at(run.get_mut(done..).unwrap_or(&mut []), place(done)) {
                    Ok(0) | Err(_) => break,
                    Ok(count) => done += count,
                }
            }
        }
        if done < len {
            self.cached.read_exact_at(run.get_mut(done..len).unwrap_or(&mut []), place(done))
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_see_the_same_bytes() {
        let folder = tempfile::tempdir_in("/var/tmp").unwrap();
        let path = folder.path().join("f");
        let cached = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
        let file = DirectFile::new(cached, &path);
        let mut buffer = Aligned::new(8192);
        buffer.get_mut().fill(7);
        file.write(&buffer, 8192, 4096).unwrap();
        file.write(&buffer, 100, 12_288).unwrap();
        let pattern: Vec<u8> = (0..600_000u32).map(|i| (i * 7 / 3 % 251) as u8).collect();
        file.cached().write_all_at(&pattern, 12_388).unwrap();
        file.cached().write_all_at(b"xyz", 5000).unwrap();
        let mut memory = Aligned::default();
        for (at, len) in [(4096, 8192), (4999, 5), (0, 12_388), (12_287, 101), (4097, 600_000), (4096, 602_112)] {
            let mut direct = Vec::new();
            file.read(&mut memory, (at, len), &[], |piece| direct.extend_from_slice(piece)).unwrap();
            let mut cached = vec![0; len];
            file.cached().read_exact_at(&mut cached, at).unwrap();
            assert_eq!(direct, cached, "{len} bytes at {at}");
        }
        assert!(file.read(&mut memory, (612_000, 1000), &[], |_| ()).is_err());
    }

    /// What was written last is not asked of a memory file system again; a disk is asked.
    #[test]
    fn fresh_bytes_stand_in_for_the_cache_alone() {
        let folder = tempfile::tempdir_in("/dev/shm").unwrap();
        let path = folder.path().join("f");
        let cached = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
        let mut file = DirectFile::new(cached, &path);
        assert!(file.direct.is_none(), "/dev/shm is memory");
        file.write(&Aligned::new(10_000), 10_000, 0).unwrap();
        let read = |file: &DirectFile, at, len, fresh: &[(u64, &[u8])]| {
            let mut got = Vec::new();
            file.read(&mut Aligned::default(), (at, len), fresh, |piece| got.extend_from_slice(piece)).unwrap();
            got
        };
        let zeros = |count| vec![0; count];
        // fresh in the middle, at the front, at the end, around, and beside
        assert_eq!(read(&file, 100, 50, &[(110, &[7; 20])]), [zeros(10), vec![7; 20], zeros(20)].concat());
        assert_eq!(read(&file, 100, 50, &[(90, &[7; 20])]), [vec![7; 10], zeros(40)].concat());
        assert_eq!(read(&file, 100, 50, &[(140, &[7; 20])]), [zeros(40), vec![7; 10]].concat());
        assert_eq!(read(&file, 100, 50, &[(0, &[7; 1000])]), vec![7; 50]);
        assert_eq!(read(&file, 100, 50, &[(150, &[7; 20])]), zeros(50));
        assert_eq!(read(&file, 100, 50, &[(80, &[7; 20])]), zeros(50));
        // several: touching, with a gap, and one that is not needed
        let some: [(u64, &[u8]); 4] = [(0, &[9; 50]), (90, &[7; 20]), (110, &[8; 10]), (130, &[6; 40])];
        assert_eq!(read(&file, 100, 50, &some), [vec![7; 10], vec![8; 10], zeros(10), vec![6; 20]].concat());
        file.direct = Some(File::open(&path).unwrap());
        assert_eq!(read(&file, 100, 50, &[(0, &[7; 1000])]), zeros(50));
    }
}
