//! Image names: `registry/repository:tag`, the registry always named (distribution reference
//! grammar, restricted: no short names, because a short name means different things on two hosts).

use std::fmt;

use crate::{ErrorKind, Result};

/// A full image name with a tag and no digest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageName {
    registry: String,
    repository: String,
    tag: String,
}

impl ImageName {
    /// Parses `registry/repository:tag`. The registry holds a `.` or a `:port` or is `localhost`.
    pub fn parse(text: &str) -> Result<Self> {
        let bad = || ErrorKind::BadValue {
            what: "image name".into(),
            expected: "registry/repository:tag with the registry's host name".into(),
            found: text.chars().take(300).collect(),
        };
        let (registry, rest) = text.split_once('/').ok_or_else(bad)?;
        let (repository, tag) = rest.rsplit_once(':').ok_or_else(bad)?;
        let host_char = |b: u8| b.is_ascii_alphanumeric() || b == b'.' || b == b'-';
        let (host, port) = registry.split_once(':').map_or((registry, None), |(host, port)| (host, Some(port)));
        let registry_ok = !host.is_empty()
            && host.bytes().all(host_char)
            && port.is_none_or(|port| !port.is_empty() && port.len() <= 5 && port.bytes().all(|b| b.is_ascii_digit()))
            && (host.contains('.') || port.is_some() || host == "localhost");
        let component_ok = |part: &str| {
            let alnum = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
            part.bytes().next().is_some_and(alnum)
                && part.bytes().last().is_some_and(alnum)
                && part.bytes().all(|b| alnum(b) || b"._-".contains(&b))
        };
        let tag_ok = !tag.is_empty()
            && tag.len() <= 128
            && !tag.starts_with(['.', '-'])
            && tag.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        if text.len() <= 240 && registry_ok && repository.split('/').all(component_ok) && tag_ok {
            return Ok(Self { registry: registry.into(), repository: repository.into(), tag: tag.into() });
        }
        Err(bad().into())
    }

    /// Host name, with port where one is named.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// Path inside the registry.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag.
    pub fn tag(&self) -> &str {
        &self.tag
    }

    /// `registry/repository`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}:{}", self.registry, self.repository, self.tag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in
            ["registry.example/a/b:1.0", "localhost:5000/x:latest", "localhost/x:y_Z.1", "r.example:443/a-b__c/d:v"]
        {
            assert_eq!(ImageName::parse(good).unwrap().to_string(), good);
        }
        for bad in [
            "x:1",
            "a/b:1",
            "registry.example/a",
            "registry.example/A:1",
            "registry.example/a:-1",
            "registry.example//a:1",
            "registry.example/a/../b:1",
            "reg.example/a@sha256:0",
            "reg.example/a:1 ",
            "reg.example:99x/a:1",
            "reg.example/-a:1",
        ] {
            assert!(matches!(ImageName::parse(bad).unwrap_err().kind(), ErrorKind::BadValue { .. }), "{bad}");
        }
    }
}
