//! SBOMs that a publisher attached to an image: artifacts whose subject is the image's manifest or
//! its index (OCI image-spec 1.1).

use bundle_format::limits;
use bundle_format::lock::LockedSbom;
use serde::Deserialize;

use crate::error::{ErrorKind, Result};
use crate::source::{self, ImageSource, ResolvedImage};

/// Media types of SBOMs, the preferred first.
const MEDIA_TYPES: [&str; 2] = ["application/spdx+json", "application/vnd.cyclonedx+json"];

/// The SBOM that the source has for an image, and its bytes. With several, SPDX goes before
/// `CycloneDX`, the manifest's before the index's, and the source's order decides the rest; the lock
/// then holds which one it was.
pub fn find(source: &dyn ImageSource, image: &ResolvedImage) -> Result<Option<(LockedSbom, Vec<u8>)>> {
    let mut subjects = vec![image.manifest];
    if image.digest != image.manifest {
        subjects.push(image.digest);
    }
    // One that cannot be read may be anybody's: it is no SBOM that a publisher attached.
    let (artifacts, _) = source::artifacts(source, &subjects)?;
    let layers = || artifacts.iter().flat_map(|artifact| &artifact.layers).map(|(layer, _)| layer);
    for media_type in MEDIA_TYPES {
        if let Some(layer) = layers().find(|layer| layer.media_type == media_type) {
            let bytes = source::small_blob(source, layer, limits::SBOM_BYTES)?;
            let format = format_of(&source.what(), &bytes)?;
            return Ok(Some((LockedSbom { format, digest: layer.digest, size: layer.size }, bytes)));
        }
    }
    Ok(None)
}

#[derive(Deserialize)]
struct Head {
    #[serde(rename = "spdxVersion")]
    spdx: Option<String>,
    #[serde(rename = "bomFormat")]
    bom: Option<String>,
    #[serde(rename = "specVersion")]
    version: Option<String>,
}

/// `spdx-2.3`, `cyclonedx-1.6`: what the document itself says.
fn format_of(what: &str, bytes: &[u8]) -> Result<String> {
    let head: Head = bundle_format::json::parse("SBOM", bytes, limits::SBOM_BYTES)?;
    let format = match (head.spdx, head.bom.as_deref(), head.version) {
        (Some(spdx), None, _) => spdx.strip_prefix("SPDX-").map(|version| format!("spdx-{version}")),
        (None, Some("CycloneDX"), Some(version)) => Some(format!("cyclonedx-{version}")),
        _ => None,
    };
    let format = format.filter(|format| bundle_format::name::check_file_name("SBOM format", format).is_ok());
    format.ok_or_else(|| {
        let why = "the SBOM attached to the image says neither SPDX nor CycloneDX".into();
        ErrorKind::SourceMalformed { what: what.into(), why }.into()
    })
}
