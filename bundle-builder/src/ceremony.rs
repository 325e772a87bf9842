//! Signing on a machine that has no network: the exact bytes go there with a sheet for people, the
//! detached signatures come back and are verified before they are taken
//! (`docs/isso/key-ceremony.md`).
//!
//! What may hurt it: bytes exchanged on the medium (the signer compares their SHA-384 with the one
//! on paper, and `sign_bytes` refuses without it), signatures over something else, by a stranger or
//! by half a signer (all refused at [`attach_manifest`] and [`attach_root`]).

use std::path::{Path, PathBuf};

use bundle_format::digest::Sha384;
use bundle_format::key::{KeyId, Scheme};
use bundle_format::root::{Role, RootEnvelope, TrustRoot};
use bundle_format::signature::{Signature, Value};
use bundle_format::text::escaped;
use signing_keys::{Document, Signer};

use crate::error::{Error, ErrorKind, Result};
use crate::sign::{OpenBundle, newest_root};

/// Writes the exact bytes of `document` to `out`, and its sheet beside it as `OUT.sheet.txt`.
/// Nothing is overwritten. Returns the sheet's lines.
pub fn export(document: &Document, out: &Path) -> Result<Vec<String>> {
    let mut sheet = document.sheet();
    if let Some(marking) = document.marking() {
        sheet.insert(0, marking.to_string());
        sheet.push(marking.to_string());
    }
    write_new(out, document.bytes())?;
    write_new(&sheet_beside(out), format!("{}\n", sheet.join("\n")).as_bytes())?;
    Ok(document.sheet())
}

/// Where the sheet of exported bytes lies.
pub fn sheet_beside(out: &Path) -> PathBuf {
    let mut name = out.as_os_str().to_owned();
    name.push(".sheet.txt");
    name.into()
}

/// Reads exported bytes and compares them with the SHA-384 that a person was given on another
/// channel; groups of four digits are as good as one word.
pub fn read_document(path: &Path, sha384: &str) -> Result<Document> {
    let what = path.display().to_string();
    let digits: String = sha384.chars().filter(|c| !c.is_whitespace()).collect();
    let expected = Sha384::parse(&digits)
        .map_err(|_| ErrorKind::Usage("--sha384 takes the 96 hexadecimal digits of the sheet".into()))?;
    let bytes = read_limited(path, bundle_format::limits::MANIFEST_BYTES)?;
    let found = Sha384::of(&bytes);
    if found != expected {
        return Err(ErrorKind::OtherDocument { what, expected, found }.into());
    }
    Ok(Document::parse(&what, &bytes)?)
}

/// Signs and writes `KEYID.minisig` and `KEYID.ml-dsa-87` into `folder`; nothing is overwritten.
pub fn sign_bytes(document: &Document, signer: &Signer, folder: &Path) -> Result<Vec<PathBuf>> {
    let signatures = signer.sign_document(document)?;
    let paths: Vec<PathBuf> =
        signatures.iter().map(|s| folder.join(format!("{}.{}", s.key, s.scheme().extension()))).collect();
    if let Some(there) = paths.iter().find(|path| path.exists()) {
        return Err(exists(there));
    }
    for (path, signature) in paths.iter().zip(&signatures) {
        write_new(path, &signature.to_file())?;
    }
    Ok(paths)
}

/// Takes detached signatures into a bundle's head: each verified, by a key that holds a role that a
/// manifest needs in the bundle's newest root, both halves of each signer. Returns the holders' names.
pub fn attach_manifest(bundle: &mut OpenBundle, files: &[PathBuf]) -> Result<Vec<String>> {
    let document = Document::of_manifest(&bundle.envelope)?;
    let root = newest_root(&bundle.envelope)?.clone();
    let carried = bundle.envelope.signatures().to_vec();
    let accepted = verify_all(files, &document, carried, &[&root], root.manifest_roles())?;
    let holders = both_halves(&accepted, &[&root])?;
    accepted.new.into_iter().for_each(|signature| bundle.envelope.add(signature));
    Ok(holders)
}

/// Takes detached signatures into a trust root: by keys that hold the role `root` in it or in the
/// version before it. Returns the holders' names.
pub fn attach_root(
    envelope: &mut RootEnvelope,
    former: Option<&RootEnvelope>,
    files: &[PathBuf],
) -> Result<Vec<String>> {
    let document = Document::of_root(envelope)?;
    let root = envelope.claimed().clone();
    let roots: Vec<&TrustRoot> = std::iter::once(&root).chain(former.map(RootEnvelope::claimed)).collect();
    let accepted = verify_all(files, &document, envelope.signatures().to_vec(), &roots, &[Role::Root])?;
    let holders = both_halves(&accepted, &roots)?;
    accepted.new.into_iter().for_each(|signature| envelope.add(signature));
    Ok(holders)
}

struct Accepted {
    carried: Vec<Signature>,
    new: Vec<Signature>,
}

fn verify_all(
    files: &[PathBuf],
    document: &Document,
    carried: Vec<Signature>,
    roots: &[&TrustRoot],
    roles: &[Role],
) -> Result<Accepted> {
    let mut accepted = Accepted { carried, new: Vec::new() };
    for path in files {
        let file = escaped(&path.display().to_string());
        let signature = read_signature(path)?;
        let key = signature.key.to_string();
        let newest = roots.first().map_or(0, |root| root.version());
        let listed = roots.iter().find_map(|root| Some((*root, root.key(signature.key)?)));
        let (root, public) =
            listed.ok_or_else(|| ErrorKind::UnknownSigner { file: file.clone(), key: key.clone(), root: newest })?;
        let holder = root.holder_of(signature.key).unwrap_or_default().to_owned();
        if !roots.iter().any(|root| roles.iter().any(|role| root.role_holds(*role, signature.key))) {
            return Err(ErrorKind::NotASigner { signer: holder, key, root: root.version() }.into());
        }
        if accepted.carried.iter().chain(&accepted.new).any(|other| other.key == signature.key) {
            return Err(ErrorKind::AlreadySigned { file, key, holder }.into());
        }
        // The comment names the document, so that the commonest mistake has a message of its own.
        // It decides nothing: the signature is verified over the bytes at hand below.
        if let Value::Ed25519 { comment, .. } = &signature.value
            && comment != document.comment()
        {
            let (expected, found) = (document.comment().to_owned(), escaped(comment));
            return Err(ErrorKind::SignedOther { file, expected, found }.into());
        }
        signature.verify(&file, document.bytes(), public)?;
        accepted.new.push(signature);
    }
    Ok(accepted)
}

/// Every holder of a new signature must have signed by both algorithms: half a signer counts for
/// nothing under the default policy and looks like one that was stripped.
fn both_halves(accepted: &Accepted, roots: &[&TrustRoot]) -> Result<Vec<String>> {
    let holder = |key: KeyId| roots.iter().find_map(|root| root.holder_of(key)).unwrap_or_default().to_owned();
    let mut holders: Vec<String> = accepted.new.iter().map(|signature| holder(signature.key)).collect();
    holders.sort();
    holders.dedup();
    for name in &holders {
        for scheme in Scheme::ALL {
            let mut all = accepted.carried.iter().chain(&accepted.new);
            if !all.any(|signature| signature.scheme() == scheme && holder(signature.key) == *name) {
                return Err(ErrorKind::HalfSigned { holder: name.clone(), missing: scheme.name() }.into());
            }
        }
    }
    Ok(holders)
}

/// Reads `KEYID.minisig` or `KEYID.ml-dsa-87` (spec R-SIG-4 to 6).
fn read_signature(path: &Path) -> Result<Signature> {
    let what = escaped(&path.display().to_string());
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let named = name.split_once('.').and_then(|(id, extension)| {
        let scheme = Scheme::ALL.into_iter().find(|scheme| scheme.extension() == extension)?;
        Some((KeyId::parse(id).ok()?, scheme))
    });
    let (key, scheme) = named.ok_or_else(|| {
        ErrorKind::Usage(format!("{what}: a detached signature is named KEYID.minisig or KEYID.ml-dsa-87"))
    })?;
    Ok(Signature::parse_file(&what, key, scheme, &read_limited(path, bundle_format::limits::SIGNATURE_BYTES)?)?)
}

fn read_limited(path: &Path, limit: u64) -> Result<Vec<u8>> {
    confinement::read_regular(path, limit).map_err(|e| Error::io(path.display().to_string(), e))
}

fn write_new(path: &Path, bytes: &[u8]) -> Result<()> {
    use std::io::Write as _;
    let io = |e: std::io::Error| match e.kind() {
        std::io::ErrorKind::AlreadyExists => exists(path),
        _ => Error::io(path.display().to_string(), e),
    };
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).open(path).map_err(io)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(io)
}

fn exists(path: &Path) -> Error {
    ErrorKind::Usage(format!("{} exists already and is never overwritten", path.display())).into()
}
