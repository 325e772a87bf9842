//! The one error type of the formats, sorted by a full match into exit-code classes. Long, because
//! the kinds, what each says and its class stand together.

use std::fmt;

/// What a program's exit code says about an error (design, "The commands").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// 2: the call or a file that a person wrote is wrong.
    Usage,
    /// 3: the bundle is damaged or malformed.
    Damaged,
    /// 4: the bundle is not trusted.
    Untrusted,
    /// 5: policy refuses the bundle.
    Policy,
    /// 6: the machine is not fit (disk, permission, missing part).
    Unfit,
    /// 7: failed and rolled back.
    RolledBack,
    /// 8: failed, an operator is needed.
    Operator,
    /// 70: a bug in this program.
    Bug,
}

impl Class {
    /// The process exit code of this class.
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Usage => 2,
            Self::Damaged => 3,
            Self::Untrusted => 4,
            Self::Policy => 5,
            Self::Unfit => 6,
            Self::RolledBack => 7,
            Self::Operator => 8,
            Self::Bug => 70,
        }
    }
}

/// Result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error about a format; see [`ErrorKind`].
#[derive(Debug)]
pub struct Error(Box<ErrorKind>);

/// What went wrong: the thing, what was expected, what was found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Reading or writing failed below us.
    #[error("{what}: read or write failed")]
    Io {
        /// What was being read or written.
        what: String,
        /// The cause.
        source: std::io::Error,
    },
    /// The input ended too early.
    #[error("{what}: the input ends early: expected {expected} bytes, found {found}")]
    Truncated {
        /// Where.
        what: String,
        /// Bytes that should be there.
        expected: u64,
        /// Bytes that were there.
        found: u64,
    },
    /// A tar header or padding differs from what our writer makes for the same name and size.
    #[error("archive at byte {offset}: header or padding is not canonical: {why}")]
    NotCanonicalArchive {
        /// Byte offset in the archive.
        offset: u64,
        /// What differs.
        why: String,
    },
    /// A member other than the one that must come here.
    #[error("archive at byte {offset}: expected {expected}, found {found}")]
    UnexpectedMember {
        /// Byte offset in the archive.
        offset: u64,
        /// The member that must come here.
        expected: String,
        /// What is there.
        found: String,
    },
    /// Bytes after the end of the archive.
    #[error("archive: bytes follow the end mark at byte {offset}")]
    TrailingBytes {
        /// Offset of the first such byte.
        offset: u64,
    },
    /// A length over its limit.
    #[error("{what}: too large: the limit is {limit}, found {found}")]
    TooLarge {
        /// The thing.
        what: String,
        /// Its limit.
        limit: u64,
        /// What was claimed or found.
        found: u64,
    },
    /// A signed document is not strict JSON of its schema.
    #[error("{what}: not a valid document: {why}")]
    Json {
        /// The document.
        what: String,
        /// Why, from the parser.
        why: String,
    },
    /// A document parses, but its bytes are not the canonical form.
    #[error("{what}: not in canonical form")]
    NotCanonical {
        /// The document.
        what: String,
    },
    /// A format or version that this program does not know.
    #[error("{what}: unknown format: expected {expected}, found {found}")]
    UnknownFormat {
        /// The document.
        what: String,
        /// The format that we read.
        expected: String,
        /// The format named.
        found: String,
    },
    /// A name outside the rules of spec 3.
    #[error("{what}: the name {name:?} is refused: {why}")]
    BadName {
        /// What is named.
        what: String,
        /// The name.
        name: String,
        /// The rule.
        why: String,
    },
    /// A value outside its grammar.
    #[error("{what}: expected {expected}, found {found:?}")]
    BadValue {
        /// The field.
        what: String,
        /// The grammar.
        expected: String,
        /// The value.
        found: String,
    },
    /// A document is inconsistent with itself.
    #[error("{what}: inconsistent: {why}")]
    Inconsistent {
        /// The document.
        what: String,
        /// The contradiction.
        why: String,
    },
    /// A codec that this program does not have.
    #[error("pack {pack}: unknown codec {codec:?}")]
    UnknownCodec {
        /// The pack.
        pack: String,
        /// The codec named.
        codec: String,
    },
    /// A frame's digest differs from the signed one.
    #[error("pack {pack}, frame {frame}: digest differs: expected {expected}, found {found}")]
    FrameDigest {
        /// The pack's member name.
        pack: String,
        /// The frame's number, from 0.
        frame: usize,
        /// Signed digest.
        expected: String,
        /// Digest of the bytes read.
        found: String,
    },
    /// A pack decodes to something else than its blobs.
    #[error("pack {pack}: cannot be decoded as {codec}: {why}")]
    Codec {
        /// The pack.
        pack: String,
        /// Its codec.
        codec: String,
        /// Why.
        why: String,
    },
    /// A coding that this program does not have.
    #[error("blob {blob}: unknown coding {coding:?}")]
    UnknownCoding {
        /// The blob.
        blob: String,
        /// The coding named.
        coding: String,
    },
    /// A coded stream does not decode to its blob.
    #[error("blob {blob}: cannot be decoded as {coding}: {why}")]
    Coding {
        /// The blob.
        blob: String,
        /// Its coding.
        coding: String,
        /// Why.
        why: String,
    },
    /// A delta that cannot be applied.
    #[error("blob {blob}: its delta is refused: {why}")]
    Delta {
        /// The blob.
        blob: String,
        /// Why.
        why: String,
    },
    /// A blob's sha256 differs from the signed one.
    #[error("blob: sha256 differs: expected {expected}, found {found}")]
    BlobDigest {
        /// Signed digest.
        expected: String,
        /// Digest of the decoded bytes.
        found: String,
    },
    /// A signature that does not verify.
    #[error("{document}: the {scheme} signature by key {key} does not verify")]
    BadSignature {
        /// The signed document.
        document: String,
        /// Its algorithm.
        scheme: &'static str,
        /// The key id.
        key: String,
    },
    /// Two implementations of one algorithm give different verdicts.
    #[error("{document}: two {scheme} implementations disagree about the signature by key {key}")]
    ImplementationsDisagree {
        /// The signed document.
        document: String,
        /// The algorithm.
        scheme: &'static str,
        /// The key id.
        key: String,
    },
    /// A signature by a key that the trust root does not list.
    #[error("{document}: signed by key {key}, which trust root version {root} does not list")]
    UnknownKey {
        /// The signed document.
        document: String,
        /// The key id.
        key: String,
        /// Version of the root asked.
        root: u64,
    },
    /// The same key signed twice.
    #[error("{document}: key {key} appears twice among the signatures")]
    DuplicateSignature {
        /// The signed document.
        document: String,
        /// The key id.
        key: String,
    },
    /// Too few distinct keys signed.
    #[error(
        "{document}: role {role} needs {needed} distinct {scheme} keys of trust root version {root}, found {found}"
    )]
    Threshold {
        /// The signed document.
        document: String,
        /// The role.
        role: &'static str,
        /// The algorithm.
        scheme: &'static str,
        /// Version of the root asked.
        root: u64,
        /// The role's threshold.
        needed: usize,
        /// Distinct valid keys found.
        found: usize,
    },
    /// The chain of roots has a gap or a wrong order.
    #[error("root chain: expected version {expected}, found {found}")]
    RootVersion {
        /// The version that must come.
        expected: u64,
        /// The version that came.
        found: u64,
    },
    /// The bundle's root differs from the trusted one of the same version.
    #[error("root version {version}: expected SHA-384 {expected}, found {found}")]
    UnknownRoot {
        /// The version.
        version: u64,
        /// SHA-384 of the trusted root.
        expected: String,
        /// SHA-384 of the bundle's.
        found: String,
    },
    /// Policy: older than what the site accepted.
    #[error("product {product}: sequence {found} is below the floor {floor}")]
    Rollback {
        /// The product.
        product: String,
        /// Highest sequence ever accepted.
        floor: u64,
        /// The bundle's.
        found: u64,
    },
    /// Policy: past its expiry.
    #[error("{what}: expired at {expires}, the time is {now}")]
    Expired {
        /// The document.
        what: String,
        /// Its expiry.
        expires: String,
        /// The time that was compared.
        now: String,
    },
    /// Policy: marked above the site's accreditation.
    #[error("marking {found} is above the site's accreditation {accredited}")]
    MarkingAboveSite {
        /// The site's.
        accredited: String,
        /// The bundle's.
        found: String,
    },
    /// Policy: the release lacks a document that the site demands.
    #[error("site policy requires {requirement}: {why}")]
    Requirement {
        /// What the policy names.
        requirement: &'static str,
        /// What is missing.
        why: String,
    },
    /// Policy: for other hardware.
    #[error("the bundle is for platform {found}, this machine is {expected}")]
    Platform {
        /// This machine.
        expected: String,
        /// The bundle's.
        found: String,
    },
    /// A file that a person wrote does not parse.
    #[error("{file}: {why}")]
    Yaml {
        /// The file.
        file: String,
        /// Why, with line and column where the parser has them.
        why: String,
    },
    /// A marking outside the grammar.
    #[error("marking {found:?}: {why}")]
    Marking {
        /// The text.
        found: String,
        /// The rule.
        why: String,
    },
    /// The trust root has no such role, so nobody can meet its threshold.
    #[error("{document}: trust root version {root} names no keys for role {role}")]
    RoleMissing {
        /// The signed document.
        document: String,
        /// The role.
        role: &'static str,
        /// Version of the root asked.
        root: u64,
    },
    /// A trust root resets sequences, but its release keys are still those of before.
    #[error(
        "trust root version {version} resets sequences and keeps {kept} {scheme} release keys of the version before; fewer than its threshold {threshold} may stay"
    )]
    ResetWithoutRevocation {
        /// The root's version.
        version: u64,
        /// The algorithm.
        scheme: &'static str,
        /// Release keys of both versions.
        kept: usize,
        /// The root's release threshold.
        threshold: usize,
    },
    /// An approval of something else than what is to be done.
    #[error("approval by {holder}: expected plan SHA-384 {expected}, found {found}")]
    ApprovalPlan {
        /// Who approved.
        holder: String,
        /// The plan that is to be walked.
        expected: String,
        /// The plan approved.
        found: String,
    },
    /// An approval that is too far from now.
    #[error("approval by {holder}: made at {at}, the time is {now}; at most {hours} hours may lie between")]
    ApprovalStale {
        /// Who approved.
        holder: String,
        /// When.
        at: String,
        /// The time that was compared.
        now: String,
        /// The limit.
        hours: u64,
    },
    /// Two approvals by one person.
    #[error("approvals: {holder} approved twice; two persons must")]
    ApprovalSamePerson {
        /// Who.
        holder: String,
    },
    /// An approval signed by somebody else than it names.
    #[error("approval by {holder}: signed by key {key}, which is not theirs")]
    ApprovalHolder {
        /// Who it names.
        holder: String,
        /// The signing key.
        key: String,
    },
    /// Custody records do not follow each other.
    #[error("custody record {record}: the chain is broken: expected {expected}, found {found}")]
    CustodyChain {
        /// The record's place in the chain, from 1.
        record: u64,
        /// What must stand there.
        expected: String,
        /// What stands there.
        found: String,
    },
    /// Policy: a set was handed to or from a system that may not hold it.
    #[error(
        "custody record {record}: a set marked {found} may not be on system {system}, which is marked {accredited}"
    )]
    CustodyMarking {
        /// The record's number.
        record: u64,
        /// The system.
        system: String,
        /// The system's marking.
        accredited: String,
        /// The set's marking.
        found: String,
    },
    /// Policy: a scanner did not find the set clean.
    #[error("custody record {record}: scanner {scanner}: expected the result clean, found {found}")]
    ScanNotClean {
        /// The record's number.
        record: u64,
        /// The scanner.
        scanner: String,
        /// Its result.
        found: &'static str,
    },
    /// Policy: one person on both sides of a hand-over.
    #[error("custody record {record}: giver and receiver are the same person: {who}")]
    SamePerson {
        /// The record's number.
        record: u64,
        /// The doubled identity.
        who: String,
    },
    /// A person named with a key holder did not sign.
    #[error("{document}: names key holder {holder} as its {person}, whose keys did not sign")]
    NotSignedBy {
        /// The signed document.
        document: String,
        /// `giver` or `receiver`.
        person: &'static str,
        /// The holder named.
        holder: String,
    },
    /// A file of a set is not the one on record.
    #[error("{file}: differs from {record}: expected {expected}, found {found}")]
    FileDiffers {
        /// The file.
        file: String,
        /// Where it is on record.
        record: String,
        /// Size and SHA-384 on record.
        expected: String,
        /// Size and SHA-384 found.
        found: String,
    },
    /// A receipt code with a typing mistake, or none at all.
    #[error("receipt code: {why}")]
    BadReceipt {
        /// What is wrong with it.
        why: String,
    },
}

impl ErrorKind {
    /// Exit-code class; a full match on purpose, so that a new kind must be sorted.
    pub const fn class(&self) -> Class {
        match self {
            Self::Io { .. } => Class::Unfit,
            Self::Truncated { .. }
            | Self::NotCanonicalArchive { .. }
            | Self::UnexpectedMember { .. }
            | Self::TrailingBytes { .. }
            | Self::TooLarge { .. }
            | Self::Json { .. }
            | Self::NotCanonical { .. }
            | Self::UnknownFormat { .. }
            | Self::BadName { .. }
            | Self::BadValue { .. }
            | Self::Inconsistent { .. }
            | Self::UnknownCodec { .. }
            | Self::FrameDigest { .. }
            | Self::Codec { .. }
            | Self::UnknownCoding { .. }
            | Self::Coding { .. }
            | Self::Delta { .. }
            | Self::BlobDigest { .. }
            | Self::Marking { .. }
            | Self::FileDiffers { .. } => Class::Damaged,
            Self::BadSignature { .. }
            | Self::ImplementationsDisagree { .. }
            | Self::UnknownKey { .. }
            | Self::DuplicateSignature { .. }
            | Self::Threshold { .. }
            | Self::RootVersion { .. }
            | Self::UnknownRoot { .. }
            | Self::RoleMissing { .. }
            | Self::ResetWithoutRevocation { .. }
            | Self::ApprovalHolder { .. }
            | Self::CustodyChain { .. }
            | Self::NotSignedBy { .. } => Class::Untrusted,
            Self::Rollback { .. }
            | Self::Expired { .. }
            | Self::MarkingAboveSite { .. }
            | Self::Platform { .. }
            | Self::Requirement { .. }
            | Self::CustodyMarking { .. }
            | Self::ScanNotClean { .. }
            | Self::ApprovalPlan { .. }
            | Self::ApprovalStale { .. }
            | Self::ApprovalSamePerson { .. }
            | Self::SamePerson { .. } => Class::Policy,
            Self::Yaml { .. } | Self::BadReceipt { .. } => Class::Usage,
        }
    }

    /// One line that says what to do.
    pub fn advice(&self) -> &'static str {
        match self {
            Self::Io { .. } => "check the medium, the path and the permissions, then run the command again",
            Self::Yaml { .. } => "mend the named place in the file and run the command again",
            Self::UnknownFormat { .. } | Self::UnknownCodec { .. } | Self::UnknownCoding { .. } => {
                "use the version of this program that came with the bundle"
            }
            Self::Rollback { .. } => "use a bundle with a higher sequence; an older one is never installed",
            Self::Expired { .. } => "ask the releasing office for a current bundle, and check this machine's clock",
            Self::MarkingAboveSite { .. } => "take the medium to a system that is accredited for this marking",
            Self::Platform { .. } => "ask the releasing office for the bundle of this platform",
            Self::RoleMissing { role: "approve", .. } => {
                "this site's trust root lets nobody go past a refusal; ask the releasing office"
            }
            Self::Requirement { .. } => "ask the releasing office for a bundle that carries it",
            Self::RoleMissing { .. } => "ask the releasing office for a trust root that names transfer agents",
            Self::ResetWithoutRevocation { .. } => "the root office must take the former release keys out",
            Self::ApprovalPlan { .. } => "let both persons approve the plan as it is now: installer plan --out",
            Self::ApprovalStale { .. } => "approve the plan again, on a machine whose clock is right",
            Self::ApprovalSamePerson { .. } => "a second person must approve; two-person integrity has no exception",
            Self::CustodyMarking { .. } => {
                "stop: treat this as a possible spill and tell your ISSO before moving the media"
            }
            Self::ScanNotClean { .. } => "do not carry this set; isolate the media and tell your ISSO",
            Self::SamePerson { .. } => "a second person must receive the set; two-person integrity has no exception",
            Self::NotSignedBy { .. } => "let the person named sign the record with custody sign, or name who did",
            Self::BadReceipt { .. } => "compare the code with the receipt group by group and type it again",
            _ => match self.class() {
                Class::Untrusted => "do not install; report this bundle and its medium to your ISSO",
                _ => "carry the bundle across again from a good copy; report it to your ISSO if it happens twice",
            },
        }
    }
}

impl Error {
    /// The kind, to match on.
    pub fn kind(&self) -> &ErrorKind {
        &self.0
    }

    /// The kind, to take apart.
    pub fn into_kind(self) -> ErrorKind {
        *self.0
    }

    /// Exit-code class.
    pub fn class(&self) -> Class {
        self.0.class()
    }

    /// One line that says what to do.
    pub fn advice(&self) -> &'static str {
        self.0.advice()
    }

    /// Wraps an I/O error with what was being read or written.
    pub fn io(what: impl Into<String>, source: std::io::Error) -> Self {
        ErrorKind::Io { what: what.into(), source }.into()
    }
}

impl From<ErrorKind> for Error {
    fn from(kind: ErrorKind) -> Self {
        Self(Box::new(kind))
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
    fn exit_codes_are_those_of_the_design() {
        let table = [
            (Class::Usage, 2),
            (Class::Damaged, 3),
            (Class::Untrusted, 4),
            (Class::Policy, 5),
            (Class::Unfit, 6),
            (Class::RolledBack, 7),
            (Class::Operator, 8),
            (Class::Bug, 70),
        ];
        for (class, code) in table {
            assert_eq!(class.exit_code(), code);
        }
    }
}
