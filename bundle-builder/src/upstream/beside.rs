//! What lies beside an image and may be a signature over it, and why it does not count.

use std::collections::BTreeMap;
use std::fmt;

use bundle_format::digest::Sha256;
use bundle_format::limits;
use bundle_format::oci::Descriptor;

use crate::error::Result;
use crate::keyless::{self, Fault};
use crate::source::{self, ImageSource, Unread};

/// Media type of a payload.
const SIMPLE_SIGNING: &str = "application/vnd.dev.cosign.simplesigning.v1+json";

/// Annotations of a layer.
pub(super) type Annotations = BTreeMap<String, String>;

/// A signature as it lies in the source.
#[derive(Debug)]
pub(super) enum Candidate {
    /// A payload; the signature is in the annotations.
    Payload(Descriptor, Annotations),
    /// A sigstore bundle.
    Bundle(Descriptor),
}

/// All that may count, and what could not be read on the way there.
#[derive(Debug)]
pub(super) struct Beside {
    /// At most R-LIM-85.
    pub(super) candidates: Vec<Candidate>,
    pub(super) unread: Vec<Unread>,
}

impl Beside {
    /// Looks under cosign's tag of `digest` and among the artifacts about it. `wanted` says of a payload's annotations
    /// whether it is of the demanded kind.
    pub(super) fn find(
        source: &dyn ImageSource,
        digest: Sha256,
        wanted: impl Fn(&Annotations) -> bool,
    ) -> Result<Self> {
        let tag = format!("sha256-{}.sig", digest.hex());
        let tagged =
            source.tagged(&tag).and_then(|found| found.map(|blob| source::artifact(source, &blob)).transpose());
        let (mut artifacts, mut unread) = (Vec::new(), Vec::new());
        match Unread::or(&format!("tag {tag}"), tagged)? {
            Ok(artifact) => artifacts.extend(artifact),
            Err(broken) => unread.push(broken),
        }
        let (about, broken) = source::artifacts(source, &[digest])?;
        artifacts.extend(about);
        unread.extend(broken);
        let candidate = |(layer, annotations): (Descriptor, Annotations)| {
            if keyless::is_bundle(&layer.media_type) {
                return Some(Candidate::Bundle(layer));
            }
            let signed = layer.media_type == SIMPLE_SIGNING && wanted(&annotations);
            signed.then_some(Candidate::Payload(layer, annotations))
        };
        let layers = artifacts.into_iter().flat_map(|artifact| artifact.layers);
        let candidates = layers.filter_map(candidate).take(limits::UPSTREAM_SIGNATURES).collect();
        Ok(Self { candidates, unread })
    }

    /// What `judge` says of each and its bytes, in turn. Outer errors are the source's, inner ones the signature's.
    pub(super) fn judged<T>(
        &self,
        source: &dyn ImageSource,
        judge: impl Fn(&Candidate, &[u8]) -> Result<T, Fault>,
    ) -> impl Iterator<Item = Result<Result<T, Fault>>> {
        self.candidates.iter().map(move |candidate| {
            let (Candidate::Payload(layer, _) | Candidate::Bundle(layer)) = candidate;
            let limit = match candidate {
                Candidate::Payload(..) => limits::UPSTREAM_PAYLOAD_BYTES,
                Candidate::Bundle(_) => limits::SIGSTORE_BUNDLE_BYTES,
            };
            let read = source::small_blob(source, layer, limit);
            let read = Unread::or(&format!("signature {}", layer.digest), read)?;
            Ok(read.map_err(Fault::from).and_then(|bytes| judge(candidate, &bytes)))
        })
    }
}

/// Why nothing of what lies beside an image counts: the most telling first, each once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reasons {
    first: Fault,
    others: Vec<Fault>,
}

/// Reasons beside the first that an error repeats.
const TOLD: usize = 5;

impl Reasons {
    /// `None` without a fault.
    pub(super) fn new(faults: Vec<Fault>, unread: Vec<Unread>) -> Option<Self> {
        let mut all: Vec<Fault> = Vec::new();
        for fault in faults.into_iter().chain(unread.into_iter().map(Fault::from)) {
            if !all.contains(&fault) {
                all.push(fault);
            }
        }
        all.sort_by_key(Fault::rank);
        let mut all = all.into_iter();
        Some(Self { first: all.next()?, others: all.collect() })
    }

    /// The most telling.
    pub fn first(&self) -> &Fault {
        &self.first
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &Fault> {
        std::iter::once(&self.first).chain(&self.others)
    }
}

impl fmt::Display for Reasons {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.first)?;
        for other in self.others.iter().take(TOLD) {
            write!(f, "; beside it: {other}")?;
        }
        match self.others.len().saturating_sub(TOLD) {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}

impl std::error::Error for Reasons {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_telling_is_first_and_none_is_told_twice() {
        let missing = |name: &str| Unread::Missing { what: name.into() };
        let about = Fault::Artifact { expected: Sha256::of(b"a"), found: "b".into() };
        assert_eq!(Reasons::new(Vec::new(), Vec::new()), None);
        let faults = vec![Fault::OtherKey, Fault::OtherKey, Fault::Signature, about.clone()];
        let reasons = Reasons::new(faults, vec![missing("x")]).unwrap();
        let order = [&about, &Fault::Signature, &missing("x").into(), &Fault::OtherKey];
        assert!(reasons.all().eq(order), "{reasons}");
        assert_eq!(reasons.first(), &about);
        assert_eq!(reasons.to_string().matches("verify with the pinned key").count(), 1);
    }

    #[test]
    fn many_reasons_are_counted() {
        let missing = (0..9).map(|number| Unread::Missing { what: format!("file {number}") }).collect();
        let text = Reasons::new(Vec::new(), missing).unwrap().to_string();
        assert!(text.starts_with("file 0: it is missing; beside it: file 1: "), "{text}");
        assert!(text.ends_with("file 5: it is missing; and 3 more"), "{text}");
    }
}
