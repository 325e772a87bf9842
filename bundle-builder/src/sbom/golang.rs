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
const INFO_BYTES: u64 = 4 << 20;

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
}

impl BuildInfo {
    pub(super) fn bytes(&self) -> u64 {
        match self {
            Self::Inline { go, modules } => u64::try_from(go.len() + modules.len()).unwrap_or(u64::MAX),
            Self::Pointers => 0,
        }
    }
}

/// Looks for build information in an ELF program, read from its start.
pub(super) fn find(program: &mut impl Read) -> io::Result<Option<BuildInfo>> {
    let mut chunk = Vec::with_capacity(CHUNK);
    let mut first = true;
    let mut pointers = false;
    loop {
        chunk.clear();
        program.by_ref().take(u64::try_from(CHUNK).unwrap_or(u64::MAX)).read_to_end(&mut chunk)?;
        if chunk.is_empty() || (first && !chunk.starts_with(b"\x7fELF")) {
            return Ok(pointers.then_some(BuildInfo::Pointers));
        }
        first = false;
        let hits: Vec<usize> = chunk
            .chunks(ALIGN)
            .enumerate()
            .filter(|(_, block)| block.starts_with(MAGIC))
            .map(|(i, _)| i * ALIGN)
            .collect();
        if hits.is_empty() {
            continue;
        }
        // The texts may reach into what follows.
        program.by_ref().take(INFO_BYTES).read_to_end(&mut chunk)?;
        for hit in hits {
            match chunk.get(hit..).and_then(parse) {
                Some(BuildInfo::Pointers) => pointers = true,
                Some(info) => return Ok(Some(info)),
                None => {}
            }
        }
    }
}

fn parse(bytes: &[u8]) -> Option<BuildInfo> {
    let flags = *bytes.get(15)?;
    if flags & 2 == 0 {
        // The magic also stands as a constant in Go's own tools; there no pointer size follows.
        return matches!(bytes.get(14)?, 4 | 8).then_some(BuildInfo::Pointers);
    }
    let (go, rest) = text(bytes.get(HEADER..)?)?;
    let (modules, _) = text(rest)?;
    let go = std::str::from_utf8(go).ok().filter(|go| go.starts_with("go"))?;
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
        for cut in 64..whole.len() {
            assert_eq!(find(&mut &whole[..cut]).unwrap(), None, "cut at {cut}");
        }
        assert_eq!(find(&mut &b"\x7fELF"[..]).unwrap(), None);
    }
}
