//! The release manifest `RELEASE.yaml`: what a person writes on the low side (spec 10).
//!
//! What may hurt it: a misspelt field that is silently ignored, two images under one name. Who
//! defends: every struct denies unknown fields, [`Release::check`] refuses doubles.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::lifecycle::Lifecycle;
use crate::manifest::{Network, Requires, Secret};
use crate::marking::Marking;
use crate::name::{check_file_name, check_label, check_path};
use crate::reference::ImageName;
use crate::timestamp::Timestamp;
use crate::{ErrorKind, Result, limits};

mod verify;

pub use verify::{CosignKey, Identity, Keyless, PinnedFile, Verify};

/// The `format` value of this version.
pub const FORMAT: &str = "lockgate-release/1";

/// A release manifest. Paths in it are relative to the file that it was read from.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Release {
    /// Always [`FORMAT`].
    pub format: String,
    /// Product label.
    pub product: String,
    /// Version for people.
    pub release: String,
    /// Anti-rollback counter, from 1.
    pub sequence: u64,
    /// Marking of the bundle.
    pub marking: Marking,
    /// `os/architecture` in OCI terms.
    pub platform: String,
    /// One line for people.
    pub title: String,
    /// Not to be installed from this time on.
    #[serde(default)]
    pub expires: Option<Timestamp>,
    /// What the platform needs beyond its own size.
    pub requires: Requires,
    /// How the release is applied, proved healthy, backed up and taken back.
    #[serde(default)]
    pub lifecycle: Lifecycle,
    /// Images, in the order in which they travel.
    pub images: Vec<ReleaseImage>,
    /// The network that all workloads join.
    pub network: Network,
    /// Secrets to be made on the high side.
    pub secrets: Vec<Secret>,
    /// Workloads in start order.
    pub workloads: Vec<ReleaseWorkload>,
    /// Plain files.
    pub files: Vec<ReleaseFile>,
    /// Operating-system packages of the engine.
    pub runtime: Vec<ReleaseRuntime>,
}

/// An image: its name on both sides of the gap, and where the low side takes it from.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReleaseImage {
    /// `registry/repository:tag`.
    #[serde(deserialize_with = "image_name")]
    pub name: ImageName,
    /// `docker:`, `oci:` or `docker-archive:`.
    pub source: Source,
    /// Whose signature over the image must be there.
    #[serde(default)]
    pub verify: Option<Verify>,
}

/// A workload and its YAML file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReleaseWorkload {
    /// Name, a label.
    pub name: String,
    /// Path of the YAML.
    pub file: PathBuf,
}

/// A plain file that travels.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReleaseFile {
    /// Relative path on the high side.
    pub path: String,
    /// `file:`.
    pub source: Source,
}

/// Packages that give one operating system an engine.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReleaseRuntime {
    /// `ID-VERSION_ID` of `/etc/os-release`.
    pub os: String,
    /// `dir:`, a directory that holds the package files and nothing else.
    pub packages: Source,
    /// Names of the packages to install.
    pub install: Vec<String>,
}

/// Where the low side takes something from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// `docker://host/repository[:tag|@digest]`: a registry.
    Docker(DockerReference),
    /// `oci:PATH[:REF]`: an OCI image layout directory.
    Oci {
        /// The layout's directory.
        path: PathBuf,
        /// `org.opencontainers.image.ref.name` of the entry; none means the only entry.
        reference: Option<String>,
    },
    /// `docker-archive:PATH`: a tar as `docker save` writes it.
    DockerArchive {
        /// The tar.
        path: PathBuf,
    },
    /// `file:PATH`.
    File {
        /// The file.
        path: PathBuf,
    },
    /// `dir:PATH`.
    Dir {
        /// The directory.
        path: PathBuf,
    },
}

/// A place in a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DockerReference {
    /// Host name, with port where one is named.
    pub registry: String,
    /// Path inside the registry.
    pub repository: String,
    /// A tag, or a digest in the form `sha256:…`.
    pub reference: String,
}

impl Source {
    /// Parses the text form.
    pub fn parse(text: &str) -> Result<Self> {
        let bad = || ErrorKind::BadValue {
            what: "source".into(),
            expected:
                "docker://HOST/REPOSITORY[:TAG|@DIGEST], oci:PATH[:REF], docker-archive:PATH, file:PATH or dir:PATH"
                    .into(),
            found: text.chars().take(300).collect(),
        };
        let (scheme, rest) = text.split_once(':').ok_or_else(bad)?;
        if rest.is_empty() || rest.len() > 4096 || crate::text::escaped(rest) != rest {
            return Err(bad().into());
        }
        Ok(match scheme {
            "docker" => Self::Docker(DockerReference::parse(rest.strip_prefix("//").ok_or_else(bad)?)?),
            "oci" => match rest.split_once(':') {
                Some((path, reference)) if !path.is_empty() && !reference.is_empty() => {
                    Self::Oci { path: path.into(), reference: Some(reference.into()) }
                }
                Some(_) => return Err(bad().into()),
                None => Self::Oci { path: rest.into(), reference: None },
            },
            "docker-archive" => Self::DockerArchive { path: rest.into() },
            "file" => Self::File { path: rest.into() },
            "dir" => Self::Dir { path: rest.into() },
            _ => return Err(bad().into()),
        })
    }
}

impl DockerReference {
    /// Parses `host/repository[:tag|@digest]`; without either the tag is `latest`.
    pub fn parse(text: &str) -> Result<Self> {
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(crate::digest::Sha256::parse(digest)?.to_string())),
            None => (text, None),
        };
        // A colon before the last slash is the port's.
        let tagged = name.rsplit_once('/').is_some_and(|(_, last)| last.contains(':'));
        let full = match (&digest, tagged) {
            (Some(_), true) => {
                return Err(ErrorKind::BadValue {
                    what: "source".into(),
                    expected: "a tag or a digest, not both".into(),
                    found: text.chars().take(300).collect(),
                }
                .into());
            }
            (None, true) => name.to_owned(),
            (_, false) => format!("{name}:latest"),
        };
        let name = ImageName::parse(&full)?;
        Ok(Self {
            registry: name.registry().into(),
            repository: name.repository().into(),
            reference: digest.unwrap_or_else(|| name.tag().into()),
        })
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let with = |f: &mut fmt::Formatter<'_>, scheme: &str, path: &Path| write!(f, "{scheme}:{}", path.display());
        match self {
            Self::Docker(DockerReference { registry, repository, reference }) => {
                let mark = if reference.contains(':') { '@' } else { ':' };
                write!(f, "docker://{registry}/{repository}{mark}{reference}")
            }
            Self::Oci { path, reference: Some(reference) } => write!(f, "oci:{}:{reference}", path.display()),
            Self::Oci { path, reference: None } => with(f, "oci", path),
            Self::DockerArchive { path } => with(f, "docker-archive", path),
            Self::File { path } => with(f, "file", path),
            Self::Dir { path } => with(f, "dir", path),
        }
    }
}

impl Serialize for Source {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Source {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(d)?).map_err(serde::de::Error::custom)
    }
}

impl Release {
    /// Checks consistency: names, doubles, and that each source is of the kind its place takes.
    pub fn check(&self) -> Result<()> {
        if self.format != FORMAT {
            return Err(ErrorKind::UnknownFormat {
                what: "release".into(),
                expected: FORMAT.into(),
                found: self.format.clone(),
            }
            .into());
        }
        check_label("product", &self.product)?;
        check_file_name("release", &self.release)?;
        check_path("platform", &self.platform)?;
        check_label("network", &self.network.name)?;
        if self.sequence == 0 {
            return Err(inconsistent("sequence is 0; it counts from 1".into()));
        }
        if self.title.len() > limits::NAME_BYTES || crate::text::escaped(&self.title) != self.title {
            return Err(inconsistent("title is not one printable line of at most 240 bytes".into()));
        }
        self.lifecycle.check()?;
        self.check_sources()?;
        for workload in &self.workloads {
            check_label("workload", &workload.name)?;
        }
        for secret in &self.secrets {
            check_label("secret", secret.name())?;
        }
        no_doubles("image", self.images.iter().map(|image| image.name.to_string()))?;
        no_doubles("workload", self.workloads.iter().map(|workload| workload.name.clone()))?;
        no_doubles("file", self.files.iter().map(|file| file.path.to_lowercase()))?;
        no_doubles("secret", self.secrets.iter().map(|secret| secret.name().to_owned()))?;
        no_doubles("runtime", self.runtime.iter().map(|runtime| runtime.os.clone()))
    }

    fn check_sources(&self) -> Result<()> {
        let wrong =
            |place: &str, kinds: &str, source: &Source| inconsistent(format!("{place} takes {kinds}, found {source}"));
        for image in &self.images {
            if matches!(image.source, Source::File { .. } | Source::Dir { .. }) {
                return Err(wrong("an image", "docker:, oci: or docker-archive:", &image.source));
            }
            image.verify.iter().try_for_each(Verify::check)?;
        }
        for file in &self.files {
            check_path("file", &file.path)?;
            if !matches!(file.source, Source::File { .. }) {
                return Err(wrong("a file", "file:", &file.source));
            }
        }
        for runtime in &self.runtime {
            check_path("runtime os", &runtime.os)?;
            runtime.install.iter().try_for_each(|name| check_path("runtime package", name))?;
            if !matches!(runtime.packages, Source::Dir { .. }) {
                return Err(wrong("a runtime", "dir:", &runtime.packages));
            }
        }
        Ok(())
    }
}

/// Parses and checks the text of `file`. Whatever is wrong is the writer's to mend, so every
/// refusal but the size is [`ErrorKind::Yaml`].
pub fn parse(file: &str, text: &str) -> Result<Release> {
    let release: Release = crate::yaml::parse(file, text)?;
    release.check().map_err(|error| ErrorKind::Yaml { file: file.into(), why: error.to_string() })?;
    Ok(release)
}

fn image_name<'de, D: Deserializer<'de>>(d: D) -> Result<ImageName, D::Error> {
    ImageName::parse(&String::deserialize(d)?).map_err(serde::de::Error::custom)
}

fn inconsistent(why: String) -> crate::Error {
    ErrorKind::Inconsistent { what: "release".into(), why }.into()
}

fn no_doubles(what: &str, names: impl Iterator<Item = String>) -> Result<()> {
    let mut seen = BTreeSet::new();
    for name in names {
        if let Some(double) = seen.replace(name) {
            return Err(inconsistent(format!("{what} {double} appears twice")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = include_str!("../profiles/defense-builders.yaml");

    #[test]
    fn shipped_profiles_parse() {
        let release = parse("defense-builders.yaml", GOOD).unwrap();
        assert_eq!(release.images.len(), 4);
        assert_eq!(release.images[0].source.to_string(), "oci:images:gateway");
        parse("minimal.yaml", include_str!("../profiles/minimal.yaml")).unwrap();
    }

    #[test]
    fn refusals() {
        for (from, to) in [
            ("lockgate-release/1", "lockgate-release/2"),
            ("sequence: 1", "sequence: 0"),
            ("sequence: 1", "sequence: 1\nsequenze: 1"),
            ("sequence: 1", "sequence: 1\nsequence: 1"),
            ("marking: UNCLASSIFIED", "marking: Unclassified"),
            ("source: oci:images:gateway", "source: file:images"),
            ("source: oci:images:gateway", "sourc: oci:images:gateway"),
            ("platform/database:1.0.0", "platform/gateway:1.0.0"),
            ("platform/database:1.0.0", "platform/database"),
            ("kind: password", "kind: passwort"),
            ("{name: database-password, kind", "{name: database-password, length: 3, kind"),
            ("dir:runtime/debian-12", "oci:runtime/debian-12"),
            ("os: debian-13", "os: debian-12"),
            ("name: monitoring, file", "name: registry, file"),
            ("internal: true", "internal: maybe"),
            ("product: defense-builders", "product: Defense Builders"),
        ] {
            assert!(GOOD.contains(from), "{from}");
            let text = GOOD.replacen(from, to, 1);
            assert!(matches!(parse("r.yaml", &text).unwrap_err().kind(), ErrorKind::Yaml { .. }), "{to}");
        }
    }

    #[test]
    fn sources_round_trip() {
        let digest = crate::digest::Sha256::of(b"x").to_string();
        for text in [
            "docker://registry.example/a/b:1",
            "docker://localhost:5000/a:latest",
            &format!("docker://registry.example/a@{digest}"),
            "oci:some/dir",
            "oci:/abs/dir:name:1.0",
            "docker-archive:a.tar",
            "file:x/y",
            "dir:x",
        ] {
            assert_eq!(Source::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Source::parse("docker://r.example/a").unwrap().to_string(), "docker://r.example/a:latest");
        for bad in
            ["", "x", "file:", "http://a/b", "docker:a/b", "docker://a/b:1", "oci::x", "oci:x:", "dir:a\nb", "DIR:x"]
        {
            assert!(matches!(Source::parse(bad).unwrap_err().kind(), ErrorKind::BadValue { .. }), "{bad}");
        }
        let both = format!("docker://r.example/a:1@{digest}");
        assert!(matches!(Source::parse(&both).unwrap_err().kind(), ErrorKind::BadValue { .. }));
    }
}
