//! Credentials for a registry from files in the form of containers-auth.json(5) and docker's
//! `config.json`. Nothing of their content ever gets into an error.

use std::path::Path;

use bundle_format::{limits, text};
use serde_json::Value;

use super::files::Watched;
use super::{AuthFiles, read_document};
use crate::{Error, ErrorKind, Result};

/// A user and a password.
#[derive(Clone)]
pub(super) struct Credentials {
    pub(super) user: String,
    password: zeroize::Zeroizing<String>,
}

impl Credentials {
    /// The value of an `Authorization` header (RFC 7617).
    pub(super) fn basic(&self) -> String {
        format!("Basic {}", text::base64(format!("{}:{}", self.user, self.password.as_str()).as_bytes()))
    }
}

/// The credentials for `registry/repository`; the longest matching key of the first file that has one.
pub(super) fn find(files: &AuthFiles, registry: &str, repository: &str) -> Result<Option<Credentials>> {
    match files {
        AuthFiles::None => Ok(None),
        AuthFiles::Named(path) => in_file(path, registry, repository),
        AuthFiles::Usual(paths) => {
            for path in paths.iter().filter(|path| path.exists()) {
                if let Some(found) = in_file(path, registry, repository)? {
                    return Ok(Some(found));
                }
            }
            Ok(None)
        }
    }
}

fn in_file(path: &Path, registry: &str, repository: &str) -> Result<Option<Credentials>> {
    let file = path.display().to_string();
    let refuse = |why: &str| Error::from(ErrorKind::Credentials { file: file.clone(), why: why.into() });
    let bytes = read_document(Watched::open(path)?, &file)?;
    let document: Value = bundle_format::json::parse("credentials", &bytes, limits::OCI_DOCUMENT_BYTES)
        .map_err(|_| refuse("not a JSON document"))?;
    for key in keys(registry, repository) {
        let Some(entry) = document.get("auths").and_then(|auths| auths.get(&key)) else {
            continue;
        };
        // Docker leaves an empty entry behind when a helper program holds the password.
        let Some(encoded) = entry.get("auth").and_then(Value::as_str) else {
            continue;
        };
        let decoded =
            text::unbase64(encoded).and_then(|bytes| String::from_utf8(bytes).ok()).map(zeroize::Zeroizing::new);
        let decoded = decoded.ok_or_else(|| refuse("an auth value is not base64 of text"))?;
        let (user, password) = decoded.split_once(':').ok_or_else(|| refuse("an auth value has no colon"))?;
        return Ok(Some(Credentials { user: user.into(), password: zeroize::Zeroizing::new(password.into()) }));
    }
    Ok(None)
}

/// Keys to look for, the most specific first.
fn keys(registry: &str, repository: &str) -> Vec<String> {
    let full = format!("{registry}/{repository}");
    let mut keys: Vec<String> = full.match_indices('/').map(|(at, _)| full.chars().take(at).collect()).collect();
    keys.push(full);
    keys.reverse();
    keys.push(format!("https://{registry}"));
    if registry == "docker.io" {
        keys.push("https://index.docker.io/v1/".into());
    }
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_specific_entry_of_the_first_file_wins() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("auth.json");
        let auth = |pair: &str| text::base64(pair.as_bytes());
        let (wide, narrow) = (auth("wide:a:b"), auth("narrow:x"));
        let content = format!(
            r#"{{"auths":{{"r.example":{{"auth":"{wide}"}},"r.example/team":{{"auth":"{narrow}"}},"e.example":{{}},"b.example":{{"auth":"!"}}}},"credsStore":"x"}}"#
        );
        std::fs::write(&path, content).unwrap();
        let files = AuthFiles::Usual(vec![dir.path().join("absent"), path.clone()]);
        let user = |registry: &str, repository: &str| find(&files, registry, repository).unwrap().map(|c| c.user);
        assert_eq!(user("r.example", "team/x").as_deref(), Some("narrow"));
        assert_eq!(user("r.example", "teams/x").as_deref(), Some("wide"));
        assert_eq!(user("other.example", "x"), None);
        assert_eq!(user("e.example", "x"), None);
        let basic = find(&files, "r.example", "x").unwrap().unwrap().basic();
        assert_eq!(basic, format!("Basic {wide}"));
        let Err(error) = find(&files, "b.example", "x") else { panic!("accepted") };
        assert!(matches!(error.kind(), ErrorKind::Credentials { .. }));
        let named = AuthFiles::Named(dir.path().join("absent"));
        assert!(matches!(find(&named, "r.example", "x").err().unwrap().kind(), ErrorKind::Io { .. }));
    }

    #[test]
    fn usual_places() {
        let env = |name: &str| match name {
            "XDG_RUNTIME_DIR" => Some("/run/u".into()),
            "HOME" => Some("/home/u".into()),
            _ => None,
        };
        let expected = vec!["/run/u/containers/auth.json".into(), "/home/u/.docker/config.json".into()];
        assert_eq!(AuthFiles::find(None, env), AuthFiles::Usual(expected));
        assert_eq!(AuthFiles::find(Some("x".into()), env), AuthFiles::Named("x".into()));
        assert_eq!(AuthFiles::find(None, |_| Some("f".into())), AuthFiles::Named("f".into()));
    }
}
