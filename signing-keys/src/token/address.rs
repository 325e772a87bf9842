//! Where a key is: the part of the PKCS#11 URI scheme (RFC 7512) that names one key in one token.
//!
//! Taken: `token`, `serial`, `object`, `id`, `type=private` in the path, `module-path` in the query.
//! Refused: everything else, and `pin-value` and `pin-source` above all: a PIN is never in a file.

use std::path::{Path, PathBuf};

use crate::error::{ErrorKind, Result};

/// Most bytes of an address.
const MOST: usize = 2048;

/// Module, token and key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// The PKCS#11 library.
    pub module: PathBuf,
    /// The token's label.
    pub token: String,
    /// The token's serial number; tells it from another of the same label.
    pub serial: Option<String>,
    /// The key's label (`CKA_LABEL`).
    pub object: Option<String>,
    /// The key's id (`CKA_ID`).
    pub id: Option<Vec<u8>>,
}

impl Address {
    /// The URI.
    pub fn to_uri(&self) -> String {
        let mut path = vec![format!("token={}", encoded(self.token.as_bytes(), false))];
        path.extend(self.serial.iter().map(|serial| format!("serial={}", encoded(serial.as_bytes(), false))));
        path.extend(self.object.iter().map(|object| format!("object={}", encoded(object.as_bytes(), false))));
        path.extend(self.id.iter().map(|id| format!("id={}", encoded(id, true))));
        path.push("type=private".into());
        let module = encoded(self.module.as_os_str().as_encoded_bytes(), false);
        format!("pkcs11:{}?module-path={module}", path.join(";"))
    }

    /// Parses the URI of a key. `what` names its file in errors.
    pub fn parse(what: &str, uri: &str) -> Result<Self> {
        let address = Self::parse_token(what, uri)?;
        if !address.names_key() {
            let why = "its address names neither an object nor an id".into();
            return Err(ErrorKind::Malformed { what: what.into(), why }.into());
        }
        Ok(address)
    }

    /// Whether it names a key, not a token alone.
    pub const fn names_key(&self) -> bool {
        self.object.is_some() || self.id.is_some()
    }

    /// Parses the URI of a token, or of a key in it.
    pub fn parse_token(what: &str, uri: &str) -> Result<Self> {
        let bad = |why: String| ErrorKind::Malformed { what: what.into(), why };
        let rest = uri
            .strip_prefix("pkcs11:")
            .filter(|rest| rest.len() <= MOST)
            .ok_or_else(|| bad("expected a pkcs11: address (RFC 7512)".into()))?;
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let attributes = path.split(';').chain(query.split('&')).filter(|part| !part.is_empty());
        let mut found = std::collections::BTreeMap::new();
        for attribute in attributes {
            let (name, value) =
                attribute.split_once('=').ok_or_else(|| bad("an attribute of its address has no value".into()))?;
            if name.starts_with("pin-") {
                return Err(bad("its address carries a PIN; a PIN is typed, never written".into()).into());
            }
            if !["token", "serial", "object", "id", "type", "module-path"].contains(&name) {
                let name = bundle_format::text::escaped(name);
                return Err(bad(format!("attribute {name} of its address is not understood")).into());
            }
            let value = decoded(value).ok_or_else(|| bad(format!("attribute {name} of its address is broken")))?;
            if found.insert(name, value).is_some() {
                return Err(bad(format!("attribute {name} of its address is there twice")).into());
            }
        }
        let mut text = |name: &str| {
            let text = found.remove(name).map(String::from_utf8).transpose();
            text.map_err(|_| bad(format!("attribute {name} of its address is not UTF-8")))
        };
        if text("type")?.is_some_and(|kind| kind != "private") {
            return Err(bad("its address does not name a private key".into()).into());
        }
        let token = text("token")?.ok_or_else(|| bad("its address names no token".into()))?;
        let module = text("module-path")?.ok_or_else(|| bad("its address names no module-path".into()))?;
        let (serial, object) = (text("serial")?, text("object")?);
        let address = Self { module: module.into(), token, serial, object, id: found.remove("id") };
        if !Path::is_absolute(&address.module) {
            return Err(bad("the module-path of its address is not absolute".into()).into());
        }
        Ok(address)
    }

    /// The key, for people.
    pub fn key(&self) -> String {
        match (&self.object, &self.id) {
            (Some(object), _) => bundle_format::text::escaped(object),
            (None, Some(id)) => format!("id {}", bundle_format::text::hex(id)),
            (None, None) => "of any name".into(),
        }
    }
}

/// Percent-encodes what RFC 3986 does not call unreserved; `/` is kept for paths.
fn encoded(bytes: &[u8], all: bool) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut out, byte| {
        if !all && (byte.is_ascii_alphanumeric() || b"-._~/".contains(byte)) {
            out.push(char::from(*byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}

fn decoded(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let digits = [bytes.next()?, bytes.next()?];
            let digits = std::str::from_utf8(&digits).ok()?.to_ascii_lowercase();
            out.extend(bundle_format::text::unhex(&digits)?);
        } else {
            out.push(byte);
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address() -> Address {
        Address {
            module: "/usr/lib/a module.so".into(),
            token: "TEST token; 1".into(),
            serial: Some("0042".into()),
            object: Some("test-alice".into()),
            id: Some(vec![1, 0xfe]),
        }
    }

    #[test]
    fn round_trip() {
        let uri = address().to_uri();
        assert_eq!(
            uri,
            "pkcs11:token=TEST%20token%3B%201;serial=0042;object=test-alice;id=%01%FE;type=private?module-path=/usr/lib/a%20module.so"
        );
        assert_eq!(Address::parse("t", &uri).unwrap(), address());
        let token = Address { object: None, id: None, ..address() };
        assert_eq!(Address::parse_token("t", &token.to_uri()).unwrap(), token);
    }

    #[test]
    fn refusals() {
        let good = address().to_uri();
        for (defect, bad) in [
            ("another scheme", good.replace("pkcs11:", "file:")),
            ("a PIN", format!("{good}&pin-value=4711")),
            ("a PIN's file", format!("{good}&pin-source=/tmp/pin")),
            ("an unknown attribute", good.replace("serial=", "slot-id=")),
            ("a doubled attribute", good.replace(";id=", ";token=x;id=")),
            ("a public key", good.replace("type=private", "type=public")),
            ("no token", good.replace("token=TEST%20token%3B%201;", "")),
            ("no module", good.split('?').next().unwrap().to_owned()),
            ("a relative module", good.replace("path=/usr", "path=usr")),
            ("no key", good.replace("object=test-alice;id=%01%FE;", "")),
            ("a cut escape", good.replace("%FE", "%F")),
            ("no value", good.replace("serial=0042", "serial")),
        ] {
            let error = Address::parse("t", &bad).expect_err(defect);
            assert!(matches!(error.kind(), ErrorKind::Malformed { .. }), "{defect}: {error}");
        }
    }
}
