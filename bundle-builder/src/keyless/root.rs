//! The pinned trusted root: whose word counts, and from when to when (`trusted_root.json`,
//! github.com/sigstore/protobuf-specs, `sigstore_trustroot.proto`).
//!
//! What may hurt it: a file that somebody exchanged, a key under another key's id. Who defends: the
//! release pins the file's SHA-384, and ids are computed from the keys; the file's own are not read.

use std::path::Path;

use bundle_format::digest::{Sha256, Sha384};
use bundle_format::limits;
use bundle_format::release::PinnedFile;
use bundle_format::text::escaped;
use serde::Deserialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::key::Key;
use super::proto;
use crate::error::{ErrorKind, Result};
use crate::source::files;

/// Media types that are read.
const MEDIA_TYPES: [&str; 2] =
    ["application/vnd.dev.sigstore.trustedroot+json;version=0.1", "application/vnd.dev.sigstore.trustedroot.v0.2+json"];

/// A trusted root whose bytes are the pinned ones.
#[derive(Debug)]
pub struct TrustedRoot {
    pub(super) sha384: Sha384,
    pub(super) logs: Vec<Log>,
    pub(super) certificate_logs: Vec<Log>,
    pub(super) authorities: Vec<Authority>,
    pub(super) time_stampers: Vec<Authority>,
}

/// A log and the time for which its key counts.
#[derive(Debug)]
pub(super) struct Log {
    pub(super) key: Key,
    pub(super) window: Window,
    name: String,
}

/// A certificate authority, or one of time stamps: from the certificate that it issues with up to the pinned end.
#[derive(Debug)]
pub(super) struct Authority {
    pub(super) chain: Vec<Vec<u8>>,
    pub(super) window: Window,
}

/// From when to when, in seconds since 1970, both ends included.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Window {
    start: Option<u64>,
    end: Option<u64>,
}

impl Window {
    pub(super) fn holds(&self, time: u64) -> bool {
        self.start.is_none_or(|start| start <= time) && self.end.is_none_or(|end| time <= end)
    }
}

impl Log {
    /// The log's id: sha256 of its key, or, for the Ed25519 keys of newer logs, the id in signed notes.
    pub(super) fn is(&self, id: &Sha256) -> bool {
        self.key.id() == *id || self.key.note_id(&self.name).is_some_and(|note| note == *id)
    }
}

/// The log of this id whose key counts at `time`.
pub(super) fn log_at<'a>(logs: &'a [Log], id: &Sha256, time: u64) -> Option<&'a Log> {
    logs.iter().find(|log| log.is(id) && log.window.holds(time))
}

impl TrustedRoot {
    /// Reads the pinned file, whose path is relative to `base`: [`ErrorKind::TrustedRootPin`] for other bytes than
    /// the pinned ones, [`ErrorKind::TrustedRootFile`] for what is no trusted root.
    pub fn read(base: &Path, pinned: &PinnedFile) -> Result<Self> {
        let path = base.join(&pinned.file);
        let file = escaped(&path.display().to_string());
        let bytes = files::read_small(&path, limits::TRUSTED_ROOT_BYTES)?;
        let found = Sha384::of(&bytes);
        if found != pinned.sha384 {
            return Err(ErrorKind::TrustedRootPin { file, expected: pinned.sha384, found }.into());
        }
        Self::parse(&bytes).map_err(|why| ErrorKind::TrustedRootFile { file, why }.into())
    }

    /// Parses a trusted root; says what is wrong with it.
    pub fn parse(bytes: &[u8]) -> std::result::Result<Self, String> {
        let raw: RawRoot =
            bundle_format::json::parse("trusted root", bytes, limits::TRUSTED_ROOT_BYTES).map_err(|e| e.to_string())?;
        if !MEDIA_TYPES.contains(&raw.media_type.as_str()) {
            return Err(format!("media type: expected {}, found {:?}", MEDIA_TYPES.join(" or "), raw.media_type));
        }
        let logs = |raw: Vec<RawLog>| raw.into_iter().map(RawLog::read).collect::<std::result::Result<_, _>>();
        let authorities =
            |raw: Vec<RawAuthority>| raw.into_iter().map(RawAuthority::read).collect::<std::result::Result<_, _>>();
        let root = Self {
            sha384: Sha384::of(bytes),
            logs: logs(raw.tlogs)?,
            certificate_logs: logs(raw.ctlogs)?,
            authorities: authorities(raw.certificate_authorities)?,
            time_stampers: authorities(raw.timestamp_authorities)?,
        };
        for (what, none) in [
            ("transparency log", root.logs.is_empty()),
            ("certificate log", root.certificate_logs.is_empty()),
            ("certificate authority", root.authorities.is_empty()),
        ] {
            if none {
                return Err(format!("it lists no {what}"));
            }
        }
        Ok(root)
    }

    /// SHA-384 of the file.
    pub fn sha384(&self) -> Sha384 {
        self.sha384
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawRoot {
    media_type: String,
    #[serde(default)]
    tlogs: Vec<RawLog>,
    #[serde(default)]
    ctlogs: Vec<RawLog>,
    #[serde(default)]
    certificate_authorities: Vec<RawAuthority>,
    #[serde(default)]
    timestamp_authorities: Vec<RawAuthority>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawLog {
    base_url: String,
    public_key: RawKey,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawKey {
    #[serde(deserialize_with = "proto::bytes")]
    raw_bytes: Vec<u8>,
    valid_for: Option<RawWindow>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawAuthority {
    cert_chain: proto::Chain,
    valid_for: Option<RawWindow>,
}

#[derive(Deserialize)]
struct RawWindow {
    start: Option<String>,
    end: Option<String>,
}

impl RawLog {
    fn read(self) -> std::result::Result<Log, String> {
        // A checkpoint's origin is the log's URL without the scheme.
        let name = self.base_url.split_once("://").map_or(self.base_url.as_str(), |(_, rest)| rest);
        let (name, key) = (name.trim_end_matches('/').to_owned(), Key::new(&self.public_key.raw_bytes));
        Ok(Log { key, window: window(self.public_key.valid_for.as_ref())?, name })
    }
}

impl RawAuthority {
    fn read(self) -> std::result::Result<Authority, String> {
        let chain = self.cert_chain.into_der();
        if chain.is_empty() {
            return Err("an authority has no certificate".into());
        }
        Ok(Authority { chain, window: window(self.valid_for.as_ref())? })
    }
}

fn window(raw: Option<&RawWindow>) -> std::result::Result<Window, String> {
    let Some(raw) = raw else { return Ok(Window::default()) };
    let seconds = |text: &String| {
        let time = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| format!("{text:?} is no RFC 3339 time"))?;
        u64::try_from(time.unix_timestamp()).map_err(|_| format!("{text:?} is before 1970"))
    };
    Ok(Window { start: raw.start.as_ref().map(seconds).transpose()?, end: raw.end.as_ref().map(seconds).transpose()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{"mediaType":"application/vnd.dev.sigstore.trustedroot+json;version=0.1",
        "tlogs":[{"baseUrl":"https://log.example","publicKey":{"rawBytes":"AAAA","validFor":{"start":"2023-11-14T22:13:20.000Z"}}}],
        "ctlogs":[{"baseUrl":"https://ct.example","publicKey":{"rawBytes":"AAAA"}}],
        "certificateAuthorities":[{"certChain":{"certificates":[{"rawBytes":"AAAA"}]},
            "validFor":{"start":"2023-11-14T22:13:20Z","end":"2023-11-14T22:13:21.999Z"}}]}"#;

    #[test]
    fn windows_include_their_ends() {
        let root = TrustedRoot::parse(GOOD.as_bytes()).unwrap();
        let window = root.authorities[0].window;
        let held: Vec<u64> = (1_699_999_999..1_700_000_003).filter(|time| window.holds(*time)).collect();
        assert_eq!(held, [1_700_000_000, 1_700_000_001]);
        assert!(!root.logs[0].window.holds(1_699_999_999) && root.logs[0].window.holds(u64::MAX));
        assert!(root.certificate_logs[0].window.holds(0));
        assert_eq!(root.sha384(), Sha384::of(GOOD.as_bytes()));
    }

    #[test]
    fn refusals() {
        for (from, to, why) in [
            ("version=0.1", "version=9", "media type"),
            ("\"tlogs\"", "\"other\"", "no transparency log"),
            ("\"ctlogs\"", "\"other\"", "no certificate log"),
            ("\"certificateAuthorities\"", "\"other\"", "no certificate authority"),
            ("\"AAAA\"", "\"A\"", "base64"),
            ("[{\"rawBytes\":\"AAAA\"}]", "[]", "no certificate"),
            ("22:13:20.000Z", "22:13", "RFC 3339"),
            ("2023-11-14T22:13:20.000Z", "1969-11-14T22:13:20Z", "before 1970"),
            ("\"tlogs\"", "\"tlogs\":[],\"tlogs\"", "duplicate"),
        ] {
            let bad = GOOD.replacen(from, to, 1);
            assert_ne!(bad, GOOD, "{from}");
            let error = TrustedRoot::parse(bad.as_bytes()).unwrap_err();
            assert!(error.contains(why), "{to}: {error}");
        }
    }
}
