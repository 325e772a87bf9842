//! `inventory`: which blobs this site's store holds, signed by the machine, for the low side to build
//! an update on (`docs/spec/bundle-format.md`, 6.4).
//!
//! What leaves is product, release, digests and sizes, and no content; what was given out is on record.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bundle_format::digest::{Sha256, Sha384};
use bundle_format::inventory::{AuditHead, FORMAT, Installed, Inventory};
use bundle_format::manifest::{Blob, Manifest};
use bundle_format::marking::Marking;
use bundle_format::text::groups_of_four;
use bundle_format::timestamp::Timestamp;

use crate::atomic::{self, Access};
use crate::audit::{Outcome, Record, anchor};
use crate::cli::{print, print_json};
use crate::error::{ErrorKind, Result};
use crate::host::HostFacts;
use crate::lock::Lock;
use crate::paths::Paths;
use crate::progress::Progress;
use crate::proof::clock;
use crate::state::State;
use crate::store::Store;
use crate::{banner, receipt};

/// Gives out what the store holds.
#[derive(Debug, clap::Args)]
pub struct InventoryCommand {
    /// The file to write (default: standard output).
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// A few lines to carry by hand instead: product, sequence, and the code that names the release.
    #[arg(long, conflicts_with = "out")]
    text: bool,
}

/// Where the command runs.
#[derive(Debug, Clone, Copy)]
pub struct Site<'a> {
    /// Where things lie.
    pub paths: &'a Paths,
    /// Machine-readable output.
    pub json: bool,
    /// No colour.
    pub no_color: bool,
}

impl InventoryCommand {
    /// Runs it.
    pub fn run(&self, site: &Site<'_>) -> Result<()> {
        let _lock = Lock::take(&site.paths.lock(), "inventory")?;
        let state = State::open(&site.paths.database())?;
        let markings =
            state.active_generations()?.iter().map(|g| Marking::parse(&g.marking)).collect::<Result<Vec<_>, _>>()?;
        let marking = markings.into_iter().max_by_key(Marking::level);
        let marking = marking.ok_or_else(|| ErrorKind::NotInstalled { product: "a product".into() })?;
        banner::open(&marking, site.no_color);
        let (inventory, damaged) = take(&state, site, marking, clock())?;
        // The list is true without them; that they are gone is for a person.
        let whole = || {
            if damaged.is_empty() { Ok(()) } else { Err(ErrorKind::Drift { differences: damaged.join("; ") }.into()) }
        };
        if self.text {
            text(&state, site)?;
            return whole();
        }
        let mut audit = state.audit()?;
        let payload = inventory.to_bytes()?;
        let signatures = audit.key().sign(&payload, &Inventory::comment(&payload))?;
        let mut sorted = Vec::new();
        for signature in signatures {
            bundle_format::signed::add(&mut sorted, signature);
        }
        let file = Inventory::seal(&payload, &sorted)?;
        let detail = format!("{} blobs, SHA-384 of the file {}", inventory.blobs.len(), Sha384::of(&file));
        audit.append(&Record::new(&inventory.at, "inventory", Outcome::Ok).detail(&detail))?;
        match &self.out {
            Some(out) => {
                atomic::write(out, &file, Access::Public)?;
                told(&inventory, out, &damaged, site)?;
            }
            None => print(&[String::from_utf8_lossy(&file).trim_end().to_owned()])?,
        }
        whole()
    }
}

/// Every blob of the kept releases, read and hashed; those that are missing or damaged are told
/// instead of listed.
fn take(state: &State, site: &Site<'_>, marking: Marking, at: Timestamp) -> Result<(Inventory, Vec<String>)> {
    let store = Store::peek(&site.paths.store());
    let kept: Vec<Manifest> = state.kept_manifests()?;
    let sizes: BTreeMap<Sha256, u64> = kept.iter().flat_map(Manifest::blob_sizes).collect();
    let (mut blobs, mut damaged) = (Vec::new(), Vec::new());
    let mut progress = Progress::new("inventory", sizes.values().sum(), site.json);
    for (digest, size) in sizes {
        match store.check(&digest) {
            Ok(()) => blobs.push(Blob { digest, size }),
            Err(error) => damaged.push(error.to_string()),
        }
        progress.add(size);
    }
    progress.finish();
    let mut releases = Vec::new();
    for generation in state.active_generations()? {
        releases.push(Installed {
            product: generation.product,
            release: generation.release,
            sequence: generation.sequence,
            manifest_sha384: Sha384::parse(&generation.manifest_sha384)?,
        });
    }
    releases.sort_by(|a, b| a.product.cmp(&b.product));
    let head = state.audit()?.head()?;
    let audit = Some(AuditHead { seq: head.seq, hash: head.hash });
    Ok((Inventory { format: FORMAT.into(), key: head.key, at, marking, releases, blobs, audit }, damaged))
}

fn told(inventory: &Inventory, out: &Path, damaged: &[String], site: &Site<'_>) -> Result<()> {
    let bytes: u64 = inventory.blobs.iter().map(|blob| blob.size).sum();
    if site.json {
        return print_json(&serde_json::json!({
            "file": out.display().to_string(), "blobs": inventory.blobs.len(), "bytes": bytes,
            "key": inventory.key.to_string(), "left_out": damaged,
            "audit_head": inventory.audit.map(|head| format!("{}:{}", head.seq, head.hash)),
        }));
    }
    let mut lines = vec![format!("wrote {}: {} blobs of {bytes} bytes", out.display(), inventory.blobs.len())];
    lines.extend(inventory.releases.iter().map(|r| format!("  {} {} (sequence {})", r.product, r.release, r.sequence)));
    lines.push(format!("signed by this machine's key, SHA-384 {}", groups_of_four(&inventory.key.to_string())));
    lines.push(format!("as an anchor of the audit log: installer audit verify --anchor-file {}", out.display()));
    print(&lines)
}

/// For a pen: the same code as a receipt, by which the low side finds its own former bundle.
fn text(state: &State, site: &Site<'_>) -> Result<()> {
    let host = HostFacts::read(Path::new("/"))?;
    let (mut lines, mut entries) = (Vec::new(), Vec::new());
    for generation in state.active_generations()? {
        let code = receipt::read(state, site.paths, &host, Some(&generation.product))?.to_code();
        lines.push(format!("{} {} (sequence {})", generation.product, generation.release, generation.sequence));
        lines.push(format!("  code {code}"));
        entries.push(serde_json::json!({
            "product": generation.product, "release": generation.release, "sequence": generation.sequence, "code": code,
        }));
        let record = Record::new(&clock(), "inventory", Outcome::Ok).of(&generation.product, &generation.release);
        state.audit()?.append(&record.detail(&code))?;
    }
    if site.json {
        return print_json(&serde_json::json!({"releases": entries, "audit_head": state.audit()?.head()?.anchor()}));
    }
    lines.push(anchor::line(&state.audit()?.head()?));
    lines.push("on the low side: bundle-builder confirm CODE BUNDLE… names the bundle to give as --base".into());
    print(&lines)
}
