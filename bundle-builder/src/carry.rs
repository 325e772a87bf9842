//! The commands that carry a bundle towards the gap: `split`, `burn-plan`, `send`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use bundle_format::datagram::Tagger;
use bundle_format::set::{FILE_NAME, SetList};
use clap::Subcommand;

use crate::cli::{print, print_json};
use crate::disc::{self, parse_size};
use crate::error::{Error, ErrorKind, Result};
use crate::link::{self, SendOptions, pace::parse_rate};
use crate::output::{Progress, open_banner};
use crate::split::{self, NameStyle, WholeBundle};

/// Commands for carriers.
#[derive(Debug, Subcommand)]
pub enum CarryCommand {
    /// Cuts a bundle into volumes of one size, with parity volumes that restore lost ones.
    Split {
        /// The bundle.
        bundle: PathBuf,
        /// Largest volume file: cd, dvd, dvd-dl, bd, bd-dl, fat32, or a size such as 2GiB.
        #[arg(long, value_parser = parse_size)]
        volume_size: u64,
        /// Volumes that may be lost or unreadable.
        #[arg(long, default_value_t = 1)]
        parity: u16,
        /// Folder for the set; nothing in it is overwritten.
        #[arg(long)]
        out: PathBuf,
        /// Also writes one ISO 9660 image for each volume (needs xorriso).
        #[arg(long)]
        iso: bool,
        /// The installer that goes on disc 1 (default: the one beside this program).
        #[arg(long, value_name = "FILE")]
        installer: Option<PathBuf>,
    },
    /// Makes the disc images of a set again, with the chain of custody as it is now.
    DiscImages {
        /// The folder that `split --iso` wrote.
        set: PathBuf,
    },
    /// Prints the commands that burn and check the discs of a set.
    BurnPlan {
        /// The folder that `split --iso` wrote.
        set: PathBuf,
        /// The writer.
        #[arg(long, default_value = "/dev/sr0")]
        device: String,
    },
    /// Sends a bundle: over a one-way link.
    #[command(subcommand)]
    Send(SendCommand),
}

/// Ways out.
#[derive(Debug, Subcommand)]
pub enum SendCommand {
    /// UDP with forward error correction; nothing comes back.
    Udp {
        /// The bundle.
        bundle: PathBuf,
        /// Address and port of the receiver.
        #[arg(long, value_name = "ADDR:PORT")]
        to: SocketAddr,
        /// Bits or bytes per second on the wire, never exceeded; see `send calibrate`.
        #[arg(long, value_parser = parse_rate, default_value = "80MB")]
        rate: u64,
        /// Recovery data, percent of the bundle.
        #[arg(long, default_value_t = 12.5)]
        repair: f64,
        /// How often the whole bundle is sent.
        #[arg(long, default_value_t = 1)]
        passes: u32,
        /// Sends it again and again until it is stopped.
        #[arg(long, conflicts_with = "passes")]
        carousel: bool,
        /// Blocks whose datagrams take turns: more of them survive a longer burst of losses.
        #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=16))]
        interleave: u8,
        /// File with the key that both ends share.
        #[arg(long, value_name = "FILE")]
        psk_file: Option<PathBuf>,
    },
    /// Files for a guard, a commercial diode or a share, each within a size limit. A file has its name
    /// only when it is whole.
    Folder {
        /// The bundle.
        bundle: PathBuf,
        /// The folder that is carried across.
        #[arg(long, value_name = "DIR")]
        to: PathBuf,
        /// Largest file that may pass.
        #[arg(long, value_parser = parse_size)]
        max_size: u64,
        /// Files that may be lost on the way.
        #[arg(long, default_value_t = 0)]
        parity: u16,
        /// How files are named.
        #[arg(long, value_enum, default_value = "long")]
        names: NameStyle,
    },
    /// Sends at rising rates, for `installer receive calibrate` to say which one comes through.
    Calibrate {
        /// Address and port of the receiver.
        #[arg(long, value_name = "ADDR:PORT")]
        to: SocketAddr,
        /// The highest rate.
        #[arg(long, value_parser = parse_rate, default_value = "1250MB")]
        most: u64,
        /// File with the key that both ends share.
        #[arg(long, value_name = "FILE")]
        psk_file: Option<PathBuf>,
    },
}

impl CarryCommand {
    /// Runs the command.
    pub fn run(&self, json: bool) -> Result<()> {
        match self {
            Self::Split { bundle, volume_size, parity, out, iso, installer } => {
                let whole = WholeBundle::open(bundle)?;
                open_banner(&whole.claim.manifest.marking);
                let list = cut(&whole, *volume_size, *parity, NameStyle::Long, out)?;
                let mut lines = vec![
                    format!("set {}: {} {}", list.set, list.product, list.release),
                    format!(
                        "{} data and {} parity volumes of {} bytes in {}",
                        list.data_volumes,
                        list.parity_volumes,
                        list.files.first().map_or(0, |file| file.size),
                        out.display()
                    ),
                    format!("any {} of the {} may be lost", list.parity_volumes, list.files.len()),
                ];
                let mut images = Vec::new();
                if *iso {
                    let installer = match installer {
                        Some(path) => path.clone(),
                        None => beside_this_program()?,
                    };
                    disc::add_companions(out, &list, &installer)?;
                    images = disc::make_images(out, &list)?;
                    lines.push(format!(
                        "{} disc images; next: bundle-builder burn-plan {}",
                        images.len(),
                        out.display()
                    ));
                }
                if json {
                    return print_json(&serde_json::json!({"set": list, "images": images}));
                }
                print(&lines)
            }
            Self::Send(command) => command.run(json),
            Self::DiscImages { set } => {
                let list = read_list(set)?;
                open_banner(&list.marking);
                let images = disc::make_images(set, &list)?;
                print(&[format!("{} disc images; next: bundle-builder burn-plan {}", images.len(), set.display())])
            }
            Self::BurnPlan { set, device } => {
                let list = read_list(set)?;
                open_banner(&list.marking);
                let total = list.files.iter().map(|file| file.size).sum();
                let mut progress = Progress::new("hash images", total);
                print(&disc::burn_plan(set, &list, device, &mut |bytes| progress.add(bytes))?)
            }
        }
    }
}

impl SendCommand {
    fn run(&self, json: bool) -> Result<()> {
        match self {
            Self::Udp { bundle, to, rate, repair, passes, carousel, interleave, psk_file } => {
                let whole = WholeBundle::open(bundle)?;
                open_banner(&whole.claim.manifest.marking);
                let options = SendOptions {
                    to: *to,
                    rate: *rate,
                    recovery: link::recovery_of(*repair)?,
                    passes: (!carousel).then_some(*passes),
                    interleave: usize::from(*interleave),
                    tagger: tagger(psk_file.as_deref())?,
                };
                let pass = link::pass_bytes(&link::plan(&whole, options.recovery)?);
                let mut progress = Progress::new("send", pass.saturating_mul(u64::from(*passes)));
                let sent = link::send(&whole, &options, &mut |bytes| progress.add(bytes))?;
                drop(progress);
                if json {
                    return print_json(&serde_json::json!({
                        "datagrams": sent.datagrams, "blocks": sent.blocks, "segmented": sent.segmented,
                    }));
                }
                let manifest = &whole.claim.manifest;
                print(&[
                    format!(
                        "sent {} {}: {} datagrams, {} blocks",
                        manifest.product, manifest.release, sent.datagrams, sent.blocks
                    ),
                    "whether it arrived, only the far side knows: installer receipt there, bundle-builder confirm here"
                        .into(),
                ])
            }
            Self::Folder { bundle, to, max_size, parity, names } => {
                let whole = WholeBundle::open(bundle)?;
                open_banner(&whole.claim.manifest.marking);
                let list = drop_into(&whole, to, *max_size, *parity, *names)?;
                if json {
                    return print_json(&serde_json::json!({"set": list}));
                }
                print(&[
                    format!("set {}: {} files in {}", list.set, list.files.len(), to.display()),
                    format!("any {} of them may be lost", list.parity_volumes),
                ])
            }
            Self::Calibrate { to, most, psk_file } => {
                let mut shown = Ok(());
                link::calibrate(*to, *most, &tagger(psk_file.as_deref())?, &mut |rate| {
                    if shown.is_ok() {
                        shown = print(&[format!("sending at {} MB/s", rate / 1_000_000)]);
                    }
                })?;
                shown
            }
        }
    }
}

/// Makes the files in a hidden folder beside their places, then renames them: the lists first, so
/// that a guard knows what comes, then each volume.
fn drop_into(bundle: &WholeBundle, to: &Path, size: u64, parity: u16, names: NameStyle) -> Result<SetList> {
    let io = |path: &Path| {
        let path = path.display().to_string();
        move |e| Error::io(path, e)
    };
    std::fs::create_dir_all(to).map_err(io(to))?;
    let staging = tempfile::Builder::new().prefix(".lockgate-").tempdir_in(to).map_err(io(to))?;
    let list = cut(bundle, size, parity, names, staging.path())?;
    let (list_name, sums_name) = names.lists();
    let all: Vec<&str> = [list_name, sums_name].into_iter().chain(list.files.iter().map(|f| f.name.as_str())).collect();
    if let Some(name) = all.iter().find(|name| to.join(name).exists()) {
        let path = to.join(name);
        return Err(ErrorKind::Usage(format!("{} exists already and is never overwritten", path.display())).into());
    }
    for name in all {
        let path = to.join(name);
        std::fs::rename(staging.path().join(name), &path).map_err(io(&path))?;
    }
    Ok(list)
}

/// The tags of a link: by the key in `file`, or plain.
fn tagger(file: Option<&Path>) -> Result<Tagger> {
    let Some(path) = file else { return Ok(Tagger::plain()) };
    let text = std::fs::read(path).map_err(|e| Error::io(path.display().to_string(), e))?;
    Tagger::keyed(text.trim_ascii()).map_err(|e| ErrorKind::Usage(format!("{}: {e}", path.display())).into())
}

/// Checks the bundle and splits it, with progress.
fn cut(bundle: &WholeBundle, volume_size: u64, parity: u16, style: NameStyle, out: &Path) -> Result<SetList> {
    let progress = Mutex::new(Progress::new("check", bundle.claim.manifest.stored_size()));
    let add = |bytes| progress.lock().unwrap_or_else(PoisonError::into_inner).add(bytes);
    split::check_whole(bundle, &add)?;
    *progress.lock().unwrap_or_else(PoisonError::into_inner) =
        Progress::new("split", split::work_of(bundle, volume_size, parity));
    split::split(bundle, volume_size, parity, style, out, &add)
}

/// Reads the list of the set in `folder`.
pub fn read_list(folder: &Path) -> Result<SetList> {
    let path = folder.join(FILE_NAME);
    let io = |e| Error::io(path.display().to_string(), e);
    let bytes = confinement::read_regular(&path, bundle_format::limits::SET_LIST_BYTES).map_err(io)?;
    Ok(SetList::parse(&bytes)?)
}

fn beside_this_program() -> Result<PathBuf> {
    let exe = std::env::current_exe().map_err(|e| Error::io("this program", e))?;
    let path = exe.with_file_name("installer");
    if path.is_file() {
        return Ok(path);
    }
    Err(ErrorKind::Usage(format!("no installer at {} to put on disc 1; give --installer FILE", path.display())).into())
}
