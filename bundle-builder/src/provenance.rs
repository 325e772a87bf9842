//! The provenance statement of a build (`bundle_format::provenance` is its format): made of the
//! release, its lock and this program alone, so that the same inputs give the same statement.

use std::collections::BTreeMap;

use bundle_format::attachment::Attachment;
use bundle_format::digest::{Sha256, Sha384};
use bundle_format::lock::{Lock, LockedSignature};
use bundle_format::manifest::Manifest;
use bundle_format::provenance::{
    self, BUILD_TYPE, BuildDefinition, PREDICATE, Parameters, Predicate, Resource, RunDetails, STATEMENT, Statement,
};
use signing_keys::Signer;

use crate::collect::Collected;
use crate::error::Result;

/// The builder's URI where the office chose none.
pub const BUILDER: &str = "urn:lockgate:bundle-builder";

/// Who builds.
#[derive(Debug)]
pub struct Builder<'a> {
    /// A URI that names the build platform.
    pub id: &'a str,
    /// The build key, if there is one.
    pub key: Option<&'a Signer>,
}

impl Collected {
    /// Adds the statement about everything collected so far.
    pub fn add_provenance(&mut self, builder: &Builder<'_>) -> Result<()> {
        bundle_format::manifest::check_line("builder id", builder.id)?;
        let statement = statement(&self.manifest_without_packs, &self.lock, builder.id)?;
        let payload = provenance::to_payload(&statement)?;
        let signatures = match builder.key {
            Some(key) => key.sign_raw(&provenance::pae(&payload))?,
            None => Vec::new(),
        };
        let bytes = provenance::seal(&payload, &signatures)?;
        self.attach(Attachment::Provenance { digest: Sha256::of(&bytes) }, bytes);
        Ok(())
    }
}

fn statement(manifest: &Manifest, lock: &Lock, builder: &str) -> Result<Statement> {
    let version = BTreeMap::from([("bundle-builder".to_owned(), env!("CARGO_PKG_VERSION").to_owned())]);
    Ok(Statement {
        kind: STATEMENT.into(),
        subject: provenance::subjects(manifest),
        predicate_type: PREDICATE.into(),
        predicate: Predicate {
            build_definition: BuildDefinition {
                build_type: BUILD_TYPE.into(),
                external_parameters: Parameters {
                    product: manifest.product.clone(),
                    release: manifest.release.clone(),
                    sequence: manifest.sequence,
                    release_manifest_sha384: lock.release_sha384,
                    lock_sha384: Sha384::of(lock.to_yaml()?.as_bytes()),
                },
                resolved_dependencies: dependencies(lock),
            },
            run_details: RunDetails { builder: provenance::Builder { id: builder.into(), version } },
        },
    })
}

/// Everything that was taken from elsewhere, in the lock's order.
fn dependencies(lock: &Lock) -> Vec<Resource> {
    let images = lock.images.iter().map(|image| {
        let mut resource = Resource::sha256(image.name.clone(), &image.digest);
        resource.uri = Some(image.source.to_string());
        if let Some(verified) = &image.verified {
            resource.annotations = annotations(verified);
        }
        resource
    });
    let sboms = lock.images.iter().filter_map(|image| {
        let sbom = image.sbom.as_ref()?;
        Some(Resource::sha256(format!("{} {}", image.name, sbom.format), &sbom.digest))
    });
    let workloads = lock.workloads.iter().map(|w| Resource::sha256(format!("workload/{}", w.name), &w.sha256));
    let files = lock.files.iter().map(|f| Resource::sha256(format!("file/{}", f.path), &f.sha256));
    let packages = lock.runtime.iter().flat_map(|runtime| {
        runtime.packages.iter().map(|p| Resource::sha256(format!("runtime/{}/{}", runtime.os, p.name), &p.sha256))
    });
    images.chain(sboms).chain(workloads).chain(files).chain(packages).collect()
}

/// What is said of a publisher's signature (spec 5.4).
fn annotations(verified: &LockedSignature) -> BTreeMap<String, String> {
    let signed = ("verified-digest", verified.signed().to_string());
    let said = match verified {
        LockedSignature::Cosign(locked) => {
            vec![("verified-by", "cosign".to_owned()), ("verified-key-sha256", locked.key.hex())]
        }
        LockedSignature::Keyless(locked) => vec![
            ("verified-by", "keyless".to_owned()),
            ("verified-identity", locked.identity.to_string()),
            ("verified-issuer", locked.issuer.clone()),
            ("verified-claim", locked.claim.clone()),
            ("verified-log", locked.log.hex()),
            ("verified-log-index", locked.log_index.to_string()),
            ("verified-time", locked.time.to_string()),
            ("verified-time-from", locked.time_from.word().to_owned()),
            ("verified-certificate-sha256", locked.certificate.hex()),
            ("verified-trusted-root-sha384", locked.trusted_root.hex()),
        ],
    };
    said.into_iter().chain([signed]).map(|(name, text)| (name.to_owned(), text)).collect()
}
