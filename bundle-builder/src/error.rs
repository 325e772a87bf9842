//! The low side's one error type, sorted by a full match into exit-code classes.

use std::fmt;
use std::io;

use bundle_format::Class;
use bundle_format::digest::{Sha256, Sha384};

/// Result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of the low side; see [`ErrorKind`].
#[derive(Debug)]
pub struct Error(Box<ErrorKind>);

/// What went wrong: the thing, what was expected, what was found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A format refused its input.
    #[error(transparent)]
    Format(bundle_format::Error),
    /// The private-key side failed.
    #[error(transparent)]
    Signing(signing_keys::Error),
    /// Reading or writing failed below us.
    #[error("{what}: read or write failed")]
    Io {
        /// What was being read or written.
        what: String,
        /// The cause.
        source: io::Error,
    },
    /// The call is wrong.
    #[error("{0}")]
    Usage(String),
    /// A FIFO, device or folder where a file is read.
    #[error("{what}: expected a regular file, found {found}")]
    NotRegular {
        /// The path.
        what: String,
        /// What lies there.
        found: &'static str,
    },
    /// The release manifest was edited after it was pinned, or the lock by hand.
    #[error("{lock}: does not belong to the release manifest: {why}")]
    LockStale {
        /// The lock file.
        lock: String,
        /// What differs.
        why: String,
    },
    /// There is no lock.
    #[error("{lock}: there is no lock for this release manifest")]
    LockMissing {
        /// The file expected.
        lock: String,
    },
    /// A tag names another image than when it was pinned.
    #[error("image {name}: its tag moved at the source: pinned {locked}, found {found}")]
    TagMoved {
        /// The image.
        name: String,
        /// Digest in the lock.
        locked: Sha256,
        /// Digest at the source now.
        found: Sha256,
    },
    /// The source has no such tag or entry.
    #[error("image {name}: {origin} has no such tag")]
    TagMissing {
        /// The image.
        name: String,
        /// The source.
        origin: String,
    },
    /// The source lacks a blob that the manifest names.
    #[error("{what}: blob {digest} is missing")]
    BlobMissing {
        /// The source.
        what: String,
        /// The blob.
        digest: Sha256,
    },
    /// Bytes of an image differ from their digest.
    #[error("{what}: sha256 differs: expected {expected}, found {found}")]
    SourceDigest {
        /// The source.
        what: String,
        /// Digest that was asked for.
        expected: Sha256,
        /// Digest of the bytes.
        found: Sha256,
    },
    /// A blob is longer or shorter than its descriptor says.
    #[error("{what}: blob {digest} has the wrong size: expected {expected} bytes, found {found}")]
    SourceSize {
        /// The source.
        what: String,
        /// The blob.
        digest: Sha256,
        /// Bytes named.
        expected: u64,
        /// Bytes found, or the first one too many.
        found: u64,
    },
    /// A file is not what was pinned, or changes while it is read.
    #[error("{what}: changed: expected {expected}, found {found}")]
    SourceChanged {
        /// The file or directory.
        what: String,
        /// What was pinned.
        expected: String,
        /// What is there.
        found: String,
    },
    /// The source is not what its kind says.
    #[error("{what}: not usable as a source: {why}")]
    SourceMalformed {
        /// The source.
        what: String,
        /// Why.
        why: String,
    },
    /// A registry wants other credentials.
    #[error("registry {registry}: access refused: expected credentials that may pull, found {found}")]
    Unauthorized {
        /// Host and port.
        registry: String,
        /// Whose credentials were sent.
        found: String,
    },
    /// A registry's certificate is not trusted.
    #[error("registry {registry}: no trusted TLS connection: {why}")]
    Tls {
        /// Host and port.
        registry: String,
        /// Why.
        why: String,
    },
    /// A registry does not answer as it should.
    #[error("registry {registry}: expected an answer by the distribution specification, found {why}")]
    Registry {
        /// Host and port.
        registry: String,
        /// What it did.
        why: String,
    },
    /// A URL without TLS outside loopback.
    #[error("{url}: refused: plain http is only for loopback, and only with --insecure-loopback")]
    PlainHttp {
        /// The URL.
        url: String,
    },
    /// A file with credentials cannot be used.
    #[error("credentials file {file}: {why}")]
    Credentials {
        /// The file.
        file: String,
        /// Why; never a part of its content.
        why: String,
    },
    /// A workload names an image that the release does not carry.
    #[error("workload {workload}: image {image:?} is not an image of the release")]
    UnknownImage {
        /// The workload.
        workload: String,
        /// What it names.
        image: String,
    },
    /// A workload holds a secret.
    #[error("workload {workload}: holds a document of kind Secret: secrets never travel")]
    SecretInWorkload {
        /// The workload.
        workload: String,
    },
    /// A workload's images cannot be pinned, or the installer would not run it.
    #[error("workload {workload}: {why}")]
    Workload {
        /// The workload.
        workload: String,
        /// Why.
        why: String,
    },
    /// A signer whose keys hold neither the release nor the builder role.
    #[error("signer {signer}: key {key} holds no role that signs bundles in trust root version {root}")]
    NotASigner {
        /// The holder's name.
        signer: String,
        /// The key id.
        key: String,
        /// Version of the bundle's newest root.
        root: u64,
    },
    /// What is to be signed is not what the paper says.
    #[error("{what}: SHA-384 differs from the one given: expected {expected}, found {found}")]
    OtherDocument {
        /// The file.
        what: String,
        /// SHA-384 that the person gave.
        expected: Sha384,
        /// SHA-384 of the bytes.
        found: Sha384,
    },
    /// A detached signature was made over other bytes.
    #[error("signature {file}: was made over another document: expected {expected:?}, found {found:?}")]
    SignedOther {
        /// The file.
        file: String,
        /// Trusted comment of the document at hand.
        expected: String,
        /// Trusted comment of the signature, escaped.
        found: String,
    },
    /// A detached signature by a key that the trust root does not list.
    #[error("signature {file}: key {key} is not in trust root version {root}")]
    UnknownSigner {
        /// The file.
        file: String,
        /// The key id.
        key: String,
        /// Version of the root asked.
        root: u64,
    },
    /// The document carries a signature by this key, or two were given.
    #[error("signature {file}: key {key} of {holder} signed already")]
    AlreadySigned {
        /// The file.
        file: String,
        /// The key id.
        key: String,
        /// The key's holder.
        holder: String,
    },
    /// Only one half of a signer's signatures.
    #[error("signer {holder}: expected signatures of both algorithms, found none by its {missing} key")]
    HalfSigned {
        /// The holder.
        holder: String,
        /// The algorithm that is missing.
        missing: &'static str,
    },
    /// The release demands a publisher's signature and there is none.
    #[error("image {image}: expected a publisher's signature over {digest} of the demanded kind, found none")]
    UpstreamUnsigned {
        /// The image.
        image: String,
        /// What must be signed.
        digest: Sha256,
        /// Files beside the image that cannot be read.
        #[source]
        unread: Option<Box<crate::upstream::Reasons>>,
    },
    /// None of the publisher's signatures is accepted with the pinned key; the source says why.
    #[error("image {image}: none of {found} cosign signatures over {digest} is accepted with key {key}")]
    UpstreamSignature {
        /// The image.
        image: String,
        /// What must be signed.
        digest: Sha256,
        /// The pinned key file.
        key: String,
        /// Signatures found.
        found: usize,
        /// Why not.
        #[source]
        why: Box<crate::upstream::Reasons>,
    },
    /// A signature verifies, but over something else.
    #[error("image {image}: the signed payload does not name it: expected {expected}, found {found}")]
    UpstreamPayload {
        /// The image.
        image: String,
        /// The digest expected.
        expected: Sha256,
        /// What the payload says, escaped.
        found: String,
    },
    /// None of the publisher's keyless signatures is accepted; the source says why.
    #[error("image {image}: none of {found} keyless signatures over {digest} is accepted")]
    UpstreamKeyless {
        /// The image.
        image: String,
        /// What must be signed.
        digest: Sha256,
        /// Signatures found.
        found: usize,
        /// Why not.
        #[source]
        why: Box<crate::upstream::Reasons>,
    },
    /// A trusted root has other bytes than the release pins.
    #[error("trusted root {file}: SHA-384 differs from the pinned one: expected {expected}, found {found}")]
    TrustedRootPin {
        /// The file.
        file: String,
        /// SHA-384 that the release names.
        expected: Sha384,
        /// SHA-384 of the bytes.
        found: Sha384,
    },
    /// A pinned trusted root cannot be used.
    #[error("trusted root {file}: {why}")]
    TrustedRootFile {
        /// The file.
        file: String,
        /// Why.
        why: String,
    },
    /// A pinned key cannot be used.
    #[error("key {file}: expected a PEM public key, ECDSA P-256 or Ed25519: {why}")]
    UpstreamKey {
        /// The file.
        file: String,
        /// Why.
        why: &'static str,
    },
    /// A program of the system failed.
    #[error("{program}: {code}: {stderr}")]
    Child {
        /// The program.
        program: String,
        /// How it ended.
        code: String,
        /// The end of what it said.
        stderr: String,
    },
    /// A program is not there.
    #[error("program {program}: not found")]
    ProgramMissing {
        /// Its name.
        program: String,
    },
    /// A program took too long.
    #[error("{program}: no end after {seconds} s")]
    ChildTimeout {
        /// The program.
        program: String,
        /// The deadline.
        seconds: u64,
    },
    /// The scanner found something.
    #[error("custody record {record}: scanner {scanner}: expected the set clean, found: {words}")]
    Infected {
        /// Number that the record would have had.
        record: u64,
        /// The scanner.
        scanner: String,
        /// What it said, escaped.
        words: String,
    },
    /// The scanner gave no verdict.
    #[error("scanner {scanner}: expected exit code 0 or 1, found {code}: {words}")]
    ScanFailed {
        /// The scanner.
        scanner: String,
        /// Its exit code.
        code: i32,
        /// What it said, escaped.
        words: String,
    },
    /// A base that says nothing of the product.
    #[error("base {base}: it names no release of product {product}")]
    BaseOfOther {
        /// The file.
        base: String,
        /// The release's product.
        product: String,
    },
    /// A receipt names none of the bundles at hand.
    #[error("receipt: names none of the bundles given: arrived {arrived}, installed {installed}")]
    ReceiptOfOther {
        /// Prefix of what arrived.
        arrived: String,
        /// Prefix of what is installed.
        installed: String,
    },
}

impl ErrorKind {
    /// Exit-code class; a full match on purpose, so that a new kind must be sorted.
    pub fn class(&self) -> Class {
        match self {
            Self::Format(error) => error.class(),
            Self::Signing(error) => error.class(),
            Self::Io { .. }
            | Self::Registry { .. }
            | Self::Child { .. }
            | Self::ProgramMissing { .. }
            | Self::ChildTimeout { .. }
            | Self::ScanFailed { .. } => Class::Unfit,
            Self::Usage(_)
            | Self::NotRegular { .. }
            | Self::LockStale { .. }
            | Self::LockMissing { .. }
            | Self::TagMissing { .. }
            | Self::Unauthorized { .. }
            | Self::PlainHttp { .. }
            | Self::Credentials { .. }
            | Self::BaseOfOther { .. }
            | Self::UnknownImage { .. }
            | Self::SecretInWorkload { .. }
            | Self::Workload { .. }
            | Self::AlreadySigned { .. }
            | Self::UpstreamKey { .. }
            | Self::TrustedRootFile { .. }
            | Self::HalfSigned { .. } => Class::Usage,
            Self::BlobMissing { .. }
            | Self::SourceDigest { .. }
            | Self::SourceSize { .. }
            | Self::SourceChanged { .. }
            | Self::SourceMalformed { .. } => Class::Damaged,
            Self::Tls { .. }
            | Self::NotASigner { .. }
            | Self::OtherDocument { .. }
            | Self::SignedOther { .. }
            | Self::UpstreamUnsigned { .. }
            | Self::UpstreamSignature { .. }
            | Self::UpstreamPayload { .. }
            | Self::UpstreamKeyless { .. }
            | Self::TrustedRootPin { .. }
            | Self::UnknownSigner { .. } => Class::Untrusted,
            Self::TagMoved { .. } | Self::Infected { .. } | Self::ReceiptOfOther { .. } => Class::Policy,
        }
    }

    /// One line that says what to do.
    pub fn advice(&self) -> &'static str {
        match self {
            Self::Format(error) => error.advice(),
            Self::Signing(error) => error.advice(),
            Self::Io { .. } => "check the path, the disk and the permissions, then run the command again",
            Self::Usage(_) => "see --help",
            Self::NotRegular { .. } => "copy it into a file first; pipes, devices and folders are not read",
            Self::LockStale { .. } | Self::LockMissing { .. } => "run `bundle-builder pin` and review the new lock",
            Self::TagMoved { .. } => {
                "find out who moved the tag; to take the new image, run `bundle-builder pin` again"
            }
            Self::TagMissing { .. } => "check the source's name, or publish the image, then run the command again",
            Self::BlobMissing { .. }
            | Self::SourceDigest { .. }
            | Self::SourceSize { .. }
            | Self::SourceMalformed { .. } => "do not ship this source: publish the image again from a good copy",
            Self::SourceChanged { .. } => "keep the inputs still while building; to take the new content, pin again",
            Self::Unauthorized { .. } => "log in with an account that may pull, or name its file with --authfile",
            Self::Credentials { .. } => "mend the file or name another with --authfile",
            Self::Tls { .. } => "name the registry's CA with --ca-file; if you expected none, tell your ISSO",
            Self::Registry { .. } => "check the registry and the network, then run the command again",
            Self::PlainHttp { .. } => "give the registry a TLS certificate",
            Self::UnknownImage { .. } => "add the image to the release manifest, or name it exactly as there",
            Self::SecretInWorkload { .. } => "list it under `secrets:`; the installer makes it on the isolated machine",
            Self::NotASigner { .. } => "use a signer of this bundle's trust root, or rotate the root first",
            Self::UpstreamUnsigned { .. } | Self::UpstreamSignature { .. } | Self::UpstreamPayload { .. } => {
                "do not ship this image; ask its publisher, and compare the key file with the one they publish"
            }
            Self::UpstreamKey { .. } => "name the publisher's cosign.pub",
            Self::UpstreamKeyless { why, .. } => why.first().advice(),
            Self::TrustedRootPin { .. } => {
                "put the reviewed file back; a new trusted root is reviewed first, then pinned in the release"
            }
            Self::TrustedRootFile { .. } => "name the sigstore instance's trusted_root.json",
            Self::OtherDocument { .. } => {
                "sign nothing; find out which is right, the bytes on the medium or the digest on paper"
            }
            Self::SignedOther { .. } => {
                "export this document and have it signed; attach signatures to what was exported"
            }
            Self::UnknownSigner { .. } => {
                "use a signer of this trust root; for the next version of a root also give --former"
            }
            Self::AlreadySigned { .. } => "leave the file out; one signature of each key is carried",
            Self::HalfSigned { .. } => {
                "attach both files that sign-bytes wrote, .minisig and .ml-dsa-87, in one command"
            }
            Self::Child { .. } => "install or mend the program, then run the command again",
            Self::Workload { .. } => "mend the workload file and run the command again",
            Self::ProgramMissing { .. } => "install the program, or name it with its path",
            Self::ChildTimeout { .. } | Self::ScanFailed { .. } => {
                "run the scanner by hand on the same files and mend what it names; no record was written"
            }
            Self::Infected { .. } => {
                "do not carry this set; isolate the files and tell your ISSO; no record was written"
            }
            Self::BaseOfOther { .. } => "give the inventory of a site that runs this product, or a former bundle of it",
            Self::ReceiptOfOther { .. } => "name the bundles of earlier releases too; if none fits, ask the site",
        }
    }
}

impl Error {
    /// The kind, to match on.
    pub fn kind(&self) -> &ErrorKind {
        &self.0
    }

    /// Exit-code class.
    pub fn class(&self) -> Class {
        self.0.class()
    }

    /// One line that says what to do.
    pub fn advice(&self) -> &'static str {
        self.0.advice()
    }

    /// Wraps an I/O error with what was being read or written; what is no regular file
    /// ([`confinement::open_regular`]) is told apart. An [`Error`] that a checked reader
    /// sent through `std::io` comes out as it went in.
    pub fn io(what: impl Into<String>, source: io::Error) -> Self {
        if matches!(source.get_ref(), Some(inner) if inner.is::<Self>()) {
            let inner = source.into_inner().map(<dyn std::error::Error + Send + Sync>::downcast::<Self>);
            return match inner {
                Some(Ok(error)) => *error,
                _ => ErrorKind::Io { what: what.into(), source: io::ErrorKind::Other.into() }.into(),
            };
        }
        if let Some(not) = confinement::NotRegular::of(&source) {
            return ErrorKind::NotRegular { what: what.into(), found: not.found() }.into();
        }
        ErrorKind::Io { what: what.into(), source }.into()
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

impl From<bundle_format::Error> for Error {
    /// An [`Error`] that a checked reader sent through a format's I/O error comes out as it went in.
    fn from(error: bundle_format::Error) -> Self {
        match error.into_kind() {
            bundle_format::ErrorKind::Io { what, source } if matches!(source.get_ref(), Some(inner) if inner.is::<Self>()) => {
                Self::io(what, source)
            }
            kind => ErrorKind::Format(kind.into()).into(),
        }
    }
}

impl From<signing_keys::Error> for Error {
    fn from(error: signing_keys::Error) -> Self {
        ErrorKind::Signing(error).into()
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        Self::other(error)
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
    fn an_error_survives_its_way_through_io() {
        let sent: io::Error = Error::from(ErrorKind::Usage("x".into())).into();
        assert!(matches!(Error::io("y", sent).kind(), ErrorKind::Usage(_)));
        let plain = Error::io("y", io::ErrorKind::NotFound.into());
        assert!(matches!(plain.kind(), ErrorKind::Io { .. }));
    }
}
