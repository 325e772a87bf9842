//! SPDX 2.3 as JSON (spdx.github.io/spdx-spec/v2.3): the same bytes from the same image.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::sbom::{Inventory, Kind, Package, Subject};

/// The document.
pub fn document(subject: &Subject<'_>, found: &Inventory) -> Result<Vec<u8>> {
    let image = "SPDXRef-image";
    let mut packages = vec![json!({
        "SPDXID": image,
        "name": subject.name,
        "versionInfo": subject.digest.to_string(),
        "primaryPackagePurpose": "CONTAINER",
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": false,
        "licenseConcluded": "NOASSERTION",
        "licenseDeclared": "NOASSERTION",
        "copyrightText": "NOASSERTION",
        "checksums": [{"algorithm": "SHA256", "checksumValue": subject.digest.hex()}],
    })];
    let mut relationships = vec![relationship("SPDXRef-DOCUMENT", "DESCRIBES", image)];
    for (number, package) in found.packages.iter().enumerate() {
        let id = format!("SPDXRef-{}-{number}", word(package.kind));
        relationships.push(relationship(image, "CONTAINS", &id));
        packages.push(entry(&id, package, found.os.as_ref()));
    }
    let mut document = json!({
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": subject.name,
        "documentNamespace": format!("urn:lockgate:sbom:{}", subject.digest),
        "creationInfo": {
            "created": subject.created.to_string(),
            "creators": [format!("Tool: bundle-builder-{}", env!("CARGO_PKG_VERSION"))],
            "comment": "Made of the package databases in the image's layers.",
        },
        "packages": packages,
        "relationships": relationships,
    });
    if let (false, Some(fields)) = (found.unread.is_empty(), document.as_object_mut()) {
        fields.insert("comment".into(), format!("Not read: {}", found.unread.join("; ")).into());
    }
    let mut bytes = serde_json::to_vec(&document).map_err(|e| Error::io("SBOM", std::io::Error::other(e)))?;
    bytes.push(b'\n');
    Ok(bytes)
}

fn relationship(from: &str, kind: &str, to: &str) -> Value {
    json!({"spdxElementId": from, "relationshipType": kind, "relatedSpdxElement": to})
}

fn entry(id: &str, package: &Package, os: Option<&(String, String)>) -> Value {
    let mut value = json!({
        "SPDXID": id,
        "name": package.name,
        "versionInfo": package.version,
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": false,
        "licenseConcluded": "NOASSERTION",
        "licenseDeclared": "NOASSERTION",
        "copyrightText": "NOASSERTION",
        "externalRefs": [{
            "referenceCategory": "PACKAGE-MANAGER",
            "referenceType": "purl",
            "referenceLocator": purl(package, os),
        }],
    });
    // What a package says of its licence is seldom an SPDX expression, so it is passed on as words.
    if let (Some(licence), Some(fields)) = (&package.licence, value.as_object_mut()) {
        fields.insert("licenseComments".into(), format!("The package says: {licence}").into());
    }
    value
}

const fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Deb => "deb",
        Kind::Apk => "apk",
        Kind::Rpm => "rpm",
        Kind::Python => "pypi",
        Kind::Go => "golang",
    }
}

/// A package URL (github.com/package-url/purl-spec).
pub fn purl(package: &Package, os: Option<&(String, String)>) -> String {
    let kind = word(package.kind);
    let from_os = matches!(package.kind, Kind::Deb | Kind::Apk | Kind::Rpm);
    let mut out = format!("pkg:{kind}/");
    if let (true, Some((id, _))) = (from_os, os) {
        let _ = write!(out, "{}/", encoded(id, false));
    }
    let name = match package.kind {
        Kind::Python => package.name.to_lowercase().replace('_', "-"),
        Kind::Go => package.name.to_lowercase(),
        _ => package.name.clone(),
    };
    // A Go module's path is namespace and name: its slashes stay.
    let _ = write!(out, "{}", encoded(&name, package.kind == Kind::Go));
    if !package.version.is_empty() {
        let _ = write!(out, "@{}", encoded(&package.version, false));
    }
    let mut qualifiers = Vec::new();
    qualifiers.extend(package.arch.as_ref().map(|arch| format!("arch={}", encoded(arch, false))));
    if let (true, Some((id, version))) = (from_os, os) {
        let distro = if version.is_empty() { id.clone() } else { format!("{id}-{version}") };
        qualifiers.push(format!("distro={}", encoded(&distro, false)));
    }
    if !qualifiers.is_empty() {
        let _ = write!(out, "?{}", qualifiers.join("&"));
    }
    out
}

/// Percent-encodes what purl does not take as it is.
fn encoded(text: &str, slashes: bool) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~:".contains(&byte) || (slashes && byte == b'/') {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}
