//! The `WWW-Authenticate` header of a registry (RFC 9110, 11.6.1; distribution's token protocol).

/// How a registry wants to be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    /// User and password with each request.
    Basic,
    /// A token from another server.
    Bearer {
        /// The token server's URL.
        realm: String,
        /// What to tell it as `service`.
        service: Option<String>,
        /// What to tell it as `scope`.
        scope: Option<String>,
    },
}

impl Challenge {
    /// Parses one challenge; `None` for a scheme that we do not speak.
    pub(super) fn parse(header: &str) -> Option<Self> {
        let (scheme, rest) = header.trim().split_once(' ').unwrap_or((header.trim(), ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Self::Basic);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let parameters = parameters(rest)?;
        let get = |name: &str| parameters.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
        Some(Self::Bearer { realm: get("realm")?, service: get("service"), scope: get("scope") })
    }
}

/// `key="value"` pairs joined by commas; commas inside quotes belong to the value.
fn parameters(mut rest: &str) -> Option<Vec<(String, String)>> {
    let mut found = Vec::new();
    loop {
        rest = rest.trim_start_matches([' ', ',']);
        if rest.is_empty() {
            return Some(found);
        }
        let (key, after) = rest.split_once('=')?;
        let value;
        (value, rest) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => after.split_once(',').unwrap_or((after, "")),
        };
        found.push((key.trim().to_ascii_lowercase(), value.to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges() {
        let header = r#"Bearer realm="https://a.example/token",service="r.example",scope="repository:x:pull,push""#;
        let expected = Challenge::Bearer {
            realm: "https://a.example/token".into(),
            service: Some("r.example".into()),
            scope: Some("repository:x:pull,push".into()),
        };
        assert_eq!(Challenge::parse(header), Some(expected));
        assert_eq!(Challenge::parse(r#"Basic realm="x""#), Some(Challenge::Basic));
        for bad in ["", "Negotiate", "Bearer service=\"x\"", "Bearer realm=\"x", "Bearer"] {
            assert_eq!(Challenge::parse(bad), None, "{bad}");
        }
    }
}
