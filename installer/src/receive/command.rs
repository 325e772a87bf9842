//! `receive`: the commands that take a bundle in.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bundle_format::datagram::Tagger;
use clap::Subcommand;

use super::Arrival;
use super::folder::{self, After};
use super::intake::{Intake, Received, Taken};
use super::link::counts::Counts;
use super::link::{self, Watcher};
use super::volume::Volume;
use crate::atomic::{self, Access};
use crate::banner;
use crate::cli::{print, print_json};
use crate::error::{Error, ErrorKind, Result};
use crate::lock::Lock;
use crate::paths::Paths;
use crate::progress::Progress;
use crate::state::State;

/// Ways in.
#[derive(Debug, Subcommand)]
pub enum ReceiveCommand {
    /// From volumes: files, or folders and mounted discs that hold them. Run it again for each disc.
    Volumes {
        /// Volume files or folders.
        #[arg(required = true)]
        paths: Vec<PathBuf>,
        /// Folder for what arrives (default: inside the state folder).
        #[arg(long, value_name = "DIR")]
        inbox: Option<PathBuf>,
    },
    /// From a folder that a guard, a diode or a share fills; waits until the bundle is whole.
    Folder {
        /// The folder.
        folder: PathBuf,
        /// Folder for what arrives (default: inside the state folder).
        #[arg(long, value_name = "DIR")]
        inbox: Option<PathBuf>,
        /// Where files go that are no part of the bundle (default: inside the inbox).
        #[arg(long, value_name = "DIR")]
        quarantine: Option<PathBuf>,
        /// Seconds between two looks.
        #[arg(long, default_value_t = 2)]
        poll: u64,
        /// Seconds without a change after which a short file is taken for what it is.
        #[arg(long, default_value_t = 30)]
        settle: u64,
        /// Seconds without a new file that end the wait.
        #[arg(long, default_value_t = 3600)]
        timeout: u64,
        /// Removes files once their content is in the inbox.
        #[arg(long)]
        remove: bool,
    },
    /// From a one-way link: listens, sends nothing back, ends when a bundle is whole and proved.
    Udp {
        /// Address and port to listen on.
        #[arg(long, value_name = "ADDR:PORT")]
        listen: SocketAddr,
        /// Folder for what arrives (default: inside the state folder).
        #[arg(long, value_name = "DIR")]
        inbox: Option<PathBuf>,
        /// File with the key that both ends share; datagrams without its tag are not taken.
        #[arg(long, value_name = "FILE")]
        psk_file: Option<PathBuf>,
        /// Seconds of silence in the middle that end the wait.
        #[arg(long, default_value_t = 60)]
        idle: u64,
    },
    /// Says which rate of `bundle-builder send calibrate` comes through without loss.
    Calibrate {
        /// Address and port to listen on.
        #[arg(long, value_name = "ADDR:PORT")]
        listen: SocketAddr,
        /// File with the key that both ends share.
        #[arg(long, value_name = "FILE")]
        psk_file: Option<PathBuf>,
    },
}

/// What every receiving command is told by the command line.
#[derive(Debug, Clone, Copy)]
pub struct Site<'a> {
    /// Where the installer keeps things.
    pub paths: &'a Paths,
    /// Machine-readable output.
    pub json: bool,
    /// No colour.
    pub no_color: bool,
}

impl ReceiveCommand {
    /// Runs the command.
    pub fn run(&self, site: &Site<'_>) -> Result<()> {
        match self {
            Self::Volumes { paths, inbox } => volumes(site, paths, inbox.as_deref()),
            Self::Folder { folder, inbox, quarantine, poll, settle, timeout, remove } => {
                let (inbox, _lock) = site.inbox(inbox.as_deref(), "receive folder")?;
                let options = folder::Options {
                    folder: folder.clone(),
                    quarantine: quarantine.clone().unwrap_or_else(|| inbox.join("quarantine")),
                    poll: Duration::from_secs((*poll).max(1)),
                    settle: Duration::from_secs(*settle),
                    timeout: Duration::from_secs(*timeout),
                    taken: if *remove { After::Remove } else { After::Keep },
                };
                let mut state = State::open(&site.paths.database())?;
                let mut intake = Intake::new(&inbox, &mut state, site.json);
                let mut notes = Vec::new();
                let mut admitted = |arrival: &Arrival| {
                    banner::open(&arrival.verified().manifest().marking, site.no_color);
                };
                let received = folder::receive(&options, &mut intake, &mut admitted, &mut |line| {
                    notes.push(line.to_owned());
                    site.tell(line)
                })?;
                site.received(&received, &notes)
            }
            Self::Udp { listen, inbox, psk_file, idle } => {
                let options = link::Options {
                    listen: *listen,
                    tagger: tagger(psk_file.as_deref())?,
                    idle: Duration::from_secs(*idle),
                };
                udp(site, &options, inbox.as_deref())
            }
            Self::Calibrate { listen, psk_file } => calibrate(site, *listen, psk_file.as_deref()),
        }
    }
}

impl Site<'_> {
    /// The inbox folder, made if it is missing, and its lock.
    pub fn inbox(&self, given: Option<&Path>, act: &str) -> Result<(PathBuf, Lock)> {
        let inbox = given.map_or_else(|| self.paths.inbox(), Path::to_path_buf);
        atomic::make_folder(&inbox)?;
        let lock = Lock::take(&inbox.join("lock"), act)?;
        Ok((inbox, lock))
    }

    /// A line for the person who waits; on standard error with `--json`.
    pub fn tell(&self, line: &str) -> Result<()> {
        if self.json {
            use std::io::Write as _;
            return writeln!(std::io::stderr(), "{line}").map_err(|e| Error::io("standard error", e));
        }
        print(&[line.to_owned()])
    }

    /// The end of every way in.
    pub fn received(&self, received: &Received, notes: &[String]) -> Result<()> {
        let manifest = received.arrival.verified().manifest();
        if self.json {
            return print_json(&serde_json::json!({
                "bundle": received.path, "product": manifest.product, "release": manifest.release,
                "sequence": manifest.sequence, "marking": manifest.marking.to_string(),
                "manifest_sha384": received.arrival.verified().sha384().to_string(),
                "restored": received.restored, "notes": notes,
            }));
        }
        print(&received.restored)?;
        print(&[
            format!("received and verified: {}", received.arrival.title()),
            format!("  {}", received.path.display()),
            format!("next: installer install {}", received.path.display()),
        ])
    }
}

fn volumes(site: &Site<'_>, paths: &[PathBuf], inbox: Option<&Path>) -> Result<()> {
    let (inbox, _lock) = site.inbox(inbox, "receive volumes")?;
    let mut state = State::open(&site.paths.database())?;
    let mut intake = Intake::new(&inbox, &mut state, site.json);
    let mut notes = Vec::new();
    let mut unusable = None;
    for path in volume_files(paths)? {
        let volume = match Volume::open(&path) {
            Ok(volume) => volume,
            Err(error) if matches!(error.kind(), ErrorKind::BadVolume { .. }) => {
                site.tell(&error.to_string())?;
                notes.push(error.to_string());
                unusable = Some(error);
                continue;
            }
            Err(error) => return Err(error),
        };
        intake.admit(&volume)?;
        if let Some(arrival) = intake.arrival() {
            banner::open(&arrival.verified().manifest().marking, site.no_color);
        }
        let taken = intake.offer(&volume)?;
        let lines = match taken {
            Taken::Yes(lines) => lines,
            Taken::No(why) => vec![why],
        };
        for line in lines {
            site.tell(&line)?;
            notes.push(line);
        }
    }
    match (intake.arrival(), unusable) {
        (None, Some(error)) => Err(error),
        _ => site.received(&intake.finish("volumes")?, &notes),
    }
}

/// The volume files that `paths` name: files as they are, of folders those that end in `.lgv`.
fn volume_files(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        let io = |e| Error::io(path.display().to_string(), e);
        if !std::fs::metadata(path).map_err(io)?.is_dir() {
            files.push(path.clone());
            continue;
        }
        let mut found = Vec::new();
        for entry in std::fs::read_dir(path).map_err(io)? {
            let file = entry.map_err(io)?.path();
            if file.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("lgv")) {
                found.push(file);
            }
        }
        if found.is_empty() {
            let why = format!("{} holds no volume: no file ends in .lgv", path.display());
            return Err(ErrorKind::Usage { why }.into());
        }
        found.sort();
        files.append(&mut found);
    }
    Ok(files)
}

/// The tags of a link: by the key in `file`, or plain.
fn tagger(file: Option<&Path>) -> Result<Tagger> {
    let Some(path) = file else { return Ok(Tagger::plain()) };
    let text = std::fs::read(path).map_err(|e| Error::io(path.display().to_string(), e))?;
    Tagger::keyed(text.trim_ascii()).map_err(|e| ErrorKind::Usage { why: format!("{}: {e}", path.display()) }.into())
}

fn udp(site: &Site<'_>, options: &link::Options, inbox: Option<&Path>) -> Result<()> {
    let (inbox, _lock) = site.inbox(inbox, "receive udp")?;
    let mut state = State::open(&site.paths.database())?;
    let mut live = Live { site, progress: None, done: 0, told: Instant::now() };
    let outcome = link::receive(options, &inbox, &mut state, &mut live);
    live.end();
    let (received, receipt) = outcome?;
    let json = serde_json::to_value(&receipt).map_err(|e| Error::io("receipt", e.into()))?;
    // Beside the bundle: what a person may want to know about the crossing later.
    let path = received.path.with_extension("receipt.json");
    atomic::write(&path, format!("{json}\n").as_bytes(), Access::Public)?;
    if site.json {
        let manifest = received.arrival.verified().manifest();
        let mut json = json;
        if let Some(fields) = json.as_object_mut() {
            fields.insert("bundle".into(), received.path.display().to_string().into());
            fields.insert("product".into(), manifest.product.clone().into());
            fields.insert("release".into(), manifest.release.clone().into());
            fields.insert("manifest_sha384".into(), received.arrival.verified().sha384().to_string().into());
        }
        return print_json(&json);
    }
    let counts = &receipt.counts;
    let rate = receipt.bytes.saturating_mul(1000) / receipt.milliseconds.max(1);
    print(&[
        format!("{} bytes in {} ms, {rate} bytes/s", receipt.bytes, receipt.milliseconds),
        format!(
            "datagrams: {} received, {} lost, {} doubled, {} late",
            counts.received, counts.lost, counts.duplicates, counts.reordered
        ),
        format!(
            "  {} with a wrong tag, {} of no use, {} dropped by the kernel",
            counts.corrupt, counts.unused, counts.dropped_by_kernel
        ),
    ])?;
    site.received(&received, &[])
}

/// Shows a reception: a bar, or a plain line every two seconds.
struct Live<'a> {
    site: &'a Site<'a>,
    progress: Option<Progress>,
    done: u64,
    told: Instant,
}

impl Live<'_> {
    fn end(&self) {
        if let Some(progress) = &self.progress {
            progress.finish();
        }
    }
}

impl Watcher for Live<'_> {
    fn line(&mut self, text: &str) {
        use std::io::Write as _;
        match &self.progress {
            Some(progress) => progress.note(text),
            // A closed standard error leaves nowhere to complain to.
            None => drop(writeln!(std::io::stderr(), "{text}")),
        }
    }

    fn begun(&mut self, arrival: &Arrival) {
        let manifest = arrival.verified().manifest();
        banner::open(&manifest.marking, self.site.no_color);
        self.line(&format!("receiving {}, signed and permitted here", arrival.title()));
        if self.progress.is_none() {
            self.progress = Some(Progress::new("receive", arrival.size(), self.site.json));
        }
    }

    fn progress(&mut self, written: u64, (blocks, all): (u64, u64), counts: &Counts) {
        if let Some(progress) = &mut self.progress {
            progress.add(written.saturating_sub(self.done));
            self.done = written;
            if self.told.elapsed() >= Duration::from_secs(2) {
                self.told = Instant::now();
                let sent = counts.received + counts.lost;
                let percent = counts.lost.saturating_mul(10_000) / sent.max(1);
                progress.note(&format!(
                    "  {blocks} of {all} blocks; lost {} of {sent} datagrams ({}.{:02}%), {} by this machine's kernel",
                    counts.lost,
                    percent / 100,
                    percent % 100,
                    counts.dropped_by_kernel
                ));
            }
        }
    }
}

fn calibrate(site: &Site<'_>, listen: SocketAddr, psk_file: Option<&Path>) -> Result<()> {
    let mut shown = Ok(());
    let steps = link::calibrate::calibrate(listen, &tagger(psk_file)?, &mut |step| {
        let lost = step.sent.saturating_sub(step.came);
        let line = format!("{} MB/s: {} datagrams sent, {lost} lost", step.rate / 1_000_000, step.sent);
        if shown.is_ok() {
            shown = site.tell(&line);
        }
    })?;
    shown?;
    let (clean, advised) = link::calibrate::advice(&steps)?;
    if site.json {
        return print_json(&serde_json::json!({"highest_clean": clean, "advised": advised}));
    }
    print(&[
        format!("highest rate without loss: {} MB/s", clean / 1_000_000),
        format!("use on the sending side: --rate {}MB", advised / 1_000_000),
    ])
}
