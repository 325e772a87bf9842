//! Modules that a Go program was built of: the build information that the linker leaves in it
//! (`debug/buildinfo` of the Go standard library, the inline form of Go 1.18 and later).

use std::io::{self, Read};

use crate::sbom::layers::Tree;
use crate::sbom::{Inventory, Kind, Package};

const MAGIC: &[u8; 14] = b"\xff Go buildinf:";
/// The magic stands at a multiple of this.
const ALIGN: usize = 16;
const HEADER: usize = 32;
const CHUNK: usize = 1 << 20;
/// Most bytes of one program's build information.
const INFO_BYTES: usize = 4 << 20;
/// Bytes of Go's version at most: `devel` and an experiment's name are longer than a release's.
const VERSION_BYTES: usize = 256;

/// What a program says it was built of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BuildInfo {
    /// Go's version and the module lines.
    Inline {
        /// Such as `go1.22.5`.
        go: String,
        /// Lines of `path`, `mod`, `dep`, `=>`.
        modules: String,
    },
    /// The form of Go before 1.18, by pointers into the program: not read.
    Pointers,
    /// What begins as the newer form and goes on as something else, or is too long.
    Unreadable,
}

impl BuildInfo {
    pub(super) fn bytes(&self) -> u64 {
        match self {
            Self::Inline { go, modules } => u64::try_from(go.len() + modules.len()).unwrap_or(u64::MAX),
            Self::Pointers | Self::Unreadable => 0,
        }
    }
}

/// Looks for build information in an ELF program, read from its start. The magic may also stand there as a
/// constant, of a program that looks for it: what it is followed by decides, and the search goes on.
pub(super) fn find(program: &mut impl Read) -> io::Result<Option<BuildInfo>> {
    // What was read and is still needed; before `at`, a multiple of the alignment, all is searched.
    let (mut held, mut at) = (Vec::with_capacity(CHUNK), 0);
    read_up_to(program, &mut held, CHUNK)?;
    if !held.starts_with(b"\x7fELF") {
        return Ok(None);
    }
    let mut unread = None;
    loop {
        let blocks = held.get(at..).unwrap_or_default().chunks(ALIGN);
        let Some(block) = blocks.into_iter().position(|block| block.starts_with(MAGIC)) else {
            held.clear();
            at = 0;
            read_up_to(program, &mut held, CHUNK)?;
            if held.is_empty() {
                return Ok(unread);
            }
            continue;
        };
        at += block * ALIGN;
        // The texts may reach into what follows. What lies before goes once it is as much as is held.
        if at >= INFO_BYTES {
            held.drain(..at);
            at = 0;
        }
        read_up_to(program, &mut held, at + INFO_BYTES)?;
        match parse(held.get(at..).unwrap_or_default()) {
            Some(info @ BuildInfo::Inline { .. }) => return Ok(Some(info)),
            // The older form is what it says; of the newer one this may be a constant.
            Some(BuildInfo::Pointers) => unread = Some(BuildInfo::Pointers),
            Some(BuildInfo::Unreadable) => unread = unread.or(Some(BuildInfo::Unreadable)),
            None => {}
        }
        at += ALIGN;
    }
}

/// Reads on until `held` has `most` bytes or the program ends.
fn read_up_to(program: &mut impl Read, held: &mut Vec<u8>, most: usize) -> io::Result<()> {
    let more = u64::try_from(most.saturating_sub(held.len())).unwrap_or(u64::MAX);
    program.by_ref().take(more).read_to_end(held)?;
    Ok(())
}

fn parse(bytes: &[u8]) -> Option<BuildInfo> {
    let flags = *bytes.get(15)?;
    if flags & 2 == 0 {
        // The magic also stands as a constant in Go's own tools; there no pointer size follows.
        return matches!(bytes.get(14)?, 4 | 8).then_some(BuildInfo::Pointers);
    }
    Some(inline(bytes).unwrap_or(BuildInfo::Unreadable))
}

fn inline(bytes: &[u8]) -> Option<BuildInfo> {
    let (go, rest) = text(bytes.get(HEADER..)?)?;
    let go = Some(go).filter(|go| go.starts_with(b"go") && go.len() <= VERSION_BYTES)?;
    let (go, (modules, _)) = (std::str::from_utf8(go).ok()?, text(rest)?);
    // Sixteen bytes on both ends mark the text inside of a program.
    let modules = modules.get(16..modules.len().saturating_sub(16)).unwrap_or_default();
    Some(BuildInfo::Inline { go: go.into(), modules: String::from_utf8_lossy(modules).into_owned() })
}

/// A length as an unsigned LEB128 and that many bytes.
fn text(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut length = 0usize;
    for (index, byte) in bytes.iter().take(5).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return bytes.get(index + 1..)?.split_at_checked(length);
        }
    }
    None
}

/// The modules of every program.
pub(super) fn read(tree: &Tree, found: &mut Inventory) {
    for (path, info) in &tree.programs {
        match info {
            BuildInfo::Pointers => found.unread.push(format!("/{path}: build information of Go before 1.18")),
            BuildInfo::Unreadable => {
                found.unread.push(format!("/{path}: what may be build information of Go, which could not be read"));
            }
            BuildInfo::Inline { go, modules } => {
                found.packages.push(package("stdlib", go));
                let mut last: Option<Package> = None;
                for line in modules.lines() {
                    let mut fields = line.split('\t');
                    let (word, name, version) = (fields.next(), fields.next(), fields.next().unwrap_or_default());
                    match (word, name) {
                        (Some("mod" | "dep"), Some(name)) => {
                            found.packages.extend(last.replace(package(name, version)));
                        }
                        // A replacement stands for the line before it; without a version it is a folder.
                        (Some("=>"), Some(name)) => last = Some(package(name, version)),
                        _ => {}
                    }
                }
                found.packages.extend(last);
            }
        }
    }
}

fn package(name: &str, version: &str) -> Package {
    Package { kind: Kind::Go, name: name.into(), version: version.into(), arch: None, licence: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(flags: u8, modules: &str, at: usize) -> Vec<u8> {
        let mut bytes = b"\x7fELF".to_vec();
        bytes.resize(at, 0);
        bytes.extend(MAGIC);
        bytes.extend([8, flags]);
        bytes.resize(at + HEADER, 0);
        let framed = format!("{}{modules}{}", "s".repeat(16), "e".repeat(16));
        bytes.push(8);
        bytes.extend(b"go1.22.5");
        let length = framed.len();
        bytes.extend([u8::try_from(length & 0x7f).unwrap() | 0x80, u8::try_from(length >> 7).unwrap()]);
        bytes.extend(framed.as_bytes());
        bytes
    }

    #[test]
    fn modules_of_a_program() {
        let lines = "path\tTEST/cmd\nmod\tTEST/main\t(devel)\t\ndep\tTEST/a\tv1.0.0\th1:x=\ndep\tTEST/b\tv1.1.0\n=>\tTEST/c\tv2.0.0\th1:y=\n";
        for at in [16, CHUNK - 16, CHUNK, 3 * CHUNK + 160] {
            let info = find(&mut &program(2, lines, at)[..]).unwrap().unwrap();
            let mut tree = Tree::default();
            tree.programs.insert("bin/x".into(), info);
            let mut found = Inventory::default();
            read(&tree, &mut found);
            let names: Vec<_> = found.packages.iter().map(|p| format!("{} {}", p.name, p.version)).collect();
            assert_eq!(names, ["stdlib go1.22.5", "TEST/main (devel)", "TEST/a v1.0.0", "TEST/c v2.0.0"], "{at}");
        }
    }

    #[test]
    fn what_is_no_build_information() {
        assert_eq!(find(&mut &program(0, "", 64)[..]).unwrap(), Some(BuildInfo::Pointers));
        assert_eq!(find(&mut &program(2, "", 72)[..]).unwrap(), None, "not aligned");
        assert_eq!(find(&mut &program(2, "mod\tx", 64)[1..]).unwrap(), None, "no ELF");
        let whole = program(2, "mod\tx\ty", 64);
        for cut in 64..80 {
            assert_eq!(find(&mut &whole[..cut]).unwrap(), None, "cut at {cut}");
        }
        // From here on it looks like what it is.
        for cut in 80..whole.len() {
            assert_eq!(find(&mut &whole[..cut]).unwrap(), Some(BuildInfo::Unreadable), "cut at {cut}");
        }
        assert_eq!(find(&mut &b"\x7fELF"[..]).unwrap(), None);
    }

    #[test]
    fn the_search_goes_on_behind_a_constant() {
        let lines = "mod\tTEST/main\t(devel)\t\n";
        let constants: [(&str, [u8; 2]); 3] = [("no pointer size", [0, 0]), ("pointers", [8, 0]), ("inline", [9, 2])];
        for (what, follows) in constants {
            for at in [16, CHUNK - 16, CHUNK + 160] {
                // Right behind it, within what is read for its texts, and behind that; also many of them.
                for real in [at + 32, at + 16 + CHUNK, at + INFO_BYTES - 16, at + INFO_BYTES + 3 * CHUNK] {
                    let mut bytes = program(2, lines, real);
                    for constant in (at..at + 16).chain((at + 64..real.min(at + 4096)).step_by(32)) {
                        let Some(place) = bytes.get_mut(constant..constant + 16).filter(|_| constant % 16 == 0) else {
                            continue;
                        };
                        place[..14].copy_from_slice(MAGIC);
                        place[14..].copy_from_slice(&follows);
                    }
                    let found = find(&mut &bytes[..]).unwrap();
                    let Some(BuildInfo::Inline { go, modules }) = found else {
                        panic!("{what} at {at}, the real one at {real}: {found:?}");
                    };
                    assert_eq!((go.as_str(), modules.as_str()), ("go1.22.5", lines));
                }
            }
        }
    }

    #[test]
    fn what_cannot_be_told_is_named() {
        // Modules longer than the limit, and a constant alone.
        let long = program(2, &"dep\tx\ty\n".repeat(100), 64);
        let mut alone = vec![0; 3 * CHUNK];
        alone[..4].copy_from_slice(b"\x7fELF");
        alone[2048..2062].copy_from_slice(MAGIC);
        alone[2063] = 2;
        for bytes in [&long[..long.len() - 1], &alone[..]] {
            let mut tree = Tree::default();
            tree.programs.insert("bin/x".into(), find(&mut &bytes[..]).unwrap().unwrap());
            let mut found = Inventory::default();
            read(&tree, &mut found);
            assert_eq!(found.unread, ["/bin/x: what may be build information of Go, which could not be read"]);
        }
    }
}
