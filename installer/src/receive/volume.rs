//! One volume of a set: what it says about itself, and its copy where the first is damaged.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use bundle_format::digest::Sha384;
use bundle_format::text::escaped;
use bundle_format::volume::{HEAD_BYTES, Head, SetId, Table, claimed_number};
use confinement::{NotRegular, open_regular};

use crate::error::{Error, ErrorKind, Result};

/// A volume file whose head, table and prologue could be read.
#[derive(Debug)]
pub struct Volume {
    path: PathBuf,
    pub(super) file: File,
    /// What it says about itself.
    pub head: Head,
    /// Its set.
    pub set: SetId,
    pub(super) table: Table,
    /// The signed manifest and what belongs to it; proved by [`Arrival::prove`], not yet here.
    pub prologue: Vec<u8>,
    /// What a person should know about it.
    pub notes: Vec<String>,
}

impl Volume {
    /// Opens a volume. Each of its descriptions is there twice; one good copy is enough.
    pub fn open(path: &Path) -> Result<Self> {
        let shown = escaped(&path.display().to_string());
        let bad = |why: String| ErrorKind::BadVolume { path: shown.clone(), why };
        let io = |e| Error::io(path.display().to_string(), e);
        let file = open_regular(path).map_err(|e| match NotRegular::of(&e) {
            // One bad volume of many: the others are still read.
            Some(not) => bad(not.to_string()).into(),
            None => io(e),
        })?;
        let metadata = file.metadata().map_err(io)?;
        let mut notes = Vec::new();
        let end = metadata.len().saturating_sub(u64::try_from(HEAD_BYTES).unwrap_or(0));
        let front = read_pages(&file, 0, HEAD_BYTES).whole().map(|block| Head::parse(&block));
        let head = match front {
            Some(Ok(head)) => head,
            other => {
                let why = match other {
                    Some(Err(error)) => error.to_string(),
                    _ => "it is unreadable".into(),
                };
                let again = read_pages(&file, end, HEAD_BYTES).whole().and_then(|block| Head::parse(&block).ok());
                notes.push(format!("{shown}: the front of it is damaged ({why}); its copy at the end is used"));
                again.ok_or_else(|| bad(format!("neither head can be used: {why}")))?
            }
        };
        let (shape, number) = (head.shape, head.number);
        let set = shape.id()?;
        if metadata.len() != shape.volume_size() {
            let (expected, found) = (shape.volume_size(), metadata.len());
            notes.push(format!("volume {number}: the file has {found} bytes, expected {expected}"));
        }
        if let Some(claimed) = path.file_name().and_then(|name| claimed_number(&name.to_string_lossy()))
            && claimed != number
        {
            notes.push(format!("{shown}: named volume {claimed}, but what it holds is volume {number}: wrong label"));
        }
        let length = usize::try_from(shape.table_size()).unwrap_or(0);
        let table = twice(&file, shape.table_at(), shape.table_again_at(), length, |bytes| {
            Sha384::of(bytes) == head.table_sha384
        });
        let table = table.and_then(|bytes| Table::proved(bytes, &head));
        let table = table.ok_or_else(|| bad(format!("volume {number}: both hash tables are damaged")))?;
        let length = usize::try_from(shape.prologue_size).unwrap_or(0);
        let prologue = twice(&file, shape.prologue_at(), shape.prologue_again_at(), length, |bytes| {
            Sha384::of(bytes) == shape.prologue_sha384
        });
        let prologue =
            prologue.ok_or_else(|| bad(format!("volume {number}: both copies of the manifest are damaged")))?;
        Ok(Self { path: path.to_owned(), file, head, set, table, prologue, notes })
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes and SHA-384 of the whole file, as a custody record names it.
    pub fn whole(&self, progress: &mut dyn FnMut(u64)) -> Result<(u64, Sha384)> {
        let io = |e| Error::io(self.path.display().to_string(), e);
        let mut file = open_regular(&self.path).map_err(io)?;
        Sha384::of_reader(&mut file, progress).map_err(io)
    }
}

/// Reads a region that is there twice: the copy that `proves`, or what both give together.
fn twice(file: &File, first: u64, second: u64, length: usize, proves: impl Fn(&[u8]) -> bool) -> Option<Vec<u8>> {
    let one = read_pages(file, first, length);
    if let Some(bytes) = one.clone().whole().filter(|bytes| proves(bytes)) {
        return Some(bytes);
    }
    let two = read_pages(file, second, length);
    if let Some(bytes) = two.clone().whole().filter(|bytes| proves(bytes)) {
        return Some(bytes);
    }
    [one.filled_from(&two), two.filled_from(&one)].into_iter().flatten().find(|bytes| proves(bytes))
}

/// Bytes read page by page; `None` where a page could not be read.
#[derive(Clone)]
struct Pages(Vec<Option<Vec<u8>>>);

fn read_pages(file: &File, at: u64, length: usize) -> Pages {
    let mut whole = vec![0; length];
    if file.read_exact_at(&mut whole, at).is_ok() {
        return Pages(whole.chunks(HEAD_BYTES).map(|page| Some(page.to_vec())).collect());
    }
    let mut pages = Vec::new();
    let mut done = 0;
    while done < length {
        let count = HEAD_BYTES.min(length - done);
        let mut page = vec![0; count];
        let read = file.read_exact_at(&mut page, at + u64::try_from(done).unwrap_or(0));
        pages.push(read.is_ok().then_some(page));
        done += count;
    }
    Pages(pages)
}

impl Pages {
    fn whole(self) -> Option<Vec<u8>> {
        self.0.into_iter().collect::<Option<Vec<_>>>().map(|pages| pages.concat())
    }

    fn filled_from(&self, other: &Self) -> Option<Vec<u8>> {
        let pages = self.0.iter().zip(&other.0).map(|(mine, theirs)| mine.as_ref().or(theirs.as_ref()).cloned());
        pages.collect::<Option<Vec<_>>>().map(|pages| pages.concat())
    }
}
