//! Optical discs: one ISO 9660 image for each volume (`xorriso`), and the commands that burn them.
//!
//! A disc holds the volume, the lists of the set, a README for the person who holds it, the hand
//! verifier; disc 1 the installer as well. Burning itself stays with the person at the drive.

use std::path::{Path, PathBuf};

use bundle_format::envelope::UnverifiedEnvelope;
use bundle_format::set::{FILE_NAME, SetFile, SetList};
use bundle_format::timestamp::Timestamp;
use bundle_format::volume::{HEAD_BYTES, Head};

use crate::command::Command;
use crate::custody::folder::{hash_file, write_file};
use crate::error::{Error, ErrorKind, Result};
use crate::split::SUMS;

const VERIFY: &str = include_str!("../../docs/isso/verify-by-hand.sh");
const JOIN: &str = include_str!("../../docs/isso/join-by-hand.sh");

/// Sizes of volumes by name. Discs leave room for the file system, the README and the installer.
pub const PRESETS: [(&str, u64); 6] = [
    ("cd", 600 << 20),
    ("dvd", 4_600_000_000),
    ("dvd-dl", 8_400_000_000),
    // 22.5 GiB: a 25 GB disc with its spare area formatted still takes it.
    ("bd", 24_159_191_040),
    ("bd-dl", 49_392_123_904),
    ("fat32", (4 << 30) - 1),
];

/// Parses a preset's name or a number of bytes with an optional unit (`K`, `M`, `G`, `T`: powers of
/// 1024 with `iB` or alone, of 1000 with `B`).
pub fn parse_size(text: &str) -> std::result::Result<u64, String> {
    if let Some((_, size)) = PRESETS.iter().find(|(name, _)| *name == text) {
        return Ok(*size);
    }
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    let power = |base: u64, exponent| base.checked_pow(exponent);
    let factor = match unit {
        "" => Some(1),
        "K" | "KiB" => power(1024, 1),
        "M" | "MiB" => power(1024, 2),
        "G" | "GiB" => power(1024, 3),
        "T" | "TiB" => power(1024, 4),
        "KB" => power(1000, 1),
        "MB" => power(1000, 2),
        "GB" => power(1000, 3),
        "TB" => power(1000, 4),
        _ => None,
    };
    let size = digits.parse::<u64>().ok().zip(factor).and_then(|(number, factor)| number.checked_mul(factor));
    let names: Vec<&str> = PRESETS.iter().map(|(name, _)| *name).collect();
    size.filter(|size| *size > 0)
        .ok_or_else(|| format!("expected {} or a size such as 650MiB, found {text:?}", names.join(", ")))
}

/// Name of a volume's image.
pub fn image_name(file: &SetFile) -> String {
    format!("{}.iso", file.name.trim_end_matches(".lgv"))
}

/// What lies on the discs beside the volumes: it goes on the custody record too, because a person
/// will run some of it.
pub const COMPANIONS: [&str; 5] = [SUMS, "README.txt", "verify-by-hand.sh", "join-by-hand.sh", INSTALLER];
const INSTALLER: &str = "installer";

/// Puts the [`COMPANIONS`] into the folder of a set.
pub fn add_companions(folder: &Path, list: &SetList, installer: &Path) -> Result<()> {
    if !installer.is_file() {
        let why = format!("no installer at {} to put on disc 1; give --installer FILE", installer.display());
        return Err(ErrorKind::Usage(why).into());
    }
    let readme = readme(list);
    for (name, text) in [("README.txt", readme.as_str()), ("verify-by-hand.sh", VERIFY), ("join-by-hand.sh", JOIN)] {
        write_file(&folder.join(name), text.as_bytes())?;
    }
    let to = folder.join(INSTALLER);
    std::fs::copy(installer, &to).map_err(|e| Error::io(to.display().to_string(), e))?;
    Ok(())
}

/// Makes the image of every volume in `folder`, with the companions and the chain of custody as they
/// are now; the installer goes on disc 1. The same files give the same bytes: times inside are those
/// of the release.
pub fn make_images(folder: &Path, list: &SetList) -> Result<Vec<PathBuf>> {
    let epoch = created(folder, list)?.to_unix();
    let mut images = Vec::new();
    for file in &list.files {
        let image = folder.join(image_name(file));
        let beside = [FILE_NAME, "custody.jsonl"].into_iter().chain(COMPANIONS);
        let reports = (1..=bundle_format::limits::CUSTODY_RECORDS).map(|number| format!("scan-{number}.txt"));
        let names = beside
            .map(str::to_owned)
            .chain(reports)
            .filter(|name| (name != INSTALLER || file.number == 1) && folder.join(name).exists());
        let members = std::iter::once(file.name.clone()).chain(names).map(|name| graft(&name, &folder.join(&name)));
        match std::fs::remove_file(&image) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::io(image.display().to_string(), e));
            }
            _ => {}
        }
        Command::new("xorriso")
            .env("SOURCE_DATE_EPOCH", epoch.to_string())
            .args(["-as", "mkisofs", "-quiet", "--set_all_file_dates", &format!("={epoch}")])
            .args(["-r", "-J", "-joliet-long", "-iso-level", "3", "-V", &disc_label(list, file), "-o"])
            .args([image.as_os_str(), "-graft-points".as_ref()])
            .args(members)
            .run()?;
        images.push(image);
    }
    Ok(images)
}

/// When the release of a set was made, from the manifest that its first volume carries.
fn created(folder: &Path, list: &SetList) -> Result<Timestamp> {
    use std::os::unix::fs::FileExt as _;
    let name = list.files.first().map_or("", |file| file.name.as_str());
    let path = folder.join(name);
    let io = |e| Error::io(path.display().to_string(), e);
    let file = confinement::open_regular(&path).map_err(io)?;
    let mut block = vec![0; HEAD_BYTES];
    file.read_exact_at(&mut block, 0).map_err(io)?;
    let shape = Head::parse(&block)?.shape;
    let mut prologue = vec![0; usize::try_from(shape.prologue_size).unwrap_or(0)];
    file.read_exact_at(&mut prologue, shape.prologue_at()).map_err(io)?;
    let envelope = UnverifiedEnvelope::read_prologue(&prologue)?;
    Ok(bundle_format::manifest::parse(envelope.manifest_bytes())?.created)
}

/// The commands that burn and check each disc of a set.
pub fn burn_plan(folder: &Path, list: &SetList, device: &str, progress: &mut dyn FnMut(u64)) -> Result<Vec<String>> {
    let mut lines = vec![format!(
        "# {} {}: {} discs, {} of them may be lost; write-once media, finalised by -sao",
        list.product,
        list.release,
        list.files.len(),
        list.parity_volumes
    )];
    for file in &list.files {
        let image = folder.join(image_name(file));
        let (size, sha384) = hash_file(&image, progress)?;
        let total = list.files.len();
        let marking = &list.marking;
        lines.push(String::new());
        lines.push(format!("# disc {} of {total}: write on it: {marking}, {}", file.number, disc_label(list, file)));
        lines.push(format!("xorriso -as cdrecord -v dev={device} -sao -eject padsize=0 '{}'", image.display()));
        lines.push("# put the disc in again, then compare:".into());
        lines.push(format!("head -c {size} {device} | sha384sum"));
        lines.push(format!("# expected: {sha384}"));
    }
    Ok(lines)
}

/// ISO 9660 volume id: at most 32 characters of `A-Z 0-9 _`.
fn disc_label(list: &SetList, file: &SetFile) -> String {
    let short: String = list.set.chars().take(8).collect();
    format!("LG_{}_{:04}OF{:04}", short.to_uppercase(), file.number, list.files.len())
}

fn graft(name: &str, path: &Path) -> String {
    // xorriso reads `=` and `\` of a graft point by themselves.
    let path = path.display().to_string().replace('\\', "\\\\").replace('=', "\\=");
    format!("{name}={path}")
}

fn readme(list: &SetList) -> String {
    let (total, parity) = (list.files.len(), list.parity_volumes);
    format!(
        "{marking}\n\n\
         Lockgate volume set {set}\n\
         {product} {release} (sequence {sequence})\n\
         {total} volumes, one on each disc; its file name says which. Any {parity} of them may be missing.\n\n\
         On the isolated machine, with any of the discs first, mounted at /mnt:\n\
         \x20   installer receive volumes /mnt\n\
         It proves whose set this is, takes what it can read, and says which disc it wants next.\n\
         Disc 1 carries the installer; compare its hash with the one on the transfer record first.\n\n\
         With tools of your own:\n\
         \x20   sha384sum -c --ignore-missing SHA384SUMS      the volumes of this set\n\
         \x20   join-by-hand.sh, then verify-by-hand.sh       the whole bundle, without our programs\n\n\
         Bundle's signed manifest, SHA-384:\n\
         {sha384}\n\n\
         {marking}\n",
        marking = list.marking,
        set = list.set,
        product = list.product,
        release = list.release,
        sequence = list.sequence,
        sha384 = bundle_format::text::groups_of_four(&list.manifest_sha384.to_string()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, size) in
            [("dvd", 4_600_000_000), ("1000", 1000), ("650MiB", 650 << 20), ("2G", 2 << 30), ("4GB", 4_000_000_000)]
        {
            assert_eq!(parse_size(text).unwrap(), size, "{text}");
        }
        for bad in ["", "0", "-1", "12X", "99999999999T", "DVD", "1.5G"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
    }
}
