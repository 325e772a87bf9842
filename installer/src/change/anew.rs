//! The bundle that is active already, installed again: what the store has lost of it comes back while
//! everything runs on (`docs/spec/lifecycle.md`, 9).
//!
//! Threats: a disk that rots under a release that runs; a bundle that is damaged where it is needed. Who
//! defends: every blob is read before it counts as sound, and again after it came back; the packs are
//! proved as in any installation; a blob takes its name only when it is whole. Units, containers and
//! data are not touched.

use std::collections::BTreeSet;
use std::time::Duration;

use bundle_format::manifest::Manifest;

use super::{Change, Outcome};
use crate::audit::{self, Record};
use crate::error::{ErrorKind, Result};
use crate::health;
use crate::proof::ProvedBundle;
use crate::release::Release;
use crate::store::{Store, StoreSink};

impl Change<'_> {
    /// Puts back what the store has lost of the active release, then looks at its health. `begun` goes on
    /// record before the store is changed; where it has lost nothing, nothing is changed.
    pub(super) fn install_anew(&mut self, bundle: ProvedBundle, begun: &Record) -> Result<Outcome> {
        let manifest = bundle.manifest().clone();
        self.report.note("this very bundle is active: every blob of it in the store is read");
        let store = Store::open(&self.paths.store())?;
        let lost: BTreeSet<_> = store.faults(&manifest.blob_sizes(), &mut |_| ()).into_keys().collect();
        if !lost.is_empty() {
            self.state.audit()?.begin(begun)?;
            self.state.keep_copy_or_warn();
            let refilled = self.refill(bundle, &store, &lost);
            let refilled = refilled.map_err(|error| if self.stop.asked() { ErrorKind::Stopped.into() } else { error });
            let (result, detail) = match &refilled {
                Ok(()) => (audit::Outcome::Ok, format!("{} blobs came back into the store", lost.len())),
                Err(error) => (audit::Outcome::Failed, error.to_string()),
            };
            let record = Record::new(&self.now, "install", result).of(&manifest.product, &manifest.release);
            audit::append_or_warn(self.paths, &record.detail(&detail));
            refilled?;
        }
        self.check_active(&manifest)?;
        Ok(Outcome::AlreadyActive { mended: lost.len() })
    }

    /// Streams what is lost out of the bundle. What a bundle that builds on a base does not carry itself
    /// has to be sound in that base.
    fn refill(
        &mut self,
        bundle: ProvedBundle,
        store: &Store,
        lost: &BTreeSet<bundle_format::digest::Sha256>,
    ) -> Result<()> {
        self.report.note(&format!("{} blobs are missing or damaged; they come out of the bundle", lost.len()));
        let manifest = bundle.manifest().clone();
        // A workload may be sound in its second copy, which a bundle on a base would want to be there.
        for workload in manifest.workloads.iter().filter(|workload| lost.contains(&workload.digest)) {
            match store.mend(&workload.digest, bundle_format::limits::YAML_BYTES) {
                Err(error) if !matches!(error.kind(), ErrorKind::StoreDamaged { .. }) => return Err(error),
                _ => {}
            }
        }
        let base = bundle.find_base(store, &mut |_| ())?;
        let report = &mut *self.report;
        let mut sink = StoreSink::new(store).until(self.stop.clone()).only(lost.clone());
        bundle.unpack(&base, &mut sink, &mut |bytes| report.bytes(bytes))?;
        store.sync()?;
        lost.iter().try_for_each(|digest| store.check(digest))?;
        let workloads = manifest.workloads.iter().map(|workload| &workload.digest);
        store.keep_spares(workloads, bundle_format::limits::YAML_BYTES)
    }

    fn check_active(&mut self, manifest: &Manifest) -> Result<()> {
        let podman = self.engine()?;
        let release = Release::load(manifest, &Store::peek(&self.paths.store()))?;
        let deadline = self.deadline.unwrap_or(Duration::from_secs(manifest.lifecycle.deadline_seconds));
        health::wait_healthy(&podman, &release, self.paths, deadline, &self.stop)
    }
}
