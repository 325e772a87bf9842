//! The audit log: every act on this machine, who did it, from where, and how it ended
//! (`docs/spec/audit.md`).
//!
//! What may hurt it: whoever wants an act unseen, up to the machine's own root; a full disk; a power
//! cut. Who defends: each record holds the hash of the one before it; the newest is signed by a key
//! of this machine ([`key`]) in the same transaction; heads that were written down elsewhere
//! ([`anchor`]) show what root itself has cut off or made anew. No act that changes the system
//! begins before its `begun` record is on disk: a full audit disk stops changes, never the platform.

pub mod anchor;
pub mod caller;
pub mod command;
pub mod export;
pub mod fault;
pub mod head;
mod import;
pub mod key;
pub mod log;
pub mod place;
pub mod record;
pub mod refusal;
pub mod standing;
pub mod verify;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use bundle_format::digest::Sha384;
use bundle_format::timestamp::Timestamp;
use rusqlite::{Transaction, TransactionBehavior};

use crate::error::{Error, Result};
use crate::paths::Paths;

use caller::Caller;
use fault::Fault;
use head::Head;
use key::ApplianceKey;
use log::Log;
use record::Row;

pub use record::{Outcome, Record};

/// Whether this process has put the beginning of its act on record, or that it failed.
static ON_RECORD: AtomicBool = AtomicBool::new(false);

/// The log, open to be written.
#[derive(Debug)]
pub struct Audit {
    log: Log,
    key: ApplianceKey,
    caller: Caller,
}

impl Audit {
    /// Opens the log; makes it, and this machine's key, at first use. What an installer before this
    /// one kept as its history is taken over as the first records.
    pub fn open(paths: &Paths) -> Result<Self> {
        let (folder, caller) = (paths.audit(), Caller::read());
        let key = ApplianceKey::read(&paths.appliance_key())?;
        match (key, Log::open(&folder)?) {
            (Some(key), Some(log)) => Ok(Self { log, key, caller }),
            (Some(_), None) => Err(Fault::Missing { path: Log::file(&folder).display().to_string() }.into()),
            (None, log) => Self::first(paths, log, caller),
        }
    }

    /// The first use. The key gets its name only after the log is there: from then on a log that is
    /// gone is noticed. A cut in between is taken up where it was.
    fn first(paths: &Paths, log: Option<Log>, caller: Caller) -> Result<Self> {
        let drafted = draft(&paths.appliance_key());
        let unwritable = |e: Error| Error::from(Fault::Unwritable { why: e.to_string() });
        let key = match (ApplianceKey::read(&drafted)?, &log) {
            (Some(key), _) => key,
            (None, Some(log)) => return Err(key_missing(log)?),
            (None, None) => {
                let key = ApplianceKey::generate()?;
                key.write(&drafted).map_err(unwritable)?;
                key
            }
        };
        let log = match log {
            Some(log) => log,
            None => begin_log(paths, &key, &caller, import::former(&paths.database())?, first_record)?,
        };
        let io = |e| unwritable(Error::io(drafted.display().to_string(), e));
        std::fs::rename(&drafted, paths.appliance_key()).map_err(io)?;
        crate::atomic::sync_folder(crate::atomic::parent(&drafted))?;
        Ok(Self { log, key, caller })
    }

    /// Puts a log that does not prove aside and begins another one with this machine's key, whose
    /// first record says why. The ISSO decides on it; the old files stay for the inquiry.
    pub fn renew(paths: &Paths, reason: &str, now: &Timestamp) -> Result<(Self, PathBuf)> {
        let (folder, caller) = (paths.audit(), Caller::read());
        let (key, missed) = match ApplianceKey::read(&paths.appliance_key())? {
            Some(key) => (key, ""),
            None => (ApplianceKey::generate()?, "; the key was gone, this is another one"),
        };
        let claimed = Log::look(&folder).ok().flatten().and_then(|log| log.envelope().ok().flatten());
        let claimed = claimed.and_then(|line| head::claimed(&line));
        let aside = place::put_aside(&folder, now)?;
        let former = claimed.map_or_else(|| "none that can be read".into(), |head| head.anchor());
        let detail = format!("{reason}{missed}; head of the former log: {former}");
        let first = |key: &Sha384| Record::new(now, "audit renew", Outcome::Ok).subject(key).detail(&detail);
        let log = begin_log(paths, &key, &caller, Vec::new(), first)?;
        key.write(&paths.appliance_key())?;
        Ok((Self { log, key, caller }, aside))
    }

    /// Appends a record and signs the new head, in one transaction. A record that ends an act
    /// (`ok`, `failed`) closes the newest one that began it on the same product.
    pub fn append(&mut self, record: &Record) -> Result<Row> {
        let row = self.note(record)?;
        if record.result == Outcome::Failed {
            ON_RECORD.store(true, Ordering::Relaxed);
        }
        Ok(row)
    }

    /// The same for what is no act of this process but was seen by the way, such as a wrong clock.
    pub fn note(&mut self, record: &Record) -> Result<Row> {
        self.add(|transaction, audit| {
            let ends = matches!(record.result, Outcome::Ok | Outcome::Failed);
            let closes = if ends { log::begun(transaction, &record.act, &record.product)? } else { 0 };
            audit.push(transaction, record, closes)
        })
    }

    /// Records that an act begins; only after that may anything change. The caller holds the
    /// installer's lock, so an act that began earlier and has no end on record was cut off, or its
    /// end could not be written: that gap is recorded first, as its failed end.
    pub fn begin(&mut self, record: &Record) -> Result<Row> {
        let unended = self.log.unended()?;
        let begun = self.add(|transaction, audit| {
            for seq in unended {
                let Some(begun) = audit.log.row(seq)? else { continue };
                let detail = format!(
                    "no end of record {seq} is on record: the run was cut off, or its end could not be written; found by {}",
                    record.act
                );
                let gap = Record::new(&record.at, &begun.row.act, Outcome::Failed)
                    .of(&begun.row.product, &begun.row.release)
                    .detail(&detail);
                audit.push(transaction, &gap, seq)?;
            }
            audit.push(transaction, record, 0)
        })?;
        ON_RECORD.store(true, Ordering::Relaxed);
        Ok(begun)
    }

    /// The same beside an act that was cut off and goes on afterwards: what it left open stays open.
    pub fn begin_beside(&mut self, record: &Record) -> Result<Row> {
        let begun = self.add(|transaction, audit| audit.push(transaction, record, 0))?;
        ON_RECORD.store(true, Ordering::Relaxed);
        Ok(begun)
    }

    /// One transaction around `add`. The log must end where its signed head says, before anything is
    /// put behind it: nothing that was slipped in is ever signed.
    fn add(&mut self, add: impl FnOnce(&Transaction<'_>, &Self) -> Result<Row>) -> Result<Row> {
        let begin = |e| log::unwritable(&e);
        let transaction = Transaction::new_unchecked(&self.log.db, TransactionBehavior::Immediate).map_err(begin)?;
        self.log.head(&self.key.public())?;
        let row = add(&transaction, self)?;
        transaction.commit().map_err(|e| log::unwritable(&e))?;
        Ok(row)
    }

    fn push(&self, transaction: &Transaction<'_>, record: &Record, closes: u64) -> Result<Row> {
        push(transaction, &self.key, &self.caller, record, closes)
    }

    /// The log, to be read.
    pub const fn log(&self) -> &Log {
        &self.log
    }

    /// This machine's key.
    pub const fn key(&self) -> &ApplianceKey {
        &self.key
    }

    /// The verified head.
    pub fn head(&self) -> Result<Head> {
        self.log.head(&self.key.public())
    }
}

/// Says on standard error that a record is lost. For the end of an act: what was done stands, and
/// the next act records the gap (R-AUD-11).
pub fn warn_lost(record: &Record, error: &Error) {
    use std::io::Write as _;
    let text = format!(
        "WARNING: AUDIT RECORD LOST: {} {} {}: {error}\nWARNING: {}; write down that this was done, and by whom",
        record.act,
        record.product,
        record.result,
        error.advice()
    );
    // A closed standard error leaves nowhere to complain to.
    drop(writeln!(std::io::stderr(), "{text}"));
}

/// Appends to the log of `paths`; a failure is told loudly and changes nothing else.
pub fn append_or_warn(paths: &Paths, record: &Record) {
    if let Err(error) = Audit::open(paths).and_then(|mut audit| audit.append(record)) {
        warn_lost(record, &error);
    }
}

/// Appends an act that changes nothing that runs, where this machine has a trust root: before that,
/// nothing here is worth a record.
pub fn append_look(paths: &Paths, record: &Record) {
    if refusal::is_rooted(paths) {
        append_or_warn(paths, record);
    }
}

/// Whether this process's act is on record by its beginning, and so by an end of its own, or as failed:
/// then no error of it is another one.
fn is_on_record() -> bool {
    ON_RECORD.load(Ordering::Relaxed)
}

fn draft(key: &std::path::Path) -> PathBuf {
    key.with_extension("key.new")
}

fn key_missing(log: &Log) -> Result<Error> {
    let claimed = log.envelope()?.and_then(|line| head::claimed(&line));
    let key = claimed.map_or_else(|| "unknown".into(), |head| head.key.to_string());
    Ok(Fault::KeyMissing { key }.into())
}

fn first_record(key: &Sha384) -> Record {
    let detail = "the audit log begins; the subject is this machine's key";
    Record::new(&crate::proof::clock(), "audit init", Outcome::Ok).subject(key).detail(detail)
}

/// Makes the log with its first record, and behind it the history of an older installer.
fn begin_log(
    paths: &Paths,
    key: &ApplianceKey,
    caller: &Caller,
    former: Vec<import::Former>,
    first: impl FnOnce(&Sha384) -> Record,
) -> Result<Log> {
    let fingerprint = key.public().fingerprint()?;
    Log::create(&paths.audit(), |transaction| {
        push(transaction, key, caller, &first(&fingerprint), 0)?;
        for former in former {
            push(transaction, key, &former.caller, &former.record, 0)?;
        }
        Ok(())
    })
}

/// Puts a record behind the last one and signs the head.
fn push(
    transaction: &Transaction<'_>,
    key: &ApplianceKey,
    caller: &Caller,
    record: &Record,
    closes: u64,
) -> Result<Row> {
    let (seq, prev) = log::last(transaction)?;
    let row = Row::new(record, caller, seq + 1, closes, prev);
    let hash = row.hash()?;
    log::insert(transaction, &row, &hash)?;
    let head = Head::new(key.public().fingerprint()?, row.seq, hash, &row.at);
    log::set_head(transaction, &head.sign(key)?)?;
    Ok(row)
}

#[cfg(test)]
mod tests;
