//! Names inside a bundle (spec 3): one small alphabet, relative, no `.` or `..`, no aliases.

use crate::{ErrorKind, Result, limits};

/// Checks a relative path: components of `[A-Za-z0-9._+@-]` joined by `/`, no empty, `.` or `..`
/// component, within [`limits::NAME_BYTES`] and [`limits::NAME_COMPONENTS`].
pub fn check_path(what: &str, name: &str) -> Result<()> {
    let refuse = |why: &str| {
        Err(ErrorKind::BadName {
            what: what.into(),
            name: name.chars().take(limits::NAME_BYTES).collect(),
            why: why.into(),
        }
        .into())
    };
    if name.len() > limits::NAME_BYTES {
        return refuse("longer than 240 bytes");
    }
    if name.split('/').count() > limits::NAME_COMPONENTS {
        return refuse("more than 32 components");
    }
    for component in name.split('/') {
        if component.is_empty() {
            return refuse("empty component");
        }
        if component == "." || component == ".." {
            return refuse("component . or ..");
        }
        if component.starts_with('-') {
            return refuse("component starts with -");
        }
        if !component.bytes().all(|b| b.is_ascii_alphanumeric() || b"._+@-".contains(&b)) {
            return refuse("character outside A-Z a-z 0-9 . _ + @ -");
        }
    }
    Ok(())
}

/// Checks a single name without `/`: a workload, a product, a secret. Lower-case letters, digits
/// and inner hyphens, at most 63 bytes (RFC 1123 label, as Kubernetes object names).
pub fn check_label(what: &str, name: &str) -> Result<()> {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let ok = !name.is_empty()
        && name.len() <= 63
        && name.bytes().all(inner)
        && !name.starts_with('-')
        && !name.ends_with('-');
    if ok {
        return Ok(());
    }
    Err(ErrorKind::BadName {
        what: what.into(),
        name: name.chars().take(80).collect(),
        why: "expected an RFC 1123 label: a-z, 0-9 and inner hyphens, at most 63 bytes".into(),
    }
    .into())
}

/// Checks a file name: a path of one component. Debian package file names may hold `~` and `%`.
pub fn check_file_name(what: &str, name: &str) -> Result<()> {
    let ok = !name.is_empty()
        && name.len() <= limits::NAME_BYTES
        && !name.starts_with(['.', '-'])
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._+@~%-".contains(&b));
    if ok {
        return Ok(());
    }
    Err(ErrorKind::BadName {
        what: what.into(),
        name: name.chars().take(limits::NAME_BYTES).collect(),
        why: "expected a plain file name".into(),
    }
    .into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        for good in ["a", "docs/read.me", "x/y/z_1+2@3-4"] {
            check_path("test", good).unwrap();
        }
        let long = "a".repeat(241);
        let deep = vec!["a"; 33].join("/");
        for bad in
            ["", "/a", "a//b", "a/", ".", "a/../b", "./a", "a\\b", "a b", "é", "a\0", "-rf", "a/-x", &long, &deep]
        {
            assert!(matches!(check_path("test", bad).unwrap_err().kind(), ErrorKind::BadName { .. }), "{bad}");
        }
    }

    #[test]
    fn labels_and_file_names() {
        check_label("test", "defense-builders").unwrap();
        for bad in ["", "A", "-a", "a-", "a_b", "a.b"] {
            assert!(check_label("test", bad).is_err(), "{bad}");
        }
        check_file_name("test", "podman_4.3.1+ds1-8~deb12u1_amd64.deb").unwrap();
        for bad in ["", "a/b", ".hidden", "-o", "a b"] {
            assert!(check_file_name("test", bad).is_err(), "{bad}");
        }
    }
}
