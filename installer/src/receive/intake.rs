//! Volumes as they come, one after another: the first proves whose set it is, the rest must belong.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use bundle_format::root::Role;
use bundle_format::text::escaped;
use bundle_format::volume::SetId;

use super::volume::Volume;
use super::volumes::{Collection, Outcome, Reading, belongs};
use super::{Arrival, prove_whole};
use crate::custody::{self, OnHand};
use crate::error::{ErrorKind, Result};
use crate::progress::Progress;
use crate::state::State;

/// Takes volumes in until their set is whole.
#[derive(Debug)]
pub struct Intake<'a> {
    inbox: &'a Path,
    state: &'a mut State,
    json: bool,
    set: Option<(SetId, Arrival, Collection)>,
    read: BTreeMap<u16, PathBuf>,
}

/// Judges the chain of custody that lies beside a volume, for these files of it.
fn check_custody(arrival: &Arrival, volume: &Volume, files: &[OnHand]) -> Result<()> {
    let folder = crate::atomic::parent(volume.path());
    custody::verify(folder, arrival.verified().root(), &arrival.verified().sha384(), files).map(drop)
}

/// What became of an offered file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taken {
    /// It is a volume of this set; lines say what was bad about it.
    Yes(Vec<String>),
    /// It does not belong here; the line says why.
    No(String),
}

/// A bundle that is whole and proved.
#[derive(Debug)]
pub struct Received {
    /// What it is.
    pub arrival: Arrival,
    /// Where it lies.
    pub path: PathBuf,
    /// What was restored.
    pub restored: Vec<String>,
}

impl<'a> Intake<'a> {
    /// An intake that belongs to no set yet.
    pub fn new(inbox: &'a Path, state: &'a mut State, json: bool) -> Self {
        Self { inbox, state, json, set: None, read: BTreeMap::new() }
    }

    /// The bundle that is coming, once the first volume proved it.
    pub fn arrival(&self) -> Option<&Arrival> {
        self.set.as_ref().map(|(_, arrival, _)| arrival)
    }

    /// Whether as many volumes were read as the bundle needs at least.
    pub fn has_enough(&self) -> bool {
        self.set.as_ref().is_some_and(|(_, _, collection)| collection.has_enough())
    }

    /// Lets a first volume say which set this is: its manifest is proved before anything is written;
    /// one that is not trusted or not permitted is an error. Later ones change nothing.
    pub fn admit(&mut self, volume: &Volume) -> Result<()> {
        let shown = escaped(&volume.path().display().to_string());
        if self.set.is_none() {
            let arrival = Arrival::prove(volume.prologue.clone(), self.state)?;
            if !belongs(&arrival, volume) {
                let why = format!("it cuts {} bytes", volume.head.shape.archive_size);
                let why = format!("{why}, but the signed manifest describes {}", arrival.size());
                return Err(ErrorKind::BadVolume { path: shown, why }.into());
            }
            // Where the trust root names transfer agents, nothing is taken in without their chain.
            check_custody(&arrival, volume, &[])?;
            let collection = Collection::open(self.inbox, volume.set, volume.head.shape)?;
            self.set = Some((volume.set, arrival, collection));
        }
        Ok(())
    }

    /// Offers a volume, which is admitted first.
    pub fn offer(&mut self, volume: &Volume) -> Result<Taken> {
        self.admit(volume)?;
        let shown = escaped(&volume.path().display().to_string());
        let number = volume.head.number;
        let Some((set, arrival, collection)) = &mut self.set else { return Ok(Taken::No(shown)) };
        if volume.set != *set || !belongs(arrival, volume) {
            let (theirs, ours) = (volume.set.short(), set.short());
            return Ok(Taken::No(format!("{shown}: volume {number} of another set, {theirs}; this one is {ours}")));
        }
        let mut lines = volume.notes.clone();
        if self.read.is_empty() && !collection.has_any() {
            // A disc of another set on the pile begins a set of its own: that must not go unseen.
            let others = super::volumes::others(self.inbox, *set).join(", ");
            if !others.is_empty() {
                lines.push(format!(
                    "this begins set {}, while set {others} is on its way in this inbox too",
                    set.short()
                ));
            }
        }
        if let Some(before) = self.read.insert(number, volume.path().to_owned()) {
            let before = escaped(&before.display().to_string());
            lines.push(format!("volume {number} is here twice: {before} and {shown}"));
        } else if collection.has_seen(number) {
            lines.push(format!("volume {number} was read before; only what is still missing is taken"));
        }
        let before = collection.cells_of(number);
        let label = format!("volume {number} of {}", volume.head.shape.volumes());
        let progress = Mutex::new(Progress::new("read", volume.head.shape.payload_size(), self.json));
        progress.lock().unwrap_or_else(PoisonError::into_inner).note(&format!("{label}: {shown}"));
        lines.extend(
            collection.take(volume, &|bytes| progress.lock().unwrap_or_else(PoisonError::into_inner).add(bytes))?,
        );
        progress.lock().unwrap_or_else(PoisonError::into_inner).finish();
        let demanded = arrival.verified().root().root().threshold(Role::Transfer).is_some();
        match collection.reading(number) {
            Reading::Damaged if demanded => {
                lines.push(format!("volume {number}: not compared with its custody record, blocks of it are bad"));
            }
            Reading::Sound if demanded => {
                let mut progress = Progress::new("custody", volume.head.shape.volume_size(), self.json);
                let name = volume.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
                let judged = volume
                    .whole(&mut |bytes| progress.add(bytes))
                    .and_then(|(size, sha384)| check_custody(arrival, volume, &[(name, size, sha384)]));
                progress.finish();
                if let Err(error) = judged {
                    // Nothing stays in of a file that is not on record.
                    collection.forget(number, before)?;
                    return Err(error);
                }
                lines.push(format!("volume {number}: as its custody record says"));
            }
            _ => {
                let folder = crate::atomic::parent(volume.path());
                lines.extend(custody::unverifiable(folder, arrival.verified().root()).map(str::to_owned));
            }
        }
        Ok(Taken::Yes(lines))
    }

    /// Restores what is lost; a whole bundle is proved and gets its name, otherwise the error says
    /// what to bring.
    pub fn finish(&mut self, carrier: &str) -> Result<Received> {
        let Some((set, arrival, mut collection)) = self.set.take() else {
            let need = "no usable volume was given".into();
            return Err(ErrorKind::Incomplete { what: "volume set".into(), need }.into());
        };
        let progress = Mutex::new(Progress::new("restore", arrival.size(), self.json));
        let outcome =
            collection.restore(&|bytes| progress.lock().unwrap_or_else(PoisonError::into_inner).add(bytes))?;
        progress.lock().unwrap_or_else(PoisonError::into_inner).finish();
        let restored = match outcome {
            Outcome::Whole(lines) => lines,
            Outcome::Lacking(lines) => {
                let what = format!("set {} of {}", set.short(), arrival.title());
                self.set = Some((set, arrival, collection));
                return Err(ErrorKind::Incomplete { what, need: lines.join("; ") }.into());
            }
        };
        let mut progress = Progress::new("verify", arrival.verified().manifest().stored_size(), self.json);
        let proof = prove_whole(collection.part_path(), self.state, &mut |bytes| progress.add(bytes));
        progress.finish();
        let session = collection.into_session();
        if let Err(error) = proof {
            // Every cell had the hash that its volume names, and yet this is not the signed bundle:
            // nothing that is in can be believed.
            session.remove()?;
            return Err(error);
        }
        let path = arrival.settle(session, self.inbox, self.state, carrier)?;
        Ok(Received { arrival, path, restored })
    }
}
