//! The high side's one error type, sorted by a full match into exit-code classes. Long, because
//! the kinds, what each says and its class stand together.

use std::fmt;
use std::path::PathBuf;

use bundle_format::Class;

/// Result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of the high side; see [`ErrorKind`].
#[derive(Debug)]
pub struct Error(Box<ErrorKind>);

/// What went wrong: the thing, what was expected, what was found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A format refused its input.
    #[error(transparent)]
    Format(bundle_format::Error),
    /// Reading or writing failed below us.
    #[error("{what}: read or write failed")]
    Io {
        /// What was being read or written.
        what: String,
        /// The cause.
        source: std::io::Error,
    },
    /// A file system is full.
    #[error("{what}: no space left on its file system")]
    DiskFull {
        /// What was being written.
        what: String,
    },
    /// The state database failed.
    #[error("state database: {what}")]
    Sqlite {
        /// What was asked of it.
        what: &'static str,
        /// The cause.
        source: rusqlite::Error,
    },
    /// The record itself does not read.
    #[error("state database: damaged: {why}")]
    RecordDamaged {
        /// What SQLite says of it.
        why: String,
    },
    /// The record's copy is not there, or does not read either.
    #[error("copy of the record {path}: {why}")]
    NoRecordCopy {
        /// The file.
        path: String,
        /// Why.
        why: String,
    },
    /// The record's copy is older than what was done since.
    #[error("copy of the record: expected nothing newer than record {as_of} of the audit log, but {why}")]
    RecordBehind {
        /// Number of the last record that it knows.
        as_of: u64,
        /// What it does not know.
        why: String,
    },
    /// The state database is of a newer version of this program.
    #[error("state database: schema version {found}, expected at most {expected}")]
    StateVersion {
        /// Newest version that we know.
        expected: i64,
        /// The database's.
        found: i64,
    },
    /// Another installer is at work.
    #[error("another installer holds the lock: {holder}")]
    Locked {
        /// What the holder wrote about itself.
        holder: String,
    },
    /// The call is wrong.
    #[error("{why}")]
    Usage {
        /// Why.
        why: String,
    },
    /// A FIFO, device or folder where a file is read.
    #[error("{what}: expected a regular file, found {found}")]
    NotRegular {
        /// The path.
        what: String,
        /// What lies there.
        found: &'static str,
    },
    /// No trust anchor yet.
    #[error("no trust root: this machine trusts no release office yet")]
    NoTrustRoot,
    /// A trust anchor is there already.
    #[error("trust root version {version} is trusted here already; roots follow each other inside bundles")]
    TrustExists {
        /// Its version.
        version: u64,
    },
    /// The fingerprint that a person gave is another.
    #[error("trust root: the fingerprints differ: given {expected}, the file has {found}")]
    FingerprintDiffers {
        /// As given.
        expected: String,
        /// Of the file.
        found: String,
    },
    /// Preflight found the machine not fit.
    #[error("this machine is not fit: {why}")]
    Unfit {
        /// The failed findings.
        why: String,
    },
    /// Neither the host nor the bundle has an engine for this system.
    #[error("no container engine: podman is not installed, and the bundle carries none for {os}")]
    NoEngine {
        /// This system, as `ID-VERSION_ID`.
        os: String,
    },
    /// A program is not there.
    #[error("program {program}: not found")]
    ProgramMissing {
        /// Its name.
        program: String,
    },
    /// A program failed.
    #[error("{program} ended with {code}: {stderr}")]
    Child {
        /// Program and arguments; secrets are never among them.
        program: String,
        /// Exit code, or the signal.
        code: String,
        /// The end of what it said.
        stderr: String,
    },
    /// A program took too long.
    #[error("{program}: no end after {seconds} s")]
    ChildTimeout {
        /// Program and arguments.
        program: String,
        /// The deadline.
        seconds: u64,
    },
    /// A program or file gave something that we do not understand.
    #[error("{what}: expected {expected}, found {found}")]
    Unexpected {
        /// What was asked.
        what: String,
        /// What was expected.
        expected: String,
        /// What came.
        found: String,
    },
    /// A workload that this version cannot run.
    #[error("workload {workload}: {why}")]
    Workload {
        /// The workload.
        workload: String,
        /// Why.
        why: String,
    },
    /// A container did not become healthy.
    #[error("container {container}: {why}; its log: {}", .log.display())]
    Unhealthy {
        /// The container.
        container: String,
        /// Why.
        why: String,
        /// Where its log was kept.
        log: PathBuf,
    },
    /// A container runs another image than the manifest says.
    #[error("container {container}: expected image {expected}, found {found}")]
    WrongImage {
        /// The container.
        container: String,
        /// Signed digest.
        expected: String,
        /// Running digest.
        found: String,
    },
    /// Something installed is not as it should be.
    #[error("not everything is healthy: {problems}")]
    NotHealthy {
        /// Each container and what is wrong.
        problems: String,
    },
    /// A blob of the store is missing or damaged.
    #[error("store: blob {digest}: {why}")]
    StoreDamaged {
        /// The blob.
        digest: String,
        /// Why.
        why: String,
    },
    /// Something that should be installed is not.
    #[error("{product} is not installed")]
    NotInstalled {
        /// The product.
        product: String,
    },
    /// Failed and taken back: what ran before runs again.
    #[error("failed, and everything was taken back: what ran before runs again")]
    RolledBack {
        /// Why it failed.
        source: Box<Error>,
    },
    /// Failed, and taking back failed too.
    #[error("failed, and not everything could be taken back: {trouble}")]
    NeedsOperator {
        /// Why it failed.
        source: Box<Error>,
        /// What could not be taken back.
        trouble: String,
    },
    /// A bundle that arrives in parts is not whole yet.
    #[error("{what}: not whole yet: {need}")]
    Incomplete {
        /// The set or session.
        what: String,
        /// What is missing, and what to bring.
        need: String,
    },
    /// A volume cannot be used at all.
    #[error("{path}: not a usable volume: {why}")]
    BadVolume {
        /// The file.
        path: String,
        /// Why.
        why: String,
    },
    /// A secret is still in a text that was redacted: our own defect.
    #[error("support bundle: {file}: a secret is still in it after redaction; nothing was written")]
    SecretLeft {
        /// The file.
        file: String,
    },
    /// A failed finding that nobody goes past.
    #[error("preflight: {id} cannot be accepted")]
    NeverAccepted {
        /// The finding.
        id: String,
    },
    /// The audit log cannot be written, or does not prove.
    #[error(transparent)]
    Audit(crate::audit::fault::Fault),
    /// A run was cut off and is not over.
    #[error("an earlier {act} of {product} is not over: it is {phase}")]
    Unfinished {
        /// What it does.
        act: String,
        /// To which product.
        product: String,
        /// How far it is.
        phase: &'static str,
    },
    /// No such generation, or it is not kept any more.
    #[error("generation {id}: not kept on this machine")]
    NoGeneration {
        /// Its number.
        id: i64,
    },
    /// Going back would bring a danger back.
    #[error("{product}: generation {generation} has security epoch {found}, this machine's floor is {floor}")]
    EpochForbids {
        /// The product.
        product: String,
        /// The generation.
        generation: i64,
        /// The floor.
        floor: u64,
        /// The generation's.
        found: u64,
    },
    /// An update whose base is not here, or not whole.
    #[error("{product}: this update builds on {base}, of which this store lacks: {blobs} ({sets} bases would do)")]
    BaseMissing {
        /// The product.
        product: String,
        /// The base that lacks least.
        base: String,
        /// How many bases the bundle was made for.
        sets: usize,
        /// Every blob that is not there.
        blobs: String,
    },
    /// An update whose base is here, but damaged.
    #[error("the base of this update, {base}, is damaged: {blobs}")]
    BaseDamaged {
        /// The base.
        base: String,
        /// Every damaged blob, and how.
        blobs: String,
    },
    /// The release may not be applied over what runs.
    #[error("{product}: this release is applied over sequences {min} to {max}; sequence {found} runs")]
    NotApplicable {
        /// The product.
        product: String,
        /// First that it may be applied over.
        min: u64,
        /// Last.
        max: u64,
        /// What runs; 0 is nothing.
        found: u64,
    },
    /// Newer data has no way back to an older release.
    #[error("{product}: migration {migration} has no way back; the newest data cannot go to the older release")]
    NoWayBack {
        /// The product.
        product: String,
        /// The migration.
        migration: String,
    },
    /// A check of the release failed.
    #[error("check {check}: {why}")]
    CheckFailed {
        /// Its name.
        check: String,
        /// Why.
        why: String,
    },
    /// A container keeps restarting.
    #[error("container {container}: not stable for {seconds} s: {why}")]
    Unstable {
        /// The container.
        container: String,
        /// The window.
        seconds: u64,
        /// What happened.
        why: String,
    },
    /// The machine was started anew too often inside a trial.
    #[error("the machine restarted {boots} times before the new release was committed")]
    TrialOver {
        /// Boots that were counted.
        boots: i64,
    },
    /// A signal asked the installer to end.
    #[error("stopped on request (a signal)")]
    Stopped,
    /// Another command changed the record while a question waited for its answer.
    #[error("what is on record changed while the question waited; nothing was done")]
    ChangedMeanwhile,
    /// A person asked to go back.
    #[error("taken back on request")]
    Requested,
    /// A copy or a backup is not what was written.
    #[error("{what}: read back, it is not what was written: expected {expected}, found {found}")]
    ReadBack {
        /// The file.
        what: String,
        /// As written.
        expected: String,
        /// As read.
        found: String,
    },
    /// A backup that cannot be used.
    #[error("backup {path}: {why}")]
    BadBackup {
        /// The file.
        path: String,
        /// Why.
        why: String,
    },
    /// Something in a volume that a copy cannot carry.
    #[error("{path}: {what} cannot be copied")]
    NotCopied {
        /// Where it lies.
        path: String,
        /// What it is.
        what: &'static str,
    },
    /// What is installed differs from the signed manifest.
    #[error("what is installed differs from the signed manifest: {differences}")]
    Drift {
        /// Each difference.
        differences: String,
    },
    /// A repair that could not put everything back.
    #[error("the rest was put back, but what the store has lost cannot come out of it: {faults}")]
    NotRepaired {
        /// What is still not as signed.
        faults: String,
    },
    /// Going back to what a trust root reset away.
    #[error("{product}: generation {generation} is above the sequence that the trust root went back to")]
    GenerationRevoked {
        /// The product.
        product: String,
        /// The generation.
        generation: i64,
    },
    /// The policy file is not the one that was taken over.
    #[error("{path}: not the policy on record: expected {expected}, found {found}")]
    PolicyChanged {
        /// The file.
        path: String,
        /// What was taken over.
        expected: String,
        /// What lies there.
        found: String,
    },
    /// A dangerous flag that nothing here needs.
    #[error("--dangerous-{what}: nothing here is refused that it would go past")]
    DangerousUnneeded {
        /// The flag's name.
        what: &'static str,
    },
    /// The confined reader refused; in its words ([`crate::reader`]).
    #[error(transparent)]
    Reader(crate::reader::Told),
    /// The confined reader ended without saying how.
    #[error("the confined reader of this input ended without a verdict: {how}")]
    ReaderLost {
        /// How it ended.
        how: String,
    },
    /// The trust root demands a chain of custody, and there is none.
    #[error("chain of custody: expected {expected}, found none; the trust root names transfer agents")]
    CustodyMissing {
        /// The file.
        expected: String,
    },
}

impl ErrorKind {
    /// Exit-code class; a full match on purpose, so that a new kind must be sorted.
    pub fn class(&self) -> Class {
        match self {
            Self::Format(error) => error.class(),
            Self::Audit(fault) => fault.class(),
            Self::Reader(told) => told.class(),
            Self::SecretLeft { .. } | Self::ReaderLost { .. } => Class::Bug,
            Self::Usage { .. }
            | Self::NotRegular { .. }
            | Self::NotInstalled { .. }
            | Self::NoGeneration { .. }
            | Self::DangerousUnneeded { .. } => Class::Usage,
            Self::NeverAccepted { .. }
            | Self::GenerationRevoked { .. }
            | Self::PolicyChanged { .. }
            | Self::EpochForbids { .. }
            | Self::NotApplicable { .. }
            | Self::BaseMissing { .. }
            | Self::BaseDamaged { .. }
            | Self::NoWayBack { .. } => Class::Policy,
            Self::Incomplete { .. } | Self::BadVolume { .. } | Self::BadBackup { .. } => Class::Damaged,
            Self::NoTrustRoot
            | Self::TrustExists { .. }
            | Self::FingerprintDiffers { .. }
            | Self::CustodyMissing { .. } => Class::Untrusted,
            Self::Io { .. }
            | Self::DiskFull { .. }
            | Self::Sqlite { .. }
            | Self::RecordDamaged { .. }
            | Self::StateVersion { .. }
            | Self::Locked { .. }
            | Self::ChangedMeanwhile
            | Self::Unfit { .. }
            | Self::NoEngine { .. }
            | Self::ProgramMissing { .. }
            | Self::Child { .. }
            | Self::ChildTimeout { .. }
            | Self::Unexpected { .. }
            | Self::ReadBack { .. }
            | Self::NotCopied { .. }
            | Self::Workload { .. } => Class::Unfit,
            Self::RolledBack { .. } | Self::Stopped => Class::RolledBack,
            Self::Unhealthy { .. }
            | Self::WrongImage { .. }
            | Self::NotHealthy { .. }
            | Self::StoreDamaged { .. }
            | Self::Unfinished { .. }
            | Self::CheckFailed { .. }
            | Self::Unstable { .. }
            | Self::TrialOver { .. }
            | Self::Requested
            | Self::Drift { .. }
            | Self::NotRepaired { .. }
            | Self::NoRecordCopy { .. }
            | Self::RecordBehind { .. }
            | Self::NeedsOperator { .. } => Class::Operator,
        }
    }

    /// One line that says what to do.
    pub fn advice(&self) -> &str {
        match self {
            Self::Format(error) => error.advice(),
            Self::Audit(fault) => fault.advice(),
            Self::Reader(told) => told.advice(),
            Self::ReaderLost { .. } => "use it on no machine; keep it as it is, and tell your ISSO and your support",
            Self::SecretLeft { .. } => "tell your support which file is named, not what is in it",
            Self::NeverAccepted { .. } => "mend it; what follows could not end well, or could not be trusted",
            Self::Io { .. } => "check the path, the medium and the permissions, then run the command again",
            Self::DiskFull { .. } => "free the space that preflight asks for, then run the command again",
            Self::Sqlite { .. } => {
                "look at the disk and at whether its file system can be written, then run the command again"
            }
            Self::RecordDamaged { .. } => "what runs is not touched; run: installer repair --record",
            Self::NoRecordCopy { .. } | Self::RecordBehind { .. } => {
                "what runs is not touched; put the state folder's newest backup of the site at that place and run it again, and tell your ISSO"
            }
            Self::StateVersion { .. } => "use the installer of the newest release that ran here",
            Self::Locked { .. } => "wait for it to end; it releases the lock by itself",
            Self::ChangedMeanwhile => "run it again; it shows what it would do now",
            Self::Usage { .. } => "see --help",
            Self::NotRegular { .. } => "copy it into a file first; pipes, devices and folders are not read",
            Self::Incomplete { .. } => "bring what is named and run the same command again; what is in stays in",
            Self::BadVolume { .. } => "compare its SHA-384 with the transfer record; have this one made again",
            Self::NoTrustRoot => "run: installer trust init ROOT --fingerprint F",
            Self::TrustExists { .. } => "nothing is to be done; installer trust show prints it",
            Self::FingerprintDiffers { .. } => "do not use this file; ask the release office, and tell your ISSO",
            Self::Unfit { .. } => "mend what preflight names, then run the command again",
            Self::NoEngine { .. } => {
                "install podman from this system's own medium, or ask for a bundle that carries it"
            }
            Self::ProgramMissing { .. } => "install the program from this system's own medium",
            Self::Child { .. } | Self::ChildTimeout { .. } | Self::Unexpected { .. } => {
                "read the program's own words above; its log has more"
            }
            Self::Workload { .. } => "tell the release office: this bundle's workload cannot run here",
            Self::Unhealthy { .. } | Self::WrongImage { .. } => "read the log that is named, and call your support",
            Self::NotHealthy { .. } => {
                "look at the containers named, with podman logs; call your support if it stays so"
            }
            Self::StoreDamaged { .. } | Self::NotRepaired { .. } => {
                "install the bundle again from its medium; check the disk"
            }
            Self::NotInstalled { .. } => "installer status shows what is installed",
            Self::RolledBack { .. } => "what ran before runs again; read the log before the next attempt",
            Self::GenerationRevoked { .. } => {
                "whoever signed it is not believed any more; go back to another generation"
            }
            Self::PolicyChanged { .. } => {
                "tell your ISSO; if the change is wanted, run: installer policy set FILE (a file outside the state folder)"
            }
            Self::DangerousUnneeded { .. } => "leave the flag out",
            Self::CustodyMissing { .. } => "ask who brought the set for its signed chain; do not install without it",
            Self::Unfinished { phase: "committed", .. } => "run: installer resume; what is committed only goes forward",
            Self::Unfinished { .. } => "run: installer resume to go on, or: installer rollback to go back",
            Self::NoGeneration { .. } => "installer status lists the generations that are kept",
            Self::EpochForbids { .. } => "ask the release office for a newer release; going back there is a danger",
            Self::BaseMissing { .. } => {
                "install the updates in between first, in their order, or ask for the full bundle: it needs no base"
            }
            Self::BaseDamaged { .. } => "check the disk, and ask for the full bundle of this release: it needs no base",
            Self::NotApplicable { .. } => "install a release in between first; ask the release office which",
            Self::NoWayBack { .. } => {
                "run: installer rollback without --keep-data; it brings back the data of that time"
            }
            Self::CheckFailed { .. } | Self::Unstable { .. } | Self::TrialOver { .. } => {
                "read the logs that were kept, and call your support"
            }
            Self::Requested => "nothing is to be done",
            Self::Stopped => "what runs was not changed by it; run the command again when you want it",
            Self::ReadBack { .. } => "the disk or the memory is failing: look at the kernel's log before anything else",
            Self::BadBackup { .. } => "take another backup; installer backup list shows them",
            Self::NotCopied { .. } => "take it out of the volume, then run the command again",
            Self::Drift { .. } => "run: installer repair; it says what it cannot put back",
            Self::NeedsOperator { .. } => "do not restart the machine; call your support with installer history",
        }
    }
}

impl Error {
    /// The kind, to match on.
    pub fn kind(&self) -> &ErrorKind {
        &self.0
    }

    /// The kind, taken out.
    pub fn into_kind(self) -> ErrorKind {
        *self.0
    }

    /// Exit-code class.
    pub fn class(&self) -> Class {
        self.0.class()
    }

    /// One line that says what to do.
    pub fn advice(&self) -> &str {
        self.0.advice()
    }

    /// Wraps an I/O error with what was being read or written; a full disk is told apart, and what is no
    /// regular file ([`confinement::open_regular`]).
    pub fn io(what: impl Into<String>, source: std::io::Error) -> Self {
        let what = what.into();
        if source.kind() == std::io::ErrorKind::StorageFull || source.kind() == std::io::ErrorKind::QuotaExceeded {
            return ErrorKind::DiskFull { what }.into();
        }
        if let Some(not) = confinement::NotRegular::of(&source) {
            return ErrorKind::NotRegular { what, found: not.found() }.into();
        }
        ErrorKind::Io { what, source }.into()
    }
}

impl From<bundle_format::workload::Fault> for Error {
    fn from(bundle_format::workload::Fault { workload, why }: bundle_format::workload::Fault) -> Self {
        ErrorKind::Workload { workload, why }.into()
    }
}

impl From<ErrorKind> for Error {
    fn from(kind: ErrorKind) -> Self {
        Self(Box::new(kind))
    }
}

impl From<crate::audit::fault::Fault> for Error {
    fn from(fault: crate::audit::fault::Fault) -> Self {
        ErrorKind::Audit(fault).into()
    }
}

impl From<bundle_format::Error> for Error {
    fn from(error: bundle_format::Error) -> Self {
        match error.into_kind() {
            bundle_format::ErrorKind::Io { what, source } => Self::io(what, source),
            kind => ErrorKind::Format(kind.into()).into(),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_told_apart() {
        let full = std::io::Error::from_raw_os_error(nix::errno::Errno::ENOSPC as i32);
        assert!(matches!(Error::io("x", full).kind(), ErrorKind::DiskFull { .. }));
        let format = bundle_format::Error::io("x", std::io::Error::from_raw_os_error(nix::errno::Errno::ENOSPC as i32));
        assert_eq!(Error::from(format).class().exit_code(), 6);
    }
}
